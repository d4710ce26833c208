"""Delivers events in the order of their numbers, holds those that must wait, and reports losses; pure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from mt4pump.client.checks import event_body, stored_body
from mt4pump.client.event import (
    GAP,
    HEALED,
    LIVE,
    LOST,
    NOT_WHOLE,
    RESTARTED,
    SNAPSHOT,
    Checkpoint,
    Frames,
    HeldEvents,
    Item,
    Notice,
)
from mt4pump.client.events import Quote
from mt4pump.client.position import Position
from mt4pump.client.query import QueryError, Reply
from mt4pump.client.topic_state import NEVER, Gate, LastQuotes, SubscriptionSet, TopicState
from mt4pump.errors import FrameError
from mt4pump.wire import Body

UNOPENED = ""  # the log's name while the daemon could not open its journal file


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """The arguments of `Subscriber` that its core needs. ``query``: there is an endpoint to ask."""

    query: bool = True
    snapshot: bool = True
    heal: bool = True
    heal_timeout_s: float = 30.0
    hold_limit: int = 100_000


class LostEnd(NamedTuple):
    """Where a journal lost its end: all behind ``offset`` is gone, and ``epoch`` uses those offsets again."""

    offset: int
    epoch: int


class Ordering:
    """Delivers events in the order of their numbers.

    - ``out`` is what the user takes, ``held`` are the events that wait, ``gate`` says which events have to wait.
    - ``epoch`` is the present run of the daemon, ``log`` its journal.
    - ``confirmed``: up to this offset of ``log`` every event was delivered or reported as lost. None: not known yet.
    - ``has_snapshot``: a snapshot gave the last number of every topic.
    - ``query_works``: the query endpoint was not given up.
    - ``unopened``: the daemon could not open its journal yet. Its durable events have no offset and pass the gate; one
      that has an offset shows that the journal is open now, and waits for what was stored before it.
    - ``base_epoch``: the epoch of a snapshot that came while the journal was not open, so had no offset to confirm; 0:
      none. The first heartbeat that names the journal confirms instead.
    - ``lost_end``: set from when the journal lost its end until it was asked for all that it has of earlier runs.
    """

    def __init__(self, subscriptions: SubscriptionSet, options: StreamOptions, resume: Position | None) -> None:
        self.subscriptions = subscriptions
        self.out: deque[Item] = deque()
        self.counts: Counter[str] = Counter()
        self.quotes = LastQuotes()
        self.epoch = 0
        self.log = resume.log if resume else None
        self.confirmed = resume.confirmed if resume else None
        self.gate = Gate.ALL_WAIT if options.query else Gate.OPEN
        self.has_snapshot = False
        self.query_works = options.query
        self.unopened = False
        self.base_epoch = 0
        self.lost_end: LostEnd | None = None
        self._lost_end_epoch = 0
        self.held = HeldEvents(options.hold_limit)
        self._recovers = options.heal
        self._has_log = False
        self._asked_for: set[tuple[bytes, int]] = set()
        self._late: Counter[TopicState] = Counter()

    @property
    def can_recover(self) -> bool:
        """Return whether the journal can be asked for what is missing."""
        return self.query_works and self.has_journal

    @property
    def has_journal(self) -> bool:
        """Return whether there is a journal to be asked, perhaps later."""
        return self._recovers and self.has_snapshot and self._has_log and self.confirmed is not None

    def report(self, kind: str, text: str, *, count: int = 0, code: str = "") -> None:
        """Put a notice out, at its place between the events."""
        self.out.append(Notice(kind, text, count=count, code=code))

    # ---- live events ----

    def handle(
        self,
        messages: Iterable[Frames],
        handle_other: Callable[[Frames, Body], None],
        record_malformed: Callable[[FrameError], None],
    ) -> None:
        """Deliver the messages that are next in their topic; every other one goes to ``handle_other``."""
        known, put, keep_quote = self.subscriptions.topics.get, self.out.append, self.quotes.keep
        received = delivered = 0
        for frames in messages:
            received += 1
            try:
                body = event_body(*frames)
            except FrameError as error:
                record_malformed(error)
                continue
            topic, epoch, seq = known(frames[0]), body["epoch"], body["seq"]
            if topic is not None and topic.epoch == epoch and topic.seq + 1 == seq and self.gate < topic.waits_at:
                topic.seq = seq
                event = topic.event_class(topic, body, frames)
                if topic.durable:
                    offset = body.get("offset")
                    if offset is not None:
                        topic.offset = offset
                elif isinstance(event, Quote):
                    keep_quote(topic.key, event)
                put(event)
                delivered += 1
            else:
                handle_other(frames, body)
        self.counts["received"] += received
        self.counts["delivered"] += delivered

    def accept(self, topic: TopicState, frames: Frames, body: Body) -> bool:
        """Deliver an event, or drop a repeated one; return False for one that has to wait."""
        needs_no_journal = self.unopened and self.gate == Gate.DURABLE_WAIT and "offset" not in body and not self.held
        if self.gate >= topic.waits_at and not needs_no_journal:
            return False
        epoch, seq = body["epoch"], body["seq"]
        offset = body.get("offset") if topic.durable else None
        if topic.is_repeat(epoch, seq, offset, self.epoch):
            self.counts["duplicates"] += 1
            return True
        missing = seq - self.subscriptions.last_seq(topic, epoch, seq) - 1
        if missing > 0:
            self.counts["gaps"] += 1
            if topic.durable and self._may_be_recovered(frames[0], seq, offset):
                text = f"{missing} events of {topic.name} are missing before number {seq}: the journal is asked"
                self.out.append(Notice(GAP, text, topic=topic.name, count=missing))
                self.close_for(Gate.DURABLE_WAIT)
                return False
            self.report_lost(topic, missing)
        if epoch > topic.epoch and topic.durable:
            topic.add_jump(epoch, seq - missing, self.confirmed or 0)
        self.deliver(topic, frames, body, LIVE)
        return True

    def _may_be_recovered(self, wire: bytes, seq: int, offset: int | None) -> bool:
        """Return whether the journal was not asked yet for what is missing before this event."""
        if not self.can_recover:
            return False
        return (wire, seq) not in self._asked_for if offset is None else offset - 1 > (self.confirmed or 0)

    def report_lost(self, topic: TopicState, count: int, reason: str = "") -> None:
        """Report events that will not come; ``reason`` says why not."""
        if not reason:
            asked = "the journal does not have them" if self.can_recover else "the journal cannot be asked"
            reason = asked if topic.durable else "this kind is not stored"
        self.counts["lost"] += count
        self.out.append(Notice(LOST, f"{count} events of {topic.name} are lost: {reason}", topic.name, count))

    def report_lost_up_to(self, wire: bytes, epoch: int, seq: int, row: Frames | None) -> None:
        """Report what never came of a topic whose last number is ``seq``, and deliver its last value, ``row``."""
        topic = self.subscriptions.topic(wire)
        missing = seq - self.subscriptions.last_seq(topic, epoch, seq + 1)
        if not topic.wanted or topic.is_heartbeat or missing <= 0:
            return
        self.counts["gaps"] += 1
        self.report_lost(topic, missing)
        topic.pass_to(epoch, seq)
        if row is not None and not topic.durable:
            self.deliver(topic, row, event_body(*row), SNAPSHOT)

    def deliver(self, topic: TopicState, frames: Frames, body: Body, origin: int) -> None:
        """Deliver one event; a last value does not change the topic's numbers."""
        event = topic.event_class(topic, body, frames, origin)
        if origin != SNAPSHOT:
            topic.record(body["epoch"], body["seq"], body.get("offset"))
        if isinstance(event, Quote):
            self.quotes.keep(topic.key, event)
        self.counts["delivered"] += 1
        if origin != LIVE:
            self.counts["snapshot" if origin == SNAPSHOT else "healed"] += 1
        self.out.append(event)

    # ---- the gate ----

    def open_gate(self) -> None:
        """Deliver what waits, up to the next gap."""
        self.gate = Gate.DURABLE_WAIT if self.unopened else Gate.OPEN
        self._release(lambda _body: True)

    def release_until(self, ts: int, offset: int) -> None:
        """Deliver the held events that a snapshot contains; the others go on waiting."""
        self.gate = Gate.OPEN
        self._release(lambda body: body.get("offset", offset) <= offset and body["ts"] <= ts)
        self.gate = Gate.ALL_WAIT

    def release_unrecovered(self, is_meant: Callable[[Body], bool]) -> None:
        """Deliver the held events that are meant; what is missing before them is lost, as its journal is gone."""
        works, gate = self.query_works, self.gate
        self.query_works, self.gate = False, Gate.OPEN
        self._release(is_meant)
        self.query_works, self.gate = works, gate

    def _release(self, is_meant: Callable[[Body], bool]) -> None:
        """Deliver the held events that are meant; one that closes the gate stays, and all behind it."""

        def is_done(frames: Frames, body: Body) -> bool:
            topic = self.subscriptions.topic(frames[0])
            return not topic.wanted or (is_meant(body) and self.accept(topic, frames, body))

        self.held.remove(is_done)

    def drop_held(self, is_kept: Callable[[Body], bool]) -> None:
        """Drop the held events that are not kept: those that only the next snapshot, or the journal, can place."""
        self.counts["before_join"] += self.held.remove(lambda _frames, body: not is_kept(body))

    def close_for(self, gate: Gate) -> None:
        """Make at least those events wait that ``gate`` holds back."""
        self.gate = max(self.gate, gate)

    def enter_epoch(self, epoch: int) -> None:
        """Go over to another run of the daemon; each but the first one met is a restart, and its numbers begin at 1."""
        if self.epoch:
            self.subscriptions.begin_run(epoch)
            self.counts["restarts"] += 1
            text = "the daemon restarted; events that are not stored may be lost at the end of its previous run"
            self.report(RESTARTED, text)
        self.epoch = epoch

    # ---- the journal ----

    def name_log(self, log: str | None) -> None:
        """Record the journal that the offsets count in; None: there is none, so nothing is confirmed."""
        self.log, self.confirmed = log, None if log is None else self.confirmed

    def set_log(self, log: str | None, *, needed: bool) -> None:
        """Set the log that a heartbeat names; ``needed``: it will be asked as soon as it can be."""
        self._has_log, self.unopened = bool(log), log == UNOPENED and (needed or self.base_epoch > 0)
        if self.unopened:
            self.close_for(Gate.DURABLE_WAIT)

    def set_opened(self) -> None:
        """Record that the daemon answered out of its journal, whatever its last heartbeat said."""
        self._has_log, self.unopened = True, False

    def set_query(self, *, works: bool) -> None:
        """Set whether the query endpoint answers; without it nothing waits for an unopened journal."""
        self.query_works, self.unopened = works, self.unopened and works

    def highest_offset(self, epoch: int) -> int:
        """Return the highest offset received of the runs before ``epoch``; runs from before a lost end do not count."""
        first, topics = self._lost_end_epoch, self.subscriptions.topics.values()
        delivered = (topic.offset for topic in topics if first <= topic.epoch < epoch)
        held = (body.get("offset", 0) for _, body in self.held if first <= body["epoch"] < epoch)
        return max(chain(delivered, held), default=0)

    def record_asked(self) -> None:
        """Record which events wait without an offset: a gap before one of these is asked for only this once."""
        self._asked_for = {(frames[0], body["seq"]) for frames, body in self.held if body.get("offset") is None}

    def switch_log(self, log: str | None, offset: int, text: str) -> None:
        """Go on after ``offset`` of a journal that is not the one known so far."""
        self.report(NOT_WHOLE, text)
        self.subscriptions.forget_offsets()
        self.log, self.confirmed, self.lost_end = log, None, None
        self.confirm(offset)

    def follow_lost_end(self, offset: int, text: str) -> None:
        """Go on in a journal that lost all behind ``offset``; if it may have more up to there, that comes first."""
        self._lost_end_epoch = self.epoch
        if not self.has_journal or self.confirmed is None or self.confirmed >= offset:
            self.release_unrecovered(lambda body: body["epoch"] < self.epoch)
            self.switch_log(self.log, offset, text)
            return
        self.report(NOT_WHOLE, text)
        self.subscriptions.limit_offsets(offset)
        self.lost_end = LostEnd(offset, self.epoch)
        self.out.append(Checkpoint(self.log, self.confirmed, offset))

    def _pass_lost_end(self, lost_end: LostEnd) -> None:
        """Deliver the held events that the journal lost: those of runs before the one that uses offsets again."""
        self.lost_end = None
        self.release_unrecovered(lambda body: body["epoch"] < lost_end.epoch)
        self.out.append(Checkpoint(self.log, self.confirmed or 0, lost_end.offset))

    def handle_replayed(self, page: Reply) -> None:
        """Deliver one page out of the journal; report as lost the events that are too late, after later ones.

        A page may have events of a run that no heartbeat has named yet. If such an event uses an offset again, the
        journal lost its end: this raises QueryError, so that the journal is asked again after that heartbeat.
        """
        highest = self.highest_offset(self.epoch + 1)
        for frames in page.pairs():
            body = stored_body(*frames)
            epoch, seq, offset = body["epoch"], body["seq"], body["offset"]
            topic = self.subscriptions.topic(frames[0])
            if epoch > self.epoch and offset <= highest:
                raise QueryError("restarted", "the daemon was restarted with a journal that had lost its end")
            if self.lost_end is not None and epoch >= self.lost_end.epoch:
                self._pass_lost_end(self.lost_end)
            if not topic.wanted:
                continue
            if topic.is_repeat(epoch, seq, offset, self.epoch):
                self._late[topic] += topic.has_passed(offset, epoch, seq)
                continue
            if epoch >= topic.epoch and (topic.epoch != NEVER or epoch == self.epoch):
                missing = seq - self.subscriptions.last_seq(topic, epoch, seq) - 1
                if missing > 0:
                    self.report_lost(topic, missing, "the journal does not have them")
            self.deliver(topic, frames, body, HEALED)
        for topic, count in (+self._late).items():
            self.report_lost(topic, count, "the journal was asked too late, when later ones had been handed over")
        self._late.clear()

    def restore_ahead(self, ahead: Mapping[str, int]) -> None:
        """Restore the part of a position that is beyond its confirmed offset."""
        for name, offset in ahead.items():
            topic = self.subscriptions.topic(f"{name}{self.subscriptions.suffix}".encode())
            topic.offset = max(topic.offset, offset)

    def confirm_first(self, last: int, stored: int | None) -> None:
        """Confirm by the first heartbeat that names the log; the journal is asked for what is behind.

        ``last`` is that heartbeat's offset, ``stored`` how many events this run of the daemon stored. Usually ``last``
        is confirmed. A snapshot from before the journal was opened came before all stored ones: none is confirmed.
        """
        base_epoch, self.base_epoch = self.base_epoch, 0
        if base_epoch and stored is not None:
            if base_epoch != self.epoch:
                text = "the daemon restarted before it had named its journal: what it had stored cannot be asked for"
                self.report(NOT_WHOLE, text)
            last = max(0, last - stored)
        self._confirm_named(last)

    def _confirm_named(self, offset: int) -> None:
        """Confirm ``offset`` of a log that was not known; higher offsets of earlier runs must be of another log."""
        self.subscriptions.limit_offsets(offset, kept_epoch=self.epoch)
        self.confirm(offset)

    def confirm(self, offset: int) -> None:
        """Record that every durable event up to ``offset`` was delivered, or reported as lost."""
        if self.lost_end is not None and offset >= self.lost_end.offset:
            self._pass_lost_end(self.lost_end)
        if self.confirmed is None or offset > self.confirmed:
            self.confirmed = offset
            self.out.append(Checkpoint(self.log, offset))

    # ---- snapshots ----

    def finish_snapshot(self, log: str | None, offset: int) -> None:
        """Record that a whole snapshot was applied."""
        self.log, self.has_snapshot = log or None, True
        self.subscriptions.set_baseline(self.epoch)
        if log != UNOPENED:
            self._has_log = self._has_log or bool(log)  # the last heartbeat may have come before it was opened
            self._confirm_named(offset)
        elif self.confirmed is None and self._recovers:  # the first heartbeat that names the log confirms
            self.base_epoch, self.unopened = self.epoch, True

    def apply_snapshot(self, page: Reply, snapshot: Body, *, is_first: bool) -> None:
        """Apply one page of ``snapshot``: the last numbers of its topics, and their last values.

        A topic that runs already keeps its numbers (and needs no values) unless this ``is_first``.
        """
        epoch, offset = snapshot["epoch"], snapshot["offset"]
        running = set()
        for name, seq in page.head["seqs"].items():
            topic = self.subscriptions.topic(name.encode())
            if not topic.wanted or topic.is_heartbeat:
                continue
            if topic.epoch == epoch and not is_first:
                running.add(topic.wire)
                continue
            if topic.epoch != epoch and snapshot.get("log"):
                topic.offset = min(topic.offset, offset)  # as `_confirm_named` does
            topic.pass_to(epoch, seq)
            if topic.durable and seq:
                topic.offset = max(topic.offset, offset)
        for frames in page.pairs():
            topic = self.subscriptions.topic(frames[0])
            if topic.wanted and (not self.has_snapshot or topic.wire not in running):
                self.deliver(topic, frames, event_body(*frames), SNAPSHOT)
