"""What happened to an order: the table of cases, the reading of whole tables, and what must hold whatever comes.

Private access: the orders that are remembered as ended, because that their number is bounded shows only in memory.
"""

from __future__ import annotations

import gc
import math
import tracemalloc
import weakref
from collections import Counter
from typing import Any, NamedTuple, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mt4pump.mt4.codes import TradeCommand, TradeState, Transaction
from mt4pump.mt4.layout import TRADE_RECORD
from mt4pump.mt4.record import Decoder, Fields
from mt4pump.pump.lifecycle import (
    CHANGES,
    CLOSED,
    COMPUTED_LOCALLY,
    ENDS,
    OrderStates,
    TradeChange,
    classify,
    difference,
    is_nan,
    is_over,
)
from mt4pump.pump.table_diff import ENDED_LIMIT

ADD, DELETE, UPDATE, CHANGE_GRP = Transaction
NAN = math.nan
Values = dict[str, Any]

_decode = Decoder(TRADE_RECORD)


def record(values: Values) -> Fields:
    """Return the fields of a trade record, through its bytes, as the pump sees them."""
    return _decode(TRADE_RECORD.pack(values))


BUY: Values = {"order": 1, "login": 100, "symbol": "EURUSD", "digits": 5, "cmd": 0, "volume": 100, "open_time": 1000}
BUY |= {"open_price": 1.1, "timestamp": 1000}
SELL = BUY | {"order": 2, "cmd": 1, "volume": 60}
LIMIT = BUY | {"order": 3, "cmd": 2, "open_price": 1.05}
BALANCE = {
    "order": 4,
    "login": 100,
    "cmd": 6,
    "profit": 500.0,
    "open_time": 1000,
    "comment": "deposit",
    "timestamp": 1000,
}
CREDIT = BALANCE | {"order": 5, "cmd": 7, "profit": 50.0, "comment": "bonus"}

SHUT = {"close_time": 2000, "close_price": 1.2, "profit": 10.0, "state": 3, "timestamp": 2000}
WAS_OPEN = {"close_time": 0, "close_price": 0.0, "profit": 0.0, "state": 0, "timestamp": 1000}
"""``before`` of an order that `SHUT` was laid over."""
OVER = {"close_time": 2000, "timestamp": 2000}
WAS_PENDING = {"close_time": 0, "timestamp": 1000}
ERASED = {"login": 0, "timestamp": 3000}


class Step(NamedTuple):
    """One event as the pump publishes it, and what we must make of it."""

    action: int
    values: Values
    change: str
    before: Values | None


OPENED = Step(ADD, BUY, "opened", None)
PLACED = Step(ADD, LIMIT, "placed", None)
CLOSED_BY_DELETE = Step(DELETE, BUY | SHUT, "closed", WAS_OPEN)
PAID = Step(ADD, BALANCE, "balance", None)

