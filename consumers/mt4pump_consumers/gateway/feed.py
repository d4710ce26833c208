"""From the subscriber's thread to the event loop.

The thread outlives whatever happens to the daemon. Quotes that the loop will not send at once (`Conflation.hot`) wait
in the bridge by symbol, the newest in place of the one before, and wake nobody: the loop checks when they are due. So
a busy feed costs the loop nothing per event.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Container, Sequence
from threading import Event as ThreadEvent
from threading import Lock, Thread

from mt4pump.client import ClientError, ClientKeys, Event, Notice, Position, Query, Snapshot, Subscriber
from mt4pump.client import Status as DaemonStatus

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
        self._lock = Lock()
        self._items: deque[FeedItem] = deque()
        self._quotes: dict[str, Event] = {}
        self._room = ThreadEvent()
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


RETRY_FIRST_S, RETRY_LAST_S = 1.0, 30.0

log = logging.getLogger(__name__)


class GatewayFeed(Thread):
    """``status`` is the last state of the daemon, None without a subscriber; ``restarts`` counts new subscribers.

    A new one goes on where the one before was: what came between them is in the journal.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        query_endpoint: str,
        keys: ClientKeys | None,
        topics: Sequence[str],
        silence_s: float,
        bridge: ThreadBridge,
    ) -> None:
        super().__init__(name="feed", daemon=True)
        self._endpoint, self._query_endpoint, self._keys = endpoint, query_endpoint, keys
        self._topics, self._silence_s = topics, silence_s
        self._bridge = bridge
        self._stopping = ThreadEvent()
        self._subscriber: Subscriber | None = None
        self._position: Position | None = None
        self.restarts = 0

    @property
    def status(self) -> DaemonStatus | None:
        """Return the daemon as its last heartbeat showed it."""
        subscriber = self._subscriber
        return None if subscriber is None else subscriber.status

    def subscriber(self) -> Subscriber:
        """Return a new subscriber; raises ClientError for addresses and keys that cannot work."""
        return Subscriber(
            self._endpoint,
            topics=[*self._topics, HEARTBEAT],  # among the events it shows which journal they are of
            keys=self._keys,
            silence_s=self._silence_s,
            snapshot=True,
            notices=True,
            resume_from=self._position,
            query_endpoint=self._query_endpoint,
        )

    def query(self) -> Query:
        """Return a new connection for questions; the caller closes it."""
        return Query(self._query_endpoint, keys=self._keys, warn=False)  # replies to clients hold their warnings

    def snapshot(self) -> Snapshot:
        """Return the last values of all that is read, at this moment; raises ClientError."""
        with self.query() as query:
            return query.snapshot(self._topics)

    def run(self) -> None:
        """Read until stopped; a subscriber that fails is replaced."""
        delay_s = RETRY_FIRST_S
        while not self._stopping.is_set():
            began_s = time.monotonic()
            try:
                with self.subscriber() as subscriber:
                    self._subscriber = subscriber
                    self._read(subscriber)
            except ClientError as error:
                log.warning("the stream ended (%s); starting again in %.0f s", error, delay_s)
            except Exception:
                log.exception("the stream ended by an error that should not happen; starting again in %.0f s", delay_s)
            if self._stopping.is_set():
                return
            if time.monotonic() - began_s > RETRY_LAST_S:
                delay_s = RETRY_FIRST_S
            self.restarts += 1
            self._stopping.wait(delay_s)
            delay_s = min(delay_s * 2, RETRY_LAST_S)

    def _read(self, subscriber: Subscriber) -> None:
        put, stopping = self._bridge.put, self._stopping.is_set
        for item in subscriber:
            put(item, stopping)
            is_time = self._position is None or (isinstance(item, Event) and item.kind == HEARTBEAT)
            if is_time and (position := subscriber.position) is not None:
                self._position = position
                put(position, stopping)  # in its place behind all that it confirms
            if stopping():
                return

    def stop(self) -> None:
        """Ask it to end; `join` waits for it."""
        self._stopping.set()
        if self._subscriber is not None:
            self._subscriber.close()
