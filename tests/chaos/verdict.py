"""Compares what a reader received with what was published; pure.

**Durable events** (the truth is the journal's replay): each one on a wanted topic, from where the reader began, was
received exactly once, byte for byte, in order per topic, live or from the journal; nothing else was received, and
nothing was reported as lost.

**Events that are not stored** (quotes, pings): between two that the reader got, the numbers that are missing are
exactly those reported as lost; and at the end of the run, up to the daemon's own last number. A reader cannot prove
two things, so they are counted apart and are no part of ``published``: what came while it was dead (``away``), and what
a daemon sent right before its end, as far as another reader got it (``unprovable``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from tests.chaos.record import DURABLE, HEALED, NOTICE, PASSING, RUN, SNAPSHOT, Block, Row

SAMPLES = 20
"""Faults of one reader that are described."""
PING = "session.ping"
UNKNOWN = -1
GAP, END, NO_NOTICE = "gap", "wrong end", "epoch without notice"
PASSING_FAULTS = {GAP, END, NO_NOTICE}


class Stored(NamedTuple):
    """An event of the journal."""

    topic: str
    epoch: int
    seq: int
    crc: int


@dataclass(frozen=True, slots=True)
class Truth:
    """The journal by offset, and at the end of the run: its last offset, the epoch, the last number of each topic."""

    journal: Mapping[int, Stored]
    offset: int
    epoch: int
    seqs: Mapping[str, int]


@dataclass(slots=True)
class Tally:
    """What is found of one reader. ``faults`` by name are what nobody can explain; ``samples`` describe some."""

    name: str
    from_start: bool = True
    runs: int = 0
    published: int = 0
    live: int = 0
    healed: int = 0
    snapshots: int = 0
    quotes_published: int = 0
    quotes: int = 0
    quotes_lost: int = 0
    away: int = 0
    unprovable: int = 0
    notices: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    samples: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        plain = {each.name: getattr(self, each.name) for each in fields(self)}
        return {**plain, "notices": dict(self.notices), "faults": dict(self.faults)}

    @property
    def unexplained(self) -> int:
        """Return how many events are missing, too many, wrong or out of order."""
        return sum(self.faults.values())

    @property
    def wrong_durable(self) -> int:
        """Return how many of the `unexplained` ones are durable."""
        return sum(count for fault, count in self.faults.items() if fault not in PASSING_FAULTS)

    def add_fault(self, fault: str, text: str, count: int = 1) -> None:
        """Count a fault."""
        self.faults[fault] += count
        if len(self.samples) < SAMPLES:
            self.samples.append(f"{fault}: {text}")


@dataclass(slots=True)
class Place:
    """Where a reader is in a topic that is not stored. ``lost`` was reported since ``last``, ``first`` is before."""

    first: int
    last: int
    lost: int = 0


class End(NamedTuple):
    """Where a reader was in a topic when its run, or the daemon's, ended."""

    epoch: int
    topic: str
    last: int
    by_own_death: bool