CASES: dict[str, list[Step]] = {
    "opened": [OPENED],
    "opened, published twice": [OPENED, Step(ADD, BUY, "modified", {})],
    "placed": [PLACED],
    "activated by UPDATE": [
        PLACED,
        Step(UPDATE, LIMIT | {"cmd": 0, "open_time": 1500}, "activated", {"cmd": 2, "open_time": 1000}),
    ],
    "activated by ADD": [PLACED, Step(ADD, LIMIT | {"cmd": 0}, "activated", {"cmd": 2})],
    "activated, then closed": [
        PLACED,
        Step(UPDATE, LIMIT | {"cmd": 0}, "activated", {"cmd": 2}),
        Step(DELETE, LIMIT | {"cmd": 0} | SHUT, "closed", WAS_OPEN),
    ],
    "activated and closed at once": [PLACED, Step(DELETE, LIMIT | {"cmd": 0} | SHUT, "closed", {"cmd": 2} | WAS_OPEN)],
    "stop loss and take profit set": [
        OPENED,
        Step(UPDATE, BUY | {"sl": 1.0, "tp": 1.3}, "modified", {"sl": 0.0, "tp": 0.0}),
        Step(UPDATE, BUY | {"sl": 1.05, "tp": 1.3}, "modified", {"sl": 1.0}),
    ],
    "pending price moved": [PLACED, Step(UPDATE, LIMIT | {"open_price": 1.04}, "modified", {"open_price": 1.05})],
    "updated with nothing changed": [OPENED, Step(UPDATE, BUY, "modified", {})],
    "closed by DELETE": [OPENED, CLOSED_BY_DELETE],
    "closed by UPDATE with a close time": [OPENED, Step(UPDATE, BUY | SHUT, "closed", WAS_OPEN)],
    "closed by UPDATE with a closed state only": [OPENED, Step(UPDATE, BUY | {"state": 3}, "closed", {"state": 0})],
    "closed by UPDATE, then by DELETE": [
        OPENED,
        Step(UPDATE, BUY | SHUT, "closed", WAS_OPEN),
        Step(DELETE, BUY | SHUT, "modified", {}),
    ],
    "closed by DELETE, then by UPDATE": [
        OPENED,
        CLOSED_BY_DELETE,
        Step(UPDATE, BUY | SHUT | {"profit": 11.0}, "modified", {"profit": 10.0}),
    ],
    "closed, and published three times more": [
        OPENED,
        CLOSED_BY_DELETE,
        *[Step(action, BUY | SHUT, "modified", {}) for action in (DELETE, UPDATE, ADD)],
    ],
    "closed in part: the part ends, the rest is a new order": [
        OPENED,
        Step(UPDATE, BUY | SHUT | {"volume": 40, "state": 4}, "closed", WAS_OPEN | {"volume": 100}),
        Step(ADD, BUY | {"order": 9, "volume": 60, "state": 1, "comment": "from #1"}, "opened", None),
    ],
    "closed in part, rest published first": [
        OPENED,
        Step(ADD, BUY | {"order": 9, "volume": 60, "state": 1}, "opened", None),
        Step(DELETE, BUY | SHUT | {"volume": 40, "state": 4}, "closed", WAS_OPEN | {"volume": 100}),
    ],
    "closed by an opposite order: both legs end, the rest is a new order": [
        OPENED,
        Step(ADD, SELL, "opened", None),
        Step(UPDATE, BUY | SHUT | {"state": 5, "comment": "close hedge by #2"}, "closed", WAS_OPEN | {"comment": ""}),
        Step(UPDATE, SELL | SHUT | {"state": 5, "volume": 0}, "closed", WAS_OPEN | {"volume": 60}),
        Step(ADD, BUY | {"order": 9, "volume": 40, "state": 1}, "opened", None),
    ],
    "stopped out": [
        OPENED,
        Step(UPDATE, BUY | {"activation": 4}, "modified", {"activation": 0}),
        Step(
            DELETE,
            BUY | SHUT | {"comment": "so: 49.8%/99.6/200.0", "activation": 4},
            "closed",
            WAS_OPEN | {"comment": ""},
        ),
    ],
    "pending cancelled by DELETE": [PLACED, Step(DELETE, LIMIT | OVER, "cancelled", WAS_PENDING)],
    "pending cancelled by DELETE with nothing changed": [PLACED, Step(DELETE, LIMIT, "cancelled", {})],
    "pending cancelled by UPDATE with a close time": [PLACED, Step(UPDATE, LIMIT | OVER, "cancelled", WAS_PENDING)],
    "pending cancelled by UPDATE with state deleted": [
        PLACED,
        Step(UPDATE, LIMIT | {"state": 6}, "cancelled", {"state": 0}),
    ],
    "pending cancelled by UPDATE with login 0": [
        PLACED,
        Step(UPDATE, LIMIT | ERASED, "cancelled", {"timestamp": 1000}),
    ],
    "pending cancelled by an UPDATE wiped clean": [
        PLACED,
        Step(
            UPDATE,
            {"order": 3},
            "cancelled",
            {
                "symbol": "EURUSD",
                "digits": 5,
                "cmd": 2,
                "volume": 100,
                "open_time": 1000,
                "open_price": 1.05,
                "timestamp": 1000,
            },
        ),
    ],
    "pending cancelled both ways": [
        PLACED,
        Step(UPDATE, LIMIT | ERASED, "cancelled", {"timestamp": 1000}),
        Step(DELETE, LIMIT | {"timestamp": 3000}, "modified", {}),
    ],
    "order deleted by UPDATE with login 0": [OPENED, Step(UPDATE, BUY | ERASED, "deleted", {"timestamp": 1000})],
    "order deleted by DELETE with state deleted": [
        OPENED,
        Step(DELETE, BUY | OVER | {"state": 6}, "deleted", WAS_PENDING | {"state": 0}),
    ],
    "order deleted while it still looks open": [OPENED, Step(DELETE, BUY, "deleted", {})],
    "balance by ADD": [PAID],
    "balance by UPDATE": [Step(UPDATE, BALANCE, "balance", None)],
    "balance by DELETE": [Step(DELETE, BALANCE | {"close_time": 1000}, "balance", None)],
    "withdrawal": [Step(ADD, BALANCE | {"profit": -500.0}, "balance", None)],
    "credit by ADD": [Step(ADD, CREDIT, "credit", None)],
    "credit by UPDATE": [Step(UPDATE, CREDIT, "credit", None)],
    "credit by DELETE": [Step(DELETE, CREDIT, "credit", None)],
    "balance published twice": [PAID, Step(ADD, BALANCE, "modified", {}), Step(UPDATE, BALANCE, "modified", {})],
    "balance corrected": [PAID, Step(UPDATE, BALANCE | {"profit": 400.0}, "modified", {"profit": 500.0})],
    "balance deleted by DELETE": [PAID, Step(DELETE, BALANCE, "deleted", {})],
    "balance deleted by UPDATE with login 0": [PAID, Step(UPDATE, BALANCE | ERASED, "deleted", {"timestamp": 1000})],
    "closed, then deleted from the history": [
        OPENED,
        CLOSED_BY_DELETE,
        Step(UPDATE, BUY | SHUT | ERASED, "deleted", {"timestamp": 2000}),
    ],
    "closed, then deleted with its state": [
        OPENED,
        CLOSED_BY_DELETE,
        Step(DELETE, BUY | SHUT | {"state": 6}, "deleted", {"state": 3}),
    ],
    "an UPDATE that came late, after the close": [
        OPENED,
        CLOSED_BY_DELETE,
        Step(UPDATE, BUY | {"sl": 1.0}, "modified", {"sl": 0.0} | {name: SHUT[name] for name in WAS_OPEN}),
        Step(DELETE, BUY | SHUT, "modified", {}),
    ],
    "an UPDATE of the very second of the close that came after it": [
        OPENED,
        CLOSED_BY_DELETE,
        Step(
            UPDATE,
            BUY | {"timestamp": 2000},
            "modified",
            {name: SHUT[name] for name in WAS_OPEN if name != "timestamp"},
        ),
        Step(DELETE, BUY | SHUT, "modified", {}),
    ],
    "restored by ADD": [
        OPENED,
        CLOSED_BY_DELETE,
        Step(ADD, BUY | {"state": 2, "timestamp": 2500}, "opened", SHUT),
        Step(UPDATE, BUY | {"state": 2, "timestamp": 2500, "sl": 1.0}, "modified", {"sl": 0.0}),
        Step(DELETE, BUY | SHUT, "closed", WAS_OPEN | {"state": 2, "timestamp": 2500, "sl": 1.0}),
    ],
    "restored by a newer UPDATE": [
        OPENED,
        CLOSED_BY_DELETE,
        Step(UPDATE, BUY | {"state": 2, "timestamp": 2500}, "modified", SHUT),
        Step(DELETE, BUY | SHUT, "closed", WAS_OPEN | {"state": 2, "timestamp": 2500}),
    ],
    "an unknown order updated": [Step(UPDATE, BUY, "modified", None)],
    "an unknown order closed": [Step(DELETE, BUY | SHUT, "closed", None)],
    "an unknown order closed by UPDATE": [Step(UPDATE, BUY | SHUT, "closed", None)],
    "an unknown order cancelled": [Step(DELETE, LIMIT, "cancelled", None)],
    "an unknown order cancelled by login 0": [Step(UPDATE, LIMIT | ERASED, "cancelled", None)],
    "an unknown order deleted by login 0": [Step(UPDATE, BUY | ERASED, "deleted", None)],
    "an unknown order added when already closed": [Step(ADD, BUY | SHUT, "closed", None)],
    "an account came into reach": [Step(CHANGE_GRP, BUY, "modified", None), Step(UPDATE, BUY, "modified", {})],
    "an account changed its group": [OPENED, Step(CHANGE_GRP, BUY, "modified", {})],
    "an action that the API does not have": [Step(77, BUY, "modified", None), CLOSED_BY_DELETE],
    "prices that are no numbers": [
        Step(ADD, BUY | {"sl": NAN, "close_price": NAN}, "opened", None),
        Step(UPDATE, BUY | {"sl": NAN, "close_price": NAN}, "modified", {}),
        Step(UPDATE, BUY | {"sl": 1.0, "close_price": NAN}, "modified", {"sl": NAN}),
        Step(UPDATE, BUY | {"sl": math.inf, "close_price": NAN}, "modified", {"sl": 1.0}),
    ],
    "conversion rates that are no numbers": [
        Step(ADD, BUY | {"conv_rates": (NAN, NAN)}, "opened", None),
        Step(UPDATE, BUY | {"conv_rates": (NAN, NAN)}, "modified", {}),
    ],
}


