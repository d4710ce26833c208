"""The tables of the live screen: their rows, columns, order, and what a filter compares; pure."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from mt4pump.client import one_line
from mt4pump_consumers.monitor.execution import HUNDREDTHS, POSITIONS, Execution, iso_time, price_text, side_of
from mt4pump_consumers.monitor.state import Call, ExecutionLine, Held, MonitorState, Sums

CLOCK = slice(11, 19)
CHANGES = {"closed": "bold", "deleted": "bold red", "activated": "cyan"}
STOP_OUT = 2
"""Value of ``level_type`` of an account whose positions the server closes."""


class Subject(NamedTuple):
    """The symbol or the account that is shown alone; the other one is None."""

    symbol: str | None = None
    login: int | None = None

    @property
    def kind(self) -> str:
        """Return the column that has it."""
        return "account" if self.symbol is None else "symbol"

    def __str__(self) -> str:
        return f"{self.kind} {self.login if self.symbol is None else one_line(self.symbol) or '-'}"

    def has(self, symbol: str, login: int) -> bool:
        """Return whether an order of this symbol and account belongs to it."""
        return (self.symbol is None or self.symbol == symbol) and (self.login is None or self.login == login)


class Cell(NamedTuple):
    """Text and rich's name of its style."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """``width``: usual width. ``rank``: columns of rank 0 stay, of the others the highest goes first."""

    name: str
    width: int
    cell: Callable[[Any], Cell]
    key: Callable[[Any], Any]
    rank: int = 1
    is_left: bool = False


@dataclass(frozen=True, slots=True)
class ScreenTable:
    """``rows`` of a state and a subject; ``sort`` and ``is_descending`` are the order at the start.

    ``identity`` finds a row again after it moved, ``words`` is what a filter searches, ``subject`` is what a row opens.
    ``is_dense``: rows matter more than columns, so they may stand beside each other.
    """

    name: str
    title: str
    empty: str
    columns: tuple[Column, ...]
    rows: Callable[[MonitorState, Subject | None], Iterable[Any]]
    identity: Callable[[Any], Hashable]
    words: Callable[[Any], str]
    subject: Callable[[Any], Subject | None]
    sort: int = 0
    is_descending: bool = True
    is_dense: bool = False


class SumsRow(NamedTuple):
    """Sums of a symbol or an account; ``result`` is what the account closed with since the start."""

    key: str | int
    sums: Sums
    result: float | None = None


class OrderRow(NamedTuple):
    """One open order."""

    order: int
    held: Held


def lots(hundredths: int) -> Cell:
    """Return a volume in lots."""
    return Cell(f"{hundredths / HUNDREDTHS:,.2f}")


def net_lots(sums: Sums) -> Cell:
    """Return bought minus sold in lots, in the colour of the side."""
    style = "blue" if sums.net > 0 else "magenta" if sums.net < 0 else ""
    return Cell(f"{sums.net / HUNDREDTHS:+,.2f}", style)


def money(amount: float | None) -> Cell:
    """Return an amount; a loss in red, and with its sign for those who see no red."""
    if amount is None:
        return Cell("")
    return Cell(f"{amount:+,.2f}", "red" if amount < 0 else "green" if amount > 0 else "")


def side_cell(cmd: int) -> Cell:
    """Return the side in its colour."""
    return Cell(side_of(cmd), "blue" if cmd % 2 == 0 else "magenta")


def _call_style(call: Call) -> str:
    return "bold red" if call.level_type >= STOP_OUT else "yellow"


def _line_style(line: ExecutionLine) -> str:
    return "bold red" if line.level >= logging.ERROR else "yellow" if line.level >= logging.WARNING else ""


def _opened_text(held: Held) -> str:
    if held.open_time <= 0:
        return ""
    return f"{datetime.fromtimestamp(min(held.open_time, 2**32), UTC):%m-%d %H:%M}"


