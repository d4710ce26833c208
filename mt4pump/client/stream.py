"""What to hand over, what is missing, what to ask: the pure core of a subscriber. No socket, no clock, no thread.

Messages, replies and times go in; ``out`` (events, notices, `Confirm`) and ``ask`` come out. Three rules give each
durable event exactly once and in order:

- Within a topic, events are handed over in order of their numbers, or not at all: one that came late is dropped by its
  number alone, so nothing needs to be remembered about single events.
- At a gap, and whenever something may be missing (a new epoch, a new connection), the *gate* closes: durable events
  wait in ``hold`` until the journal was asked for everything after ``confirmed``. What the journal has not is ``lost``.
- ``confirmed`` moves to a heartbeat's offset when that heartbeat proves that all before it came (see `Watch`), or when
  the journal was asked. So a lost tail, after which no event comes, is found as well.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass

import msgpack

from mt4pump.client import jobs
from mt4pump.client.asking import FOR_GOOD, Ask, QueryError, Reply
from mt4pump.client.events import HEALED, LIVE, SNAPSHOT, Event, Quote
from mt4pump.client.notices import (
    CONNECTED,
    DISCONNECTED,
    GAP,
    LOST,
    NOT_WHOLE,
    QUERY_FAILED,
    RESTARTED,
    Confirm,
    Notice,
)
from mt4pump.client.position import Position
from mt4pump.client.topics import NEVER, TopicBook, Track
from mt4pump.client.watch import Watch
from mt4pump.wire import HEARTBEAT, Body

OPEN, DURABLE_WAIT, ALL_WAIT = 0, 1, 2
"""States of the gate. A topic passes when its rank is above: durable topics have rank 1, all others 2."""
RETRY_S, RETRY_LIMIT_S = 0.5, 30.0
BEAT = HEARTBEAT.name.encode()

Frames = tuple[bytes, bytes]
Item = Event | Notice | Confirm
Job = Generator[Ask, Reply, None]


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How a stream behaves; see `Subscriber`. ``query``: there is an endpoint to ask."""

    query: bool = True
    snapshot: bool = True
    heal: bool = True
    heal_timeout_s: float = 30.0
    hold_limit: int = 100_000