class ReaderCheck:
    """Checks the blocks of one reader in order."""

    def __init__(self, name: str, topics: Iterable[str], truth: Truth, *, from_start: bool) -> None:
        self.tally = Tally(name, from_start)
        self.ends: list[End] = []
        self.best: dict[tuple[int, str], int] = {}
        self.starts: dict[tuple[int, str], list[int]] = {}
        self._topics = list(topics)
        self._truth = truth
        self._base: int | None = 0 if from_start else None
        self._got: Counter[int] = Counter()
        self._last_offset: dict[str, int] = {}
        self._names: list[str] = []
        self._places: dict[str, Place] = {}
        self._shown: dict[str, int] = {}
        self._epoch = 0
        self._is_joined = self._begins_at_zero = self._has_snapshot = self._is_late = False
        self._handlers: dict[int, Callable[[Row], None]] = {
            RUN: self._run,
            DURABLE: self._durable,
            PASSING: self._passing,
            NOTICE: self._notice,
        }

    def handle(self, block: Block) -> None:
        """Check the next block."""
        if block.rows and block.rows[0][0] == RUN:
            self._names = []
        self._names += block.topics
        for row in block.rows:
            self._handlers[row[0]](row)
        if self._base is None and block.position is not None:
            # A position is first known before the first live event; later ones of this block are after it.
            firsts = [row[5] for row in block.rows if row[0] == DURABLE and row[4] != SNAPSHOT and row[5]]
            self._base = min([block.position["confirmed"], *(offset - 1 for offset in firsts)])

    def finish(self) -> Tally:
        """Return the tally, once all blocks were taken."""
        tally, truth = self.tally, self._truth
        wanted = {offset: event for offset, event in truth.journal.items() if self._wants(event.topic)}
        base = self._base if self._base is not None else truth.offset
        wanted = {offset: event for offset, event in wanted.items() if base < offset <= truth.offset}
        tally.published = len(wanted)
        for offset in wanted.keys() - self._got.keys():
            tally.add_fault("missing", f"offset {offset} {wanted[offset]}")
        for offset, count in self._got.items():
            if count > 1:
                tally.add_fault("twice", f"offset {offset} came {count} times", count - 1)
        self._check_end()
        self._close(by_own_death=True)
        return tally

    def _check_end(self) -> None:
        for topic, seq in self._truth.seqs.items():
            if not (topic.startswith("quote.") and self._wants(topic)):
                continue
            place = self._place(topic) if self._epoch == self._truth.epoch else None
            if place and place.first == UNKNOWN:
                continue
            found = place.last + place.lost if place else 0
            if seq not in {found, self._shown.get(topic)}:
                self.tally.add_fault(END, f"{topic}: accounted up to {found}, published up to {seq}", abs(seq - found))
            if place:
                place.last, place.lost = seq, 0

    def _wants(self, topic: str) -> bool:
        return topic != PING and any(fnmatchcase(topic, wanted) for wanted in self._topics)

    # ---- rows ----

    def _run(self, _row: Row) -> None:
        self._close(by_own_death=True)
        self.tally.runs += 1
        self._epoch = 0
        self._is_joined = self._begins_at_zero = self._has_snapshot = self._is_late = False

    def _durable(self, row: Row) -> None:
        _, number, epoch, seq, came, offset, crc = row
        tally, topic = self.tally, self._names[number]
        if came == SNAPSHOT:
            tally.snapshots += 1
            self._has_snapshot = True
            return
        if came == HEALED:
            tally.healed += 1
        else:
            tally.live += 1
        event = self._truth.journal.get(offset)
        if event is None or event.topic != topic or (event.epoch, event.seq, event.crc) != (epoch, seq, crc):
            tally.add_fault("not in the journal", f"{topic} epoch {epoch} seq {seq} offset {offset}: there is {event}")
            return
        if not self._wants(topic):
            tally.add_fault("unwanted", topic)
        self._got[offset] += 1
        if offset < self._last_offset.get(topic, 0):
            tally.add_fault("out of order", f"{topic} offset {offset} after {self._last_offset[topic]}")
        self._last_offset[topic] = offset

    def _passing(self, row: Row) -> None:
        _, number, epoch, seq, came = row
        topic = self._names[number]
        if epoch != self._epoch:
            if self._epoch:
                self.tally.add_fault(NO_NOTICE, f"{topic} {self._epoch} to {epoch}")
            self._epoch = epoch
        if came == SNAPSHOT:
            self._snapshot(topic, seq)
            return
        self._is_joined = True
        place = self._place(topic)
        if place.first == UNKNOWN:
            place.first = place.last = seq - 1 - place.lost
        if place.last + place.lost + 1 != seq:
            text = f"{topic} epoch {epoch}: {seq} after {place.last} with {place.lost} reported as lost"
            self.tally.add_fault(GAP, text, abs(seq - place.last - place.lost - 1))
        self.tally.quotes += 1
        place.last, place.lost = seq, 0

    def _snapshot(self, topic: str, seq: int) -> None:
        self.tally.snapshots += 1
        self._has_snapshot = True
        place = self._places.get(topic)
        if not self._is_joined or (place is None and (self._is_late or not self._begins_at_zero)):
            self._places[topic] = Place(seq, seq)
            self.starts.setdefault((self._epoch, topic), []).append(seq)
            return
        place = self._place(topic)
        if place.last + place.lost != seq:
            if self._is_late:  # the snapshot may be ahead of a topic that runs already
                self._shown[topic] = seq
                return
            text = f"{topic}: snapshot {seq} after {place.last} with {place.lost} reported as lost"
            self.tally.add_fault(GAP, text, abs(seq - place.last - place.lost))
        place.last, place.lost = seq, 0

    def _place(self, topic: str) -> Place:
        place = self._places.get(topic)
        if place is None:
            # Without a snapshot the first number in the first epoch is not known; a snapshot never shows pings.
            has_no_snapshot = topic == PING or (self._is_late and not self._has_snapshot)
            is_unknown = has_no_snapshot and not self._begins_at_zero
            first = UNKNOWN if is_unknown else 0
            place = self._places[topic] = Place(first, first)
        return place

    def _notice(self, row: Row) -> None:
        _, kind, topic, count, text = row
        self.tally.notices[kind] += 1
        if kind == "restarted":
            self._close(by_own_death=False)
            self._epoch, self._begins_at_zero = 0, self._is_joined
        elif kind == "lost" and (topic.startswith("quote.") or topic == PING):
            self.tally.quotes_lost += count
            self._place(topic).lost += count
        elif kind == "query_failed":
            self._is_late = self._is_late or not self._has_snapshot
        elif kind == "lost" and not self._is_late:  # else it may be from before the join; `missing` shows the others
            self.tally.add_fault("durable reported as lost", text, count)
        elif kind == "not_whole" and len(self.tally.samples) < SAMPLES:
            self.tally.samples.append(f"({kind}: {text})")

    def _close(self, *, by_own_death: bool) -> None:
        """Record where every topic is at the end of a run, the reader's or the daemon's."""
        for topic, place in self._places.items():
            if place.first == UNKNOWN:
                continue
            last = place.last + place.lost
            self.tally.quotes_published += last - place.first
            if topic != PING:
                self.ends.append(End(self._epoch, topic, last, by_own_death))
            key = (self._epoch, topic)
            self.best[key] = max(self.best.get(key, 0), last)
        self._places, self._shown = {}, {}


def tallies_of(checks: list[ReaderCheck]) -> list[Tally]:
    """Return the tallies, with what only all readers together know: what came while one of them was away."""
    tallies = [check.finish() for check in checks]
    best: dict[tuple[int, str], int] = {}
    for check in checks:
        for key, last in check.best.items():
            best[key] = max(best.get(key, 0), last)
    for check, tally in zip(checks, tallies, strict=True):
        for end in check.ends:
            starts = check.starts.get((end.epoch, end.topic), [])
            began_again = min((seq for seq in starts if seq >= end.last), default=None)
            until = best[end.epoch, end.topic]
            if end.by_own_death:
                tally.away += (began_again if began_again is not None else until) - end.last
            else:
                tally.unprovable += until - end.last
    return tallies


def quotes_seen(checks: Iterable[ReaderCheck]) -> int:
    """Return how many events that are not stored were published for certain: the highest numbers that anybody saw."""
    best: dict[Any, int] = {}
    for check in checks:
        for key, last in check.best.items():
            best[key] = max(best.get(key, 0), last)
    return sum(best.values())
