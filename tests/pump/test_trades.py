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
from tests.pump.stand import EPOCH, Stand, own, seen, stand

ADD, DELETE, UPDATE, CHANGE_GRP = Transaction
START, TRADES = PumpCode.START_PUMPING, PumpCode.UPDATE_TRADES
MARGINCALL, ACTIVATION = PumpCode.UPDATE_MARGINCALL, PumpCode.UPDATE_ACTIVATION
SHUT = {"close_time": 2000, "state": 3, "close_price": 1.2, "timestamp": 2}


def trade(order: int = 1, **values: Any) -> bytes:
    usual = {"login": 100, "symbol": "EURUSD", "volume": 100, "open_price": 1.1, "timestamp": 1}
    return TRADE_RECORD.pack({"order": order, **usual, **values})


def margin(login: int, level_type: int, **values: Any) -> bytes:
    return MARGIN_LEVEL.pack({"login": login, "group": "demo", "level_type": level_type, **values})


def told(messages: list[Message]) -> list[tuple[Any, ...]]:
    return seen(messages, "order", "change", "action", "synthetic")


@pytest.fixture(name="desk")
def _desk() -> Iterator[Stand]:
    with stand(b"trade.", b"activation.", b"margin.") as made:
        made.start()
        yield made


@pytest.fixture(name="busy")
def _busy() -> Iterator[Stand]:
    """Two orders were open when the first session started."""
    with stand(b"trade.", b"activation.", b"margin.") as made:
        made.manager.tables["trades"] = trade(1) + trade(2, cmd=2)
        assert made.start() == []
        yield made


def test_a_trade_has_every_public_field_and_what_happened(desk: Stand) -> None:
    (message,) = desk.take(TRADES, ADD, trade(5, comment="hello"))
    assert message.topic == "trade.100"
    public = TRADE_RECORD.names("public")
    assert message.body.keys() == public | {"action", "change", "before", "epoch", "seq", "ts"}
    assert (message.body["epoch"], message.body["seq"], message.body["ts"]) == (EPOCH, 1, desk.ts)
    assert (message.body["change"], message.body["action"], message.body["before"]) == ("opened", "add", None)
    assert (message.body["comment"], message.body["volume"], message.body["conv_rates"]) == ("hello", 100, [0.0, 0.0])


def test_before_holds_the_old_values_of_what_changed(desk: Stand) -> None:
    desk.take(TRADES, ADD, trade(5))
    (message,) = desk.take(TRADES, UPDATE, trade(5, sl=1.05))
    assert (message.body["change"], message.body["before"], message.body["sl"]) == ("modified", {"sl": 0.0}, 1.05)


@pytest.mark.parametrize(
    ("action", "name"),
    [(ADD, "add"), (DELETE, "delete"), (UPDATE, "update"), (CHANGE_GRP, "change_group"), (9, "update")],
)
def test_the_action_is_the_apis_own(desk: Stand, action: int, name: str) -> None:
    assert [row[3] for row in told(desk.take(TRADES, action, trade(5)))] == [name]


def test_an_erased_order_is_told_on_the_topic_of_its_login(desk: Stand) -> None:
    desk.take(TRADES, ADD, trade(5, cmd=3))
    assert told(desk.take(TRADES, UPDATE, trade(5, cmd=3, login=0))) == [("trade.100", 5, "cancelled", "update", None)]


def test_a_trade_record_of_a_wrong_length_is_counted_and_costs_only_itself(desk: Stand) -> None:
    assert desk.take(TRADES, ADD, trade(5)[:-1]) == []
    assert desk.fault_counters.counts == {"bad_record": 1}
    assert len(desk.take(TRADES, ADD, trade(5))) == 1


def test_garbage_of_the_right_length_is_told_as_what_it_says(desk: Stand) -> None:
    (message,) = desk.take(TRADES, -7, b"\xff" * TRADE_RECORD.size)
    assert message.topic == "trade.-1"
    assert desk.fault_counters.counts == {}


def test_a_record_that_comes_after_its_orders_end_says_that_the_order_is_not_open(desk: Stand) -> None:
    desk.take(TRADES, ADD, trade())
    desk.take(TRADES, DELETE, trade(1, **SHUT))
    (late,) = desk.take(TRADES, UPDATE, trade(sl=1.0))
    assert (late.body["change"], late.body["ended"]) == ("modified", True)
    (restored,) = desk.take(TRADES, UPDATE, trade(sl=1.0, timestamp=3))
    assert (restored.body["change"], "ended" in restored.body) == ("modified", False)