def _remark(done: Execution) -> str:
    return " ".join(word for word, given in (("rest", done.is_remainder), ("inferred", done.synthetic)) if given)


def _sums_of(state: MonitorState, subject: Subject, key: Callable[[Held], Any]) -> dict[Any, Sums]:
    found: dict[Any, Sums] = {}
    for held in state.exposure.orders.values():
        if subject.has(held.symbol, held.login):
            found.setdefault(key(held), Sums()).add(held, 1)
    return found


def _symbol_rows(state: MonitorState, subject: Subject | None) -> Iterable[SumsRow]:
    found = state.exposure.symbols if subject is None else _sums_of(state, subject, lambda held: held.symbol)
    return (SumsRow(*item) for item in found.items())


def _account_rows(state: MonitorState, subject: Subject | None) -> Iterable[SumsRow]:
    found = state.exposure.accounts if subject is None else _sums_of(state, subject, lambda held: held.login)
    return (SumsRow(login, sums, state.results.get(login)) for login, sums in found.items())


def _order_rows(state: MonitorState, subject: Subject | None) -> Iterable[OrderRow]:
    rows = (OrderRow(*item) for item in state.exposure.orders.items())
    return (row for row in rows if subject is None or subject.has(row.held.symbol, row.held.login))


def _execution_rows(state: MonitorState, subject: Subject | None) -> Iterable[Execution]:
    return (done for done in reversed(state.executions) if subject is None or subject.has(done.symbol, done.login))


SUMS = (
    Column("net", 8, lambda row: net_lots(row.sums), lambda row: row.sums.net, 0),
    Column("gross", 8, lambda row: lots(row.sums.gross), lambda row: row.sums.gross, 1),
    Column("orders", 6, lambda row: Cell(f"{row.sums.positions:,}"), lambda row: row.sums.positions, 3),
    Column("buy", 8, lambda row: lots(row.sums.buy), lambda row: row.sums.buy, 4),
    Column("sell", 8, lambda row: lots(row.sums.sell), lambda row: row.sums.sell, 5),
    Column("pending", 7, lambda row: Cell(f"{row.sums.pending:,}"), lambda row: row.sums.pending, 6),
)
RESULT = Column("result", 10, lambda row: money(row.result), lambda row: row.result or 0.0, 2)


def _name_column(name: str, width: int) -> Column:
    return Column(name, width, lambda row: Cell(one_line(str(row.key)) or "-"), lambda row: row.key, 0, is_left=True)


def _time_column(rank: int) -> Column:
    return Column(
        "time UTC", 9, lambda row: Cell(iso_time(row.ts)[CLOCK], "dim"), lambda row: row.ts, rank, is_left=True
    )