class Stream:
    """See the module. ``number`` counts requests: a reply to an older one is ignored."""

    def __init__(self, book: TopicBook, watch: Watch, options: StreamOptions, resume: Position | None = None) -> None:
        self.book = book
        self.watch = watch
        self.options = options
        self.resume = resume
        self.out: deque[Item] = deque()
        self.counts: Counter[str] = Counter()
        self.quotes: dict[str, Quote] = {}
        self.ask: Ask | None = None
        self.number = 0
        self.backlog = (0, 0.0)  # items before the user, and how old the first is; for the watch
        self.epoch = 0
        self.log: str | None = resume.log if resume else None
        self.confirmed: int | None = resume.confirmed if resume else None
        self.gate = ALL_WAIT if options.query else OPEN
        self.hold: deque[tuple[Frames, Body]] = deque()
        self.discard = options.query  # until the join begins nothing is needed: the cut comes later
        self.joined = not options.query  # events flow
        self.based = False  # a cut told where every topic stands
        self.added: list[str] = []
        self.tails: jobs.Tails | None = None
        self.resubscribe = True
        self.describe_again = False
        self._asked_for: set[tuple[bytes, int]] = set()
        self._journal = False
        self._query_works = options.query
        self._failing = False
        self._suspect = False
        self._heard = False
        self._unstored = (0, 0)
        self._unstored_wanted = False
        self._tails_wanted = False
        self._proven_from = self._proven_to = 0
        self._job: Job | None = None
        self._opens_gate = False
        self._retry_at_s = 0.0
        self._retry_s = RETRY_S
        self._progress_at_s: float | None = None
        self._connections = 0
        self._now_s = 0.0
        self._now_ns = 0

    # ---- what goes in ----

    def take(self, messages: Iterable[Frames], now_s: float, now_ns: int) -> None:
        """Take messages in the order in which they came. Times: monotonic seconds, ns since 1970."""
        self._now_s, self._now_ns = now_s, now_ns
        known, unpack, put, quotes = self.book.tracks.get, msgpack.unpackb, self.out.append, self.quotes
        received = delivered = 0
        for frames in messages:
            received += 1
            try:
                body = unpack(frames[1])
                epoch, seq = body["epoch"], body["seq"]
            except (ValueError, TypeError, LookupError, msgpack.UnpackException):
                self.counts["decode_errors"] += 1
                continue
            track = known(frames[0])
            if track is not None and track.epoch == epoch and track.seq + 1 == seq and self.gate < track.rank:
                track.seq = seq
                event = track.make(track, body, frames)
                if track.durable:
                    offset = body.get("offset")
                    if offset is not None:
                        track.offset = offset
                elif event.__class__ is Quote:
                    quotes[track.key] = event
                put(event)
                delivered += 1
            else:
                self._take_odd(frames, body)
        self.counts["received"] += received
        self.counts["delivered"] += delivered

    def connected(self, now_s: float) -> None:
        """Note that a connection was made: what was sent before it may be lost."""
        self._now_s = now_s
        self._connections += 1
        self.counts["reconnects"] = self._connections - 1
        self.out.append(Notice(CONNECTED, "connected to the daemon"))
        self.doubt()

    def disconnected(self) -> None:
        """Note that the connection broke."""
        self.out.append(Notice(DISCONNECTED, "the connection to the daemon broke; it is made anew"))
        self.doubt()

    def refused(self) -> None:
        """Note that the daemon did not let us in."""
        self.counts["refused"] += 1
        text = "the daemon refused the connection: are the keys right, and known to it?"
        self.out.append(Notice(DISCONNECTED, text, code="refused"))

    def doubt(self) -> None:
        """Note that something may be missing from here on: durable events wait for the next look into the journal."""
        self.watch.doubt()
        if self.can_heal:
            self._suspect = True
            self.gate = max(self.gate, DURABLE_WAIT)

    def reply(self, number: int, reply: Reply, now_s: float) -> None:
        """Take the answer to request ``number``."""
        if number != self.number or self._job is None:
            return
        self._now_s = self._progress_at_s = now_s
        self._failing, self._query_works, self._retry_s = False, True, RETRY_S
        self.ask = None
        try:
            self._ask(self._job.send(reply))
        except StopIteration:
            self._finish()
        except QueryError as error:
            self._fail(error.code, str(error))
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            self._fail("bad_reply", f"a reply of the daemon makes no sense: {error!r}")

    def failed(self, number: int, code: str, text: str, now_s: float) -> None:
        """Note that request ``number`` was refused, or not answered."""
        if number == self.number and self._job is not None:
            self._now_s = now_s
            self._fail(code, text)

    def drained(self, now_s: float) -> None:
        """Note that at this moment nothing waited to be read."""
        self.watch.drained()
        self.out.extend(self.watch.idle(now_s))

    def tick(self, now_s: float) -> None:
        """Go on with what waits for time to pass."""
        self._now_s = now_s
        if self._progress_at_s is None:
            self._progress_at_s = now_s
        if self._job is not None or not self._is_waiting:
            return
        if now_s - self._progress_at_s > self.options.heal_timeout_s:
            self._give_up()
        elif self._heard:
            self._plan()

    def add_topics(self, names: Iterable[str]) -> None:
        """Want more; their last values come first, if values were asked for at all."""
        new = self.book.add(names)
        if not new:
            return
        self.resubscribe = True
        self.watch.doubt()
        if self.based or self._job is not None:
            self.added += new
            self.gate = ALL_WAIT
            self._waits()
        else:
            self.book.baseline = False

    def remove_topics(self, names: Iterable[str]) -> None:
        """Want less."""
        gone = self.book.remove(names)
        self.added = [name for name in self.added if name not in gone]
        self.resubscribe = self.resubscribe or bool(gone)

    # ---- what it knows ----

    @property
    def is_full(self) -> bool:
        """Return whether no more messages should be read: so many wait for the journal."""
        return len(self.hold) >= self.options.hold_limit

    @property
    def can_heal(self) -> bool:
        """Return whether the journal can be asked for what is missing."""
        return self._query_works and self._has_journal

    @property
    def _has_journal(self) -> bool:
        return self.options.heal and self.based and self._journal and self.confirmed is not None

    @property
    def _is_waiting(self) -> bool:
        return bool(self.hold) or self.gate == ALL_WAIT or not self.joined

    # ---- messages off the fast path ----

    def _take_odd(self, frames: Frames, body: Body) -> None:
        epoch, seq, topic = body["epoch"], body["seq"], frames[0]
        if not (isinstance(epoch, int) and isinstance(seq, int) and isinstance(body.get("ts"), int)):
            self.counts["decode_errors"] += 1
            return
        if topic.startswith(BEAT) and len(topic) <= len(BEAT) + 1:
            self._take_beat(frames, body)
            return
        track = self.book.track(topic)
        if not track.wanted:
            self.counts["unwanted"] += 1
            return
        if epoch > self.epoch:
            self._enter(epoch)
        if self.discard:
            self.counts["before_join"] += 1
        elif not self._accept(track, frames, body):
            self.hold.append((frames, body))
            self.counts["held"] += 1
            self._waits()
            self._plan()

    def _accept(self, track: Track, frames: Frames, body: Body) -> bool:
        """Hand an event over, or drop one that came before; return False for one that has to wait."""
        if self.gate >= track.rank:
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
        self.deliver(track, frames, body, LIVE)
        return True

    def _may_be_had(self, topic: bytes, seq: int, offset: int | None) -> bool:
        """Return whether the journal was not asked yet for what is missing before this event."""
        if not self.can_heal:
            return False
        return (topic, seq) not in self._asked_for if offset is None else offset - 1 > (self.confirmed or 0)

    def _is_repeat(self, track: Track, epoch: int, seq: int, offset: int | None) -> bool:
        if epoch == track.epoch:
            # A number that starts again is a topic that the daemon forgot (old news): the offset tells it apart.
            return seq <= track.seq and (offset is None or seq > 1 or offset <= track.offset)
        if offset is None:
            return epoch < self.epoch
        return offset <= track.offset

    def _last_seq(self, track: Track, epoch: int, seq: int) -> int:
        """Return the number that came last, or would have: 0 at the start of an epoch that we know from its start."""
        if track.epoch == epoch:
            return track.seq
        return 0 if self.book.baseline else seq - 1

    def _why_lost(self, track: Track) -> str:
        if not track.durable:
            return "this kind is not stored"
        if self.can_heal:
            return "the journal does not have them"
        return "the journal cannot be asked"

    def _lose(self, track: Track, count: int, reason: str) -> None:
        self.counts["lost"] += count
        self.out.append(Notice(LOST, f"{count} events of {track.name} are lost: {reason}", track.name, count))

    def deliver(self, track: Track, frames: Frames, body: Body, came: int) -> None:
        """Hand one event over; of a snapshot the topic's place does not change."""
        event = track.make(track, body, frames, came)
        if came != SNAPSHOT:
            epoch, offset = body["epoch"], body.get("offset")
            if epoch >= track.epoch:
                track.epoch, track.seq = epoch, body["seq"]
            if offset is not None:
                track.offset = offset
        if isinstance(event, Quote):
            self.quotes[track.key] = event
        self.counts["delivered"] += 1
        if came != LIVE:
            self.counts["snapshot" if came == SNAPSHOT else "healed"] += 1
        self.out.append(event)

    def take_replayed(self, frames: Frames) -> bool:
        """Take one event out of the journal; return whether it was handed over."""
        body = msgpack.unpackb(frames[1])
        epoch, seq, offset = body["epoch"], body["seq"], body["offset"]
        track = self.book.track(frames[0])
        if not track.wanted:
            return False
        if offset <= track.offset if epoch != track.epoch else self._is_repeat(track, epoch, seq, offset):
            return False
        if epoch >= track.epoch and (track.epoch != NEVER or epoch == self.epoch):
            missing = seq - self._last_seq(track, epoch, seq) - 1
            if missing > 0:
                self._lose(track, missing, "the journal does not have them")
        self.deliver(track, frames, body, HEALED)
        return True

    # ---- heartbeats ----

    def _take_beat(self, frames: Frames, body: Body) -> None:
        suffix = frames[0][len(BEAT) :].decode("utf-8", "replace")
        if suffix != self.book.suffix:
            self.book.learn(suffix)
            self.resubscribe = True
        if body["epoch"] != self.epoch:
            self._enter(body["epoch"])
        clean = self.watch.take(body, self._now_s, self._now_ns)
        self.out.extend(self.watch.changes(self._now_ns, *self.backlog))
        if self._compare_log(body.get("log"), body.get("offset") or 0):
            clean = False
        self._note_tails(body)
        track = self.book.track(frames[0])
        if track.wanted:
            self.out.append(track.make(track, body, frames))
            self.counts["delivered"] += 1
        self._heard = True
        self._proven_to = body.get("offset") or 0
        if not clean:
            self._proven_from = self._proven_to
            self._tails_wanted = True
        if not self.options.query and self.confirmed is None:
            self.confirm(self._proven_to)
        if self._job is None:
            self._suspect = False
        self._plan()

    def _enter(self, epoch: int) -> None:
        """Go over to another life of the daemon."""
        before, self.epoch = self.epoch, epoch
        if not before:
            return
        self.counts["restarts"] += 1
        text = "the daemon was started anew; whether the old one sent more of what is not stored cannot be known"
        self.out.append(Notice(RESTARTED, text))
        self.tails = None
        self.describe_again = True
        self.doubt()
        if self.joined:
            self.book.baseline = True  # every topic of the new epoch starts from 1
        else:
            self._job, self.ask = None, None  # what was asked was of the old epoch

    def _compare_log(self, log: str | None, offset: int) -> bool:
        """Return whether the heartbeat shows another journal than the one known so far."""
        self._journal = log is not None
        if log is None or not self.joined:
            return False
        if self.log is None:
            self.log = log
            return False
        if log != self.log:
            self.start_log(log, 0, "the daemon has another journal now: what the old one had more cannot be asked for")
        elif self.confirmed is not None and offset < self.confirmed:
            text = f"the journal ends at {offset}, we were at {self.confirmed}: it lost its end, and uses offsets again"
            self.start_log(log, offset, text)
        else:
            return False
        return True

    def start_log(self, log: str | None, offset: int, text: str) -> None:
        """Go on after ``offset`` of a journal that is not the one known so far."""
        self.out.append(Notice(NOT_WHOLE, text))
        for track in self.book.tracks.values():
            track.offset = 0
        self.log, self.confirmed = log, None
        self.confirm(offset)

    def _note_tails(self, body: Body) -> None:
        """Note what a heartbeat says about events that only their numbers can prove."""
        tails = self.tails
        if tails is not None and body["epoch"] == tails.epoch and body["ts"] > tails.ts:
            tails.is_ripe = True
        journal = body.get("journal")
        unstored = (self.epoch, journal.get("unstored", 0) if isinstance(journal, dict) else 0)
        if unstored != self._unstored or not body.get("durable"):
            self._unstored_wanted = True
        self._unstored = unstored

    def _judge_tails(self) -> None:
        """Say what was lost at the end of topics that are silent since."""
        tails = self.tails
        if tails is None or not tails.is_ripe or (self._has_journal and (self.confirmed or 0) < tails.offset):
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
                self.deliver(track, frames, msgpack.unpackb(frames[1]), SNAPSHOT)

    # ---- requests ----

    def _plan(self) -> None:
        """Start what has to be asked now, or note what is proven."""
        if self._job is not None:
            return
        job = self._next_job()
        if job is None:
            self._settle()
        elif self._heard and self._now_s >= self._retry_at_s:
            self._start(job)

    def _next_job(self) -> Job | None:
        if self.options.query and not self.based:
            return jobs.join(self)
        if self.added and self.options.query:
            return jobs.extend(self, self.added.copy())
        if self.hold and self.can_heal:
            return jobs.replay(self, self._last_held())
        if self._has_journal and (self.confirmed or 0) < self._proven_from:
            return jobs.replay(self, self._proven_from)
        if self.options.query and not self._query_works:
            return jobs.probe(self)
        return None

    def _settle(self) -> None:
        """Nothing is missing that could be had: let events through, confirm, look for lost quotes."""
        if self.hold or (self.gate and not self._suspect):
            self.open_gate()
            if self.hold:
                return
        if self.gate == OPEN and self.confirmed is not None and self._proven_from <= self.confirmed:
            self.confirm(self._proven_to)
        self._judge_tails()
        if self._tails_wanted and self.based and self._now_s >= self._retry_at_s:
            self._tails_wanted = False
            prefixes = self.book.prefixes() if self._unstored_wanted else self.book.passing_prefixes()
            self._unstored_wanted = False
            if prefixes:
                self._start(jobs.look_for_tails(self, prefixes), opens_gate=False)

    def _last_held(self) -> int | None:
        """Return up to where the journal is to be asked; None (to its end) when an event has no offset to say so."""
        offset: int | None = self.hold[-1][1].get("offset")
        return offset

    def _start(self, job: Job, *, opens_gate: bool = True) -> None:
        self._suspect = False
        self._opens_gate = opens_gate
        # Events without an offset cannot be compared with where the journal was asked up to: these were there before.
        self._asked_for = {(frames[0], body["seq"]) for frames, body in self.hold if body.get("offset") is None}
        self._job = job
        self._waits()
        try:
            self._ask(next(job))
        except StopIteration:
            self._finish()

    def _ask(self, ask: Ask) -> None:
        self.number += 1
        self.counts["queries"] += 1
        self.ask = ask

    def _waits(self) -> None:
        """Note when the waiting began, unless it goes on."""
        if self._progress_at_s is None or not self._failing:
            self._progress_at_s = self._now_s

    def _finish(self) -> None:
        self._job = self.ask = None
        if self._opens_gate and not self._suspect:
            self.open_gate()
        self._plan()

    def _fail(self, code: str, text: str) -> None:
        self._job = self.ask = None
        self.counts["query_failures"] += 1
        if not self._failing:
            self._failing = True
            self.out.append(Notice(QUERY_FAILED, f"the query endpoint gave no answer: {text}", code=code))
        self._retry_at_s = self._now_s + self._retry_s
        self._retry_s = min(self._retry_s * 2, RETRY_LIMIT_S)
        waited_s = self._now_s - (self._progress_at_s or 0.0)
        # A plain start goes live without its snapshot when nobody answers; a resumed one waits, to keep the order.
        plain_start = not self.joined and self.resume is None and code == "timeout"
        if code in FOR_GOOD or plain_start or waited_s > self.options.heal_timeout_s:
            self._give_up()

    def _give_up(self) -> None:
        """Go on without what was asked for; the losses are told as the events are let through."""
        if not self._failing:
            self._failing = True
            text = "no heartbeat came to start from: going on without last values and without the journal"
            self.out.append(Notice(QUERY_FAILED, text, code="no_heartbeat"))
        self._query_works = False
        self._retry_at_s = max(self._retry_at_s, self._now_s + self._retry_s)
        if not self.joined and self.resume is not None:
            text = f"the position could not be resumed: events after {self.confirmed} come late, or not at all"
            self.out.append(Notice(NOT_WHOLE, text))
        if self.added or not self.based:
            self.book.baseline = False
        self.joined, self.discard = True, False
        self.open_gate()

    # ---- what jobs do ----

    def wait_for_all(self) -> None:
        """Let every event wait."""
        self.gate = ALL_WAIT

    def wait_for_durable(self) -> None:
        """Let durable events wait, unless it is not known whether what is asked will ever be answered."""
        if self.can_heal:
            self.gate = max(self.gate, DURABLE_WAIT)

    def describe(self, head: Body) -> None:
        """Take over what the daemon says of itself."""
        self.describe_again = False
        self.book.learn_kinds(head["kinds"])

    def take_up(self, ahead: Mapping[str, int]) -> None:
        """Take up the part of a position that is beyond its confirmed offset."""
        for name, offset in ahead.items():
            track = self.book.track(f"{name}{self.book.suffix}".encode())
            track.offset = max(track.offset, offset)

    def forget_position(self, text: str) -> None:
        """Go on without a position."""
        self.out.append(Notice(NOT_WHOLE, text))
        self.resume = self.confirmed = self.log = None

    def begin(self, log: str | None, offset: int) -> None:
        """Note that a cut told where every topic stands."""
        self.log, self.joined, self.based, self.book.baseline = log, True, True, True
        self.confirm(offset)

    def expect(self, tails: jobs.Tails) -> None:
        """Keep the last numbers of a cut, to be judged after the next heartbeat."""
        if tails.epoch == self.epoch:
            self.tails = tails

    def let_through_until(self, ts: int, offset: int) -> None:
        """Hand over the held events that a cut contains; the others wait on."""
        self.gate = OPEN
        self.let_through(lambda body: body.get("offset", offset) <= offset and body["ts"] <= ts)
        self.gate = ALL_WAIT

    def open_gate(self) -> None:
        """Let through what waits, up to the next gap."""
        self.gate = OPEN
        self.let_through(lambda _body: True)

    def let_through(self, is_meant: Callable[[Body], bool]) -> None:
        """Hand over the held events that are meant; what closes the gate again stays, and what is behind it."""
        held, self.hold = self.hold, deque()
        for frames, body in held:
            track = self.book.track(frames[0])
            if track.wanted and not (is_meant(body) and self._accept(track, frames, body)):
                self.hold.append((frames, body))

    def confirm(self, offset: int) -> None:
        """Note that every durable event up to ``offset`` was handed over, or told as lost."""
        if self.confirmed is None or offset > self.confirmed:
            self.confirmed = offset
            self.out.append(Confirm(self.log, offset))
