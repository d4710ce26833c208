"""Recovers gaps: decides when to ask the query endpoint, and what to do when it does not answer; pure.

`mt4pump.client.stream` describes the whole path.
"""

from __future__ import annotations

import logging

from mt4pump.client.checks import check_head, journal_count
from mt4pump.client.event import NOT_WHOLE, QUERY_FAILED
from mt4pump.client.ordering import UNOPENED, Ordering, StreamOptions
from mt4pump.client.position import Position
from mt4pump.client.query import FOR_GOOD, Ask, QueryError, QueryJob, Reply
from mt4pump.client.recovery_steps import OTHER_LOG, LogEnd, OtherLogError, RecoverySteps
from mt4pump.client.topic_state import Gate
from mt4pump.errors import FrameError
from mt4pump.wire import Body

RETRY_S, RETRY_LIMIT_S, TRACEBACK_INTERVAL_S = 0.5, 30.0, 60.0

log = logging.getLogger("mt4pump.client")


class Recovery:
    """Runs one job of its ``steps`` at a time: a few requests, each after the reply to the one before.

    ``ask`` is the open request, ``number`` counts the requests: a reply to an older one is ignored. An endpoint that
    does not answer is given up. From then on no event waits for it, until a job is finished after all.
    """

    def __init__(self, ordering: Ordering, options: StreamOptions, resume: Position | None) -> None:
        self.steps = RecoverySteps(ordering, options, resume)
        self.ask: Ask | None = None
        self.number = 0
        self._ordering = ordering
        self._options = options
        self._is_failing = False
        self._is_unproven = False
        self._last_held: Body | None = None  # the last event that waited when events became unproven
        self._has_heartbeat = False
        self._replay_needed_to = 0  # up to this offset the journal must be asked
        self._complete_to = LogEnd(None, 0)  # up to here nothing is missing then
        self._end_of_previous_run = LogEnd(None, 0)
        self._job: QueryJob | None = None
        self._opens_gate = False  # at the end of the job
        self._first_held: Body | None = None  # when the job began, as the next
        self._confirmed_before: int | None = None
        self._retry_at_s = 0.0
        self._retry_s = RETRY_S
        self._waiting_since_s: float | None = None
        self._traceback_at_s = 0.0  # the next one may be logged
        self._now_s = 0.0

    @property
    def has_given_up(self) -> bool:
        """Return whether the endpoint was given up, and no job was finished since."""
        return self._options.query and not self._ordering.query_works

    @property
    def _needs_journal(self) -> bool:
        """Return whether the journal is to be asked as soon as it can be: to resume a position, or to recover."""
        wanted = self._options.heal or not self._ordering.has_snapshot
        return self._options.query and wanted and self._ordering.confirmed is not None

    # ---- requests ----

    def handle_reply(self, number: int, reply: Reply, now_s: float) -> None:
        """Handle the reply to request ``number``."""
        ask = self.ask
        if number != self.number or self._job is None or ask is None:
            return
        self._now_s = now_s
        if not self._is_failing:  # else only the end of a job, or a page of the journal, shows progress
            self._waiting_since_s = now_s
        self.ask = None
        pages = self.steps.pages
        try:
            check_head(ask.op, reply.head)
            following = self._job.send(reply)
            if self.steps.pages > pages:
                self._record_progress()
            self._send(following)
        except StopIteration:
            self._finish()
        except OtherLogError as error:
            self._handle_other_log(error)
        except QueryError as error:
            self._fail(error.code, str(error))
        except FrameError as error:
            self._fail("bad_reply", f"a reply of the daemon makes no sense: {error}")
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            # Replies are checked, so this is a fault of ours: the log shows where. It must not end the subscriber, as
            # a hostile daemon may have found it.
            if self._now_s >= self._traceback_at_s:
                self._traceback_at_s = self._now_s + TRACEBACK_INTERVAL_S
                log.exception("the reply to %s could not be handled", ask.op)
            self._fail("bad_reply", f"a reply of the daemon makes no sense: {error}")

    def handle_failure(self, number: int, code: str, text: str, now_s: float) -> None:
        """Handle that request ``number`` was refused, or not answered."""
        if number == self.number and self._job is not None:
            self._now_s = now_s
            self._fail(code, text)

    def set_now(self, now_s: float) -> None:
        """Set the time, monotonic seconds, at which what follows happens."""
        self._now_s = now_s

    def tick(self, now_s: float) -> None:
        """Continue what waits for time to pass."""
        self._now_s = now_s
        if self._job is not None:
            return
        if not self._is_waiting:
            self._waiting_since_s = None
        elif self._waited_s() > self._options.heal_timeout_s:
            self._give_up()
        elif self._has_heartbeat:
            self.plan()

    # ---- what the stream shows ----

    def mark_unproven(self) -> None:
        """Record that events may be missing from here on; durable ones wait if the journal can be asked for them."""
        ordering = self._ordering
        if ordering.can_recover or (self._needs_journal and (ordering.unopened or not ordering.has_snapshot)):
            self._is_unproven = True
            self._last_held = ordering.held.last
            ordering.close_for(Gate.DURABLE_WAIT)
            self._retry_at_s = min(self._retry_at_s, self._now_s)  # so that they do not wait for another try as well

    def add(self, names: list[str]) -> None:
        """Ask for the last values of topics that were added."""
        if self._ordering.has_snapshot or self._job is not None:
            self.steps.add(names)
        else:
            self._ordering.subscriptions.forget_baseline()

    def follow_restart(self, epoch: int) -> None:
        """Go over to another run of the daemon; drop what was asked of the one that ended."""
        ordering, steps = self._ordering, self.steps
        if epoch < ordering.epoch and steps.joined:  # the daemon's folder was deleted, and its journal with it
            ordering.release_unrecovered(lambda body: body["epoch"] != epoch)
        ordering.enter_epoch(epoch)
        steps.follow_restart()
        if steps.log_end.log is not None:  # a run without a journal ends no journal
            self._end_of_previous_run = self._complete_to
        self.mark_unproven()
        if not steps.joined:
            self._drop_job()
            # The next snapshot is later than these. Only the journal can bring them, and of larger epochs it is gone.
            is_resumed = steps.resume is not None
            ordering.drop_held(lambda body: is_resumed and "offset" in body and body["epoch"] <= epoch)

    @property
    def _old_end(self) -> int:
        """Return the last offset that the previous run of the daemon published in this log; 0: none."""
        end = self._end_of_previous_run
        return end.offset if end.log == self._ordering.log else 0

    def check_offset(self, offset: int) -> None:
        """Check the offset of an event of this epoch.

        If the run before has used it, the journal lost its end or is another one. Until the next heartbeat says which
        (or a reply, when no heartbeat can be read), events with an offset wait.
        """
        if 0 < offset <= self._old_end and self.steps.joined and self._needs_journal and not self.steps.reused:
            self.steps.set_reused(offset)
            self._drop_job()
            self._ordering.set_log(UNOPENED, needed=True)

    def compare_log(self, body: Body) -> bool:
        """Compare what a heartbeat says of the journal with what is known; return whether events may be missing.

        They may be when the journal was opened only now (it was `UNOPENED` before), when it is another one, and when
        this run went on in it before the end of the previous run: it lost its end.
        """
        ordering, log, offset = self._ordering, body.get("log"), body.get("offset") or 0
        was_opened = bool(log) and self.steps.log_end.log == UNOPENED
        self.steps.set_log_end(LogEnd(log, offset))
        ordering.set_log(log, needed=self._needs_journal)
        if was_opened:
            self._retry_at_s = self._now_s
        begin = max(0, offset - (journal_count(body, "stored") or 0))  # where this run went on in it
        if not log or not self.steps.joined:
            return was_opened
        if ordering.log is None:
            ordering.name_log(log)
        elif log != ordering.log or self.steps.reused or begin < self._old_end:
            self._switch_log(log, begin)
            return True
        return was_opened

    def _switch_log(self, log: str | None, begin: int) -> None:
        """Continue in another journal, or in the same one that lost all behind ``begin``; drop the open request."""
        ordering, reused = self._ordering, self.steps.reused
        lost_end = log == ordering.log
        if not lost_end:
            begin = 0
        elif reused:
            begin = min(begin, reused - 1)
        text = f"the journal ended at {begin}, not at {self._old_end} as it was: offsets are used again"
        self._end_of_previous_run = LogEnd(None, 0)
        self._replay_needed_to = begin
        self._complete_to = LogEnd(log, begin)
        self.steps.last_seqs.request()
        self._drop_job()
        self.steps.set_reused(0)
        if lost_end:
            ordering.follow_lost_end(begin, text)
            return
        if self.steps.joined:
            ordering.release_unrecovered(lambda body: body["epoch"] < ordering.epoch)
        ordering.switch_log(log, 0, OTHER_LOG)

    def _handle_other_log(self, error: OtherLogError) -> None:
        """Handle a page of a journal that no heartbeat has named yet: it is asked again after the next heartbeat.

        But if so many events wait that nothing is read, no heartbeat comes. Then a journal of this run is taken at
        once; for one of a later run what waits is delivered, so that the heartbeats of the runs before are read first.
        """
        ordering, log = self._ordering, error.head.get("log")
        epoch = error.head.get("epoch") or ordering.epoch
        code = "restarted" if epoch > ordering.epoch else error.code
        if epoch > ordering.epoch and self.steps.joined and ordering.held.is_full:
            ordering.release_unrecovered(lambda body: body["epoch"] < epoch)
            ordering.open_gate()
        elif log and epoch == ordering.epoch and ordering.held.is_full:
            self._switch_log(log, error.head["last"])
        self._fail(code, str(error))

    def handle_heartbeat(self, body: Body, *, clean: bool) -> None:
        """Record how far the journal goes: after a heartbeat that is not ``clean`` it must be replayed up to there."""
        ordering = self._ordering
        self._has_heartbeat = True
        self.steps.last_seqs.handle_heartbeat(body, clean=clean)
        if body.get("log") != UNOPENED:  # else its offset says nothing: what is not proven yet stays so
            last = body.get("offset") or 0
            self._complete_to = LogEnd(body.get("log"), last)
            if not clean:
                self._replay_needed_to = last
            elif not (self._options.query and self._options.heal):
                self._replay_needed_to = 0  # no query is sent: what was missing is reported by its numbers alone
            if ordering.confirmed is None and (ordering.has_snapshot or not self._options.query):
                ordering.confirm_first(last, journal_count(body, "stored"))
        if self._job is None:
            self._is_unproven = False
        self.plan()

    # ---- jobs ----

    @property
    def _is_waiting(self) -> bool:
        if self._ordering.held:
            return True
        # Before the first message nothing waits, however long the daemon is away: its first events are not to pass.
        has_begun = self._has_heartbeat or self._ordering.counts["before_join"] > 0
        return has_begun and (self._ordering.gate == Gate.ALL_WAIT or not self.steps.joined)

    def _waited_s(self) -> float:
        """Return how long something has been waiting; it begins with the first call."""
        if self._waiting_since_s is None:
            self._waiting_since_s = self._now_s
        return self._now_s - self._waiting_since_s

    def _record_progress(self) -> None:
        self._waiting_since_s, self._retry_s = self._now_s, RETRY_S

    def plan(self) -> None:
        """Start what has to be asked now, or confirm what is proven."""
        if self._job is not None:
            return
        if self._ordering.base_epoch and self._ordering.held.is_full:  # no heartbeat can say from where to ask
            self._give_up()
        job = self._next_job()
        if job is None:
            self._confirm_proven()
        elif self._has_heartbeat and self._now_s >= self._retry_at_s:
            self._start(job)

    def _next_job(self) -> QueryJob | None:
        ordering, steps = self._ordering, self.steps
        if self._options.query and not ordering.has_snapshot:
            return steps.join()
        if steps.added and self._options.query:
            return steps.extend(steps.added.copy())
        # While so many events wait that nothing is read, no heartbeat can say that the journal was opened.
        may_be_open = ordering.unopened and ordering.held.is_full and ordering.confirmed is not None
        if ordering.held and (ordering.can_recover or may_be_open):
            return steps.replay(ordering.lost_end.offset if ordering.lost_end else self._end_of_held())
        if ordering.has_journal and (ordering.confirmed or 0) < self._replay_needed_to:
            return steps.replay(self._replay_needed_to)
        return steps.probe() if self.has_given_up else None

    def _confirm_proven(self) -> None:
        """Open the gate, confirm, and ask for last numbers; called when nothing is missing that the journal has."""
        ordering = self._ordering
        if ordering.held or (ordering.gate > Gate.OPEN and not self._is_unproven):
            ordering.open_gate()
            if ordering.held:
                return
        is_of_log = self._complete_to.log == ordering.log  # else no heartbeat has said yet how far this journal goes
        confirmed = ordering.confirmed
        if is_of_log and ordering.gate == Gate.OPEN and confirmed is not None and self._replay_needed_to <= confirmed:
            ordering.confirm(self._complete_to.offset)
        last_seqs = self.steps.last_seqs
        last_seqs.report_losses()
        is_due = ordering.has_snapshot and self._now_s >= self._retry_at_s
        if is_due and (job := last_seqs.next_job()):
            self._start(job, opens_gate=False)

    def _end_of_held(self) -> int | None:
        """Return the offset of the last event that waits: up to there the journal is asked. None: up to its end.

        So it is when that event has no offset, and when events became unproven after it: more may be lost behind it.
        """
        body = self._ordering.held.last
        return None if body is None or body is self._last_held else body.get("offset")

    def _start(self, job: QueryJob, *, opens_gate: bool = True) -> None:
        self._is_unproven = False
        self._opens_gate = opens_gate
        self._ordering.record_asked()
        self._first_held = self._ordering.held.first
        self._confirmed_before = self._ordering.confirmed
        self._job = job
        self._waited_s()
        try:
            self._send(next(job))
        except StopIteration:
            self._finish()

    def _drop_job(self) -> None:
        self._job = self.ask = None

    def _send(self, ask: Ask) -> None:
        self.number += 1
        self._ordering.counts["queries"] += 1
        self.ask = ask

    def _finish(self) -> None:
        self._drop_job()
        self._is_failing = False
        self._ordering.set_query(works=True)
        self._record_progress()
        if self._opens_gate and not self._is_unproven:
            self._ordering.open_gate()
            first = self._ordering.held.first
            if first and first is self._first_held and self._ordering.confirmed == self._confirmed_before:
                self._retry_at_s = self._now_s + RETRY_S  # the next job would do no better: wait before it asks again
        self.plan()

    def _fail(self, code: str, text: str) -> None:
        ordering = self._ordering
        if code == "restarted" and ordering.held.is_full:  # else not even the new epoch's heartbeat would be read
            if self.steps.joined:
                ordering.open_gate()
            else:
                ordering.drop_held(lambda _body: False)
        self._drop_job()
        if code == "forbidden" and not self._opens_gate:
            self.steps.last_seqs.forbid()
            return
        if not self._opens_gate and code not in FOR_GOOD:
            self.steps.last_seqs.request(all_topics=True)  # nothing else would have it asked for again
        ordering.counts["query_failures"] += 1
        self._report_failing(code, f"a query failed: {text}")
        self._retry_at_s = self._now_s + self._retry_s
        self._retry_s = min(self._retry_s * 2, RETRY_LIMIT_S)
        # A plain start goes live without its snapshot when the query times out; a resumed one waits, to keep the order.
        is_plain_start = not self.steps.joined and self.steps.resume is None and code == "timeout"
        is_late = self._waited_s() > self._options.heal_timeout_s
        if code in FOR_GOOD or is_plain_start or is_late or self.has_given_up:
            self._give_up()

    def _report_failing(self, code: str, text: str) -> None:
        if not self._is_failing:
            self._is_failing = True
            self._ordering.report(QUERY_FAILED, text, code=code)

    def _give_up(self) -> None:
        """Go on without what was asked for: nothing waits any more, and what is missing is reported as lost."""
        ordering, resume = self._ordering, self.steps.resume
        text = "no heartbeat came to start from: going on without last values and without the journal"
        self._report_failing("no_heartbeat", text)
        ordering.set_query(works=False)
        self._retry_at_s = max(self._retry_at_s, self._now_s + self._retry_s)
        if not self.steps.joined and resume is not None:
            known_end = max(resume.confirmed, *resume.ahead.values(), 0)
            if self.steps.log_end.log == resume.log and self._complete_to.offset >= known_end:  # else it lost its end
                ordering.restore_ahead(resume.ahead)
            text = f"the position could not be resumed: events after {ordering.confirmed} come late, or not at all"
            ordering.report(NOT_WHOLE, text)
        self.steps.go_live()
        ordering.open_gate()
