"""Events as text, tables and progress bars on standard output.

Text of the server may hold anything, so `one_line` escapes what would control the terminal.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

from mt4pump.log import json_line, one_line
from mt4pump.mt4.codes import TradeCommand
from mt4pump.wire import COMMON_KEYS, Body, kind_of

NOT_A_TERMINAL_COLUMNS = 160
DRAW_INTERVAL_S = 0.2
DIGITS_MAX = 10
SUMMARY_MAX_CHARS = 100
VALUE_MAX_CHARS = 40
NOT_SHOWN = frozenset({*COMMON_KEYS, "snapshot"})
POSITION_COMMANDS = (TradeCommand.OP_BUY, TradeCommand.OP_SELL)
MONEY_COMMANDS = (TradeCommand.OP_BALANCE, TradeCommand.OP_CREDIT)
CLOSING = ("closed", "cancelled", "deleted")
"""Changes of a trade after which its price is the closing one."""


class StdoutConsole(Console):
    """Standard output for tables and lines; ``columns`` is the width of files and pipes."""

    def __init__(self, columns: int = NOT_A_TERMINAL_COLUMNS) -> None:
        super().__init__(width=None if sys.stdout.isatty() else columns, highlight=False)

    def on_broken_pipe(self) -> None:
        """Raise BrokenPipeError, for which `mt4pump.cli.main` returns 0; rich would exit with 1."""
        raise BrokenPipeError


def plain_table(*columns: str, **options: Any) -> Table:
    """Return a table without borders."""
    return Table(*columns, box=None, pad_edge=False, header_style="bold", **options)


def text_cells(*values: object) -> tuple[Text, ...]:
    """Return foreign values as cells, without markup and without control characters."""
    return tuple(Text(one_line(str(value))) for value in values)


@contextmanager
def progress_bar(name: str, *columns: ProgressColumn) -> Iterator[Callable[[float, float], None]]:
    """Yield a callback for the amount that is done and the total; it draws where standard error is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _completed, _total: None
        return
    drawn_s, now = 0.0, time.monotonic
    completed: float = 0
    total: float | None = None
    with Progress(TextColumn(name), BarColumn(), *columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(name, total=None)

        def draw(done: float, of: float) -> None:
            nonlocal drawn_s, completed, total
            completed, total = done, of
            if now() - drawn_s >= DRAW_INTERVAL_S:  # an update costs more than an event
                drawn_s = now()
                progress.update(task, completed=done, total=of)

        yield draw
        progress.update(task, completed=completed, total=total)


def json_event(topic: str, body: Body) -> str:
    """Return an event as one JSON object; numbers that JSON lacks become null.

    The body is an object of its own, because news have a field called ``topic``, too.
    """
    return json_line({"topic": topic, "body": body})


def human_event(topic: str, body: Body) -> str:
    """Return an event as one line: local time of ``ts``, topic, values."""
    return f"{clock_text(body.get('ts'))} {one_line(topic):<16} {summary(topic, body)}"


def clock_text(ts: object) -> str:
    """Return ns since 1970 as local ``11:09:38.123``."""
    try:
        when = datetime.fromtimestamp(int(ts) / 1e9, UTC).astimezone()  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError, OSError):
        return "--:--:--.---"
    return when.strftime("%H:%M:%S.") + f"{when.microsecond // 1000:03d}"


def age_text(seconds: float) -> str:
    """Return an age as ``9.9 s``, ``59 s``, ``5 min`` or ``2 h``."""
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def summary(topic: str, body: Body) -> str:
    """Return the most important values of a body in one line."""
    shown = _SUMMARIES.get(kind_of(topic.encode("utf-8", "replace")), _short)(body)
    return one_line(shown if len(shown) <= SUMMARY_MAX_CHARS else shown[: SUMMARY_MAX_CHARS - 1] + "…")


def _price_text(price: object, digits: object) -> str:
    if isinstance(price, int | float) and isinstance(digits, int) and 0 <= digits <= DIGITS_MAX:
        return f"{price:.{int(digits)}f}"  # True and False are integers, too
    return _value_text(price)


def lots_text(volume: object) -> str:
    """Return hundredths of a lot as lots."""
    return f"{volume / 100:.2f}" if isinstance(volume, int | float) else _value_text(volume)


def command_text(cmd: object) -> str:
    """Return TradeRecord.cmd as ``buy`` or ``sell limit``."""
    if not isinstance(cmd, int) or cmd not in TradeCommand._value2member_map_:
        return f"cmd {_value_text(cmd)}"
    return TradeCommand(cmd).name.removeprefix("OP_").replace("_", " ").lower()


def _quote(body: Body) -> str:
    digits = body.get("digits")
    bid, ask = (_price_text(body.get(name), digits) for name in ("bid", "ask"))
    return f"bid {bid}  ask {ask}  spread {_value_text(body.get('spread'))}"


def _trade(body: Body) -> str:
    is_position = body.get("cmd") in POSITION_COMMANDS
    # A row of a snapshot has neither change nor action: it is an order that is open or waits for its price.
    change = body.get("change") or body.get("action") or ("open" if is_position else "pending")
    order, profit = _value_text(body.get("order")), _value_text(body.get("profit"))
    command = command_text(body.get("cmd"))
    if body.get("cmd") in MONEY_COMMANDS:  # a record without symbol, volume and price: the amount is its profit
        return f"{_value_text(change)}  #{order}  {command} {profit}"
    price = _price_text(body.get("close_price" if change in CLOSING else "open_price"), body.get("digits"))
    symbol, lots = _value_text(body.get("symbol") or "-"), lots_text(body.get("volume"))
    shown = f"{_value_text(change)} (ended)" if body.get("ended") else _value_text(change)
    text = f"{shown}  #{order}  {symbol}  {command}  {lots} lots  at {price}"
    has_profit = is_position and (change == "closed" or body.get("profit"))
    return f"{text}  profit {profit}" if has_profit else text


def _heartbeat(body: Body) -> str:
    names = ("state", "server", "uptime_s", "dropped", "reconnects", "subscriptions")
    return _pairs({name: body[name] for name in names if name in body})


def _short(body: Body) -> str:
    return _pairs({name: value for name, value in body.items() if name not in NOT_SHOWN})


def _pairs(values: Mapping[Any, Any]) -> str:
    parts, length = [], 0
    for name, value in values.items():
        if length > SUMMARY_MAX_CHARS:  # a group has hundreds of values
            break
        parts.append(f"{name}={_value_text(value)}")
        length += len(parts[-1]) + 1
    return " ".join(parts)


def _value_text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, dict | list):
        return f"({len(value)} values)"
    text = str(value)
    return text if len(text) <= VALUE_MAX_CHARS else text[: VALUE_MAX_CHARS - 1] + "…"


_SUMMARIES: dict[str, Callable[[Body], str]] = {"quote": _quote, "trade": _trade, "heartbeat": _heartbeat}
