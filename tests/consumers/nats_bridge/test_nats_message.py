"""Headers that name an event, and what can be read from them."""

from __future__ import annotations

from typing import Any

import msgpack
from mt4pump_consumers.nats_bridge.message import (
    LogPosition,
    headers_of,
    log_position_of,
    stored_message,
    unstored_message,
)

from mt4pump.client import Trade
from mt4pump.client.event import TopicName


def trade(**body: Any) -> Trade:
    """Return a trade event."""
    whole = {"login": 7, "epoch": 11, "seq": 3, "ts": 99, **body}
    return Trade(TopicName("trade.7"), whole, (b"trade.7|", msgpack.packb(whole)))


def test_a_stored_event_is_named_by_log_and_offset_and_keeps_its_bytes() -> None:
    event = trade(offset=42)
    message = stored_message(event, "abc", "broker1")
    assert message.subject == "broker1.trade.7"
    assert message.payload == event.frames[1]
    assert message.headers == {
        "Mt4pump-Epoch": "11",
        "Mt4pump-Seq": "3",
        "Mt4pump-Ts": "99",
        "Nats-Msg-Id": "abc:42",
        "Mt4pump-Log": "abc",
        "Mt4pump-Offset": "42",
    }
    assert message.unstored is None
    assert log_position_of(message.headers) == LogPosition("abc", 42, 11, 99)


def test_an_event_without_offset_says_behind_which_one_it_came() -> None:
    message = unstored_message(trade(), "abc", 41, "")
    assert message.headers["Nats-Msg-Id"] == "11:trade.7:3"
    assert message.unstored is not None
    assert log_position_of(message.headers) == LogPosition("abc", 41, 11, 99)


def test_an_event_of_a_daemon_without_journal_has_a_place_in_none() -> None:
    assert log_position_of(unstored_message(trade(), "", 0, "").headers) == LogPosition("", 0, 11, 99)


def test_messages_of_others_have_no_place() -> None:
    assert log_position_of(None) is None
    assert log_position_of({"Nats-Msg-Id": "abc:42"}) is None
    assert log_position_of({**headers_of(trade()), "Mt4pump-Offset": "many"}) is None
