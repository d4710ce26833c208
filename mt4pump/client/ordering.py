"""Delivers events in the order of their numbers, holds those that must wait, and reports losses; pure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping

from mt4pump.client.checks import event_body, stored_body
from mt4pump.client.events import HEALED, LIVE, SNAPSHOT, Event, Quote
from mt4pump.client.held_events import Frames, HeldEvents
from mt4pump.client.notices import GAP, LOST, NOT_WHOLE, Checkpoint, Notice, StreamOptions
from mt4pump.client.position import Position
from mt4pump.client.query_connection import Reply
from mt4pump.client.topic_state import NEVER, LastSeqs, SubscriptionSet, TopicState
from mt4pump.errors import FrameError
from mt4pump.wire import NEWS, Body

OPEN, DURABLE_WAIT, ALL_WAIT = 0, 1, 2
"""States of the gate. A topic passes when its rank is above: durable topics have rank 1, all others 2."""

QUOTES_LIMIT = 100_000
QUOTE_KEPT_BYTES = 4_096
"""Longest body of a quote that is remembered; they have some 150 bytes."""

Item = Event | Notice | Checkpoint


UNOPENED = ""
"""Stands for the log while the daemon could not open its journal file: which log it is, is not known yet."""


class Ordering:
    """Delivers events in the order of their numbers.

    ``out`` is what the user gets, ``gate`` what has to wait in ``hold``. ``confirmed`` is the offset in ``log`` up to
    which everything was delivered or reported as lost; None until there is one. ``based``: a snapshot gave the last
    number of every topic. ``query_works``: the query endpoint was not given up. While the daemon's journal is
    ``unopened``, durable events without an offset pass, and those with one wait. ``base_epoch`` is the epoch of a
    snapshot that was made before the journal was opened, as long as ``confirmed`` is not known because of it, else 0.
    """

    def __init__(self, book: SubscriptionSet, options: StreamOptions, resume: Position | None) -> None:
        self.book = book
        self.out: deque[Item] = deque()
        self.counts: Counter[str] = Counter()
        self.quotes: dict[str, Quote] = {}
        self.epoch = 0
        self.log = resume.log if resume else None
        self.confirmed = resume.confirmed if resume else None
        self.gate = ALL_WAIT if options.query else OPEN
        self.based = False
        self.query_works = options.query
        self.unopened = False
        self.base_epoch = 0
        self.hold = HeldEvents(options.hold_limit)
        self.last_seqs: LastSeqs | None = None
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
        return self._recovers and self.based and self._has_log and self.confirmed is not None

    def handle(
        self,
        messages: Iterable[Frames],
        handle_other: Callable[[Frames, Body], None],
        record_malformed: Callable[[FrameError], None],
    ) -> None:
        """Deliver the messages that are next in their topic; every other one goes to ``handle_other``."""
        known, put, remember = self.book.tracks.get, self.out.append, self.remember_quote
        received = delivered = 0
        for frames in messages:
            received += 1
            try:
                body = event_body(*frames)
            except FrameError as error:
                record_malformed(error)
                continue
            track, epoch, seq = known(frames[0]), body["epoch"], body["seq"]
            if track is not None and track.epoch == epoch and track.seq + 1 == seq and self.gate < track.rank:
                track.seq = seq
                event = track.make(track, body, frames)
                if track.durable:
                    offset = body.get("offset")
                    if offset is not None:
                        track.offset = offset
                elif isinstance(event, Quote):
                    remember(track.key, event)
                put(event)
                delivered += 1
            else:
                handle_other(frames, body)
        self.counts["received"] += received
        self.counts["delivered"] += delivered

    def accept(self, track: TopicState, frames: Frames, body: Body) -> bool:
        """Hand an event over, or drop one that came before; return False for one that has to wait."""
        if self.gate >= track.rank and not self._needs_no_journal(body):
            return False
        epoch, seq = body["epoch"], body["seq"]
        offset = body.get("offset") if track.durable else None
        if self._is_repeat(track, epoch, seq, offset):
            self.counts["duplicates"] += 1
            return True
        missing = seq - self._last_seq(track, epoch, seq) - 1
        if missing > 0:
            self.counts["gaps"] += 1
            if track.durable and self._may_be_recovered(frames[0], seq, offset):
                text = f"{missing} events of {track.name} are missing before number {seq}: the journal is asked"
                self.out.append(Notice(GAP, text, topic=track.name, count=missing))
                self.gate = max(self.gate, DURABLE_WAIT)
                return False
            self._lose(track, missing, self._why_lost(track))
        if epoch > track.epoch and track.durable:
            track.note_jump(epoch, seq - missing, self.confirmed or 0)
        self.deliver(track, frames, body, LIVE)
        return True

    def _needs_no_journal(self, body: Body) -> bool:
        return self.unopened and self.gate == DURABLE_WAIT and "offset" not in body and not self.hold

    def _may_be_recovered(self, topic: bytes, seq: int, offset: int | None) -> bool:
        """Return whether the journal was not asked yet for what is missing before this event."""
        if not self.can_recover:
            return False
        return (topic, seq) not in self._asked_for if offset is None else offset - 1 > (self.confirmed or 0)

    def _is_repeat(self, track: TopicState, epoch: int, seq: int, offset: int | None) -> bool:
        if epoch == track.epoch:
            # A number that starts again is a news topic that the daemon forgot: the offset shows that it is new.
            starts_again = track.kind == NEWS.name and seq == 1 and offset is not None and offset > track.offset
            return seq <= track.seq and not starts_again
        if offset is None:
            return epoch < self.epoch or (epoch, seq) <= track.late
        return offset <= track.offset

    def _last_seq(self, track: TopicState, epoch: int, seq: int) -> int:
        """Return the number that came last, or would have: 0 at the start of an epoch that we know from its start.

        An event of an older life is late (it had no offset to be put in order by): what came before it is not known.
        """
        if track.epoch == epoch:
            return track.seq
        if epoch < track.epoch:
            return seq - 1
        return 0 if self.book.baseline else seq - 1

    def _why_lost(self, track: TopicState) -> str:
        if not track.durable:
            return "this kind is not stored"
        if self.can_recover:
            return "the journal does not have them"
        return "the journal cannot be asked"

    def _lose(self, track: TopicState, count: int, reason: str) -> None:
        self.counts["lost"] += count
        self.out.append(Notice(LOST, f"{count} events of {track.name} are lost: {reason}", track.name, count))

    def deliver(self, track: TopicState, frames: Frames, body: Body, came: int) -> None:
        """Hand one event over; of a snapshot the topic's place does not change."""
        event = track.make(track, body, frames, came)
        if came != SNAPSHOT:
            epoch, offset = body["epoch"], body.get("offset")
            if epoch >= track.epoch:
                track.epoch, track.seq = epoch, body["seq"]
            elif offset is None:
                track.late = epoch, body["seq"]
            if offset is not None:
                track.offset = offset
        if isinstance(event, Quote):
            self.remember_quote(track.key, event)
        self.counts["delivered"] += 1
        if came != LIVE:
            self.counts["snapshot" if came == SNAPSHOT else "healed"] += 1
        self.out.append(event)

    def remember_quote(self, symbol: str, quote: Quote) -> None:
        """Keep the last quote of ``symbol``; beyond the limit the symbol that was first met is forgotten."""
        quotes = self.quotes
        if len(quote.frames[1]) > QUOTE_KEPT_BYTES:
            return
        if symbol not in quotes and len(quotes) >= QUOTES_LIMIT:
            del quotes[next(iter(quotes))]
        quotes[symbol] = quote

    def handle_replayed(self, frames: Frames) -> bool:
        """Take one event out of the journal; return whether it was handed over."""
        body = stored_body(*frames)
        epoch, seq, offset = body["epoch"], body["seq"], body["offset"]
        track = self.book.track(frames[0])
        if not track.wanted:
            return False
        if offset <= track.offset if epoch != track.epoch else self._is_repeat(track, epoch, seq, offset):
            self._late[track] += track.has_passed(offset, epoch, seq)
            return False
        if epoch >= track.epoch and (track.epoch != NEVER or epoch == self.epoch):
            missing = seq - self._last_seq(track, epoch, seq) - 1
            if missing > 0:
                self._lose(track, missing, "the journal does not have them")
        self.deliver(track, frames, body, HEALED)
        return True

    def report_late(self) -> None:
        """Tell as lost what came out of the journal too late: a later event of its topic had been handed over."""
        for track, count in (+self._late).items():
            self._lose(track, count, "the journal was asked too late, when later ones had been handed over")
        self._late.clear()

    def open_gate(self) -> None:
        """Let through what waits, up to the next gap."""
        self.gate = DURABLE_WAIT if self.unopened else OPEN
        self.let_through(lambda _body: True)

    def let_through(self, is_meant: Callable[[Body], bool]) -> None:
        """Hand over the held events that are meant; what closes the gate again stays, and what is behind it."""
        for frames, body in self.hold.take_all():
            track = self.book.track(frames[0])
            if track.wanted and not (is_meant(body) and self.accept(track, frames, body)):
                self.hold.add(frames, body)

    def drop_held(self) -> None:
        """Drop every held event: the next snapshot is later, and the journal has what is stored."""
        self.counts["before_join"] += len(self.hold.take_all())

    def drop_unstored(self) -> None:
        """Drop the held events that are not stored: only the next snapshot could place them."""
        self.counts["before_join"] += self.hold.drop_unstored()

    def let_through_until(self, ts: int, offset: int) -> None:
        """Hand over the held events that a cut contains; the others wait on."""
        self.gate = OPEN
        self.let_through(lambda body: body.get("offset", offset) <= offset and body["ts"] <= ts)
        self.gate = ALL_WAIT

    def wait_for_all(self) -> None:
        """Let every event wait."""
        self.gate = ALL_WAIT

    def wait_for_durable(self) -> None:
        """Let durable events wait, unless it is not known whether what is asked will ever be answered."""
        if self.can_recover:
            self.gate = max(self.gate, DURABLE_WAIT)

    def close_for_durable(self) -> None:
        """Let durable events wait, whatever can be asked."""
        self.gate = max(self.gate, DURABLE_WAIT)

    def note_log(self, log: str | None, *, needed: bool) -> None:
        """Note what a heartbeat says of the journal; ``needed``: it will be asked as soon as it can be."""
        self._has_log, self.unopened = bool(log), log == UNOPENED and (needed or self.base_epoch > 0)
        if self.unopened:
            self.close_for_durable()

    def note_opened(self) -> None:
        """Note that the daemon answered out of its journal, whatever its last heartbeat said."""
        self._has_log, self.unopened = True, False

    def note_query(self, *, works: bool) -> None:
        """Note whether the query endpoint answers; what waits for an unopened journal waits no more without it."""
        self.query_works = works
        if not works:
            self.unopened = False

    def note_asked(self) -> None:
        """Note which events without an offset waited when the journal was asked: no offset says up to where it was."""
        self._asked_for = {(frames[0], body["seq"]) for frames, body in self.hold if body.get("offset") is None}

    def enter(self, epoch: int) -> None:
        """Go over to another run of the daemon."""
        self.epoch, self.last_seqs = epoch, None

    def choose_log(self, log: str | None) -> None:
        """Take ``log`` as the journal that the offsets are of."""
        self.log = log

    def forget_position(self, text: str) -> None:
        """Go on without a position."""
        self.out.append(Notice(NOT_WHOLE, text))
        self.confirmed = self.log = None

    def begin(self, log: str | None, offset: int) -> None:
        """Note that a snapshot gave the last number of every topic."""
        self.log, self.based = log or None, True
        self.book.set_baseline()
        if log != UNOPENED:
            self._has_log = self._has_log or bool(log)  # the last heartbeat may have come before it was opened
            self.confirm(offset)
        elif self.confirmed is None and self._recovers:  # the first heartbeat that names the log confirms
            self.base_epoch, self.unopened = self.epoch, True

    def start_log(self, log: str | None, offset: int, text: str) -> None:
        """Go on after ``offset`` of a journal that is not the one known so far."""
        self.out.append(Notice(NOT_WHOLE, text))
        self._drop_held_repeats()
        for track in self.book.tracks.values():
            track.offset, track.jumps = 0, ()
        self.log, self.confirmed = log, None
        self.confirm(offset)

    def _drop_held_repeats(self) -> None:
        """Drop the waiting events that were delivered already, while the offsets of the old journal still say so."""
        for frames, body in self.hold.take_all():
            track, epoch = self.book.track(frames[0]), body["epoch"]
            if epoch <= track.epoch and self._is_repeat(track, epoch, body["seq"], body.get("offset")):
                self.counts["duplicates"] += 1
            else:
                self.hold.add(frames, body)

    def take_up(self, ahead: Mapping[str, int]) -> None:
        """Take up the part of a position that is beyond its confirmed offset."""
        for name, offset in ahead.items():
            track = self.book.track(f"{name}{self.book.suffix}".encode())
            track.offset = max(track.offset, offset)

    def adopt(self, page: Reply, snapshot: Body, *, afresh: bool) -> None:
        """Take one page of ``snapshot``: the last numbers of its topics, and their last values.

        A topic that runs already keeps its place (and needs no values) unless all is begun ``afresh``.
        """
        epoch, offset = snapshot["epoch"], snapshot["offset"]
        running = set()
        for topic, seq in page.head["seqs"].items():
            track = self.book.track(topic.encode())
            if not track.wanted or not track.rank:
                continue
            if track.epoch == epoch and not afresh:
                running.add(track.wire)
                continue
            track.epoch, track.seq = epoch, seq
            if track.durable and seq:
                track.offset = max(track.offset, offset)
        for frames in page.pairs():
            track = self.book.track(frames[0])
            if track.wanted and (not self.based or track.wire not in running):
                self.deliver(track, frames, event_body(*frames), SNAPSHOT)

    def confirm_first(self, last: int, stored: int | None) -> None:
        """Confirm, by the first heartbeat that names the log, the offset from which on the journal must be asked.

        ``last`` is that heartbeat's offset, ``stored`` how many events this run of the daemon stored. A snapshot that
        was made before the journal was opened came before all of these.
        """
        base_epoch, self.base_epoch = self.base_epoch, 0
        if base_epoch and stored is not None:
            if base_epoch != self.epoch:
                text = "the daemon restarted before it had named its journal: what it had stored cannot be asked for"
                self.out.append(Notice(NOT_WHOLE, text))
            last = max(0, last - stored)
        self.confirm(last)

    def confirm(self, offset: int) -> None:
        """Note that every durable event up to ``offset`` was handed over, or told as lost."""
        if self.confirmed is None or offset > self.confirmed:
            self.confirmed = offset
            self.out.append(Checkpoint(self.log, offset))

    def expect(self, last: LastSeqs) -> None:
        """Keep the last numbers of a snapshot, to be compared after the next heartbeat."""
        if last.epoch == self.epoch:
            self.last_seqs = last

    def note_heartbeat(self, epoch: int, ts: int) -> None:
        """Note that everything that was published before ``ts`` was received, or lost."""
        last = self.last_seqs
        if last is not None and epoch == last.epoch and ts > last.ts:
            last.is_ripe = True

    def report_lost_ends(self) -> None:
        """Say what was lost at the end of topics that are silent since."""
        last = self.last_seqs
        if last is None or not last.is_ripe or (self.has_journal and (self.confirmed or 0) < last.offset):
            return  # what the journal has must come first
        self.last_seqs = None
        for wire, seq in last.seqs.items():
            track = self.book.track(wire)
            missing = seq - self._last_seq(track, last.epoch, seq + 1) if track.wanted and track.rank else 0
            if missing <= 0:
                continue
            self.counts["gaps"] += 1
            self._lose(track, missing, self._why_lost(track))
            track.epoch, track.seq = last.epoch, seq
            if wire in last.rows and not track.durable:
                frames = last.rows[wire]
                self.deliver(track, frames, event_body(*frames), SNAPSHOT)
