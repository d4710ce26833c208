"""The tables of the live screen: their rows, columns, order, and what a filter compares; pure."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, NamedTuple

from mt4pump.client import one_line
from mt4pump_consumers.monitor.execution import HUNDREDTHS, POSITIONS, Execution, iso_time, price_text, side_of
from mt4pump_consumers.monitor.state import ExecutionLine, Held, MarginCallRow, MonitorState, Sums

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


def _call_style(call: MarginCallRow) -> str:
    return "bold red" if call.level_type >= STOP_OUT else "yellow"


def _message_cell(line: ExecutionLine) -> Cell:
    style = "bold red" if line.level >= logging.ERROR else "yellow" if line.level >= logging.WARNING else ""
    return Cell(one_line(line.text), style)


def _opened_text(open_time_s: int) -> str:
    return f"{datetime.fromtimestamp(min(open_time_s, 2**32), UTC):%m-%d %H:%M}" if open_time_s > 0 else ""


def _open_price_cell(row: OrderRow) -> Cell:
    return Cell(price_text(row.held.open_price, row.held.digits))


def _price_cell(done: Execution) -> Cell:
    return Cell(done.price_text() if done.cmd in POSITIONS else "")


def _result(done: Execution) -> float | None:
    return done.result if done.change == "closed" else None


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


def _plain(value: object) -> Cell:
    return Cell(one_line(str(value)))


def _name(value: object) -> Cell:
    return Cell(one_line(str(value)) or "-")


def _dim(value: object) -> Cell:
    return Cell(str(value), "dim")


def _count(value: int) -> Cell:
    return Cell(f"{value:,}")


def _amount(value: float) -> Cell:
    return Cell(f"{value:,.0f}")


def _column(
    name: str, width: int, path: str, rank: int = 0, cell: Callable[[Any], Cell] = _plain, *, is_left: bool = False
) -> Column:
    """Return a column of the attribute ``path``, as `attrgetter` takes it, written by ``cell``."""
    key = attrgetter(path)
    return Column(name, width, lambda row: cell(key(row)), key, rank, is_left=is_left)


def _time_column(rank: int) -> Column:
    return _column("time UTC", 9, "ts", rank, lambda ts: Cell(iso_time(ts)[CLOCK], "dim"), is_left=True)


def _call_column(
    name: str, width: int, path: str, text: Callable[[Any], str] = str, *, is_left: bool = False
) -> Column:
    """Return a column of margin calls in the colour of their level."""
    key = attrgetter(path)
    return Column(name, width, lambda call: Cell(text(key(call)), _call_style(call)), key, 0, is_left=is_left)


SUMS = (
    Column("net", 8, lambda row: net_lots(row.sums), lambda row: row.sums.net, 0),
    _column("gross", 8, "sums.gross", 1, lots),
    _column("orders", 6, "sums.positions", 3, _count),
    _column("buy", 8, "sums.buy", 4, lots),
    _column("sell", 8, "sums.sell", 5, lots),
    _column("pending", 7, "sums.pending", 6, _count),
)
RESULT = Column("result", 10, lambda row: money(row.result), lambda row: row.result or 0.0, 2)

TABLES: dict[str, ScreenTable] = {
    table.name: table
    for table in (
        ScreenTable(
            "executions",
            "executions",
            "nothing yet",
            (
                _time_column(3),
                _column("account", 8, "login"),
                _column("order", 8, "order", 5, _dim),
                _column("change", 9, "change", 0, lambda change: Cell(change, CHANGES.get(change, "")), is_left=True),
                _column("side", 10, "cmd", 1, side_cell, is_left=True),
                _column("lots", 8, "volume", 0, lots),
                _column("symbol", 8, "symbol", is_left=True),
                Column("price", 10, _price_cell, lambda done: done.price, 4),
                Column("result", 10, lambda done: money(_result(done)), lambda done: _result(done) or 0.0, 2),
                Column("", 13, lambda done: _dim(_remark(done)), _remark, 6, is_left=True),
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
            (_column("symbol", 8, "key", 0, _name, is_left=True), *SUMS),
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
            (_column("account", 8, "key", 0, _name, is_left=True), *SUMS[:2], RESULT, *SUMS[2:]),
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
                _column("order", 8, "order"),
                _column("account", 8, "held.login"),
                _column("symbol", 8, "held.symbol", is_left=True),
                _column("side", 10, "held.cmd", 0, side_cell, is_left=True),
                _column("lots", 8, "held.volume", 0, lots),
                Column("price", 10, _open_price_cell, lambda row: row.held.open_price, 1),
                _column("opened, server", 14, "held.open_time", 2, lambda time_s: _dim(_opened_text(time_s))),
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
                _call_column("account", 9, "login"),
                _call_column("level", 7, "margin_level", lambda level: f"{level:,.0f}%"),
                _call_column("", 8, "level_type", lambda of: "STOP-OUT" if of >= STOP_OUT else "", is_left=True),
                _column("equity", 10, "equity", 1, _amount),
                _column("margin", 10, "margin", 2, _amount),
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
                Column("message", 60, _message_cell, lambda line: line.text, 0, is_left=True),
            ),
            lambda state, _subject: reversed(state.lines),
            lambda line: (line.ts, line.text),
            lambda line: line.text,
            lambda _line: None,
        ),
    )
}
