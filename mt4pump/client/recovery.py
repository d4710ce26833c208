"""Decides when to ask the query endpoint, and what to do when it does not answer; pure."""

from __future__ import annotations

from mt4pump.client.checks import check_head, is_count
from mt4pump.client.notices import NOT_WHOLE, QUERY_FAILED, RESTARTED, Notice, StreamOptions
from mt4pump.client.ordering import ALL_WAIT, OPEN, UNOPENED, Ordering
from mt4pump.client.position import Position
from mt4pump.client.query_connection import FOR_GOOD, Ask, QueryError, Reply
from mt4pump.client.recovery_steps import Job, RecoverySteps
from mt4pump.errors import FrameError
from mt4pump.wire import Body

RETRY_S, RETRY_LIMIT_S = 0.5, 30.0


class Recovery:
    """Runs one job at a time. ``ask`` is the open request, ``number`` counts them: a reply to an older one is ignored.

    It gives up on an endpoint that does not answer: then no event waits any more, until a job is finished.
    """

    def __init__(self, ordering: Ordering, options: StreamOptions, resume: Position | None) -> None:
        self.steps = RecoverySteps(ordering, snapshot=options.snapshot, resume=resume, query=options.query)
        self.ask: Ask | None = None
        self.number = 0
        self._ordering = ordering
        self._options = options
        self._heartbeat_log: str | None = None
        self._failing = False
        self._unproven = False
        self._last_held: Body | None = None  # the last event that waited when events became unproven
        self._heard = False
        self._unstored = (0, 0)
        self._unstored_wanted = False
        self._last_seqs_wanted = False
        self._last_seqs_allowed = True
        self._proven_from = self._proven_to = 0
        self._old_end = 0  # the last offset that the previous run of the daemon reported
        self._job: Job | None = None
        self._opens_gate = False
        self._first_held: Body | None = None
        self._confirmed_before: int | None = None
        self._retry_at_s = 0.0
        self._retry_s = RETRY_S
        self._waiting_since_s: float | None = None
        self._now_s = 0.0

    @property
    def has_given_up(self) -> bool:
        """Return whether the endpoint was given up, and no job was finished since."""
        return self._options.query and not self._ordering.query_works

    @property
    def _needs_journal(self) -> bool:
        """Return whether the journal will be asked as soon as it can be: at a resume, and to recover."""
        wanted = self._options.heal or not self._ordering.based
        return self._options.query and wanted and self._ordering.confirmed is not None

    def reply(self, number: int, reply: Reply, now_s: float) -> None:
        """Handle the answer to request ``number``."""
        ask = self.ask
        if number != self.number or self._job is None or ask is None:
            return
        self._now_s = now_s
        if not self._failing:  # else only the end of a job, or a page of the journal, shows progress
            self._waiting_since_s = now_s
        self.ask = None
        pages = self.steps.pages
        try:
            check_head(ask.op, reply.head)
            following = self._job.send(reply)
            if self.steps.pages > pages:
                self._note_progress()
            self._ask(following)
        except StopIteration:
            self._finish()
        except QueryError as error:
            self._fail(error.code, str(error))
        except (FrameError, LookupError, TypeError, ValueError, AttributeError) as error:
            self._fail("bad_reply", f"a reply of the daemon makes no sense: {error}")

    def failed(self, number: int, code: str, text: str, now_s: float) -> None:
        """Note that request ``number`` was refused, or not answered."""
        if number == self.number and self._job is not None:
            self._now_s = now_s
            self._fail(code, text)

    def tick(self, now_s: float) -> None:
        """Go on with what waits for time to pass."""
        self._now_s = now_s
        if self._job is not None:
            return
        if not self._is_waiting:
            self._waiting_since_s = None
            return
        if self._waited_s() > self._options.heal_timeout_s:
            self._give_up()
        elif self._heard:
            self.plan()

    def set_time(self, now_s: float) -> None:
        """Note the time, monotonic seconds."""
        self._now_s = now_s

    def mark_unproven(self) -> None:
        """Note that events may be missing from here on: durable ones wait until the journal was asked."""
        ordering = self._ordering
        if ordering.can_recover or (self._needs_journal and (ordering.unopened or not ordering.based)):
            self._unproven = True
            self._last_held = ordering.hold.last
            ordering.close_for_durable()
            self._retry_at_s = min(self._retry_at_s, self._now_s)  # so that they do not wait for another try as well

    def add(self, names: list[str]) -> None:
        """Ask for the last values of topics that were added."""
        if self._ordering.based or self._job is not None:
            self.steps.add(names)
        else:
            self._ordering.book.forget_baseline()

    def enter(self, epoch: int) -> None:
        """Go over to another run of the daemon."""
        ordering = self._ordering
        is_first = not ordering.epoch
        ordering.enter(epoch)
        if is_first:
            return
        self._old_end = self._proven_to
        ordering.counts["restarts"] += 1
        text = "the daemon was started anew; whether the old one sent more of what is not stored cannot be known"
        ordering.out.append(Notice(RESTARTED, text))
        self.steps.restart()

    def follow_restart(self) -> None:
        """Drop what was asked of the run of the daemon that ended."""
        self._ordering.book.set_baseline()  # every topic of the new epoch starts from 1
        if not self.steps.joined:
            self._job = self.ask = None
            self._ordering.drop_unstored()

    def check_offset(self, offset: int) -> None:
        """Go on earlier in the journal when an event of this epoch shows that the journal lost its end."""
        if 0 < offset <= self._old_end and self.steps.joined:
            self._lose_end(offset - 1)

    def compare_log(self, log: str | None, offset: int) -> bool:
        """Note what a heartbeat says of the journal; return whether events may be missing because of it.

        While its file could not be opened (`UNOPENED`) no event has an offset. Those need not wait. One with an offset
        does: the journal was opened, and what was stored before must come first.
        """
        opened = bool(log) and self._heartbeat_log == UNOPENED
        self._heartbeat_log, self.steps.heartbeat = log, (log, offset)
        self._ordering.note_log(log, needed=self._needs_journal)
        if opened:
            self._retry_at_s = self._now_s
        return self._follows_other_log(log, offset) or opened

    def _follows_other_log(self, log: str | None, offset: int) -> bool:
        if not log or not self.steps.joined:
            return False
        ordering = self._ordering
        if ordering.log is None:
            ordering.choose_log(log)
            return False
        if log != ordering.log:
            text = "the daemon has another journal now: what the old one had more cannot be asked for"
            ordering.start_log(log, 0, text)
        elif offset < self._old_end:
            self._lose_end(offset)
        else:
            return False
        return True

    def _lose_end(self, offset: int) -> None:
        """Go on after ``offset``: the run of the daemon before reported more, which its journal lost."""
        text = f"the journal ended at {offset}, not at {self._old_end} as it was: offsets are used again"
        self._old_end = 0
        self._ordering.start_log(self._ordering.log, offset, text)

    def note_unstored(self, body: Body) -> None:
        """Note what a heartbeat says about events that only their numbers can prove."""
        self._ordering.note_heartbeat(body["epoch"], body["ts"])
        journal = body.get("journal")
        unstored = (self._ordering.epoch, journal.get("unstored", 0) if isinstance(journal, dict) else 0)
        if unstored != self._unstored or not body.get("durable"):
            self._unstored_wanted = True
        self._unstored = unstored

    def note_proof(self, body: Body, *, clean: bool) -> None:
        """Note from where to where nothing can be missing that the journal would have to be asked for."""
        self._heard = True
        self._last_seqs_wanted = self._last_seqs_wanted or not clean
        if body.get("log") != UNOPENED:  # else its offset says nothing: what is not proven yet stays so
            self._proven_to = body.get("offset") or 0
            if not clean:
                self._proven_from = self._proven_to
            elif not (self._options.query and self._options.heal):
                self._proven_from = 0  # no query is sent: what was missing is reported by its numbers alone
            if self._ordering.confirmed is None and (self._ordering.based or not self._options.query):
                journal = body.get("journal")
                stored = journal.get("stored") if isinstance(journal, dict) else None
                self._ordering.confirm_first(self._proven_to, stored if is_count(stored) else None)
        if self._job is None:
            self._unproven = False
        self.plan()

    @property
    def _is_waiting(self) -> bool:
        if self._ordering.hold:
            return True
        # Before the first message nothing waits, however long the daemon is away: its first events are not to pass.
        came = self._heard or self._ordering.counts["before_join"] > 0
        return came and (self._ordering.gate == ALL_WAIT or not self.steps.joined)

    def _waited_s(self) -> float:
        """Return how long something has been waiting; it begins with the first call."""
        if self._waiting_since_s is None:
            self._waiting_since_s = self._now_s
        return self._now_s - self._waiting_since_s

    def _note_progress(self) -> None:
        self._waiting_since_s, self._retry_s = self._now_s, RETRY_S

    def plan(self) -> None:
        """Start what has to be asked now, or note what is proven."""
        if self._job is not None:
            return
        if self._ordering.base_epoch and self._ordering.hold.is_full:  # no heartbeat can say from where to ask
            self._give_up()
        job = self._next_job()
        if job is None:
            self._settle()
        elif self._heard and self._now_s >= self._retry_at_s:
            self._start(job)

    def _next_job(self) -> Job | None:
        ordering, steps = self._ordering, self.steps
        if self._options.query and not ordering.based:
            return steps.join()
        if steps.added and self._options.query:
            return steps.extend(steps.added.copy())
        # While so many events wait that nothing is read, no heartbeat can say that the journal was opened.
        may_be_open = ordering.unopened and ordering.hold.is_full and ordering.confirmed is not None
        if ordering.hold and (ordering.can_recover or may_be_open):
            return steps.replay(self._end_of_hold())
        if ordering.has_journal and (ordering.confirmed or 0) < self._proven_from:
            return steps.replay(self._proven_from)
        if self.has_given_up:
            return steps.probe()
        return None

    def _settle(self) -> None:
        """Let events through, confirm, and look for lost quotes: nothing is missing that the journal has."""
        ordering = self._ordering
        if ordering.hold or (ordering.gate and not self._unproven):
            ordering.open_gate()
            if ordering.hold:
                return
        if ordering.gate == OPEN and ordering.confirmed is not None and self._proven_from <= ordering.confirmed:
            ordering.confirm(self._proven_to)
        ordering.report_lost_ends()
        is_due = self._last_seqs_wanted and ordering.based and self._now_s >= self._retry_at_s
        if is_due and ordering.last_seqs is None:  # those known but not compared yet may be of more topics
            self._last_seqs_wanted = False
            prefixes = ordering.book.prefixes() if self._unstored_wanted else ordering.book.passing_prefixes()
            self._unstored_wanted = False
            if prefixes and self._last_seqs_allowed:
                self._start(self.steps.find_last_seqs(prefixes), opens_gate=False)

    def _end_of_hold(self) -> int | None:
        """Return up to where the journal is to be asked; None (to its end) when an event has no offset to say so."""
        body = self._ordering.hold.last
        if body is None or body is self._last_held:  # what may have been lost since then is behind it
            return None
        offset: int | None = body.get("offset")
        return offset

    def _start(self, job: Job, *, opens_gate: bool = True) -> None:
        self._unproven = False
        self._opens_gate = opens_gate
        self._ordering.note_asked()
        self._first_held = self._ordering.hold.first
        self._confirmed_before = self._ordering.confirmed
        self._job = job
        self._waited_s()
        try:
            self._ask(next(job))
        except StopIteration:
            self._finish()

    def _ask(self, ask: Ask) -> None:
        self.number += 1
        self._ordering.counts["queries"] += 1
        self.ask = ask

    def _finish(self) -> None:
        self._job = self.ask = None
        self._failing = False
        self._ordering.note_query(works=True)
        self._note_progress()
        if self._opens_gate and not self._unproven:
            self._ordering.open_gate()
            first = self._ordering.hold.first
            if first and first is self._first_held and self._ordering.confirmed == self._confirmed_before:
                self._retry_at_s = self._now_s + RETRY_S  # the next job would do no better: wait before it asks again
        self.plan()

    def _fail(self, code: str, text: str) -> None:
        if code == "restarted" and self._ordering.hold.is_full:  # else not even the new epoch's heartbeat would be read
            if self.steps.joined:
                self._ordering.open_gate()
            else:
                self._ordering.drop_held()
        self._job = self.ask = None
        if code == "forbidden" and not self._opens_gate:
            self._last_seqs_allowed = False  # these keys receive only what is stored
            return
        if not self._opens_gate and code not in FOR_GOOD:
            self._last_seqs_wanted = self._unstored_wanted = True  # nothing else would have it looked for again
        self._ordering.counts["query_failures"] += 1
        if not self._failing:
            self._failing = True
            text = f"the query endpoint gave no answer: {text}"
            self._ordering.out.append(Notice(QUERY_FAILED, text, code=code))
        self._retry_at_s = self._now_s + self._retry_s
        self._retry_s = min(self._retry_s * 2, RETRY_LIMIT_S)
        # A plain start goes live without its snapshot when the query times out; a resumed one waits, to keep the order.
        plain_start = not self.steps.joined and self.steps.resume is None and code == "timeout"
        is_late = self._waited_s() > self._options.heal_timeout_s
        if code in FOR_GOOD or plain_start or is_late or self.has_given_up:
            self._give_up()

    def _give_up(self) -> None:
        """Go on without what was asked for; losses are reported as the events are let through."""
        ordering, resume = self._ordering, self.steps.resume
        if not self._failing:
            self._failing = True
            text = "no heartbeat came to start from: going on without last values and without the journal"
            ordering.out.append(Notice(QUERY_FAILED, text, code="no_heartbeat"))
        ordering.note_query(works=False)
        self._retry_at_s = max(self._retry_at_s, self._now_s + self._retry_s)
        if not self.steps.joined and resume is not None:
            known_end = max(resume.confirmed, *resume.ahead.values(), 0)
            if self._heartbeat_log == resume.log and self._proven_to >= known_end:  # else it lost its end
                ordering.take_up(resume.ahead)
            text = f"the position could not be resumed: events after {ordering.confirmed} come late, or not at all"
            ordering.out.append(Notice(NOT_WHOLE, text))
        self.steps.go_live()
        ordering.open_gate()
