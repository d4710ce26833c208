"""The thread that reads the stream: what it says of its place in the journal, and where a new subscriber goes on.

Private access: the function that reads, because a scripted subscriber takes the place of a real one without a thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event as ThreadEvent
from typing import Any, Self, cast

import pytest
from mt4pump_consumers import feed_thread
from mt4pump_consumers.gateway import broadcaster
from mt4pump_consumers.gateway.broadcaster import GatewayFeed, ThreadBridge
from mt4pump_consumers.gateway.settings import GatewaySettings

from mt4pump.client import ClientError, Event, Position, Subscriber
from tests.consumers.gateway.stream_made import event, trade

LIMIT_S = 30.0
PLACE, LATER = Position("log", 99, {"trade.7": 105}), Position("log", 107, {})


class Subscribers:
    """Stands in for the client's class: the first one fails, the second one is given the position to resume from."""

    def __init__(self) -> None:
        self.resumed_from: list[Position | None] = []
        self.position: Position | None = None
        self.has_second = ThreadEvent()

    def __call__(self, _endpoint: str, *, resume_from: Position | None, **_options: Any) -> Self:
        self.resumed_from.append(resume_from)
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is open."""

    def __iter__(self) -> Iterator[Event]:
        yield trade(1, 1)
        self.position = PLACE
        yield event("heartbeat", 2, log="log", offset=105)
        if len(self.resumed_from) == 1:
            raise ClientError("broken", "the subscriber fails")
        self.has_second.set()


def feed_of(bridge: ThreadBridge) -> GatewayFeed:
    return GatewayFeed(GatewaySettings(endpoint="tcp://127.0.0.1:9", anonymous=True), bridge)


def test_a_new_subscriber_goes_on_where_the_one_before_was_and_the_loop_gets_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subscribers, bridge = Subscribers(), ThreadBridge(lambda: None, None)
    monkeypatch.setattr(broadcaster, "Subscriber", subscribers)
    monkeypatch.setattr(feed_thread, "RETRY_FIRST_S", 0.0)
    thread = feed_of(bridge).thread
    thread.start()
    assert subscribers.has_second.wait(LIMIT_S)
    thread.stop()
    thread.join(LIMIT_S)
    assert not thread.is_alive()
    assert subscribers.resumed_from[:2] == [None, PLACE]
    items = [item if isinstance(item, Position) else item.kind for item in bridge.take(100)[0]]
    assert items[:3] == ["trade", "heartbeat", PLACE]


class Stream:
    """Stands in for a subscriber that moves on with each event."""

    position = PLACE

    def __iter__(self) -> Iterator[Event]:
        yield trade(1, 1)
        self.position = LATER
        yield trade(2, 2)
        yield event("heartbeat", 3)


def test_after_each_heartbeat_and_only_then_the_loop_gets_a_new_place() -> None:
    bridge, stream = ThreadBridge(lambda: None, None), Stream()
    feed_of(bridge)._read(cast(Subscriber, stream))  # noqa: SLF001
    kinds = [item if isinstance(item, Position) else item.kind for item in bridge.take(100)[0]]
    assert kinds == ["trade", PLACE, "trade", "heartbeat", LATER]
