"""Names of topics that can match nothing."""

from __future__ import annotations

import pytest

from mt4pump.client import Subscriber
from mt4pump.client.topic_state import matches
from mt4pump.wire import right_form


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("EURUSD", "quote.EURUSD"),
        ("qoute.*", "quote.*"),
        ("trde", "trade.*"),
        ("Trade.1001", "trade.1001"),
        ("quote", "quote.*"),
        ("heartbeat.5", "heartbeat"),
        ("hearbeat", "heartbeat"),
        ("xyz*", "quote.xyz*"),
        ("US*", "quote.US*"),  # not the accounts, user.*
        ("USTEC", "quote.USTEC"),
        ("LINK*", "quote.LINK*"),
        ("MAR*", "quote.MAR*"),
        ("nwes.*", "news.*"),
        ("qoute*", "quote.*"),
        ("hearbeat*", "heartbeat"),
        *((right, None) for right in ("*", "tra*", "[tq]*", "quote.EURUSD", "trade.*", "heartbeat", "later.kind")),
    ],
)
def test_a_name_that_can_match_nothing_has_a_nearest_right_form(name: str, right: str | None) -> None:
    assert right_form(name) == right


def test_a_subscriber_warns_of_topics_that_can_match_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with Subscriber("tcp://127.0.0.1:1", topics=["quote", "trade.*"], query_endpoint=None) as sub:
        sub.add_topics(["qoute.*"])
    assert [record.getMessage() for record in caplog.records if record.name.endswith("topic_state")] == [
        "topic 'quote' can match nothing that a daemon publishes; did you mean 'quote.*'?",
        "topic 'qoute.*' can match nothing that a daemon publishes; did you mean 'quote.*'?",
    ]


def test_handlers_of_a_kind_with_a_dot_get_all_of_that_kind() -> None:
    assert [matches(topic, "trade.") for topic in ("trade.1", "trade.", "quote.EURUSD")] == [True, True, False]
    assert matches("quote.EURUSD.", "quote.EURUSD.")  # a symbol may end with a dot
    assert not matches("quote.EURUSD.m", "quote.EURUSD.")
