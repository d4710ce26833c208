"""Between the subscriber's thread and the event loop: one side puts and leaves, the other takes everything at once.

Quotes that the loop will not send at once anyway (`Conflation.hot`) lie here by symbol, the newest in place of the one
before, and wake nobody: the loop looks when they come due. So a busy feed costs the loop nothing per event.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container
from threading import Event as SignalSafeEvent
from threading import Lock

from mt4pump.client import Event, Notice, Position

ITEMS_LIMIT = 50_000
"""Events that wait for the loop; then the subscriber's thread waits, and the subscriber reports what that costs."""

Item = Event | Notice | Position


class ThreadBridge:
    """``hot`` are the topics whose quotes need no wake-up; None: quotes are not conflated. ``wake`` is thread-safe."""

    def __init__(self, wake: Callable[[], object], hot: Container[str] | None) -> None:
        self._wake = wake
        self._hot = hot
        self._lock = Lock()
        self._items: deque[Item] = deque()
        self._quotes: dict[str, Event] = {}
        self._room = SignalSafeEvent()
        self._awake = False
        self.waits = 0

    def put(self, item: Item, stopping: Callable[[], bool]) -> None:
        """Hand over one item; waits while the loop is too far behind. On the subscriber's thread."""
        if self._hot is not None and isinstance(item, Event) and item.kind == "quote":
            with self._lock:
                self._quotes[item.topic] = item
                # Only after it lies here may we look: the loop makes a topic cold first and then looks here again.
                needs_wake = item.topic not in self._hot and not self._awake
                self._awake = self._awake or needs_wake
        else:
            self._wait_for_room(stopping)
            with self._lock:
                self._items.append(item)
                needs_wake = not self._awake
                self._awake = True
        if needs_wake:
            self._wake()

    def _wait_for_room(self, stopping: Callable[[], bool]) -> None:
        if len(self._items) >= ITEMS_LIMIT:
            self.waits += 1
        while len(self._items) >= ITEMS_LIMIT and not stopping():
            self._room.clear()
            self._room.wait(0.1)

    def take(self, limit: int) -> tuple[list[Item], dict[str, Event]]:
        """Return up to ``limit`` items and the newest quote per topic; on the loop's thread."""
        with self._lock:
            count = min(limit, len(self._items))
            items = [self._items.popleft() for _ in range(count)]
            quotes, self._quotes = self._quotes, {}
            self._awake = bool(self._items)
            left = self._awake
        self._room.set()
        if left:
            self._wake()
        return items, quotes
