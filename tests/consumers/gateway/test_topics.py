"""Names and patterns of topics."""

from __future__ import annotations

import pytest
from mt4pump_consumers.gateway.topics import Allowed, TopicSelection


def test_a_name_means_itself_alone() -> None:
    assert Allowed(["trade.100"]).covers("trade.100")
    assert not Allowed(["trade.100"]).covers("trade.1001")


def test_a_wish_means_its_names_and_what_its_patterns_mean() -> None:
    wish = TopicSelection(["trade.100", "quote.US[30]", "margin.?"])
    assert all(topic in wish for topic in ("trade.100", "quote.US[30]", "quote.US3", "margin.7"))
    assert not any(topic in wish for topic in ("trade.1001", "quote.US30", "margin.77", ""))


@pytest.mark.parametrize(
    ("asked", "allowed", "touches"),
    [
        ("trade.*", ["trade.100"], True),
        ("trade.*", ["trade.100*"], True),
        ("trade.100*", ["trade.*"], True),
        ("trade.*", ["quote.*"], False),
        ("*", ["quote.EURUSD"], True),
        ("quote.EURUSD", ["quote.*"], True),
        ("margin.7", ["quote.*", "trade.*"], False),
        ("quote.*", [], False),
    ],
)
def test_what_could_give_nothing_is_known_beforehand(asked: str, allowed: list[str], touches: bool) -> None:  # noqa: FBT001
    assert Allowed(allowed).touches(asked) is touches