TABLES: dict[str, ScreenTable] = {
    table.name: table
    for table in (
        ScreenTable(
            "executions",
            "executions",
            "nothing yet",
            (
                _time_column(3),
                Column("account", 8, lambda done: Cell(str(done.login)), lambda done: done.login, 0),
                Column("order", 8, lambda done: Cell(str(done.order), "dim"), lambda done: done.order, 5),
                Column(
                    "change",
                    9,
                    lambda done: Cell(done.change, CHANGES.get(done.change, "")),
                    lambda done: done.change,
                    0,
                    is_left=True,
                ),
                Column("side", 10, lambda done: side_cell(done.cmd), lambda done: done.cmd, 1, is_left=True),
                Column("lots", 8, lambda done: lots(done.volume), lambda done: done.volume, 0),
                Column(
                    "symbol", 8, lambda done: Cell(one_line(done.symbol)), lambda done: done.symbol, 0, is_left=True
                ),
                Column(
                    "price",
                    10,
                    lambda done: Cell(done.price_text() if done.cmd in POSITIONS else ""),
                    lambda done: done.price,
                    4,
                ),
                Column(
                    "result",
                    10,
                    lambda done: money(done.result if done.change == "closed" else None),
                    lambda done: done.result if done.change == "closed" else 0.0,
                    2,
                ),
                Column("", 13, lambda done: Cell(_remark(done), "dim"), _remark, 6, is_left=True),
            ),
            _execution_rows,
            lambda done: (done.epoch, done.topic, done.seq),
            lambda done: f"{done.login} {done.order} {done.change} {done.side} {done.symbol}",
            lambda done: Subject(login=done.login),
        ),
        ScreenTable(
            "symbols",
            "exposure, lots",
            "no open orders",
            (_name_column("symbol", 8), *SUMS),
            _symbol_rows,
            lambda row: row.key,
            lambda row: row.key,
            lambda row: Subject(symbol=row.key),
            sort=2,
            is_dense=True,
        ),
        ScreenTable(
            "accounts",
            "accounts, lots",
            "nobody holds anything",
            (_name_column("account", 8), *SUMS[:2], RESULT, *SUMS[2:]),
            _account_rows,
            lambda row: row.key,
            lambda row: str(row.key),
            lambda row: Subject(login=row.key),
            sort=2,
            is_dense=True,
        ),
        ScreenTable(
            "orders",
            "open orders",
            "no open orders",
            (
                Column("order", 8, lambda row: Cell(str(row.order)), lambda row: row.order, 0),
                Column("account", 8, lambda row: Cell(str(row.held.login)), lambda row: row.held.login, 0),
                Column(
                    "symbol",
                    8,
                    lambda row: Cell(one_line(row.held.symbol)),
                    lambda row: row.held.symbol,
                    0,
                    is_left=True,
                ),
                Column("side", 10, lambda row: side_cell(row.held.cmd), lambda row: row.held.cmd, 0, is_left=True),
                Column("lots", 8, lambda row: lots(row.held.volume), lambda row: row.held.volume, 0),
                Column(
                    "price",
                    10,
                    lambda row: Cell(price_text(row.held.open_price, row.held.digits)),
                    lambda row: row.held.open_price,
                    1,
                ),
                Column(
                    "opened, server",
                    14,
                    lambda row: Cell(_opened_text(row.held), "dim"),
                    lambda row: row.held.open_time,
                    2,
                ),
            ),
            _order_rows,
            lambda row: row.order,
            lambda row: f"{row.order} {row.held.login} {row.held.symbol} {side_of(row.held.cmd)}",
            lambda row: Subject(login=row.held.login),
            sort=4,
        ),
        ScreenTable(
            "calls",
            "margin calls",
            "none",
            (
                Column("account", 9, lambda call: Cell(str(call.login), _call_style(call)), lambda call: call.login, 0),
                Column(
                    "level",
                    7,
                    lambda call: Cell(f"{call.margin_level:,.0f}%", _call_style(call)),
                    lambda call: call.margin_level,
                    0,
                ),
                Column(
                    "",
                    8,
                    lambda call: Cell("STOP-OUT" if call.level_type >= STOP_OUT else "", _call_style(call)),
                    lambda call: call.level_type,
                    0,
                    is_left=True,
                ),
                Column("equity", 10, lambda call: Cell(f"{call.equity:,.0f}"), lambda call: call.equity, 1),
                Column("margin", 10, lambda call: Cell(f"{call.margin:,.0f}"), lambda call: call.margin, 2),
            ),
            lambda state, _subject: state.calls.values(),
            lambda call: call.login,
            lambda call: str(call.login),
            lambda call: Subject(login=call.login),
            sort=1,
            is_descending=False,
        ),
        ScreenTable(
            "messages",
            "alerts and messages",
            "none",
            (
                _time_column(0),
                Column(
                    "message",
                    60,
                    lambda line: Cell(one_line(line.text), _line_style(line)),
                    lambda line: line.text,
                    0,
                    is_left=True,
                ),
            ),
            lambda state, _subject: reversed(state.lines),
            lambda line: (line.ts, line.text),
            lambda line: line.text,
            lambda _line: None,
        ),
    )
}
