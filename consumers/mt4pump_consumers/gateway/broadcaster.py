"""From the subscriber's thread to the event loop, and there to subscriber groups: last values, conflation, batching.

Quotes that the loop will not send at once (`Conflation.hot`) wait in the bridge by symbol, the newest in place of the
one before, and wake nobody: the loop checks when they are due. So a busy feed costs the loop nothing per event.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Container
from typing import Generic, TypeVar

from mt4pump.client import ClientKeys, Event, Notice, Position, Query, Snapshot, Subscriber
from mt4pump_consumers.feed_thread import FeedThread
from mt4pump_consumers.gateway.client_writer import Payload
from mt4pump_consumers.gateway.last_values import LastValues, PriceHistory
from mt4pump_consumers.gateway.protocol import HEARTBEAT, Json, encode, event_message, public, quote_message
from mt4pump_consumers.gateway.settings import GatewaySettings
from mt4pump_consumers.gateway.subscriber_groups import SubscriberGroup, SubscriberGroups

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
        # Replies to clients hold the warnings about their topics.
        return Query(self._settings.query_address, keys=self._keys, warn=False)

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


Value = TypeVar("Value")

EARLY_S = 1e-6
"""So much too soon is on time: an event loop fires within its clock's resolution, and times are sums of floats."""


class Conflation(Generic[Value]):
    """``hot`` holds every key that was sent within the last interval, with the value that waits (None: none).

    ``replaced`` counts the values in whose place a newer one was sent.
    """

    def __init__(self, interval_s: float) -> None:
        self.interval_s = interval_s
        self.hot: dict[str, Value | None] = {}
        self.replaced = 0
        self._sent_at_s: dict[str, float] = {}

    def offer(self, key: str, value: Value, now_s: float) -> bool:
        """Take a value; return whether it is to be sent now."""
        if key in self.hot:
            self.replaced += self.hot[key] is not None
            self.hot[key] = value
            return False
        self.hot[key] = None
        self._sent_at_s[key] = now_s
        return True

    def due(self, now_s: float) -> list[Value]:
        """Return the values whose wait is over; keys with none become quiet."""
        latest_s = now_s - self.interval_s + EARLY_S
        values = []
        for key in [key for key in self.hot if self._sent_at_s[key] <= latest_s]:
            value = self.hot[key]
            if value is None:
                del self.hot[key], self._sent_at_s[key]
            else:
                self.hot[key] = None
                self._sent_at_s[key] = now_s
                values.append(value)
        return values


BURST = 2_000
"""Items handled in one wake-up, so that clients are served in between."""
RECENT = 4_000
"""Stored events remembered, to join a replay to what is live."""

log = logging.getLogger(__name__)


