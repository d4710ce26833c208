"""Trades, activations and margin calls, from the record or the doorbell to the message."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgpack
import pytest

from mt4pump.mt4.codes import PumpCode, Transaction
from mt4pump.mt4.layout import MARGIN_LEVEL, TRADE_RECORD, USER_RECORD
from tests.bus import Message
from tests.fake_manager import failed, lost
from tests.pump.harness import EPOCH, Harness, open_harness, own, seen

ADD, DELETE, UPDATE, CHANGE_GRP = Transaction
START, TRADES = PumpCode.START_PUMPING, PumpCode.UPDATE_TRADES
MARGINCALL, ACTIVATION = PumpCode.UPDATE_MARGINCALL, PumpCode.UPDATE_ACTIVATION
SHUT = {"close_time": 2000, "state": 3, "close_price": 1.2, "timestamp": 2}


def trade(order: int = 1, **values: Any) -> bytes:
    usual = {"login": 100, "symbol": "EURUSD", "volume": 100, "open_price": 1.1, "timestamp": 1}
    return TRADE_RECORD.pack({"order": order, **usual, **values})


def margin(login: int, level_type: int, **values: Any) -> bytes:
    return MARGIN_LEVEL.pack({"login": login, "group": "demo", "level_type": level_type, **values})


def events(messages: list[Message]) -> list[tuple[Any, ...]]:
    return seen(messages, "order", "change", "action", "synthetic")


@pytest.fixture(name="harness")
def _harness() -> Iterator[Harness]:
    with open_harness(b"trade.", b"activation.", b"margin.") as made:
        made.start()
        yield made


@pytest.fixture(name="busy")
def _busy() -> Iterator[Harness]:
    """Two orders were open when the first session started."""
    with open_harness(b"trade.", b"activation.", b"margin.") as made:
        made.manager.tables["trades"] = trade(1) + trade(2, cmd=2)
        assert made.start() == []
        yield made


def test_a_trade_has_every_public_field_and_what_happened(harness: Harness) -> None:
    (message,) = harness.events_after(TRADES, ADD, trade(5, comment="hello"))
    assert message.topic == "trade.100"
    public = TRADE_RECORD.names("public")
    assert message.body.keys() == public | {"action", "change", "before", "epoch", "seq", "ts"}
    assert (message.body["epoch"], message.body["seq"], message.body["ts"]) == (EPOCH, 1, harness.ts)
    assert (message.body["change"], message.body["action"], message.body["before"]) == ("opened", "add", None)
    assert (message.body["comment"], message.body["volume"], message.body["conv_rates"]) == ("hello", 100, [0.0, 0.0])


def test_before_holds_the_old_values_of_what_changed(harness: Harness) -> None:
    harness.events_after(TRADES, ADD, trade(5))
    (message,) = harness.events_after(TRADES, UPDATE, trade(5, sl=1.05))
    assert (message.body["change"], message.body["before"], message.body["sl"]) == ("modified", {"sl": 0.0}, 1.05)


@pytest.mark.parametrize(
    ("action", "name"),
    [(ADD, "add"), (DELETE, "delete"), (UPDATE, "update"), (CHANGE_GRP, "change_group"), (9, "update")],
)
def test_the_action_is_the_apis_own(harness: Harness, action: int, name: str) -> None:
    assert [row[3] for row in events(harness.events_after(TRADES, action, trade(5)))] == [name]


def test_an_erased_order_is_published_on_the_topic_of_its_login(harness: Harness) -> None:
    harness.events_after(TRADES, ADD, trade(5, cmd=3))
    assert events(harness.events_after(TRADES, UPDATE, trade(5, cmd=3, login=0))) == [
        ("trade.100", 5, "cancelled", "update", None)
    ]


def test_garbage_of_the_right_length_is_published_as_what_it_says(harness: Harness) -> None:
    (message,) = harness.events_after(TRADES, -7, b"\xff" * TRADE_RECORD.size)
    assert message.topic == "trade.-1"
    assert harness.fault_counters.counts == {}


def test_a_record_that_comes_after_its_orders_end_says_that_the_order_is_not_open(harness: Harness) -> None:
    harness.events_after(TRADES, ADD, trade())
    harness.events_after(TRADES, DELETE, trade(1, **SHUT))
    (late,) = harness.events_after(TRADES, UPDATE, trade(sl=1.0))
    assert (late.body["change"], late.body["ended"]) == ("modified", True)
    (restored,) = harness.events_after(TRADES, UPDATE, trade(sl=1.0, timestamp=3))
    assert (restored.body["change"], "ended" in restored.body) == ("modified", False)


# Whole tables


def test_the_first_start_sets_the_baseline_and_publishes_nothing(busy: Harness) -> None:
    assert events(busy.events_after(TRADES, DELETE, trade(1, **SHUT))) == [("trade.100", 1, "closed", "delete", None)]


def test_a_doorbell_publishes_the_difference_marked_as_inferred(busy: Harness) -> None:
    busy.manager.tables["trades"] = trade(1, sl=1.0) + trade(3)
    assert events(busy.events_after(TRADES)) == [
        ("trade.100", 2, "cancelled", "delete", True),
        ("trade.100", 1, "modified", "update", True),
        ("trade.100", 3, "opened", "add", True),
    ]
    assert busy.events_after(TRADES) == []


def test_a_doorbell_after_the_records_of_the_same_change_publishes_nothing(busy: Harness) -> None:
    busy.events_after(TRADES, ADD, trade(3))
    busy.events_after(TRADES, DELETE, trade(1, **SHUT))
    busy.manager.tables["trades"] = trade(2, cmd=2) + trade(3)
    assert busy.events_after(TRADES) == []


def test_what_happened_in_a_gap_is_published_at_the_next_start(busy: Harness) -> None:
    busy.reconnect(lambda manager: manager.tables.update({"trades": trade(2, cmd=0) + trade(4)}))
    assert events(busy.events_after(START)) == [
        ("trade.100", 1, "closed", "delete", True),
        ("trade.100", 2, "activated", "update", True),
        ("trade.100", 4, "opened", "add", True),
    ]


def test_orders_of_an_account_that_left_our_reach_are_not_published_as_closed(busy: Harness) -> None:
    other = USER_RECORD.pack({"login": 101})
    busy.reconnect(lambda manager: manager.tables.update({"trades": b"", "users": other}))
    assert [change for _, _, change, _, _ in events(busy.events_after(START))] == ["deleted", "deleted"]


def test_a_read_that_fails_is_counted_and_the_next_one_publishes(busy: Harness) -> None:
    busy.manager.tables["trades"] = trade(1)
    busy.manager.failures["table trades"].append(failed())
    assert busy.events_after(TRADES) == []
    assert busy.fault_counters.counts == {"read_error": 1}
    assert events(busy.events_after(TRADES)) == [("trade.100", 2, "cancelled", "delete", True)]


def test_a_read_of_a_session_that_is_gone_publishes_no_closes(busy: Harness) -> None:
    busy.manager.failures["table trades"].append(lost("TradesGet"))
    assert busy.events_after(TRADES) == []
    assert busy.fault_counters.counts == {"session_gone": 1}


def test_a_first_read_that_fails_leaves_the_baseline_to_the_next_one() -> None:
    with open_harness(b"trade.") as made:
        made.manager.tables["trades"] = trade(1)
        made.manager.failures["table trades"].append(failed())
        made.start()
        assert made.events_after(TRADES) == []
        made.manager.tables["trades"] = b""
        assert events(made.events_after(TRADES)) == [("trade.100", 1, "closed", "delete", True)]


# Repeats


def test_records_behind_a_table_that_was_ahead_of_them_are_counted_and_not_published(harness: Harness) -> None:
    """A burst of opens and closes with a read of the table in its midst."""
    orders = range(1, 501)
    harness.manager.tables["trades"] = b"".join(map(trade, orders))
    assert {change for _, _, change, *_ in events(harness.events_after(TRADES))} == {"opened"}
    late = [message for order in orders for message in harness.events_after(TRADES, ADD, trade(order))]
    assert late == []
    assert harness.dispatcher.skipped()["repeats"] == len(orders)
    closed = [message for order in orders for message in harness.events_after(TRADES, DELETE, trade(order, **SHUT))]
    assert [row[1:3] for row in events(closed)] == [(order, "closed") for order in orders]
    again = [message for order in orders for message in harness.events_after(TRADES, UPDATE, trade(order, **SHUT))]
    assert again == []
    assert harness.dispatcher.skipped()["repeats"] == 2 * len(orders)


def test_a_late_record_that_differs_is_still_published(busy: Harness) -> None:
    busy.manager.tables["trades"] = trade(1, sl=1.0) + trade(2, cmd=2)
    busy.events_after(TRADES)
    (late,) = busy.events_after(TRADES, UPDATE, trade(1, sl=1.0, tp=2.0))
    assert (late.body["change"], late.body["before"]) == ("modified", {"tp": 0.0})


def test_a_repeat_takes_no_number(harness: Harness) -> None:
    harness.events_after(TRADES, ADD, trade(5))
    harness.events_after(TRADES, UPDATE, trade(5))
    (message,) = harness.events_after(TRADES, UPDATE, trade(5, sl=1.0))
    assert message.body["seq"] == 2


# Before START


def test_open_orders_before_start_are_the_initial_fill() -> None:
    with open_harness(b"trade.") as made:
        made.attach()
        made.manager.tables["trades"] = trade(1) + trade(2, cmd=2)
        assert made.events_after(TRADES, ADD, trade(1)) == []
        assert made.events_after(TRADES, ADD, trade(2, cmd=2)) == []
        assert made.dispatcher.skipped()["before_start"] == 2
        assert made.events_after(START) == []
        assert made.events_after(TRADES) == []


@pytest.mark.parametrize(
    ("action", "record", "change"),
    [
        (DELETE, trade(1, **SHUT), "closed"),
        (UPDATE, trade(1, **SHUT), "closed"),
        (UPDATE, trade(1, login=0), "deleted"),
        (ADD, trade(9, cmd=6, profit=500.0), "balance"),
        (ADD, trade(9, cmd=7, profit=50.0), "credit"),
    ],
    ids=["close", "close by update", "deletion", "balance", "credit"],
)
def test_what_no_table_shows_is_published_before_start_and_not_again_at_it(
    busy: Harness, action: int, record: bytes, change: str
) -> None:
    busy.reconnect(lambda manager: manager.tables.update({"trades": trade(2, cmd=2)}))
    early = events(busy.events_after(TRADES, action, record))
    assert [row[2] for row in early] == [change]
    assert [row for row in events(busy.events_after(START)) if row[1] == early[0][1]] == []


def test_a_doorbell_before_the_first_start_makes_no_news_of_the_rest_of_the_table() -> None:
    with open_harness(b"trade.") as made:
        made.attach()
        assert made.events_after(TRADES) == []
        made.manager.tables["trades"] = trade(1)
        assert made.events_after(START) == []


@pytest.mark.parametrize("code", [TRADES, MARGINCALL, ACTIVATION])
@pytest.mark.parametrize("when", ["after STOP", "before a later START"])
def test_a_doorbell_between_two_sessions_does_not_publish_that_everything_ended(code: int, when: str) -> None:
    """The tables are empty or half full: what is not there did not close."""
    with open_harness(b"trade.", b"margin.", b"activation.") as made:
        made.manager.tables |= {"trades": trade(1, activation=1), "margins": margin(100, 1)}
        made.start()
        made.events_after(ACTIVATION)
        if when == "after STOP":
            made.events_after(PumpCode.STOP_PUMPING)
        else:
            made.reconnect()
        made.manager.tables |= {"trades": b"", "margins": b""}
        assert made.events_after(code) == []


def test_a_whole_reread_before_start_does_not_publish_that_everything_ended(busy: Harness) -> None:
    """An inbox that the initial fill overflowed asks for one."""
    busy.reconnect(lambda manager: manager.tables.update({"trades": b""}))
    busy.dispatcher.reread_all(busy.ts)
    assert busy.bus.events() == []


# Flags


def test_activations_are_published_when_the_flag_comes_changes_and_goes(busy: Harness) -> None:
    for mark, expected in ((1, [("add", 1)]), (1, []), (-1, [("update", -1)]), (0, [("delete", 0)]), (0, [])):
        busy.manager.tables["trades"] = trade(1, activation=mark) + trade(2, cmd=2)
        assert seen(busy.events_after(ACTIVATION), "order", "action", "activation") == [
            ("activation.100", 1, *row) for row in expected
        ]


def test_an_activation_shows_the_whole_order(busy: Harness) -> None:
    busy.manager.tables["trades"] = trade(1, activation=4)
    (message,) = busy.events_after(ACTIVATION)
    assert own(message).keys() == TRADE_RECORD.names("public") | {"action"}


def test_margin_calls_are_published_when_an_account_enters_changes_and_leaves(harness: Harness) -> None:
    for level, expected in ((0, []), (1, [("add", 1)]), (1, []), (2, [("update", 2)]), (0, [("delete", 0)])):
        harness.manager.tables["margins"] = margin(100, level, equity=5.0) + margin(200, 0)
        assert seen(harness.events_after(MARGINCALL), "action", "level_type", "synthetic") == [
            ("margin.100", *row, None) for row in expected
        ]


def test_an_account_that_left_the_margin_table_left_margin_call(harness: Harness) -> None:
    harness.manager.tables["margins"] = margin(100, 2)
    harness.events_after(MARGINCALL)
    harness.manager.tables["margins"] = b""
    assert seen(harness.events_after(MARGINCALL), "action", "level_type") == [("margin.100", "delete", 0)]


def test_a_margin_call_shows_every_public_field(harness: Harness) -> None:
    harness.manager.tables["margins"] = margin(100, 1)
    (message,) = harness.events_after(MARGINCALL)
    assert own(message).keys() == MARGIN_LEVEL.names("public") | {"action"}


def test_margin_calls_of_a_gap_are_published_at_the_next_start_marked_as_inferred(harness: Harness) -> None:
    harness.reconnect(lambda manager: manager.tables.update({"margins": margin(100, 1)}))
    assert seen(harness.events_after(START), "action", "synthetic") == [("margin.100", "add", True)]


@pytest.mark.parametrize(("code", "table"), [(MARGINCALL, "margins"), (ACTIVATION, "trades")])
def test_flags_that_cannot_be_read_are_counted_and_published_later(harness: Harness, code: int, table: str) -> None:
    harness.manager.tables |= {"margins": margin(100, 1), "trades": trade(1, activation=1)}
    harness.manager.failures[f"table {table}"].append(failed())
    assert harness.events_after(code) == []
    assert harness.fault_counters.counts == {"read_error": 1}
    assert len(harness.events_after(code)) == 1


def test_what_ended_while_no_daemon_ran_is_published_at_the_first_start_and_the_rest_is_not() -> None:
    with open_harness(b"trade.") as first:
        first.manager.tables["trades"] = trade(1) + trade(2) + trade(3)
        first.start()
        stored = first.dispatcher.trades.open_orders()
    with open_harness(b"trade.") as second:
        second.dispatcher.trades.restore_orders(stored)
        second.manager.tables["trades"] = trade(1) + trade(3, sl=1.05, timestamp=2) + trade(4)
        assert events(second.start()) == [
            ("trade.100", 2, "closed", "delete", True),
            ("trade.100", 3, "modified", "update", True),
            ("trade.100", 4, "opened", "add", True),
        ]


def test_what_ended_while_no_daemon_ran_is_published_when_it_gets_known_only_after_the_start() -> None:
    with open_harness(b"trade.") as first:
        first.manager.tables["trades"] = trade(1) + trade(2)
        first.start()
        stored = first.dispatcher.trades.open_orders()
    with open_harness(b"trade.") as second:
        second.manager.tables["trades"] = trade(2)
        assert second.start() == []
        second.dispatcher.trades.restore_late_orders(stored, 7)
        (message,) = second.bus.events()
        assert events([message]) == [("trade.100", 1, "closed", "delete", True)]
        assert message.body["ts"] == 7
        second.dispatcher.trades.restore_late_orders(stored, 8)
        assert second.bus.events() == []


def test_what_ended_before_the_start_is_not_published_again_when_the_orders_before_get_known_late() -> None:
    with open_harness(b"trade.") as first:
        first.manager.tables["trades"] = trade(1) + trade(2)
        first.start()
        stored = first.dispatcher.trades.open_orders()
    with open_harness(b"trade.") as second:
        assert events(second.events_after(TRADES, DELETE, trade(1, **SHUT))) == [
            ("trade.100", 1, "closed", "delete", None)
        ]
        second.dispatcher.trades.restore_late_orders(stored, 7)
        assert second.bus.events() == []
        assert events(second.start()) == [("trade.100", 2, "closed", "delete", True)]


def test_a_record_behind_an_end_that_a_table_published_says_that_the_order_is_not_open(busy: Harness) -> None:
    busy.manager.tables["trades"] = trade(2, cmd=2)
    assert events(busy.events_after(TRADES)) == [("trade.100", 1, "closed", "delete", True)]
    messages = busy.events_after(TRADES, UPDATE, trade(1, sl=1.0, timestamp=2)) + busy.events_after(
        TRADES, DELETE, trade(1, **SHUT)
    )
    assert seen(messages, "change", "ended") == [("trade.100", "modified", True)] * 2


def test_a_stored_row_of_a_version_with_other_fields_is_left_out() -> None:
    with open_harness(b"trade.") as made:
        made.dispatcher.trades.restore_orders({1: msgpack.packb({"order": 1, "login": 100})})
        made.manager.tables["trades"] = trade(1)
        assert events(made.start()) == [("trade.100", 1, "opened", "add", True)]


def test_activations_of_a_gap_are_published_at_the_next_start_marked_as_inferred(busy: Harness) -> None:
    busy.reconnect()
    busy.manager.tables["trades"] = trade(1, activation=2)
    messages = [message for message in busy.events_after(START) if message.topic.startswith("activation.")]
    assert seen(messages, "order", "activation", "action", "synthetic") == [("activation.100", 1, 2, "add", True)]
