"""What is handed over, what waits, and what is told as lost: the inner layer of a `Stream`; pure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping

from mt4pump.client.checks import event_body, stored_body
from mt4pump.client.events import HEALED, LIVE, SNAPSHOT, Event, Quote
from mt4pump.client.notices import GAP, LOST, NOT_WHOLE, Checkpoint, Notice
from mt4pump.client.recovery_steps import LastSeqs
from mt4pump.client.topic_state import NEVER, SubscriptionSet, TopicState
from mt4pump.wire import NEWS, Body

OPEN, DURABLE_WAIT, ALL_WAIT = 0, 1, 2
"""States of the gate. A topic passes when its rank is above: durable topics have rank 1, all others 2."""

QUOTES_LIMIT = 100_000
QUOTE_KEPT_BYTES = 4_096
"""Longest body of a quote that is remembered; they have some 150 bytes."""

Frames = tuple[bytes, bytes]
Item = Event | Notice | Checkpoint


class Ordering:
    """Hands events over in the order of their numbers.

    ``out`` is what the user gets, ``gate`` what has to wait in ``hold``. ``confirmed`` is the offset in ``log`` up to
    which everything was handed over or told as lost; None until there is one. While the daemon's journal is
    ``unopened``, durable events without an offset pass, and those with one wait.
    """

    can_heal: bool
    """Whether the journal can be asked for what is missing now, or will be able to be asked (`has_journal`)."""
    has_journal: bool

    def __init__(self, book: SubscriptionSet) -> None:
        self.book = book
        self.out: deque[Item] = deque()
        self.counts: Counter[str] = Counter()
        self.quotes: dict[str, Quote] = {}
        self.epoch = 0
        self.log: str | None = None
        self.confirmed: int | None = None
        self.gate = OPEN
        self.unopened = False
        self.hold: deque[tuple[Frames, Body]] = deque()
        self.held_bytes = 0
        self.tails: LastSeqs | None = None
        self._asked_for: set[tuple[bytes, int]] = set()
        self._overtaken: Counter[TopicState] = Counter()

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
            if track.durable and self._may_be_had(frames[0], seq, offset):
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

    def _may_be_had(self, topic: bytes, seq: int, offset: int | None) -> bool:
        """Return whether the journal was not asked yet for what is missing before this event."""
        if not self.can_heal:
            return False
        return (topic, seq) not in self._asked_for if offset is None else offset - 1 > (self.confirmed or 0)

    def _is_repeat(self, track: TopicState, epoch: int, seq: int, offset: int | None) -> bool:
        if epoch == track.epoch:
            # A number that starts again is a news topic that the daemon forgot: the offset tells it apart.
            starts_again = track.kind == NEWS.name and seq == 1 and offset is not None and offset > track.offset
            return seq <= track.seq and not starts_again
        if offset is None:
            return epoch < self.epoch
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
        if self.can_heal:
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

    def take_replayed(self, frames: Frames) -> bool:
        """Take one event out of the journal; return whether it was handed over."""
        body = stored_body(*frames)
        epoch, seq, offset = body["epoch"], body["seq"], body["offset"]
        track = self.book.track(frames[0])
        if not track.wanted:
            return False
        if offset <= track.offset if epoch != track.epoch else self._is_repeat(track, epoch, seq, offset):
            self._overtaken[track] += track.has_passed(offset, epoch, seq)
            return False
        if epoch >= track.epoch and (track.epoch != NEVER or epoch == self.epoch):
            missing = seq - self._last_seq(track, epoch, seq) - 1
            if missing > 0:
                self._lose(track, missing, "the journal does not have them")
        self.deliver(track, frames, body, HEALED)
        return True

    def tell_overtaken(self) -> None:
        """Tell as lost what came out of the journal too late: a later event of its topic had been handed over."""
        for track, count in (+self._overtaken).items():
            self._lose(track, count, "the journal was asked too late, when later ones had been handed over")
        self._overtaken.clear()

    def open_gate(self) -> None:
        """Let through what waits, up to the next gap."""
        self.gate = DURABLE_WAIT if self.unopened else OPEN
        self.let_through(lambda _body: True)

    def let_through(self, is_meant: Callable[[Body], bool]) -> None:
        """Hand over the held events that are meant; what closes the gate again stays, and what is behind it."""
        held, self.hold, self.held_bytes = self.hold, deque(), 0
        for frames, body in held:
            track = self.book.track(frames[0])
            if track.wanted and not (is_meant(body) and self.accept(track, frames, body)):
                self.put_on_hold(frames, body)

    def put_on_hold(self, frames: Frames, body: Body) -> None:
        """Have an event wait."""
        self.hold.append((frames, body))
        self.held_bytes += len(frames[1])

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
        if self.can_heal:
            self.gate = max(self.gate, DURABLE_WAIT)

    def start_log(self, log: str | None, offset: int, text: str) -> None:
        """Go on after ``offset`` of a journal that is not the one known so far."""
        self.out.append(Notice(NOT_WHOLE, text))
        self._drop_held_repeats()
        for track in self.book.tracks.values():
            track.offset, track.jumps = 0, ()
        self.log, self.confirmed = log, None
        self.confirm(offset)

    def _drop_held_repeats(self) -> None:
        """Drop the waiting events that were handed over already, while the offsets of the old journal still say so."""
        held, self.hold, self.held_bytes = self.hold, deque(), 0
        for frames, body in held:
            track, epoch = self.book.track(frames[0]), body["epoch"]
            if epoch <= track.epoch and self._is_repeat(track, epoch, body["seq"], body.get("offset")):
                self.counts["duplicates"] += 1
            else:
                self.put_on_hold(frames, body)

    def take_up(self, ahead: Mapping[str, int]) -> None:
        """Take up the part of a position that is beyond its confirmed offset."""
        for name, offset in ahead.items():
            track = self.book.track(f"{name}{self.book.suffix}".encode())
            track.offset = max(track.offset, offset)

    def confirm(self, offset: int) -> None:
        """Note that every durable event up to ``offset`` was handed over, or told as lost."""
        if self.confirmed is None or offset > self.confirmed:
            self.confirmed = offset
            self.out.append(Checkpoint(self.log, offset))

    def judge_tails(self) -> None:
        """Say what was lost at the end of topics that are silent since."""
        tails = self.tails
        if tails is None or not tails.is_ripe or (self.has_journal and (self.confirmed or 0) < tails.offset):
            return  # what the journal has must come first
        self.tails = None
        for wire, seq in tails.seqs.items():
            track = self.book.track(wire)
            missing = seq - self._last_seq(track, tails.epoch, seq + 1) if track.wanted and track.rank else 0
            if missing <= 0:
                continue
            self.counts["gaps"] += 1
            self._lose(track, missing, self._why_lost(track))
            track.epoch, track.seq = tails.epoch, seq
            if wire in tails.rows and not track.durable:
                frames = tails.rows[wire]
                self.deliver(track, frames, event_body(*frames), SNAPSHOT)