def same(one: object, other: object) -> bool:
    """Return whether two values are equal, NaN to NaN."""
    return repr(one) == repr(other) if is_nan(one) else one == other


@pytest.mark.parametrize("steps", CASES.values(), ids=CASES)
def test_every_event_is_called_what_it_is_and_says_what_changed(steps: list[Step]) -> None:
    states = OrderStates()
    for step in steps:
        event = states.apply(step.action, record(step.values))
        assert (event.action, event.change) == (step.action, step.change)
        if step.before is None:
            assert event.before is None
        else:
            assert event.before is not None
            assert event.before.keys() == step.before.keys()
            assert all(same(event.before[name], was) for name, was in step.before.items())


@pytest.mark.parametrize("steps", CASES.values(), ids=CASES)
def test_the_open_orders_holds_an_order_just_as_long_as_it_is_open(steps: list[Step]) -> None:
    states = OrderStates()
    for step in steps:
        event = states.apply(step.action, record(step.values))
        assert not (event.change in ENDS and event.fields["order"] in states.open)
        if event.change in {"opened", "placed", "activated"}:
            assert states.open[event.fields["order"]] == event.fields
        assert all(not is_over(fields) for fields in states.open.values())


def test_every_change_there_is_has_a_case() -> None:
    assert {step.change for steps in CASES.values() for step in steps} == set(CHANGES)


