"""The pure core of a subscriber: decides what to deliver, what is missing, and what to ask. No socket, clock or thread.

Messages, replies and times go in; ``out`` (events, notices, `Checkpoint`) and ``recovery.ask`` come out. Each part
changes its own state, and calls methods of the others. Only `Ordering` also writes into the topics, and only `Ordering`
and `Stream` into ``out``. ``counts`` is shared: each part counts there what it does.

- `Stream` passes each message to the parts that it concerns, and counts malformed ones.
- `HeartbeatMonitor` has the last heartbeat: whether it proves that nothing was lost, whether daemon and feed live.
- `SubscriptionSet` has a `TopicState` for each topic: its last number and offset, and so what is next or a repeat.
- `Ordering` has the held events, the gate that makes them wait, and the *confirmed* offset. It delivers.
- `Recovery` has the open request and the time of the next one. It decides what to ask when, and when to give up.
- `RecoverySteps` has how far the reader has joined the stream. It makes the requests, and passes the replies on.

Three rules give each durable event exactly once and in order:

- Within a topic, events are delivered in order of their numbers, or not at all: one that came late is dropped by its
  number alone, so nothing needs to be remembered about single events.
- At a gap, and whenever something may be missing (a new epoch, a new connection), the *gate* closes: durable events
  are held until the journal was asked for everything after ``confirmed``. What the journal has not is ``lost``.
- ``confirmed`` moves to a heartbeat's offset when that proves that all before it came (see `HeartbeatMonitor`), or when
  the journal was asked. So a loss after which no event comes is found as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mt4pump.client.checks import check_heartbeat
from mt4pump.client.event import CONNECTED, DISCONNECTED, MALFORMED, Frames, Notice
from mt4pump.client.liveness import HeartbeatMonitor
from mt4pump.client.ordering import Ordering, StreamOptions
from mt4pump.client.position import Position
from mt4pump.client.recovery import Recovery
from mt4pump.client.topic_state import SubscriptionSet
from mt4pump.errors import FrameError
from mt4pump.wire import HEARTBEAT, Body

HEARTBEAT_TOPIC = HEARTBEAT.name.encode()
MALFORMED_INTERVAL_S = 60.0
"""Least time between two notices of malformed messages."""


class Stream:
    """Passes messages, replies and times to its parts (see the module). The user takes the items out of ``out``.

    ``backlog``: how many items wait for the user elsewhere, and the ``ts`` of the first event of them (0: none).
    """

    def __init__(
        self,
        subscriptions: SubscriptionSet,
        monitor: HeartbeatMonitor,
        options: StreamOptions,
        resume: Position | None = None,
    ) -> None:
        self.ordering = Ordering(subscriptions, options, resume)
        self.recovery = Recovery(self.ordering, options, resume)
        self.monitor = monitor
        self.out = self.ordering.out
        self.counts = self.ordering.counts
        self.backlog = (0, 0)
        self._subscriptions = subscriptions
        self._resubscribe = True
        self._connections = 0
        self._now_s = 0.0
        self._now_ns = 0
        self._malformed_at_s = 0.0
        self._malformed_seen = 0
        self._malformed_text = ""

    @property
    def is_full(self) -> bool:
        """Return whether no more messages should be read: so many wait for the journal."""
        return self.ordering.held.is_full

    def handle(self, messages: Iterable[Frames], now_s: float, now_ns: int) -> None:
        """Handle messages in the order in which they came. Times: monotonic seconds, ns since 1970."""
        self._now_s, self._now_ns = now_s, now_ns
        self.recovery.set_now(now_s)
        self.ordering.handle(messages, self._handle_other, self._record_malformed)
        self._report_malformed()

    def set_connected(self, now_s: float) -> None:
        """Record that a connection was made: what was sent before it may be lost."""
        self.recovery.set_now(now_s)
        self._connections += 1
        self.counts["reconnects"] = self._connections - 1
        self.out.append(Notice(CONNECTED, "connected to the daemon"))
        self._mark_unproven()

    def set_disconnected(self) -> None:
        """Record that the connection broke."""
        self.out.append(Notice(DISCONNECTED, "the connection to the daemon broke; ZeroMQ reconnects"))
        self._mark_unproven()

    def set_refused(self, text: str) -> None:
        """Record that the handshake failed; ``text`` says why."""
        self.counts["refused"] += 1
        self.out.append(Notice(DISCONNECTED, text, code="refused"))

    def set_drained(self, now_s: float, connection_fault: Callable[[], str] = str) -> None:
        """Record that at this moment nothing waits to be read; ``connection_fault`` returns why, empty: not known."""
        self.monitor.drained()
        self.out.extend(self.monitor.check_silence(now_s, connection_fault))

    def _mark_unproven(self) -> None:
        self.monitor.mark_unproven()
        self.recovery.mark_unproven()

    # ---- subscriptions ----

    def add_topics(self, names: Iterable[str]) -> None:
        """Add wanted topics; their last values come first, if values were asked for at all."""
        new = self._subscriptions.add(names)
        if new:
            self._resubscribe = True
            self.monitor.mark_unproven()
            self.recovery.add(new)

    def remove_topics(self, names: Iterable[str]) -> None:
        """Remove wanted topics."""
        gone = self._subscriptions.remove(names)
        self.recovery.steps.remove(gone)
        self._resubscribe = self._resubscribe or bool(gone)

    def changed_subscriptions(self) -> set[bytes] | None:
        """Return the prefixes to subscribe to, None when they are those that it returned last."""
        if not self._resubscribe:
            return None
        self._resubscribe = False
        return self._subscriptions.subscriptions()

    # ---- messages ----

    def _record_malformed(self, error: FrameError) -> None:
        self.counts["decode_errors"] += 1
        self._malformed_text = str(error)

    def _report_malformed(self) -> None:
        count = self.counts["decode_errors"] - self._malformed_seen
        if count and self._now_s >= self._malformed_at_s:
            self._malformed_at_s = self._now_s + MALFORMED_INTERVAL_S
            self._malformed_seen += count
            text = f"{count} messages are not what a daemon of this protocol sends, the last: {self._malformed_text}"
            self.out.append(Notice(MALFORMED, text, count=count))

    def _handle_other(self, frames: Frames, body: Body) -> None:
        """Handle a heartbeat, or an event that is not the next one of a topic that is known."""
        epoch, wire = body["epoch"], frames[0]
        if wire.startswith(HEARTBEAT_TOPIC) and len(wire) <= len(HEARTBEAT_TOPIC) + 1:
            try:
                check_heartbeat(body)
            except FrameError as error:
                self._record_malformed(error)
            else:
                self._handle_heartbeat(frames, body)
            return
        ordering = self.ordering
        topic = self._subscriptions.topic(wire)
        if not topic.wanted or topic.is_heartbeat:  # with more after the kind: the gate would hold it for ever
            self.counts["unwanted"] += 1
            return
        if epoch > ordering.epoch:
            self._enter_epoch(epoch)
        if epoch == ordering.epoch:
            self.recovery.check_offset(body.get("offset", 0))
        is_unplaced = epoch < ordering.epoch and topic.durable and "offset" in body and ordering.has_journal
        if self.recovery.steps.discard or is_unplaced:  # the second: late, or of a run that no heartbeat has shown yet
            self.counts["before_join"] += 1  # the snapshot, or the journal, has it
        elif not ordering.accept(topic, frames, body):
            ordering.held.add(frames, body)
            self.counts["held"] += 1
            self.recovery.plan()

    def _handle_heartbeat(self, frames: Frames, body: Body) -> None:
        epoch = body["epoch"]
        suffix = frames[0][len(HEARTBEAT_TOPIC) :].decode("utf-8", "replace")
        if suffix != self._subscriptions.suffix:
            self._subscriptions.set_suffix(suffix)
            self._resubscribe = True
        if epoch != self.ordering.epoch:
            self._enter_epoch(epoch)
        is_clean = self.monitor.handle(body, self._now_s, self._now_ns)
        self.out.extend(self.monitor.changes(self._now_ns, *self.backlog))
        if self.recovery.compare_log(body):
            is_clean = False
        topic = self._subscriptions.topic(frames[0])
        if topic.wanted:
            self.out.append(topic.event_class(topic, body, frames))
            self.counts["delivered"] += 1
        self.recovery.handle_heartbeat(body, clean=is_clean)

    def _enter_epoch(self, epoch: int) -> None:
        if not self.ordering.epoch:
            self.ordering.enter_epoch(epoch)
        else:
            self.monitor.mark_unproven()
            self.recovery.follow_restart(epoch)
