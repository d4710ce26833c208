"""Who is called for an event: names go exactly first, as they do in subscriptions.

Private access: the remembered routes, because that their number is bounded changes no result.
"""

from __future__ import annotations

from collections import Counter

import pytest

from mt4pump.client import subscriber as registry
from mt4pump.client.event import TopicName
from mt4pump.client.events import Quote
from mt4pump.client.subscriber import Handlers
from mt4pump.client.topic_state import SubscriptionSet


@pytest.mark.parametrize(
    ("topic", "name", "is_called"),
    [
        ("quote.[SP500]", "quote.[SP500]", True),
        ("quote.[SP500]", "quote.S", True),
        ("quote.[SP500]", "quote.X", False),
        ("quote.EURUSD", "quote.EURUSD", True),
        ("quote.EURUSD", "quote.EURUSDm", False),
        ("quote.*", "quote.[SP500]", True),
        ("quote.???JPY", "quote.USDJPY", True),
    ],
)
def test_a_handler_is_called_for_what_the_same_name_subscribes_to(topic: str, name: str, is_called: bool) -> None:  # noqa: FBT001
    handlers = Handlers(Counter())
    handlers.add(print, topic, None)
    event = Quote(TopicName(name), {"epoch": 1, "seq": 1, "ts": 1}, (name.encode(), b""))
    assert bool(handlers.for_item(event)) is is_called
    assert SubscriptionSet([topic]).is_wanted(name) is is_called


def test_of_very_many_topics_not_all_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "ROUTES_LIMIT", 3)
    handlers = Handlers(Counter())
    handlers.add(print, "quote.*", None)
    for number in range(10):
        name = TopicName(f"quote.S{number}")
        assert len(handlers.for_item(Quote(name, {"epoch": 1, "seq": 1, "ts": 1}, (b"", b"")))) == 1
    assert len(handlers._routes) <= 3  # noqa: SLF001


def test_a_handler_that_is_added_later_is_called_for_topics_that_came_before() -> None:
    handlers = Handlers(Counter())
    event = Quote(TopicName("quote.E"), {"epoch": 1, "seq": 1, "ts": 1}, (b"quote.E", b""))
    for count in range(3):
        assert len(handlers.for_item(event)) == count
        handlers.add(print, None, "quote")