# Whole tables


def test_the_first_start_is_nobodys_news_and_fills_the_book(busy: Stand) -> None:
    assert told(busy.take(TRADES, DELETE, trade(1, **SHUT))) == [("trade.100", 1, "closed", "delete", None)]


def test_a_doorbell_tells_the_difference_marked_as_inferred(busy: Stand) -> None:
    busy.manager.tables["trades"] = trade(1, sl=1.0) + trade(3)
    assert told(busy.take(TRADES)) == [
        ("trade.100", 2, "cancelled", "delete", True),
        ("trade.100", 1, "modified", "update", True),
        ("trade.100", 3, "opened", "add", True),
    ]
    assert busy.take(TRADES) == []


def test_a_doorbell_after_the_records_of_the_same_change_tells_nothing(busy: Stand) -> None:
    busy.take(TRADES, ADD, trade(3))
    busy.take(TRADES, DELETE, trade(1, **SHUT))
    busy.manager.tables["trades"] = trade(2, cmd=2) + trade(3)
    assert busy.take(TRADES) == []


def test_what_happened_in_a_gap_is_told_at_the_next_start(busy: Stand) -> None:
    busy.reconnect(lambda manager: manager.tables.update({"trades": trade(2, cmd=0) + trade(4)}))
    assert told(busy.take(START)) == [
        ("trade.100", 1, "closed", "delete", True),
        ("trade.100", 2, "activated", "update", True),
        ("trade.100", 4, "opened", "add", True),
    ]


def test_orders_of_an_account_that_left_our_reach_are_not_told_as_closed(busy: Stand) -> None:
    other = USER_RECORD.pack({"login": 101})
    busy.reconnect(lambda manager: manager.tables.update({"trades": b"", "users": other}))
    assert [change for _, _, change, _, _ in told(busy.take(START))] == ["deleted", "deleted"]


def test_a_read_that_fails_is_counted_and_the_next_one_tells(busy: Stand) -> None:
    busy.manager.tables["trades"] = trade(1)
    busy.manager.failures["table trades"].append(failed())
    assert busy.take(TRADES) == []
    assert busy.fault_counters.counts == {"read_error": 1}
    assert told(busy.take(TRADES)) == [("trade.100", 2, "cancelled", "delete", True)]


def test_a_read_of_a_session_that_is_gone_tells_no_closes(busy: Stand) -> None:
    busy.manager.failures["table trades"].append(lost("TradesGet"))
    assert busy.take(TRADES) == []
    assert busy.fault_counters.counts == {"session_gone": 1}


def test_a_first_read_that_fails_leaves_the_next_one_to_fill_the_book() -> None:
    with stand(b"trade.") as made:
        made.manager.tables["trades"] = trade(1)
        made.manager.failures["table trades"].append(failed())
        made.start()
        assert made.take(TRADES) == []
        made.manager.tables["trades"] = b""
        assert told(made.take(TRADES)) == [("trade.100", 1, "closed", "delete", True)]


# Repeats


def test_records_behind_a_table_that_was_ahead_of_them_are_counted_and_not_published(desk: Stand) -> None:
    """A burst of opens and closes with a read of the table in its midst."""
    orders = range(1, 501)
    desk.manager.tables["trades"] = b"".join(map(trade, orders))
    assert {change for _, _, change, *_ in told(desk.take(TRADES))} == {"opened"}
    late = [message for order in orders for message in desk.take(TRADES, ADD, trade(order))]
    assert late == []
    assert desk.dispatcher.skipped()["repeats"] == len(orders)
    closed = [message for order in orders for message in desk.take(TRADES, DELETE, trade(order, **SHUT))]
    assert [row[1:3] for row in told(closed)] == [(order, "closed") for order in orders]
    again = [message for order in orders for message in desk.take(TRADES, UPDATE, trade(order, **SHUT))]
    assert again == []
    assert desk.dispatcher.skipped()["repeats"] == 2 * len(orders)


def test_a_late_record_that_differs_is_still_published(busy: Stand) -> None:
    busy.manager.tables["trades"] = trade(1, sl=1.0) + trade(2, cmd=2)
    busy.take(TRADES)
    (late,) = busy.take(TRADES, UPDATE, trade(1, sl=1.0, tp=2.0))
    assert (late.body["change"], late.body["before"]) == ("modified", {"tp": 0.0})


