"""Which topics are wanted, what to ask the daemon for, and what is forgotten of very many."""

from __future__ import annotations

import pytest

from mt4pump.client import topic_state as topics
from mt4pump.client.topic_state import PREFIXES_LIMIT, SubscriptionSet
from tests.client.harness import Harness


@pytest.mark.parametrize(
    ("wanted", "asked"),
    [
        (["trade.*", "user.5"], []),
        (["trade.*", "quote.EURUSD", "quote.GBP*"], [b"quote.EURUSD", b"quote.GBP"]),
        (["q*", "heartbeat"], [b"quote."]),
    ],
)
def test_of_the_kinds_that_are_stored_no_numbers_are_asked_for(wanted: list[str], asked: list[bytes]) -> None:
    assert SubscriptionSet(wanted).unstored_prefixes() == asked


def test_of_all_topics_the_numbers_of_quotes_are_asked_for_and_those_of_trades_are_not() -> None:
    found = SubscriptionSet(["*"]).unstored_prefixes()
    assert b"quote." in found
    assert not {b"", b"trade.", b"heartbeat."} & set(found)


@pytest.mark.parametrize(
    ("names", "asked"),
    [
        ([f"quote.S{number}" for number in range(PREFIXES_LIMIT + 1)], [b"quote"]),
        ([f"kind{number}.a" for number in range(PREFIXES_LIMIT + 1)], [b""]),
    ],
)
def test_more_names_than_one_request_takes_are_asked_for_by_kind(names: list[str], asked: list[bytes]) -> None:
    assert SubscriptionSet(names).prefixes() == asked
    assert len(SubscriptionSet(names[1:]).prefixes()) == PREFIXES_LIMIT


def test_of_topics_that_were_forgotten_nothing_is_reported_as_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "TOPICS_LIMIT", 4)
    harness = Harness("quote.*").live()
    for _ in range(2):
        harness.receive(*(harness.model.event(f"quote.S{number}") for number in range(6)))
    assert len(harness.stream.ordering.subscriptions.topics) <= 4
    assert len(harness.events()) == 12
    assert harness.stream.counts["lost"] == 0
