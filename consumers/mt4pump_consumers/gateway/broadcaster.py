"""From events to payloads to subscriber groups: last values, conflation, batching. All on the loop's thread."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from mt4pump.client import ClientError, Event, Notice, Position, Snapshot
from mt4pump_consumers.gateway.client_writer import Payload
from mt4pump_consumers.gateway.feed import HEARTBEAT, FeedItem, ThreadBridge
from mt4pump_consumers.gateway.last_values import LastValues, PriceHistory
from mt4pump_consumers.gateway.protocol import HEARTBEAT_TOPIC, Json, encode, event_message, public, quote_message
from mt4pump_consumers.gateway.subscriber_groups import SubscriberGroup, SubscriberGroups

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
            group.add(whole if group.allowed.covers(HEARTBEAT_TOPIC) else narrow)
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


CAUSES = frozenset({"restarted", "not_whole", "lost"})
"""Notices after which an end may be missing: of an order, an account, a margin call."""
REFRESHED = "refreshed"
RETRY_FIRST_S, RETRY_LAST_S = 0.5, 30.0
"""Pause between two snapshots, which doubles while they fail."""


class Refresher:
    """``read`` reads a snapshot and blocks; ``epoch`` returns the daemon's epoch while its feed is live, else 0."""

    def __init__(
        self,
        broadcaster: Broadcaster,
        read: Callable[[], Snapshot],
        epoch: Callable[[], int],
        publish: Callable[[Notice], None],
    ) -> None:
        self._broadcaster, self._read, self._epoch, self._publish = broadcaster, read, epoch, publish
        self._task: asyncio.Task[None] | None = None
        self._is_due = False
        self._not_before_s, self._pause_s = 0.0, RETRY_FIRST_S

    def note(self, notice: Notice) -> None:
        """Note that a notice makes a refresh due; a lost quote does not, as the next one replaces it."""
        if notice.kind in CAUSES and not notice.topic.startswith("quote."):
            self._is_due = True

    def check(self, now_s: float) -> None:
        """Read a snapshot if one is due; not before the daemon's tables are complete again."""
        epoch = self._epoch()
        if self._is_due and epoch and self._task is None and now_s >= self._not_before_s:
            self._is_due = False
            self._broadcaster.last.await_snapshot()
            self._task = asyncio.get_running_loop().create_task(self._refresh(epoch))

    async def _refresh(self, epoch: int) -> None:
        snapshot: Snapshot | None = None
        try:
            snapshot = await asyncio.to_thread(self._read)
            if snapshot.epoch != epoch:
                snapshot = None  # of another run, whose tables may not be complete yet
        except ClientError as error:
            log.warning("last values could not be read anew (%s); trying again", error)
        except Exception:
            log.exception("last values could not be read anew by an error that should not happen; trying again")
        finally:
            done = self._broadcaster.last.renew(snapshot)
            self._pause_s = RETRY_FIRST_S if done else min(self._pause_s * 2, RETRY_LAST_S)
            self._not_before_s = asyncio.get_running_loop().time() + self._pause_s
            self._is_due = self._is_due or not done
            self._task = None
        if done:
            log.info("last values were read anew: %d rows", len(self._broadcaster.last))
            self._publish(
                Notice(REFRESHED, "last values were read anew, as events were lost; subscribe again for them")
            )

    async def close(self) -> None:
        """Wait for the query that is running."""
        if self._task is not None:
            await asyncio.wait([self._task])
