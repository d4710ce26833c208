"""What a test does with a subscriber of a `FakeDaemon`: start it, and read until something is there."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from mt4pump.client import Event, Notice, Subscriber
from tests.client.fake_daemon import LIMIT_S, FakeDaemon


def anything(_item: object) -> bool:
    return True


def subscriber(daemon: FakeDaemon, *topics: str, **options: Any) -> Subscriber:
    options = {"query_endpoint": daemon.query_endpoint, "query_timeout_s": 1.0, **options}
    return Subscriber(daemon.endpoint, topics=topics or ["trade.*", "quote.*"], **options)


def next_item(sub: Subscriber, wanted: Callable[[Any], object]) -> Any:
    deadline_s = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline_s:
        item = sub.receive(0.1)
        if item is not None and wanted(item):
            return item
    raise AssertionError(f"never came; status {sub.status}, counts {dict(sub.counts)}")


def until(sub: Subscriber, condition: Callable[[], object]) -> list[Event | Notice]:
    items = []
    deadline_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline_s, f"never; status {sub.status}, counts {dict(sub.counts)}"
        item = sub.receive(0.02)
        if item is not None:
            items.append(item)
    return items


def live(sub: Subscriber) -> None:
    """Return once a heartbeat has confirmed a position twice over: what is published from here on is received."""
    until(sub, lambda: sub.position is not None)