class Broadcaster:
    """``on_notice`` receives the notices of the subscriber. ``delivered`` counts messages times clients.

    ``log`` and ``offset`` are the daemon's journal and its end, by the last heartbeat.
    ``forgotten`` is the highest offset that fell out of ``recent``.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, quotes_per_s: float, on_notice: Callable[[Notice], None]
    ) -> None:
        self._loop = loop
        self._on_notice = on_notice
        self._conflation = Conflation[Event](1 / quotes_per_s) if quotes_per_s else None
        self._ticking = False
        self._ready: list[SubscriberGroup] = []
        self.bridge = ThreadBridge(self._wake, self._conflation.hot if self._conflation else None)
        self.groups = SubscriberGroups(self._schedule)
        self.last = LastValues()
        self.history = PriceHistory()
        self.recent: deque[tuple[int, Event]] = deque(maxlen=RECENT)
        self.log: str | None = None
        self.offset = self.forgotten = 0
        self._position: Position | None = None
        self.received = self.delivered = self.faults = 0

    @property
    def conflated(self) -> int:
        """Return how many quotes no client got because a newer one of the symbol came within the interval."""
        return self.bridge.replaced + (self._conflation.replaced if self._conflation else 0)

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self.drain)
        except RuntimeError:  # the loop is closed: the gateway ends
            log.debug("an item came after the end")

    def drain(self) -> None:
        """Handle what waits in the bridge."""
        self._take()
        self._flush()

    def _take(self) -> None:
        items, quotes = self.bridge.take(BURST)
        for item in items:
            self._handle(item)
        for quote in quotes.values():
            self._handle(quote)

    def _handle(self, item: FeedItem) -> None:
        try:
            if isinstance(item, Notice):
                self._on_notice(item)
            elif isinstance(item, Position):
                self._position = item
            else:
                self.event(item)
        except Exception:
            self.faults += 1
            log.exception("%r could not be passed on; please report it", item)

    def event(self, event: Event) -> None:
        """Handle one event: store its value, and send it to its subscribers."""
        self.received += 1
        self.last.keep(event)
        if event.kind == "quote":
            self.history.keep(event)
        offset = event.offset
        if offset is not None and event.kind != HEARTBEAT and not event.snapshot:  # a heartbeat's is the journal's
            if len(self.recent) == self.recent.maxlen:
                self.forgotten = max(self.forgotten, self.recent[0][0])  # healed ones come late: they are not sorted
            self.recent.append((offset, event))
        if event.kind == "quote" and self._conflation is not None:
            if self._conflation.offer(event.topic, event, self._loop.time()):
                self.emit(event)
            self._start_ticking(self._loop.time())
        elif event.kind == HEARTBEAT:
            self._note_journal(event.body.get("log"), event.body.get("offset") or 0)
        else:
            self.emit(event)

    def _note_journal(self, log_id: str | None, offset: int) -> None:
        if log_id == "":
            return  # it could not be opened yet: which one it is, and how far, is not known
        if log_id != self.log:
            self.recent.clear()  # offsets of another journal; those of this one so far are no more than ``offset``
            self.forgotten = 0
        self.log, self.offset = log_id, offset

    @property
    def has_joined(self) -> bool:
        """Return whether the subscriber has its place in the journal: from it on no stored event is passed over."""
        return self._position is not None

    @property
    def confirmed(self) -> int | None:
        """Return the offset up to which every stored event was sent, or reported as lost; None: not known.

        The highest offset that was sent proves less: a lost event is recovered when events of other topics with higher
        offsets were sent already.
        """
        position = self._position
        return position.confirmed if position is not None and position.log == self.log else None

    def emit(self, event: Event) -> None:
        """Send ``event`` now to all subscribers of its topic."""
        readers_of = self.groups.readers_of(event.topic)
        if readers_of.narrow:
            payload = quote_payload(event)
            for group in readers_of.narrow:
                group.add(payload)
        if readers_of.full:
            offset = 0 if event.snapshot else event.offset or 0
            # Quotes conflate, and overtake what is not: they prove nothing about what came before them.
            payload = full_payload(event, confirmed=self.confirmed if offset and event.kind != "quote" else None)
            for group in readers_of.full:
                if not (offset and group.has(event.topic, offset, self.log)):
                    group.add(payload)

    def publish(self, message: Json, topic: str = "") -> None:
        """Send ``message`` to every subscriber, or to those of ``topic`` only; without the right in its public form."""
        whole, narrow = Payload(encode(message)), Payload(encode(public(message)))
        readers_of = self.groups.readers_of(topic) if topic else None
        groups = list(dict.fromkeys(readers_of.narrow + readers_of.full)) if readers_of else list(self.groups)
        for group in groups:
            group.add(whole if group.allowed.covers(HEARTBEAT) else narrow)
        self._flush()

    def _start_ticking(self, now_s: float) -> None:
        if not self._ticking and self._conflation is not None:
            self._ticking = True
            self._loop.call_at(now_s + self._conflation.interval_s, self._tick)

    def _tick(self) -> None:
        conflation = self._conflation
        assert conflation is not None  # noqa: S101 - only `_start_ticking` calls for it
        now_s = self._loop.time()
        self._take()
        for event in conflation.due(now_s):
            self.emit(event)
        self._take()  # what came for a topic that just became quiet woke nobody; see `ThreadBridge`
        self._flush()
        self._ticking = False
        if conflation.hot:
            self._start_ticking(now_s)

    def _schedule(self, group: SubscriberGroup) -> None:
        if group.group_key.window_s > 0:
            self._loop.call_later(group.group_key.window_s, self._flush_one, group)
        else:
            self._ready.append(group)

    def _flush_one(self, group: SubscriberGroup) -> None:
        self.delivered += group.flush()

    def _flush(self) -> None:
        ready, self._ready = self._ready, []
        for group in ready:
            self.delivered += group.flush()


def quote_payload(event: Event) -> Payload:
    """Return a quote for subscribers by symbol."""
    return Payload(encode(quote_message(event.body)), f"symbols {event.topic}")


def full_payload(event: Event, *, snapshot: bool = False, confirmed: int | None = None) -> Payload:
    """Return an event for subscribers by topic; only quotes may be replaced by newer ones."""
    is_last = snapshot or event.snapshot
    message = event_message(event.kind, event.topic, event.body, snapshot=is_last, confirmed=confirmed)
    return Payload(encode(message), f"topics {event.topic}" if event.kind == "quote" else "")