@pytest.mark.parametrize("values", [BUY | ERASED, {"order": 1}], ids=["login only", "wiped clean"])
def test_an_erased_record_keeps_the_login_that_the_open_orders_knows(values: Values) -> None:
    states = OrderStates()
    states.apply(ADD, record(BUY))
    assert states.apply(UPDATE, record(values)).fields["login"] == 100


def test_an_erased_record_keeps_the_login_that_its_end_was_published_with() -> None:
    states = OrderStates()
    states.apply(DELETE, record(BUY | SHUT))
    assert states.apply(UPDATE, record(BUY | SHUT | ERASED)).fields["login"] == 100


def test_an_erased_stranger_has_login_0() -> None:
    assert OrderStates().apply(UPDATE, record(LIMIT | ERASED)).fields["login"] == 0


def test_one_close_is_published_once_however_the_record_is_deleted_afterwards() -> None:
    states = OrderStates()
    states.apply(ADD, record(BUY))
    published = [states.apply(UPDATE, record(BUY | SHUT)).change]
    published.append(states.apply(UPDATE, record(BUY | SHUT | ERASED)).change)
    published.append(states.apply(DELETE, record(BUY | SHUT)).change)
    assert Counter(published)[CLOSED] == 1


def test_ended_orders_are_remembered_up_to_a_bound() -> None:
    states = OrderStates()
    last = record(BUY | SHUT)
    for order in range(ENDED_LIMIT + 1):
        states.apply(DELETE, {**last, "order": order})
    assert len(states._ended) == ENDED_LIMIT  # noqa: SLF001
    assert states.apply(DELETE, {**last, "order": 1}).change == "modified"
    assert states.apply(DELETE, {**last, "order": 0}) == TradeChange(DELETE, "closed", {**last, "order": 0}, None)


