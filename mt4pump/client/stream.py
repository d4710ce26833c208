"""What to hand over, what is missing, what to ask: the pure core of a subscriber. No socket, no clock, no thread.

Messages, replies and times go in; ``out`` (events, notices, `Checkpoint`) and ``ask`` come out. Three rules give each
durable event exactly once and in order:

- Within a topic, events are handed over in order of their numbers, or not at all: one that came late is dropped by its
  number alone, so nothing needs to be remembered about single events.
- At a gap, and whenever something may be missing (a new epoch, a new connection), the *gate* closes: durable events
  wait in ``hold`` until the journal was asked for everything after ``confirmed``. What the journal has not is ``lost``.
- ``confirmed`` moves to a heartbeat's offset when that proves that all before it came (see `HeartbeatMonitor`), or when
  the journal was asked. So a lost tail, after which no event comes, is found as well.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from mt4pump.client.checks import check_heartbeat, event_body, is_count
from mt4pump.client.events import Quote
from mt4pump.client.liveness import HeartbeatMonitor
from mt4pump.client.notices import CONNECTED, DISCONNECTED, MALFORMED, NOT_WHOLE, RESTARTED, Notice, StreamOptions
from mt4pump.client.ordering import ALL_WAIT, DURABLE_WAIT, Frames
from mt4pump.client.position import Position
from mt4pump.client.recovery import UNOPENED, Recovery
from mt4pump.client.topic_state import SubscriptionSet
from mt4pump.errors import FrameError
from mt4pump.wire import HEARTBEAT, Body

BEAT = HEARTBEAT.name.encode()
HELD_BYTES_LIMIT = 128 * 2**20
"""Bytes of events that may wait for the journal; beyond it nothing is read until it answers."""
MALFORMED_INTERVAL_S = 60.0
"""Least time between two notices that messages make no sense."""


class Stream(Recovery):
    """See the module. ``resubscribe``: the wanted topics are not those subscribed to any more."""

    def __init__(
        self, book: SubscriptionSet, watch: HeartbeatMonitor, options: StreamOptions, resume: Position | None = None
    ) -> None:
        super().__init__(book, options, resume)
        self.watch = watch
        self.backlog = (0, 0)  # items before the user, and the first one's ts (0: none); for the watch
        self.resubscribe = True
        self._unstored = (0, 0)
        self._old_end = 0  # the last offset that the daemon before this one told of
        self._connections = 0
        self._now_ns = 0
        self._malformed_at_s = 0.0
        self._malformed_seen = 0
        self._malformed_text = ""

    def take(self, messages: Iterable[Frames], now_s: float, now_ns: int) -> None:
        """Take messages in the order in which they came. Times: monotonic seconds, ns since 1970."""
        self._now_s, self._now_ns = now_s, now_ns
        known, put, remember = self.book.tracks.get, self.out.append, self.remember_quote
        received = delivered = 0
        for frames in messages:
            received += 1
            try:
                body = event_body(*frames)
            except FrameError as error:
                self._note_malformed(error)
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
                self._take_odd(frames, body)
        self.counts["received"] += received
        self.counts["delivered"] += delivered
        self._report_malformed(now_s)

    def _note_malformed(self, error: FrameError) -> None:
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
        if self.can_heal or (self._journal_matters and not self.based):
            self._suspect = True
            self._held_at_doubt = self.hold[-1][1] if self.hold else None
            self.gate = max(self.gate, DURABLE_WAIT)
            self._retry_at_s = min(self._retry_at_s, self._now_s)  # so that they do not wait for another try as well

    def drained(self, now_s: float) -> None:
        """Note that at this moment nothing waited to be read."""
        self.watch.drained()
        self.out.extend(self.watch.idle(now_s))

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
        else:
            self.book.baseline = False

    def remove_topics(self, names: Iterable[str]) -> None:
        """Want less."""
        gone = self.book.remove(names)
        self.added = [name for name in self.added if name not in gone]
        self.resubscribe = self.resubscribe or bool(gone)

    @property
    def is_full(self) -> bool:
        """Return whether no more messages should be read: so many wait for the journal."""
        return len(self.hold) >= self.options.hold_limit or self.held_bytes >= HELD_BYTES_LIMIT

    def _fail(self, code: str, text: str) -> None:
        if code == "restarted" and self.is_full:  # or nothing more would be read, not even the new epoch's heartbeat
            if self.joined:
                self.open_gate()
            else:  # the next snapshot is later than all that waits, and the journal has what is stored
                self.counts["before_join"] += len(self.hold)
                self.hold.clear()
                self.held_bytes = 0
        super()._fail(code, text)

    def _take_odd(self, frames: Frames, body: Body) -> None:
        epoch, topic = body["epoch"], frames[0]
        if topic.startswith(BEAT) and len(topic) <= len(BEAT) + 1:
            try:
                check_heartbeat(body)
            except FrameError as error:
                self._note_malformed(error)
            else:
                self._take_beat(frames, body)
            return
        track = self.book.track(topic)
        if not track.wanted or not track.rank:  # no rank: it begins like a heartbeat, and would never pass the gate
            self.counts["unwanted"] += 1
            return
        if epoch > self.epoch:
            self._enter(epoch)
        if 0 < body.get("offset", 0) <= self._old_end and epoch == self.epoch and self.joined:
            self._lost_end(body["offset"] - 1)
        if self.discard:
            self.counts["before_join"] += 1
        elif not self.accept(track, frames, body):
            self.put_on_hold(frames, body)
            self.counts["held"] += 1
            self._plan()

    def _take_beat(self, frames: Frames, body: Body) -> None:
        suffix = frames[0][len(BEAT) :].decode("utf-8", "replace")
        if suffix != self.book.suffix:
            self.book.learn(suffix)
            self.resubscribe = True
        if body["epoch"] != self.epoch:
            self._enter(body["epoch"])
        clean = self.watch.take(body, self._now_s, self._now_ns)
        self.out.extend(self.watch.changes(self._now_ns, *self.backlog))
        opened = self._take_log(body.get("log"))
        if self._compare_log(body.get("log"), body.get("offset") or 0) or opened:
            clean = False
        self._note_tails(body)
        track = self.book.track(frames[0])
        if track.wanted:
            self.out.append(track.make(track, body, frames))
            self.counts["delivered"] += 1
        self._heard = True
        self._note_proof(body, clean=clean)
        if self._job is None:
            self._suspect = False
        self._plan()

    def _note_proof(self, body: Body, *, clean: bool) -> None:
        """Note from where to where nothing can be missing that the journal would have to be asked for."""
        self._tails_wanted = self._tails_wanted or not clean
        if body.get("log") == UNOPENED:
            return  # its offset says nothing: what is not proven yet stays so
        self._proven_to = body.get("offset") or 0
        if not clean:
            self._proven_from = self._proven_to
        elif not (self.options.query and self.options.heal):
            self._proven_from = 0  # nobody will ask: what was missing is told by its numbers alone
        if self.confirmed is None and (self.based or not self.options.query):
            self.confirm(self._first_confirmed(body))

    def _first_confirmed(self, body: Body) -> int:
        """Return the offset from which on the journal must be asked, as the first heartbeat that names the log shows.

        A snapshot that was made before the journal was opened came before all events that this run stored.
        """
        base_epoch, self._base_epoch = self._base_epoch, 0
        stored = (body.get("journal") or {}).get("stored")
        if not base_epoch or stored is None or not is_count(stored):
            return self._proven_to
        if base_epoch != body["epoch"]:
            text = "the daemon was started anew before it had named its journal: what it had stored cannot be asked for"
            self.out.append(Notice(NOT_WHOLE, text))
        return max(0, self._proven_to - int(stored))

    def _enter(self, epoch: int) -> None:
        """Go over to another life of the daemon."""
        before, self.epoch = self.epoch, epoch
        if not before:
            return
        self._old_end = self._proven_to
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
            stored = [held for held in self.hold if "offset" in held[1]]
            # The others could only come after the next life's snapshot, which knows better.
            self.counts["before_join"] += len(self.hold) - len(stored)
            self.hold = deque(stored)
            self.held_bytes = sum(len(frames[1]) for frames, _ in stored)

    def _compare_log(self, log: str | None, offset: int) -> bool:
        """Return whether the heartbeat shows another journal than the one known so far."""
        if not log or not self.joined:
            return False
        if self.log is None:
            self.log = log
            return False
        if log != self.log:
            self.start_log(log, 0, "the daemon has another journal now: what the old one had more cannot be asked for")
        elif offset < self._old_end:
            self._lost_end(offset)
        else:
            return False
        return True

    def _lost_end(self, offset: int) -> None:
        """Go on after ``offset``: the daemon before this one had said more, which its journal has not any more."""
        text = f"the journal ended at {offset}, not at {self._old_end} as it was: offsets are used again"
        self._old_end = 0
        self.start_log(self.log, offset, text)

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
