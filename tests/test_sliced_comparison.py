"""Comparing a table in slices, with records between them, publishes what comparing it at once does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mt4pump.mt4.codes import Transaction
from mt4pump.mt4.layout import MARGIN_LEVEL, ONLINE_RECORD, TRADE_RECORD
from mt4pump.mt4.record import Decoder, Fields
from mt4pump.pump import lifecycle as trades
from mt4pump.pump import table_diff as tables
from mt4pump.pump.lifecycle import OrderStates, TradeChange
from mt4pump.pump.table_diff import FlagTable, Table

ADD, UPDATE, DELETE = Transaction.ADD, Transaction.UPDATE, Transaction.DELETE
TRADE, ONLINE, MARGIN = Decoder(TRADE_RECORD), Decoder(ONLINE_RECORD), Decoder(MARGIN_LEVEL)
KEYS = st.integers(1, 12)
ROWS = st.dictionaries(KEYS, st.integers(0, 3), max_size=12)
RECORDS = st.lists(st.tuples(KEYS, st.sampled_from((ADD, UPDATE, DELETE)), st.integers(0, 3)), max_size=12)
PLACES = st.lists(st.integers(0, 40), min_size=12, max_size=12)
FAST = settings(max_examples=300, deadline=None)


@pytest.fixture(scope="module", autouse=True)
def _small_steps() -> Iterator[None]:
    """Have records come between any two keys."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (tables, trades):
            patch.setattr(module, "ROWS_PER_STEP", 1)
            patch.setattr(module, "KEYS_PER_STEP", 1)
        yield


def trade(order: int, value: int) -> bytes:
    pending = {"cmd": 2} if value == 3 else {"cmd": 0}
    return TRADE_RECORD.pack({"order": order, "login": order, "sl": float(value), "symbol": b"EURUSD", **pending})


def online(login: int, value: int) -> bytes:
    return ONLINE_RECORD.pack({"login": login, "counter": value, "ip": value})


def stepped(steps: Iterator[Any], acts: Iterable[tuple[int, Callable[[], None]]], take: Callable[[Any], None]) -> None:
    """Go on step by step; each act happens at its step that may be left, or at the end."""
    waiting = sorted(acts, key=lambda act: act[0])
    for count, event in enumerate(steps, 1):
        if event is not None:
            take(event)
            continue  # only at None may it be left
        while waiting and waiting[0][0] <= count:
            waiting.pop(0)[1]()
    for _, act in waiting:
        act()


class Book:
    """A book of orders, and what it published of each order, in order; without ``rows`` nothing was read yet."""

    def __init__(self, rows: dict[int, int] | None = None) -> None:
        self.orders = OrderStates()
        if rows is not None:
            self.orders.set_baseline(TRADE(trade(order, value)) for order, value in rows.items())
        self.published: dict[int, list[tuple[int, str, Any]]] = {}

    def publish(self, event: TradeChange) -> None:
        if not event.is_repeat:
            self.published.setdefault(event.fields["order"], []).append((event.action, event.change, event.before))

    def record(self, order: int, action: int, value: int) -> None:
        for event in self.orders.settle(order):
            self.publish(event)
        self.publish(self.orders.apply(action, TRADE(trade(order, value))))

    def compare(self, rows: dict[int, int]) -> Iterator[TradeChange | None]:
        return self.orders.compare(b"".join(trade(order, value) for order, value in rows.items()), TRADE)


@FAST
@given(known=st.none() | ROWS, table=ROWS, records=RECORDS, places=PLACES)
def test_orders_compared_in_slices(
    known: dict[int, int] | None, table: dict[int, int], records: list[Any], places: list[int]
) -> None:
    whole, sliced = Book(known), Book(known)
    for event in whole.compare(table):
        if event is not None:
            whole.publish(event)
    for record in records:
        whole.record(*record)
    steps = sliced.compare(table)
    acts = [
        (place, lambda record=record: sliced.record(*record))
        for place, record in zip(sorted(places), records, strict=False)
    ]
    stepped(steps, acts, sliced.publish)
    assert sliced.published == whole.published
    assert sliced.orders.open == whole.orders.open


class Known:
    """A table, and what was published of each of its keys, in order."""

    def __init__(self, rows: dict[int, int]) -> None:
        self.table = Table(ONLINE, "login")
        list(self.table.compare(b"".join(online(*row) for row in rows.items())))
        self.published: dict[int, list[tuple[str, Fields]]] = {}

    def publish(self, event: Any) -> None:
        if event is not None:
            self.published.setdefault(event.fields["login"], []).append((event.action, event.fields))

    def record(self, login: int, action: int, value: int) -> None:
        row = online(login, value)
        for event in self.table.settle(row):
            self.publish(event)
        self.publish(self.table.apply(action, row))


@FAST
@given(
    known=ROWS,
    table=ROWS,
    twice=st.lists(st.tuples(KEYS, st.integers(4, 6)), max_size=4),
    records=RECORDS,
    places=PLACES,
)
def test_rows_compared_in_slices(
    known: dict[int, int], table: dict[int, int], twice: list[tuple[int, int]], records: list[Any], places: list[int]
) -> None:
    array = b"".join(online(*row) for row in [*table.items(), *twice])
    whole, sliced = Known(known), Known(known)
    for event in whole.table.compare(array):
        whole.publish(event)
    for record in records:
        whole.record(*record)
    acts = [
        (place, lambda record=record: sliced.record(*record))
        for place, record in zip(sorted(places), records, strict=False)
    ]
    stepped(sliced.table.compare(array), acts, sliced.publish)
    assert sliced.published == whole.published
    assert dict(sliced.table.rows()) == dict(whole.table.rows())


@FAST
@given(reads=st.lists(ROWS, min_size=1, max_size=4))
def test_flags_are_found_without_decoding_every_row(reads: list[dict[int, int]]) -> None:
    table = FlagTable(MARGIN, "login", "level_type")
    flagged: dict[int, int] = {}
    for read in reads:
        array = b"".join(MARGIN_LEVEL.pack({"login": login, "level_type": level}) for login, level in read.items())
        events = [event for event in table.compare(array) if event is not None]
        expected = {login: level for login, level in read.items() if level != flagged.get(login, 0)}
        expected |= dict.fromkeys(flagged.keys() - read.keys(), 0)
        assert {event.fields["login"]: event.fields["level_type"] for event in events} == expected
        assert len(events) == len(expected)
        for event in events:
            before, now = flagged.get(event.fields["login"], 0), event.fields["level_type"]
            assert event.action == ("delete" if not now else "update" if before else "add")
        flagged = {login: level for login, level in read.items() if level}
        assert {login: row["level_type"] for login, row in table.flagged.items()} == flagged


def test_a_first_read_that_was_given_up_begins_again_and_loses_nothing() -> None:
    orders = Book()
    steps = orders.compare({1: 1, 2: 1})
    next(steps)
    orders.record(1, UPDATE, 2)
    steps.close()  # type: ignore[attr-defined]
    for event in orders.compare({1: 2, 2: 2, 3: 1}):
        assert event is None
    assert sorted(orders.orders.open) == sorted(orders.orders.baseline_orders) == [1, 2, 3]
    assert [change for _, change, _ in orders.published[1]] == ["modified"]