def test_the_array_of_a_compared_table_is_freed_without_the_garbage_collector() -> None:
    class Array(bytearray):
        pass

    orders, array = primed(), Array(TRADE_RECORD.pack(BUY))
    freed = weakref.finalize(array, lambda: None)
    gc.disable()
    try:
        assert [each for each in orders.compare(cast("bytes", array), _decode) if each is not None]
        del array
        assert not freed.alive
    finally:
        gc.enable()


def test_an_ended_order_takes_little_memory() -> None:
    states, last = OrderStates(), record(BUY | SHUT)
    tracemalloc.start()
    for order in range(2_000):
        states.apply(DELETE, {**last, "order": order + 1})
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken / 2_000 < 1_000  # as fields, 1,770


@pytest.mark.parametrize("state", TradeState)
@pytest.mark.parametrize("cmd", TradeCommand)
@pytest.mark.parametrize("action", Transaction)
def test_every_combination_has_a_change(action: int, cmd: int, state: int) -> None:
    fields = record({"order": 1, "login": 1, "cmd": cmd, "state": state})
    open_record = record({"order": 1, "login": 1, "cmd": cmd})
    assert classify(action, fields, None) in CHANGES
    assert classify(action, fields, open_record) in CHANGES
    assert classify(action, fields, open_record, wiped=True) in {"cancelled", "deleted"}


def test_a_command_beyond_the_table_is_an_order_like_any_other() -> None:
    assert OrderStates().apply(ADD, record(BUY | {"cmd": 99})).change == "opened"


def test_a_difference_names_the_old_values_and_nan_equals_nan() -> None:
    assert difference({"a": 1, "b": NAN, "c": 2.0}, {"a": 1, "b": NAN, "c": 3.0}) == {"c": 3.0}
    assert difference({"a": NAN}, {"a": 1.0}) == {"a": 1.0}
    assert is_nan(difference({"a": 1.0}, {"a": NAN})["a"])


# Repeats


def repeats(states: OrderStates, *steps: tuple[int, Values]) -> list[bool]:
    """Return of each record whether it is a repeat."""
    return [states.apply(action, record(values)).is_repeat for action, values in steps]


@pytest.mark.parametrize("action", [ADD, UPDATE, 77])
def test_a_record_that_says_what_the_table_said_is_a_repeat(action: int) -> None:
    states = primed(BUY)
    assert repeats(states, (action, BUY)) == [True]
    list(states.reconcile([record(BUY), record(SELL)]))
    assert repeats(states, (action, SELL)) == [True]
    assert states.open.keys() == {1, 2}


def test_a_record_that_differs_in_any_field_is_no_repeat_and_the_same_again_is_one() -> None:
    states = primed(BUY)
    for name, value in {"profit": 1.0, "sl": 1.0, "comment": "x", "timestamp": 1001, "activation": 1}.items():
        assert repeats(states, (UPDATE, BUY | {name: value}), (UPDATE, BUY | {name: value})) == [False, True]
        assert repeats(states, (UPDATE, BUY)) == [False]


def test_an_end_published_again_is_a_repeat_and_one_that_says_more_is_none() -> None:
    states = primed(BUY, LIMIT)
    again = [(action, BUY | SHUT) for action in (UPDATE, DELETE, ADD)]
    assert repeats(states, (DELETE, BUY | SHUT), *again) == [False, True, True, True]
    assert repeats(states, (UPDATE, BUY | SHUT | {"profit": 11.0})) == [False]
    assert repeats(states, (UPDATE, LIMIT | ERASED), (UPDATE, LIMIT | ERASED)) == [False, True]


