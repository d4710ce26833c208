"""From the subscriber's thread to the event loop.

The thread outlives whatever happens to the daemon. Quotes that the loop will not send at once (`Conflation.hot`) wait
in the bridge by symbol, the newest in place of the one before, and wake nobody: the loop checks when they are due. So
a busy feed costs the loop nothing per event.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Container

from mt4pump.client import ClientKeys, Event, Notice, Position, Query, Snapshot, Subscriber
from mt4pump_consumers.feed_thread import FeedThread
from mt4pump_consumers.gateway.settings import GatewaySettings

HEARTBEAT = "heartbeat"
ITEMS_LIMIT = 50_000
"""Events that wait for the loop; then the subscriber's thread waits, and the subscriber reports what that costs."""

FeedItem = Event | Notice | Position


class ThreadBridge:
    """``hot`` are the topics whose quotes need no wake-up; None: quotes are not conflated. ``wake`` is thread-safe.

    ``replaced`` counts quotes in whose place a newer one went to the loop, ``waits`` how often the loop was too far
    behind.
    """

    def __init__(self, wake: Callable[[], object], hot: Container[str] | None) -> None:
        self._wake = wake
        self._hot = hot
        self._lock = threading.Lock()
        self._items: deque[FeedItem] = deque()
        self._quotes: dict[str, Event] = {}
        self._room = threading.Event()
        self._awake = False
        self.replaced = self.waits = 0

    def put(self, item: FeedItem, stopping: Callable[[], bool]) -> None:
        """Hand over one item; waits while the loop is too far behind. On the subscriber's thread."""
        if self._hot is not None and isinstance(item, Event) and item.kind == "quote":
            with self._lock:
                self.replaced += item.topic in self._quotes
                self._quotes[item.topic] = item
                # Check only now: the loop removes a topic from `hot` first and then takes the quotes once more.
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

    def take(self, limit: int) -> tuple[list[FeedItem], dict[str, Event]]:
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


class GatewayFeed:
    """The daemon as the gateway asks and reads it; ``thread`` reads the stream into the bridge.

    A new subscriber goes on where the one before was: what came between them is in the journal. Raises ClientError and
    ValueError for addresses, keys and topics that cannot work.
    """

    def __init__(self, settings: GatewaySettings, bridge: ThreadBridge) -> None:
        self._settings, self._bridge = settings, bridge
        self._keys = ClientKeys.load(settings.keys) if settings.keys is not None else None
        self._position: Position | None = None
        self.thread = FeedThread(self._subscribe, self._read)

    def _subscribe(self) -> Subscriber:
        settings = self._settings
        return Subscriber(
            settings.endpoint,
            topics=[*settings.topics, HEARTBEAT],  # among the events it shows which journal they are of
            keys=self._keys,
            silence_s=settings.silence_s,
            snapshot=True,
            notices=True,
            resume_from=self._position,
            query_endpoint=settings.query_address,
        )

    def query(self) -> Query:
        """Return a new connection for queries; the caller closes it."""
        return Query(
            self._settings.query_address, keys=self._keys, warn=False
        )  # replies to clients hold their warnings

    def snapshot(self) -> Snapshot:
        """Return the last values of all that is read, at this moment; raises ClientError."""
        with self.query() as query:
            return query.snapshot(self._settings.topics)

    def _read(self, subscriber: Subscriber) -> None:
        put, is_stopped = self._bridge.put, self.thread.is_stopped
        for item in subscriber:
            put(item, is_stopped)
            is_time = self._position is None or (isinstance(item, Event) and item.kind == HEARTBEAT)
            if is_time and (position := subscriber.position) is not None:
                self._position = position
                put(position, is_stopped)  # in its place behind all that it confirms