def test_a_repeat_takes_no_number(desk: Stand) -> None:
    desk.take(TRADES, ADD, trade(5))
    desk.take(TRADES, UPDATE, trade(5))
    (message,) = desk.take(TRADES, UPDATE, trade(5, sl=1.0))
    assert message.body["seq"] == 2


# Before START


def test_open_orders_before_start_are_the_initial_fill() -> None:
    with stand(b"trade.") as made:
        made.attach()
        made.manager.tables["trades"] = trade(1) + trade(2, cmd=2)
        assert made.take(TRADES, ADD, trade(1)) == []
        assert made.take(TRADES, ADD, trade(2, cmd=2)) == []
        assert made.dispatcher.trades.before_start == 2
        assert made.take(START) == []
        assert made.take(TRADES) == []


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
def test_what_no_table_shows_is_told_before_start_and_not_again_at_it(
    busy: Stand, action: int, record: bytes, change: str
) -> None:
    busy.reconnect(lambda manager: manager.tables.update({"trades": trade(2, cmd=2)}))
    early = told(busy.take(TRADES, action, record))
    assert [row[2] for row in early] == [change]
    assert [row for row in told(busy.take(START)) if row[1] == early[0][1]] == []


def test_a_doorbell_before_the_first_start_makes_no_news_of_the_rest_of_the_table() -> None:
    with stand(b"trade.") as made:
        made.attach()
        assert made.take(TRADES) == []
        made.manager.tables["trades"] = trade(1)
        assert made.take(START) == []


@pytest.mark.parametrize("code", [TRADES, MARGINCALL, ACTIVATION])
def test_a_doorbell_before_a_later_start_does_not_tell_that_everything_ended(code: int) -> None:
    """The new session's tables are still empty or half full: what is not there yet did not close."""
    with stand(b"trade.", b"margin.", b"activation.") as made:
        made.manager.tables |= {"trades": trade(1, activation=1), "margins": margin(100, 1)}
        made.start()
        made.take(ACTIVATION)
        made.reconnect(lambda manager: manager.tables.update({"trades": b"", "margins": b""}))
        assert made.take(code) == []


@pytest.mark.parametrize("code", [TRADES, MARGINCALL, ACTIVATION])
def test_a_doorbell_after_stop_does_not_tell_that_everything_ended(code: int) -> None:
    with stand(b"trade.", b"margin.", b"activation.") as made:
        made.manager.tables |= {"trades": trade(1, activation=1), "margins": margin(100, 1)}
        made.start()
        made.take(ACTIVATION)
        made.take(PumpCode.STOP_PUMPING)
        made.manager.tables |= {"trades": b"", "margins": b""}
        assert made.take(code) == []


def test_a_whole_reread_before_start_does_not_tell_that_everything_ended(busy: Stand) -> None:
    """An inbox that the initial fill overflowed asks for one."""
    busy.reconnect(lambda manager: manager.tables.update({"trades": b""}))
    busy.dispatcher.reread_all(busy.ts)
    assert busy.bus.events() == []


# Marks


def test_activations_are_told_when_the_mark_comes_changes_and_goes(busy: Stand) -> None:
    for mark, expected in ((1, [("add", 1)]), (1, []), (-1, [("update", -1)]), (0, [("delete", 0)]), (0, [])):
        busy.manager.tables["trades"] = trade(1, activation=mark) + trade(2, cmd=2)
        assert seen(busy.take(ACTIVATION), "order", "action", "activation") == [
            ("activation.100", 1, *row) for row in expected
        ]


def test_an_activation_shows_the_whole_order(busy: Stand) -> None:
    busy.manager.tables["trades"] = trade(1, activation=4)
    (message,) = busy.take(ACTIVATION)
    assert own(message).keys() == TRADE_RECORD.names("public") | {"action"}


def test_margin_calls_are_told_when_an_account_enters_changes_and_leaves(desk: Stand) -> None:
    for level, expected in ((0, []), (1, [("add", 1)]), (1, []), (2, [("update", 2)]), (0, [("delete", 0)])):
        desk.manager.tables["margins"] = margin(100, level, equity=5.0) + margin(200, 0)
        assert seen(desk.take(MARGINCALL), "action", "level_type", "synthetic") == [
            ("margin.100", *row, None) for row in expected
        ]


def test_an_account_that_left_the_margin_table_left_margin_call(desk: Stand) -> None:
    desk.manager.tables["margins"] = margin(100, 2)
    desk.take(MARGINCALL)
    desk.manager.tables["margins"] = b""
    assert seen(desk.take(MARGINCALL), "action", "level_type") == [("margin.100", "delete", 0)]