def test_a_record_equal_to_the_last_one_of_an_order_that_a_table_ended_is_a_repeat_but_an_add_opens_it() -> None:
    states = primed(BUY)
    list(states.reconcile([]))
    assert repeats(states, (UPDATE, BUY)) == [True]
    assert states.open == {}
    assert repeats(states, (ADD, BUY)) == [False]
    assert states.open.keys() == {1}


def test_the_first_end_of_an_order_is_no_repeat_though_no_field_changed() -> None:
    states = primed(BUY, LIMIT)
    assert repeats(states, (DELETE, BUY), (DELETE, LIMIT)) == [False, False]


def test_a_stranger_a_change_of_group_and_a_record_without_a_ticket_are_never_repeats() -> None:
    states = primed(SELL)
    assert repeats(states, (UPDATE, BUY), (CHANGE_GRP, SELL)) == [False, False]
    unnamed = BALANCE | {"order": 0}
    assert repeats(states, (ADD, unnamed), (ADD, unnamed)) == [False, False], "two deposits of the same amount"


def test_what_a_table_moved_without_an_event_is_no_repeat_when_the_record_says_it() -> None:
    states = primed(BUY)
    moved = BUY | {"storage": -1.5, "profit": 2.0}
    assert reconciled(states, BUY | {"storage": -1.5}) == []
    assert reconciled(states, moved) == []
    event = states.apply(UPDATE, record(moved))
    assert (event.is_repeat, event.before) == (False, {"storage": 0.0, "profit": 0.0})
    assert repeats(states, (UPDATE, moved)) == [True]


def test_a_stale_record_with_what_was_published_is_a_repeat() -> None:
    states = primed(BUY)
    assert reconciled(states, BUY | {"profit": 2.0}) == []
    assert repeats(states, (UPDATE, BUY)) == [True]


# Whole tables


def primed(*rows: Values) -> OrderStates:
    """Return a book that read these rows at the first START."""
    states = OrderStates()
    states.set_baseline([record(row) for row in rows])
    return states


def reconciled(states: OrderStates, *rows: Values) -> list[tuple[int, str, int, Fields | None]]:
    """Return order, change, action and ``before`` of what a table read publishes."""
    events = list(states.reconcile([record(row) for row in rows]))
    return [(event.fields["order"], event.change, event.action, event.before) for event in events]


def test_the_first_table_sets_the_baseline_and_leaves_ended_rows_out() -> None:
    states = primed(BUY, SELL | SHUT, LIMIT)
    assert states.open == {1: record(BUY), 3: record(LIMIT)}


def test_the_same_table_publishes_nothing() -> None:
    assert reconciled(primed(BUY, LIMIT), LIMIT, BUY) == []


@pytest.mark.parametrize(("row", "change"), [(BUY, "closed"), (LIMIT, "cancelled")], ids=["order", "pending"])
def test_an_order_that_is_gone_ended_and_is_published_with_its_last_record(row: Values, change: str) -> None:
    states = primed(row)
    assert list(states.reconcile([])) == [TradeChange(DELETE, change, record(row), {})]
    assert states.open == {}


@pytest.mark.parametrize(("row", "change"), [(BUY, "opened"), (LIMIT, "placed")], ids=["order", "pending"])
def test_an_order_that_is_new_is_published(row: Values, change: str) -> None:
    states = primed()
    assert reconciled(states, row) == [(row["order"], change, ADD, None)]
    assert reconciled(states, row) == []


def test_an_order_that_changed_is_published_with_what_it_was() -> None:
    assert reconciled(primed(BUY), BUY | {"sl": 1.0}) == [(1, "modified", UPDATE, {"sl": 0.0})]


def test_a_pending_that_was_activated_meanwhile_is_published() -> None:
    assert reconciled(primed(LIMIT), LIMIT | {"cmd": 0}) == [(3, "activated", UPDATE, {"cmd": 2})]


def test_an_order_that_the_table_shows_as_closed_is_published_once() -> None:
    states = primed(BUY)
    assert reconciled(states, BUY | SHUT) == [(1, "closed", UPDATE, WAS_OPEN)]
    assert reconciled(states, BUY | SHUT) == []
    assert reconciled(states) == []


