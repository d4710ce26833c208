"""The live screen; pure: returns what rich draws of state and controls, exactly as large as the terminal.

First how one table fits into a rectangle (columns, rows beside each other), then where the tables are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Group, RenderableType
from rich.text import Text

from mt4pump.client import Status, one_line
from mt4pump_consumers.monitor.controls import ScreenControls
from mt4pump_consumers.monitor.state import MonitorState
from mt4pump_consumers.monitor.tables import STOP_OUT, TABLES, Cell, Column

HEAD_LINES = 2
"""Lines of a table that are not rows: its title and its column heads."""
GAP, GROUP_GAP = 1, 3
"""Columns of the terminal between two columns, and between two groups of rows."""
GROUPS_MAX = 6
RANK_SHOWN, RANK_ALL = 3, 9
MEASURED_ROWS = 200
"""Rows whose cells set the widths; wider ones below are cut."""
ScreenLines = list[Text]


def table_lines(name: str, state: MonitorState, controls: ScreenControls, width: int, height: int) -> ScreenLines:
    """Return ``height`` lines of ``width``: title, heads, and as many rows as fit, the selected one among them."""
    table, of = TABLES[name], controls.tables[name]
    rows = controls.rows(name, state)
    room = max(height - HEAD_LINES, 1)
    hidden = "" if controls.subject is None else controls.subject.kind  # the same in every row
    possible, sort = [column for column in table.columns if column.name != hidden], table.columns[of.sort]
    groups, columns, widths = _fitting(possible, sort, rows, width, room, is_dense=table.is_dense)
    of.page = groups * room
    at = controls.index_in(name, rows)
    first = min(max(0, (at or 0) - of.page // 2), max(0, len(rows) - of.page))
    shown = rows[first : first + of.page]
    lines = [_title(name, len(rows), first, len(shown), controls)]
    if rows:
        group_width = _group_width(width, groups)
        heads = _heads(columns, widths, sort, is_descending=of.is_descending)
        drawn = [_row(row, columns, widths, is_selected=first + number == at) for number, row in enumerate(shown)]
        blocks = [[heads, *drawn[start : start + room]] for start in range(0, groups * room, room)]
        lines += beside(blocks, [group_width] * groups, room + 1)
    else:
        lines.append(Text(f"no row has {of.filter!r}" if of.filter else table.empty, "dim"))
    return sized(lines, width, height)


def beside(blocks: Sequence[ScreenLines], widths: Sequence[int], height: int) -> ScreenLines:
    """Return blocks of lines beside each other."""
    columns = [sized(block, width, height) for block, width in zip(blocks, widths, strict=True)]
    gap = " " * GROUP_GAP
    return [Text(gap, no_wrap=True).join(parts) for parts in zip(*columns, strict=True)]


def sized(lines: ScreenLines, width: int, height: int) -> ScreenLines:
    """Return exactly ``height`` lines of exactly ``width``."""
    made = [line.copy() for line in lines[:height]] + [Text() for _ in range(height - len(lines))]
    for line in made:
        line.no_wrap = True
        line.truncate(width, overflow="ellipsis", pad=True)
    return made


def _fitting(
    columns: Sequence[Column], sort: Column, rows: Sequence[Any], width: int, room: int, *, is_dense: bool
) -> tuple[int, list[Column], list[int]]:
    """Return how many groups of rows stand beside each other, their columns, and the widths of these.

    Of a dense table the groups that show all rows, with the columns of rank 0 at least; else as many as have the
    columns up to ``RANK_SHOWN``. Of other tables as many as have all columns. The column of the order is always shown.
    """
    natural = {column.name: _natural(column, rows) for column in columns}

    def chosen(groups: int, rank: int) -> list[Column]:
        shown = list(columns)
        optional = sorted(
            (each for each in columns if each.rank > rank and each is not sort), key=lambda each: -each.rank
        )
        for column in optional:
            if _sum(natural, shown) <= _group_width(width, groups):
                break
            shown.remove(column)
        return shown if _sum(natural, shown) <= _group_width(width, groups) else []

    needed = min(max(1, -(-len(rows) // room)), GROUPS_MAX)
    options = [(groups, RANK_SHOWN if is_dense else RANK_ALL) for groups in range(needed, 0, -1)]
    if is_dense and needed * room >= len(rows):
        options.insert(0, (needed, 0))
    options.append((1, 0))
    for groups, rank in options:
        if shown := chosen(groups, rank):
            return groups, shown, _widths(natural, shown, _group_width(width, groups))
    shown = [column for column in columns if column.rank == 0 or column.name == sort.name]
    return 1, shown, _widths(natural, shown, width)


def _group_width(width: int, groups: int) -> int:
    return (width - GROUP_GAP * (groups - 1)) // groups


def _natural(column: Column, rows: Sequence[Any]) -> int:
    """Return the width that a column needs, the sign of the order in its head included: text may be cut, no number."""
    width = max(column.width, len(column.name) + 1)
    if column.is_left:
        return width
    return max([width, *(cell_len(column.cell(row).text) for row in rows[:MEASURED_ROWS])])


def _sum(natural: dict[str, int], columns: Sequence[Column]) -> int:
    return sum(natural[column.name] for column in columns) + GAP * (len(columns) - 1)


def _widths(natural: dict[str, int], columns: Sequence[Column], width: int) -> list[int]:
    """Return the widths of columns: a last column on the left has what is left; too little is shared."""
    widths = [natural[column.name] for column in columns]
    spare = width - _sum(natural, columns)
    if columns[-1].is_left:
        widths[-1] = max(1, widths[-1] + spare)
    elif spare < 0:
        widths = [max(1, each + spare // len(widths)) for each in widths]
    return widths


def _title(name: str, count: int, first: int, shown: int, controls: ScreenControls) -> Text:
    table, of = TABLES[name], controls.tables[name]
    is_focus = controls.focus == name
    line = Text("▶ " if is_focus else "  ", "bold cyan" if is_focus else "")
    style = "bold red" if name == "calls" and count else "bold"
    line.append(table.title, style)
    if count > shown:
        line.append(f"  {first + 1}-{first + shown} of {count:,}", "not bold dim")
    if of.filter or (is_focus and controls.is_typing):
        line.append(f"  /{of.filter}", "yellow")
    return line


def _heads(columns: Sequence[Column], widths: Sequence[int], sort: Column, *, is_descending: bool) -> Text:
    sign = "▼" if is_descending else "▲"
    names = [f"{column.name}{sign}" if column is sort else column.name for column in columns]
    cells = [_fit(Cell(name), column, width) for name, column, width in zip(names, columns, widths, strict=True)]
    return Text((" " * GAP).join(cells), "dim", no_wrap=True)


def _row(row: Any, columns: Sequence[Column], widths: Sequence[int], *, is_selected: bool) -> Text:
    line = Text(no_wrap=True, style="reverse" if is_selected else "")
    for number, (column, width) in enumerate(zip(columns, widths, strict=True)):
        cell = column.cell(row)
        line.append(_fit(cell, column, width), cell.style)
        if number + 1 < len(columns):
            line.append(" " * GAP)
    return line


def _fit(cell: Cell, column: Column, width: int) -> str:
    text, spare = cell.text, width - cell_len(cell.text)
    if spare < 0:
        return set_cell_size(text, width - 1) + "…"
    return text + " " * spare if column.is_left else " " * spare + text


WIDE = 150
"""Columns from which on all tables stand beside each other."""
EXECUTIONS_WIDTH = 104
"""Width of all columns of the executions."""
STATES = {"pumping": "bold green", "logged_in": "bold yellow", "connecting": "bold yellow"}
MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400
LINE_CALLS = 20
HEIGHT_MIN = 8


def draw(state: MonitorState, controls: ScreenControls, width: int, height: int, *, has_keys: bool) -> RenderableType:
    """Return the whole screen; its last line names the keys, if there are any."""
    head = [state_line(state), subject_line(state, controls)]
    foot = [keys_line(controls)] if has_keys else []
    room = max(height - len(head) - len(foot), HEIGHT_MIN)
    if controls.is_zoomed:
        body = table_lines(controls.focus, state, controls, width, room)
    elif width >= WIDE:
        body = _wide(state, controls, width, room)
    else:
        body = _narrow(state, controls, width, room)
    return Group(*sized([*head, *body, *foot], width, max(height, HEIGHT_MIN)))


def _narrow(state: MonitorState, controls: ScreenControls, width: int, room: int) -> ScreenLines:
    """Executions; two tables beside each other; margin calls in a line, and messages."""
    low = 0 if controls.subject else max(3, room // 7)
    upper = max(HEAD_LINES + 2, (room - 1 - low) * 2 // 5)
    middle = room - 1 - low - upper
    left = (width - GROUP_GAP) // 2
    right = width - GROUP_GAP - left
    one, other = _pair(controls)
    pair = [table_lines(one, state, controls, left, middle), table_lines(other, state, controls, right, middle)]
    lines = [calls_line(state), *table_lines("executions", state, controls, width, upper)]
    lines += beside(pair, [left, right], middle)
    return lines + (table_lines("messages", state, controls, width, low) if low else [])


def _wide(state: MonitorState, controls: ScreenControls, width: int, room: int) -> ScreenLines:
    """Executions, two tables and margin calls beside each other; messages below over the whole width."""
    low = 0 if controls.subject else min(max(4, room // 7), 10)
    high = room - low
    first = min(EXECUTIONS_WIDTH, width // 2)
    middle = (width - first - 2 * GROUP_GAP) // 2
    last = width - first - middle - 2 * GROUP_GAP
    one, other = controls.names[:2]
    calls = 0
    if controls.subject is None:  # margin calls get a third at most, and what the symbols leave
        spare = high - len(state.exposure.symbols) - HEAD_LINES
        calls = max(HEAD_LINES, min(len(state.calls) + HEAD_LINES, max(high // 3, spare)))
    stack = table_lines(one, state, controls, middle, high - calls)
    stack += table_lines("calls", state, controls, middle, calls) if calls else []
    blocks = [table_lines("executions", state, controls, first, high), stack]
    lines = beside([*blocks, table_lines(other, state, controls, last, high)], [first, middle, last], high)
    return lines + (table_lines("messages", state, controls, width, low) if low else [])


def _pair(controls: ScreenControls) -> tuple[str, str]:
    """Return the tables that stand beside each other; margin calls, which have a line, only with the focus."""
    one, other = controls.names[:2]
    return one, "calls" if controls.focus == "calls" else other


# ---- the lines at the top and at the bottom ----


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
        words = f"  {call.login} {'STOP-OUT ' if call.level_type >= STOP_OUT else ''}{call.margin_level:.0f}%"
        line.append(words, "bold red" if call.level_type >= STOP_OUT else "not bold yellow")
    return line


def subject_line(state: MonitorState, controls: ScreenControls) -> Text:
    """Return the counters, behind the symbol or account that is open."""
    line = counts_line(state)
    if controls.subject is None:
        return line
    return Text.assemble((f" {controls.subject} ", "bold reverse"), "  ", line, no_wrap=True)


def keys_line(controls: ScreenControls) -> Text:
    """Return the keys, or the filter that is typed."""
    if controls.is_typing:
        text = controls.tables[controls.focus].filter
        return Text(f"filter {controls.focus}: {text}_   Enter keep  Esc clear", "yellow", no_wrap=True)
    return Text(controls.help, "dim", no_wrap=True, overflow="ellipsis")


def age_text(age_s: float) -> str:
    """Return an age in the unit that fits."""
    if age_s < 10:
        return f"{age_s:.1f} s"
    for limit_s, unit_s, unit in ((MINUTE_S * 2, 1, "s"), (HOUR_S * 2, MINUTE_S, "min"), (DAY_S * 2, HOUR_S, "h")):
        if age_s < limit_s:
            return f"{age_s / unit_s:.0f} {unit}"
    return f"{age_s / DAY_S:.0f} d"