def test_a_margin_call_shows_every_public_field(desk: Stand) -> None:
    desk.manager.tables["margins"] = margin(100, 1)
    (message,) = desk.take(MARGINCALL)
    assert own(message).keys() == MARGIN_LEVEL.names("public") | {"action"}


def test_margin_calls_of_a_gap_are_told_at_the_next_start_marked_as_inferred(desk: Stand) -> None:
    desk.reconnect(lambda manager: manager.tables.update({"margins": margin(100, 1)}))
    assert seen(desk.take(START), "action", "synthetic") == [("margin.100", "add", True)]


@pytest.mark.parametrize(("code", "table"), [(MARGINCALL, "margins"), (ACTIVATION, "trades")])
def test_marks_that_cannot_be_read_are_counted_and_told_later(desk: Stand, code: int, table: str) -> None:
    desk.manager.tables |= {"margins": margin(100, 1), "trades": trade(1, activation=1)}
    desk.manager.failures[f"table {table}"].append(failed())
    assert desk.take(code) == []
    assert desk.fault_counters.counts == {"read_error": 1}
    assert len(desk.take(code)) == 1


def test_what_ended_while_no_daemon_ran_is_told_at_the_first_start_and_the_rest_is_not() -> None:
    with stand(b"trade.") as first:
        first.manager.tables["trades"] = trade(1) + trade(2) + trade(3)
        first.start()
        remembered = first.dispatcher.trades.open_orders()
    with stand(b"trade.") as second:
        second.dispatcher.trades.restore_orders(remembered)
        second.manager.tables["trades"] = trade(1) + trade(3, sl=1.05, timestamp=2) + trade(4)
        assert told(second.start()) == [
            ("trade.100", 2, "closed", "delete", True),
            ("trade.100", 3, "modified", "update", True),
            ("trade.100", 4, "opened", "add", True),
        ]


def test_what_ended_while_no_daemon_ran_is_told_when_it_gets_known_only_after_the_start() -> None:
    with stand(b"trade.") as first:
        first.manager.tables["trades"] = trade(1) + trade(2)
        first.start()
        remembered = first.dispatcher.trades.open_orders()
    with stand(b"trade.") as second:
        second.manager.tables["trades"] = trade(2)
        assert second.start() == []
        second.dispatcher.trades.restore_late_orders(remembered, 7)
        (message,) = second.bus.events()
        assert told([message]) == [("trade.100", 1, "closed", "delete", True)]
        assert message.body["ts"] == 7
        second.dispatcher.trades.restore_late_orders(remembered, 8)
        assert second.bus.events() == []


def test_what_ended_before_the_start_is_not_told_again_when_the_orders_before_get_known_late() -> None:
    with stand(b"trade.") as first:
        first.manager.tables["trades"] = trade(1) + trade(2)
        first.start()
        remembered = first.dispatcher.trades.open_orders()
    with stand(b"trade.") as second:
        assert told(second.take(TRADES, DELETE, trade(1, **SHUT))) == [("trade.100", 1, "closed", "delete", None)]
        second.dispatcher.trades.restore_late_orders(remembered, 7)
        assert second.bus.events() == []
        assert told(second.start()) == [("trade.100", 2, "closed", "delete", True)]


def test_a_record_behind_an_end_that_a_table_told_says_that_the_order_is_not_open(busy: Stand) -> None:
    busy.manager.tables["trades"] = trade(2, cmd=2)
    assert told(busy.take(TRADES)) == [("trade.100", 1, "closed", "delete", True)]
    messages = busy.take(TRADES, UPDATE, trade(1, sl=1.0, timestamp=2)) + busy.take(TRADES, DELETE, trade(1, **SHUT))
    assert seen(messages, "change", "ended") == [("trade.100", "modified", True)] * 2


def test_a_remembered_row_of_a_version_with_other_fields_is_left_out() -> None:
    with stand(b"trade.") as made:
        made.dispatcher.trades.restore_orders({1: msgpack.packb({"order": 1, "login": 100})})
        made.manager.tables["trades"] = trade(1)
        assert told(made.start()) == [("trade.100", 1, "opened", "add", True)]


def test_activations_of_a_gap_are_told_at_the_next_start_marked_as_inferred(busy: Stand) -> None:
    busy.reconnect()
    busy.manager.tables["trades"] = trade(1, activation=2)
    messages = [message for message in busy.take(START) if message.topic.startswith("activation.")]
    assert seen(messages, "order", "activation", "action", "synthetic") == [("activation.100", 1, 2, "add", True)]