def test_a_stranger_that_the_table_shows_as_closed_is_a_repeat() -> None:
    assert reconciled(primed(), BUY | SHUT, LIMIT | {"state": 6}) == []


def test_what_the_api_computes_itself_is_a_repeat_but_is_kept() -> None:
    states = primed(BUY)
    moved: Values = {"profit": 3.0, "close_price": 1.15, "storage": -0.1, "taxes": 0.1, "margin_rate": 1.2}
    moved |= {"activation": 1, "timestamp": 5000, "conv_rates": (1.0, 1.1)}
    assert moved.keys() == COMPUTED_LOCALLY
    assert reconciled(states, BUY | moved) == []
    assert states.open[1] == record(BUY | moved)


def test_a_close_that_is_published_after_the_table_missed_it_is_not_a_second_close() -> None:
    states = primed(BUY)
    assert reconciled(states) == [(1, "closed", DELETE, {})]
    late = states.apply(DELETE, record(BUY | SHUT))
    assert (late.change, late.before) == ("modified", WAS_OPEN)


def test_an_update_that_waited_does_not_bring_back_an_order_that_the_table_lacked() -> None:
    states = primed(BUY)
    assert reconciled(states) == [(1, "closed", DELETE, {})]
    moved = BUY | {"sl": 1.0, "timestamp": 1500}
    late = [states.apply(UPDATE, record(moved)), states.apply(DELETE, record(moved | SHUT))]
    assert [(event.change, event.before) for event in late] == [
        ("modified", {"sl": 0.0, "timestamp": 1000}),
        ("modified", WAS_OPEN | {"timestamp": 1500}),
    ]
    assert states.open == {}


def test_an_add_and_a_table_bring_back_an_order_that_a_table_lacked() -> None:
    states = primed(BUY)
    list(states.reconcile([]))
    assert states.apply(ADD, record(BUY | {"timestamp": 1500})).change == "opened"
    list(states.reconcile([]))
    states.apply(UPDATE, record(BUY | {"timestamp": 1500}))
    assert [row[:3] for row in reconciled(states, BUY)] == [(1, "opened", ADD)]
    assert states.open.keys() == {1}


def caught_up(states: OrderStates, silent: set[int], *before: Values) -> list[tuple[int, str, Fields | None]]:
    """Return order, change and ``before`` of what is published when an earlier run's orders get known late."""
    states.baseline_orders = silent
    events = list(states.catch_up([record(row) for row in before]))
    return [(event.fields["order"], event.change, event.before) for event in events]


def test_orders_of_an_earlier_run_that_get_known_late_publish_what_the_first_table_left_unsaid() -> None:
    states = primed(SELL | {"sl": 1.3}, LIMIT)
    assert caught_up(states, {2, 3}, BUY, SELL) == [
        (1, "closed", {}),
        (2, "modified", {"sl": 0.0}),
        (3, "placed", None),
    ]
    assert states.open.keys() == {2, 3}
    assert states.apply(DELETE, record(BUY | SHUT)).change == "modified", "its end was published"


def test_what_was_published_since_the_first_table_is_not_published_again() -> None:
    states = primed(BUY, SELL)
    states.apply(DELETE, record(BUY | SHUT))
    states.apply(ADD, record(LIMIT))
    states.apply(DELETE, record(BUY | SHUT | {"order": 7}))
    assert caught_up(states, {1, 2}, BUY, SELL, BUY | {"order": 7}) == []
    assert states.open.keys() == {2, 3}


def test_an_order_that_the_table_brings_back_is_published_as_opened() -> None:
    states = primed(BUY)
    states.apply(DELETE, record(BUY | SHUT))
    assert [row[:3] for row in reconciled(states, BUY | {"state": 2})] == [(1, "opened", ADD)]
    assert 1 in states.open


def test_a_money_operation_in_the_table_is_published_at_most_once() -> None:
    states = primed()
    states.apply(ADD, record(BALANCE))
    assert reconciled(states, BALANCE) == []
    assert reconciled(states, BALANCE) == []


