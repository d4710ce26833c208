"""The pure core of a subscriber: decides what to deliver, what is missing, and what to ask. No socket, clock or thread.

Messages, replies and times go in; ``out`` (events, notices, `Checkpoint`) and ``ask`` come out. A `Stream` receives,
its `Ordering` delivers, its `Recovery` asks. Three rules give each durable event exactly once and in order:

- Within a topic, events are delivered in order of their numbers, or not at all: one that came late is dropped by its
  number alone, so nothing needs to be remembered about single events.
- At a gap, and whenever something may be missing (a new epoch, a new connection), the *gate* closes: durable events
  wait in ``hold`` until the journal was asked for everything after ``confirmed``. What the journal has not is ``lost``.
- ``confirmed`` moves to a heartbeat's offset when that proves that all before it came (see `HeartbeatMonitor`), or when
  the journal was asked. So a loss after which no event comes is found as well.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping

from mt4pump.client.checks import check_heartbeat
from mt4pump.client.events import Quote
from mt4pump.client.held_events import Frames
from mt4pump.client.liveness import HeartbeatMonitor, Status
from mt4pump.client.notices import CONNECTED, DISCONNECTED, MALFORMED, Notice, StreamOptions
from mt4pump.client.ordering import Item, Ordering
from mt4pump.client.position import Position
from mt4pump.client.query_connection import Ask, Reply
from mt4pump.client.recovery import Recovery
from mt4pump.client.topic_state import SubscriptionSet
from mt4pump.errors import FrameError
from mt4pump.wire import HEARTBEAT, Body

HEARTBEAT_TOPIC = HEARTBEAT.name.encode()
MALFORMED_INTERVAL_S = 60.0
"""Least time between two notices that messages make no sense."""


class Stream:
    """See the module."""

    def __init__(
        self, book: SubscriptionSet, watch: HeartbeatMonitor, options: StreamOptions, resume: Position | None = None
    ) -> None:
        self.ordering = Ordering(book, options, resume)
        self.recovery = Recovery(self.ordering, options, resume)
        self._book = book
        self._watch = watch
        self._backlog = (0, 0)
        self._resubscribe = True
        self._connections = 0
        self._now_s = 0.0
        self._now_ns = 0
        self._malformed_at_s = 0.0
        self._malformed_seen = 0
        self._malformed_text = ""

    @property
    def out(self) -> deque[Item]:
        """Return what is to be handed to the user; whoever reads it takes it out."""
        return self.ordering.out

    @property
    def counts(self) -> Counter[str]:
        """Return the counters; see `BaseSubscriber.counts`."""
        return self.ordering.counts

    @property
    def quotes(self) -> Mapping[str, Quote]:
        """Return the last quote of each symbol."""
        return self.ordering.quotes

    @property
    def confirmed(self) -> int | None:
        """Return the offset up to which every durable event was delivered, or reported as lost."""
        return self.ordering.confirmed

    @property
    def ask(self) -> Ask | None:
        """Return the open request."""
        return self.recovery.ask

    @property
    def number(self) -> int:
        """Return the number of the last request."""
        return self.recovery.number

    @property
    def is_full(self) -> bool:
        """Return whether no more messages should be read: so many wait for the journal."""
        return self.ordering.hold.is_full

    def take(self, messages: Iterable[Frames], now_s: float, now_ns: int) -> None:
        """Take messages in the order in which they came. Times: monotonic seconds, ns since 1970."""
        self._now_s, self._now_ns = now_s, now_ns
        self.recovery.set_time(now_s)
        self.ordering.handle(messages, self._handle_other, self._record_malformed)
        self._report_malformed(now_s)

    def reply(self, number: int, reply: Reply, now_s: float) -> None:
        """Handle the answer to request ``number``."""
        self.recovery.reply(number, reply, now_s)

    def failed(self, number: int, code: str, text: str, now_s: float) -> None:
        """Note that request ``number`` was refused, or not answered."""
        self.recovery.failed(number, code, text, now_s)

    def tick(self, now_s: float) -> None:
        """Go on with what waits for time to pass."""
        self.recovery.tick(now_s)

    def connected(self, now_s: float) -> None:
        """Note that a connection was made: what was sent before it may be lost."""
        self.recovery.set_time(now_s)
        self._connections += 1
        self.counts["reconnects"] = self._connections - 1
        self.out.append(Notice(CONNECTED, "connected to the daemon"))
        self._mark_unproven()

    def disconnected(self) -> None:
        """Note that the connection broke."""
        self.out.append(Notice(DISCONNECTED, "the connection to the daemon broke; it is made anew"))
        self._mark_unproven()

    def refused(self) -> None:
        """Note that the daemon refused the connection."""
        self.counts["refused"] += 1
        text = "the daemon refused the connection: are the keys right, and known to it?"
        self.out.append(Notice(DISCONNECTED, text, code="refused"))

    def _mark_unproven(self) -> None:
        self._watch.mark_unproven()
        self.recovery.mark_unproven()

    def drained(self, now_s: float) -> None:
        """Note that at this moment nothing waited to be read."""
        self._watch.drained()
        self.out.extend(self._watch.idle(now_s))

    def status(self, now_s: float) -> Status:
        """Return the daemon as its last heartbeat showed it."""
        return self._watch.status(now_s)

    def note_backlog(self, waiting: int, oldest_ts: int) -> None:
        """Note how many items wait for the user, and the ``ts`` of the first event of them (0: there is none)."""
        self._backlog = (waiting, oldest_ts)

    def count_malformed(self, count: int) -> None:
        """Count messages that the connection dropped."""
        self.counts["decode_errors"] += count

    def add_topics(self, names: Iterable[str]) -> None:
        """Want more; their last values come first, if values were asked for at all."""
        new = self._book.add(names)
        if new:
            self._resubscribe = True
            self._watch.mark_unproven()
            self.recovery.add(new)

    def remove_topics(self, names: Iterable[str]) -> None:
        """Want less."""
        gone = self._book.remove(names)
        self.recovery.steps.remove(gone)
        self._resubscribe = self._resubscribe or bool(gone)

    def subscriptions(self) -> set[bytes]:
        """Return the prefixes to subscribe to."""
        return self._book.subscriptions()

    def changed_subscriptions(self) -> set[bytes] | None:
        """Return the prefixes to subscribe to, None when they are those that it returned last."""
        if not self._resubscribe:
            return None
        self._resubscribe = False
        return self._book.subscriptions()

    def _record_malformed(self, error: FrameError) -> None:
        self.counts["decode_errors"] += 1
        self._malformed_text = str(error)

    def _report_malformed(self, now_s: float) -> None:
        """Put out a notice, now and then, when messages came that make no sense."""
        count = self.counts["decode_errors"] - self._malformed_seen
        if count and now_s >= self._malformed_at_s:
            self._malformed_at_s = now_s + MALFORMED_INTERVAL_S
            self._malformed_seen += count
            text = f"{count} messages are not what a daemon of this protocol sends, the last: {self._malformed_text}"
            self.out.append(Notice(MALFORMED, text, count=count))

    def _handle_other(self, frames: Frames, body: Body) -> None:
        """Handle a heartbeat, or an event that is not the next one of a topic that is known."""
        epoch, topic = body["epoch"], frames[0]
        if topic.startswith(HEARTBEAT_TOPIC) and len(topic) <= len(HEARTBEAT_TOPIC) + 1:
            try:
                check_heartbeat(body)
            except FrameError as error:
                self._record_malformed(error)
            else:
                self._handle_heartbeat(frames, body)
            return
        ordering = self.ordering
        track = self._book.track(topic)
        if not track.wanted or not track.rank:  # no rank: it begins like a heartbeat, and would never pass the gate
            self.counts["unwanted"] += 1
            return
        if epoch > ordering.epoch:
            self._enter(epoch)
        if epoch == ordering.epoch:
            self.recovery.check_offset(body.get("offset", 0))
        if self.recovery.steps.discard:
            self.counts["before_join"] += 1
        elif not ordering.accept(track, frames, body):
            ordering.hold.add(frames, body)
            self.counts["held"] += 1
            self.recovery.plan()

    def _handle_heartbeat(self, frames: Frames, body: Body) -> None:
        suffix = frames[0][len(HEARTBEAT_TOPIC) :].decode("utf-8", "replace")
        if suffix != self._book.suffix:
            self._book.learn(suffix)
            self._resubscribe = True
        if body["epoch"] != self.ordering.epoch:
            self._enter(body["epoch"])
        clean = self._watch.take(body, self._now_s, self._now_ns)
        self.out.extend(self._watch.changes(self._now_ns, *self._backlog))
        if self.recovery.compare_log(body.get("log"), body.get("offset") or 0):
            clean = False
        self.recovery.note_unstored(body)
        track = self._book.track(frames[0])
        if track.wanted:
            self.out.append(track.make(track, body, frames))
            self.counts["delivered"] += 1
        self.recovery.note_proof(body, clean=clean)

    def _enter(self, epoch: int) -> None:
        """Go over to another run of the daemon."""
        is_first = not self.ordering.epoch
        self.recovery.enter(epoch)
        if not is_first:
            self._mark_unproven()
            self.recovery.follow_restart()
