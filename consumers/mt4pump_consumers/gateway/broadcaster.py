"""From events to payloads to cohorts: last values, conflation, the batching clocks. All on the loop's thread."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from mt4pump.client import Event, Notice, Position
from mt4pump_consumers.gateway import status as words
from mt4pump_consumers.gateway.conflation import Conflation
from mt4pump_consumers.gateway.last_values import LastValues
from mt4pump_consumers.gateway.payload import Payload
from mt4pump_consumers.gateway.protocol import Json, encode, event_message, quote_message
from mt4pump_consumers.gateway.subscriber_groups import SubscriberGroup, SubscriberGroups
from mt4pump_consumers.gateway.thread_bridge import Item, ThreadBridge

HEARTBEAT = "heartbeat"
BURST = 2_000
"""Items handled in one wake-up, so that clients are heard in between."""
RECENT = 4_000
"""Stored events remembered, to join a replay to what is live."""

log = logging.getLogger(__name__)


class Broadcaster:
    """``on_notice`` is told what the subscriber says about the stream. ``delivered`` counts messages times clients.

    ``log`` and ``offset`` are the daemon's journal and its end, as the last heartbeat that stands here told.
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
        self.door = ThreadBridge(self._wake, self._conflation.hot if self._conflation else None)
        self.cohorts = SubscriberGroups(self._schedule)
        self.last = LastValues()
        self.recent: deque[tuple[int, Event]] = deque(maxlen=RECENT)
        self.log: str | None = None
        self.offset = self.forgotten = 0
        self._position: Position | None = None
        self.received = self.delivered = self.faults = 0

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self.drain)
        except RuntimeError:  # the loop is closed: the gateway ends
            log.debug("an item came after the end")

    def drain(self) -> None:
        """Handle what waits behind the door."""
        self._take()
        self._flush()

    def _take(self) -> None:
        items, quotes = self.door.take(BURST)
        for item in items:
            self._handle(item)
        for quote in quotes.values():
            self._handle(quote)

    def _handle(self, item: Item) -> None:
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
        """Take one event: keep it, and send it to whom it may concern."""
        self.received += 1
        self.last.keep(event)
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
        """Return the offset up to which every stored event was sent, or told as lost; None: not known.

        The highest offset that was sent says less: an event that was lost on its way here is healed a moment later,
        when events of other topics with higher offsets are out already.
        """
        position = self._position
        return position.confirmed if position is not None and position.log == self.log else None

    def emit(self, event: Event) -> None:
        """Send ``event`` now to all who read its topic."""
        channel = self.cohorts.channel(event.topic)
        if channel.narrow:
            payload = quote_payload(event)
            for cohort in channel.narrow:
                cohort.add(payload)
        if channel.full:
            offset = 0 if event.snapshot else event.offset or 0
            # Quotes conflate, and overtake what is not: they prove nothing about what came before them.
            payload = full_payload(event, confirmed=self.confirmed if offset and event.kind != "quote" else None)
            for cohort in channel.full:
                if not (offset and cohort.has(event.topic, offset, self.log)):
                    cohort.add(payload)

    def tell(self, message: Json, topic: str = "") -> None:
        """Send ``message`` to every subscriber, or to those of ``topic`` only; without the right in its public form."""
        whole, public = Payload(encode(message)), Payload(encode(words.public(message)))
        channel = self.cohorts.channel(topic) if topic else None
        cohorts = list(dict.fromkeys(channel.narrow + channel.full)) if channel else list(self.cohorts)
        for cohort in cohorts:
            cohort.add(whole if cohort.allowed.covers(words.RIGHT) else public)
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

    def _schedule(self, cohort: SubscriberGroup) -> None:
        if cohort.reading.window_s > 0:
            self._loop.call_later(cohort.reading.window_s, self._flush_one, cohort)
        else:
            self._ready.append(cohort)

    def _flush_one(self, cohort: SubscriberGroup) -> None:
        self.delivered += cohort.flush()

    def _flush(self) -> None:
        ready, self._ready = self._ready, []
        for cohort in ready:
            self.delivered += cohort.flush()


def quote_payload(event: Event) -> Payload:
    """Return a quote for subscribers by symbol."""
    return Payload(encode(quote_message(event.body)), f"symbols {event.topic}")


def full_payload(event: Event, *, snapshot: bool = False, confirmed: int | None = None) -> Payload:
    """Return an event for subscribers by topic; only quotes may be replaced by newer ones."""
    is_last = snapshot or event.snapshot
    message = event_message(event.kind, event.topic, event.body, snapshot=is_last, confirmed=confirmed)
    return Payload(encode(message), f"topics {event.topic}" if event.kind == "quote" else "")