def test_a_money_operation_in_the_first_table_is_not_an_open_order() -> None:
    assert primed(BALANCE, CREDIT, BUY).open.keys() == {1}


@pytest.mark.parametrize("twice", [1, 2])
def test_an_order_listed_twice_in_one_table_is_one_order(twice: int) -> None:
    assert len(reconciled(primed(), *[BUY] * twice)) == 1


# Whatever comes

COMMANDS = {1: [0], 2: [1, 99], 3: [2, 0], 4: [5, 1], 5: [6], 6: [7]}
"""What the orders of the random histories may be: positions, pendings that may be activated, money."""
POSITIONS = (1, 2)


def one_event(order: int) -> st.SearchStrategy[Values]:
    """Return random records of one order."""
    return st.fixed_dictionaries(
        {
            "order": st.just(order),
            "login": st.sampled_from([0, 100]),
            "cmd": st.sampled_from(COMMANDS[order]),
            "volume": st.sampled_from([0, 100]),
            "state": st.integers(0, 7),
            "close_time": st.sampled_from([0, 0, 2000]),
            "sl": st.sampled_from([0.0, 1.0, NAN]),
            "profit": st.sampled_from([0.0, 5.0, NAN]),
            "activation": st.integers(-1, 1),
            "timestamp": st.integers(0, 3),
        }
    )


def histories(*orders: int) -> st.SearchStrategy[list[tuple[int, Values]]]:
    """Return random actions with records of these orders."""
    return st.lists(st.tuples(st.integers(0, 4), st.sampled_from(orders).flatmap(one_event)), max_size=10)


table_rows = st.lists(
    st.integers(1, 4).flatmap(one_event).map(lambda row: row | {"login": 100}),
    max_size=4,
    unique_by=lambda row: row["order"],
)


@settings(max_examples=100, deadline=None)
@given(histories(*COMMANDS), table_rows)
def test_a_table_read_twice_publishes_nothing_the_second_time_and_leaves_its_open_orders(
    events: list[tuple[int, Values]], rows: list[Values]
) -> None:
    states = OrderStates()
    for action, event in events:
        states.apply(action, record(event))
    table = [record(row) for row in rows]
    list(states.reconcile(table))
    assert states.open.keys() == {row["order"] for row in table if not is_over(row)}
    assert all(repr(states.open[row["order"]]) == repr(row) for row in table if not is_over(row))
    assert list(states.reconcile(table)) == []


@settings(max_examples=100, deadline=None)
@given(histories(*COMMANDS))
def test_whatever_comes_before_holds_the_old_values_and_only_open_orders_stay_in_the_open_orders(
    events: list[tuple[int, Values]],
) -> None:
    states = OrderStates()
    last: dict[int, Fields] = {}
    for action, event in events:
        fields = record(event)
        published = states.apply(action, fields)
        order = fields["order"]
        assert published.change in CHANGES
        assert (published.before is None) == (order not in last)
        assert published.fields is fields or published.fields.keys() == fields.keys()
        if published.change in ENDS:
            assert order not in states.open
        last[order] = published.fields
        assert all(not is_over(open_order) for open_order in states.open.values())


@settings(max_examples=100, deadline=None)
@given(histories(*POSITIONS))
def test_between_two_closes_of_an_order_it_was_open_again(events: list[tuple[int, Values]]) -> None:
    states = OrderStates()
    closed: set[int] = set()
    for action, event in events:
        order = event["order"]
        change = states.apply(action, record(event)).change
        assert not (change == CLOSED and order in closed), f"order {order} closed twice"
        if change == CLOSED:
            closed.add(order)
        if order in states.open:
            closed.discard(order)


def test_an_order_whose_account_left_our_reach_is_not_published_as_closed() -> None:
    states = OrderStates(lambda login: login == 5)
    rows = [
        record({"order": 1, "login": 5}),
        record({"order": 2, "login": 6}),
        record({"order": 3, "login": 6, "cmd": 2}),
    ]
    states.set_baseline(rows)
    published = {event.fields["order"]: event.change for event in states.reconcile([])}
    assert published == {1: "closed", 2: "deleted", 3: "deleted"}
