"""The live screen; pure: returns what rich draws of the state, at most as large as the terminal."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mt4pump.client import Status, one_line
from mt4pump_consumers.monitor.execution import HUNDREDTHS, POSITIONS, Execution, iso_time
from mt4pump_consumers.monitor.state import MonitorState

WIDE = 120
"""Columns from which on the sums stand beside the executions instead of below them."""
HEAD_LINES = 2
TITLE_LINES = 2
"""Lines of a block that are not rows: its title and its column heads."""
CLOCK = slice(11, 19)
STATES = {"pumping": "bold green", "logged_in": "bold yellow", "connecting": "bold yellow"}
CHANGES = {"closed": "bold", "deleted": "bold red", "activated": "cyan"}
MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400
LINES_AT_LEAST, LINE_CALLS = 3, 20


def draw(state: MonitorState, width: int, height: int) -> RenderableType:
    """Return the whole screen."""
    head = [state_line(state), counts_line(state)]
    room = max(height - HEAD_LINES, 8)
    body = _wide(state, width, room) if width >= WIDE else _narrow(state, width, room)
    return Group(*head, *body)


def _narrow(state: MonitorState, width: int, room: int) -> list[RenderableType]:
    """Margin calls in a line, executions, symbols beside accounts, messages."""
    low = max(LINES_AT_LEAST, room // 5) + 1
    middle = max(4, room // 4) + TITLE_LINES
    left = max(34, (width - 2) * 9 // 20)
    right = width - left - 2
    return [
        calls_line(state),
        executions(state, width, room - 1 - low - middle),
        _beside(symbols(state, left, middle), accounts(state, right, middle), left, right),
        messages(state, width, low),
    ]


def _wide(state: MonitorState, width: int, room: int) -> list[RenderableType]:
    """Executions beside symbols, accounts and margin calls; messages below over the whole width."""
    low = max(LINES_AT_LEAST, room // 6) + 1
    high = room - low
    right = min(60, max(50, width * 2 // 5))
    left = width - right - 2
    each = high // 3
    stack = Group(symbols(state, right, high - 2 * each), accounts(state, right, each), calls(state, right, each))
    return [_beside(executions(state, left, high), stack, left, right), messages(state, width, low)]


def _beside(one: RenderableType, other: RenderableType, left: int, right: int) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    grid.add_column(width=left)
    grid.add_column(width=right)
    grid.add_row(one, other)
    return grid


# ---- the two lines at the top ----


def state_line(state: MonitorState) -> Text:
    """Return how the feed is: the daemon, its session, its last quote."""
    line = Text("mt4pump monitor  ", no_wrap=True, overflow="ellipsis", style="bold")
    status = state.status
    if status is None or status.age_s is None:
        return line.append("no heartbeat yet: is mt4pump there?", "bold yellow")
    if not status.alive:
        line.append(f"DAEMON SILENT {age_text(status.age_s)}", "bold white on red")
        return line.append(f"  was {one_line(status.state)}", "not bold")
    line.append(one_line(status.state), STATES.get(status.state, "bold red"))
    line.append(f"  {one_line(status.server)}", "not bold")
    line.append("  quote ", "not bold dim")
    line.append(_quote_age(status), "not bold")
    if not status.durable:
        line.append("  no journal" if status.log is None else "  JOURNAL FAILS", "bold yellow")
    return line


def _quote_age(status: Status) -> str:
    return "none yet" if status.feed_age_s is None else f"{age_text(status.feed_age_s)} ago"


def counts_line(state: MonitorState) -> Text:
    """Return the counters; what should be zero and is not stands out."""
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"executions {state.counts['executions']:,}  alerts {state.counts['alerts']:,}")
    positions = sum(sums.positions for sums in state.exposure.symbols.values())
    line.append(f"  open {positions:,}" + ("" if state.is_whole else " (without older ones)"))
    for name, style in (("healed", "yellow"), ("lost", "bold red"), ("unsent", "yellow"), ("failed", "bold red")):
        if count := state.counts[name]:
            line.append(f"  {name} {count:,}", style)
    if state.held_wal_bytes:
        line.append(f"  store's log held {state.held_wal_bytes / 2**20:,.0f} MB", "bold yellow")
    if state.problem:
        line.append(f"  {one_line(state.problem)}", "bold white on red")
    return line


def calls_line(state: MonitorState) -> Text:
    """Return the accounts in margin call, the lowest level first, as far as there is room."""
    found = sorted(state.calls.values(), key=lambda call: call.margin_level)
    line = Text("margin calls ", "bold red" if found else "bold", no_wrap=True, overflow="ellipsis")
    line.append(f"{len(found):,}" if found else "none", "" if found else "not bold dim")
    for call in found[:LINE_CALLS]:
        words = f"  {call.login} {'STOP-OUT ' if call.level_type > 1 else ''}{call.margin_level:.0f}%"
        line.append(words, "bold red" if call.level_type > 1 else "not bold yellow")
    return line


# ---- the blocks ----


def executions(state: MonitorState, width: int, height: int) -> RenderableType:
    """Return the last executions, the newest at the top."""
    table = _block("executions", width)
    for name, justify in (
        ("time UTC", "left"),
        ("account", "right"),
        ("order", "right"),
        ("change", "left"),
        ("side", "left"),
    ):
        _column(table, name, justify)
    for name in ("lots", "symbol", "price", "result"):
        _column(table, name, "left" if name == "symbol" else "right")
    _column(table, "", "left", ratio=1)
    rows = list(state.executions)[-max(0, height - TITLE_LINES) :] if height > TITLE_LINES else []
    for done in reversed(rows):
        table.add_row(*_execution_cells(done))
    return _fill(table, len(rows), height, "nothing yet")


def _execution_cells(done: Execution) -> tuple[Text, ...]:
    side = Text(done.side, "blue" if done.cmd % 2 == 0 else "magenta")
    marks = " ".join(word for word, given in (("rest", done.is_remainder), ("inferred", done.synthetic)) if given)
    return (
        Text(iso_time(done.ts)[CLOCK], "dim"),
        Text(str(done.login)),
        Text(str(done.order), "dim"),
        Text(done.change, CHANGES.get(done.change, "")),
        side,
        Text(f"{done.lots:,.2f}"),
        Text(one_line(done.symbol)),
        Text(done.price_text() if done.cmd in POSITIONS else ""),
        money(done.result) if done.change == "closed" else Text(""),
        Text(marks, "dim"),
    )


def symbols(state: MonitorState, width: int, height: int) -> RenderableType:
    """Return exposure by symbol, in lots."""
    found = state.symbols()
    table = _block(_title("exposure, lots", len(found), height), width)
    for name, justify in (("symbol", "left"), ("net", "right"), ("gross", "right"), ("orders", "right")):
        _column(table, name, justify, ratio=1 if name == "symbol" else None)
    for symbol, sums in found[: max(0, height - TITLE_LINES)]:
        net = Text(f"{sums.net / HUNDREDTHS:+,.2f}", "blue" if sums.net > 0 else "magenta" if sums.net < 0 else "")
        table.add_row(Text(one_line(symbol) or "-"), net, lots(sums.gross), Text(str(sums.positions)))
    return _fill(table, len(found), height, "no open orders")


def accounts(state: MonitorState, width: int, height: int) -> RenderableType:
    """Return the accounts with the largest gross volume."""
    found = state.accounts()
    table = _block(_title("biggest accounts, lots", len(found), height), width)
    for name in ("account", "gross", "buy", "sell", "result"):
        _column(table, name, "right" if name != "account" else "left", ratio=1 if name == "account" else None)
    for login, sums in found[: max(0, height - TITLE_LINES)]:
        result = state.results.get(login)
        cells = (lots(sums.gross), lots(sums.buy), lots(sums.sell))
        table.add_row(Text(str(login)), *cells, Text("") if result is None else money(result))
    return _fill(table, len(found), height, "nobody holds anything")


def calls(state: MonitorState, width: int, height: int) -> RenderableType:
    """Return the accounts in margin call, the lowest level first."""
    found = sorted(state.calls.values(), key=lambda call: call.margin_level)
    table = _block(_title("margin calls", len(found), height), width, "bold red" if found else "bold")
    for name, justify in (("account", "left"), ("level", "right"), ("equity", "right"), ("margin", "right")):
        _column(table, name, justify, ratio=1 if name == "account" else None)
    for call in found[: max(0, height - TITLE_LINES)]:
        style = "bold red" if call.level_type > 1 else "yellow"
        name = f"{call.login} STOP-OUT" if call.level_type > 1 else str(call.login)
        equity, margin = Text(f"{call.equity:,.0f}"), Text(f"{call.margin:,.0f}")
        table.add_row(Text(name, style), Text(f"{call.margin_level:.0f}%", style), equity, margin)
    return _fill(table, len(found), height, "none")


def messages(state: MonitorState, width: int, height: int) -> RenderableType:
    """Return alerts and the log, the newest at the top."""
    table = _block("alerts and messages", width, heads=False)
    _column(table, "", "left")
    _column(table, "", "left", ratio=1)
    rows = list(state.lines)[-(height - 1) :] if height > 1 else []
    for line in reversed(rows):
        style = "bold red" if line.level >= logging.ERROR else "yellow" if line.level >= logging.WARNING else ""
        table.add_row(Text(iso_time(line.ts)[CLOCK], "dim"), Text(one_line(line.text), style))
    return _fill(table, len(rows), height, "none", heads=1)


# ---- pieces ----


def _block(title: str, width: int, style: str = "bold", *, heads: bool = True) -> Table:
    made = Table(
        title=Text(title, style, no_wrap=True, overflow="ellipsis"),
        title_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        width=width,
        show_header=heads,
        header_style="dim",
    )
    made.title_style = style
    return made


def _column(table: Table, name: str, justify: str, *, ratio: int | None = None) -> None:
    right = justify == "right"
    table.add_column(name, justify="right" if right else "left", no_wrap=True, overflow="ellipsis", ratio=ratio)


def _fill(table: Table, rows: int, height: int, when_empty: str, heads: int = TITLE_LINES) -> RenderableType:
    """Return the table with blank lines up to its height, so that what is below it stands still."""
    if not rows:
        words = Text(when_empty, "dim", no_wrap=True, overflow="ellipsis")
        table.columns.clear()
        table.show_header = False
        table.add_column(no_wrap=True)
        table.add_row(words)
        return Group(table, *_blank(height - 2))
    return Group(table, *_blank(height - heads - rows))


def _blank(lines: int) -> Iterable[Text]:
    return (Text("") for _ in range(lines))


def _title(name: str, count: int, height: int) -> str:
    shown = max(0, height - TITLE_LINES)
    return f"{name} ({shown} of {count})" if count > shown else name


def lots(hundredths: int) -> Text:
    """Return a volume in lots."""
    return Text(f"{hundredths / HUNDREDTHS:,.2f}")


def money(amount: float) -> Text:
    """Return an amount; a loss in red, and with its sign for those who see no red."""
    return Text(f"{amount:+,.2f}", "red" if amount < 0 else "green" if amount > 0 else "")


def age_text(age_s: float) -> str:
    """Return an age in the unit that fits."""
    if age_s < 10:
        return f"{age_s:.1f} s"
    for limit_s, unit_s, unit in ((MINUTE_S * 2, 1, "s"), (HOUR_S * 2, MINUTE_S, "min"), (DAY_S * 2, HOUR_S, "h")):
        if age_s < limit_s:
            return f"{age_s / unit_s:.0f} {unit}"
    return f"{age_s / DAY_S:.0f} d"
