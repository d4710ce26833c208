"""When to ask the query endpoint, and what to do when it is silent: the middle layer of a `Stream`; pure."""

from __future__ import annotations

from mt4pump.client import recovery_steps as jobs
from mt4pump.client.checks import check_head
from mt4pump.client.notices import NOT_WHOLE, QUERY_FAILED, Notice, StreamOptions
from mt4pump.client.ordering import ALL_WAIT, DURABLE_WAIT, OPEN, Ordering
from mt4pump.client.position import Position
from mt4pump.client.query_connection import FOR_GOOD, Ask, QueryError, Reply
from mt4pump.client.recovery_steps import Job, LastSeqs
from mt4pump.client.topic_state import SubscriptionSet
from mt4pump.errors import FrameError
from mt4pump.wire import Body

RETRY_S, RETRY_LIMIT_S = 0.5, 30.0
UNOPENED = jobs.UNOPENED


class Recovery(Ordering):
    """Runs one job at a time. ``ask`` is the open request, ``number`` counts them: a reply to an older one is ignored.

    ``joined``: events flow. ``based``: a cut told where every topic stands. ``discard``: nothing is needed yet, as the
    cut will be later. ``added`` are topics that still need their cut. After giving up (`has_given_up`) nothing waits
    for an answer any more, until a job gets to its end.
    """

    def __init__(self, book: SubscriptionSet, options: StreamOptions, resume: Position | None) -> None:
        super().__init__(book)
        self.options = options
        self.resume = resume
        self.log = resume.log if resume else None
        self.confirmed = resume.confirmed if resume else None
        self.gate = ALL_WAIT if options.query else OPEN
        self.discard = options.query
        self.joined = not options.query
        self.based = False
        self.added: list[str] = []
        self.ask: Ask | None = None
        self.number = 0
        self.describe_again = False
        self._journal = False
        self._beat_log: str | None = None
        self._base_epoch = 0  # not 0: the epoch of a snapshot that was made before the journal was opened
        self._query_works = options.query
        self._failing = False
        self._suspect = False
        self._held_at_doubt: Body | None = None  # the last event that waited when something came to be missing, perhaps
        self._heard = False
        self._unstored_wanted = False
        self._tails_wanted = False
        self._tails_allowed = True
        self._proven_from = self._proven_to = 0
        self._job: Job | None = None
        self._opens_gate = False
        self._first_held: Body | None = None
        self._confirmed_before: int | None = None
        self._retry_at_s = 0.0
        self._retry_s = RETRY_S
        self._waiting_since_s: float | None = None
        self._now_s = 0.0

    @property
    def can_heal(self) -> bool:  # type: ignore[override]
        """Return whether the journal can be asked for what is missing."""
        return self._query_works and self.has_journal

    @property
    def has_journal(self) -> bool:  # type: ignore[override]
        """Return whether there is a journal to be asked, perhaps later."""
        return self.options.heal and self.based and self._journal and self.confirmed is not None

    @property
    def has_given_up(self) -> bool:
        """Return whether the endpoint was given up, and no job came to its end since."""
        return self.options.query and not self._query_works

    @property
    def _journal_matters(self) -> bool:
        """Return whether the journal will be asked as soon as it can be: at a resume, and to heal."""
        wanted = self.options.heal or not self.based
        return self.options.query and wanted and self.confirmed is not None

    def reply(self, number: int, reply: Reply, now_s: float) -> None:
        """Take the answer to request ``number``."""
        ask = self.ask
        if number != self.number or self._job is None or ask is None:
            return
        self._now_s = now_s
        if not self._failing:  # else only the end of a job, or a page of the journal, shows that it goes on
            self._waiting_since_s = now_s
        self.ask = None
        try:
            check_head(ask.op, reply.head)
            self._ask(self._job.send(reply))
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
        if self._waited_s() > self.options.heal_timeout_s:
            self._give_up()
        elif self._heard:
            self._plan()

    def went_on(self) -> None:
        """Note that a part of a job is done for good."""
        self._waiting_since_s, self._retry_s = self._now_s, RETRY_S

    @property
    def _is_waiting(self) -> bool:
        if self.hold:
            return True
        # Before the first message nothing waits, however long the daemon is away: its first events are not to pass.
        came = self._heard or self.counts["before_join"] > 0
        return came and (self.gate == ALL_WAIT or not self.joined)

    def _waited_s(self) -> float:
        """Return how long something has been waiting; it begins with the first call."""
        if self._waiting_since_s is None:
            self._waiting_since_s = self._now_s
        return self._now_s - self._waiting_since_s

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
        if self.has_journal and (self.confirmed or 0) < self._proven_from:
            return jobs.replay(self, self._proven_from)
        if self.options.query and not self._query_works:
            return jobs.probe(self)
        return None

    def _take_log(self, log: str | None) -> bool:
        """Note what a heartbeat says of the journal; return whether it was opened since the one before.

        While its file could not be opened (`UNOPENED`) no event has an offset. Those need not wait. One with an offset
        does: the journal was opened, and what was stored before must come first.
        """
        opened = bool(log) and self._beat_log == UNOPENED
        self._journal, self._beat_log = bool(log), log
        self.unopened = log == UNOPENED and (self._journal_matters or self._base_epoch > 0)
        if self.unopened:
            self.gate = max(self.gate, DURABLE_WAIT)
        if opened:
            self._retry_at_s = self._now_s
        return opened

    def _settle(self) -> None:
        """Nothing is missing that could be had: let events through, confirm, look for lost quotes."""
        if self.hold or (self.gate and not self._suspect):
            self.open_gate()
            if self.hold:
                return
        if self.gate == OPEN and self.confirmed is not None and self._proven_from <= self.confirmed:
            self.confirm(self._proven_to)
        self.judge_tails()
        if self._tails_wanted and self.based and self._now_s >= self._retry_at_s:
            self._tails_wanted = False
            prefixes = self.book.prefixes() if self._unstored_wanted else self.book.passing_prefixes()
            self._unstored_wanted = False
            if prefixes and self._tails_allowed:
                self._start(jobs.look_for_tails(self, prefixes), opens_gate=False)

    def _last_held(self) -> int | None:
        """Return up to where the journal is to be asked; None (to its end) when an event has no offset to say so."""
        body = self.hold[-1][1]
        if body is self._held_at_doubt:  # what may have been lost since then is behind it
            return None
        offset: int | None = body.get("offset")
        return offset

    def _start(self, job: Job, *, opens_gate: bool = True) -> None:
        self._suspect = False
        self._opens_gate = opens_gate
        # Events without an offset cannot be compared with where the journal was asked up to: these were there before.
        self._asked_for = {(frames[0], body["seq"]) for frames, body in self.hold if body.get("offset") is None}
        self._first_held = self.hold[0][1] if self.hold else None
        self._confirmed_before = self.confirmed
        self._job = job
        self._waited_s()
        try:
            self._ask(next(job))
        except StopIteration:
            self._finish()

    def _ask(self, ask: Ask) -> None:
        self.number += 1
        self.counts["queries"] += 1
        self.ask = ask

    def _finish(self) -> None:
        self._job = self.ask = None
        self._failing, self._query_works = False, True
        self.went_on()
        if self._opens_gate and not self._suspect:
            self.open_gate()
            first = self.hold[0][1] if self.hold else None
            if (
                first and first is self._first_held and self.confirmed == self._confirmed_before
            ):  # the next job would do no better: no daemon is to be asked without a pause
                self._retry_at_s = self._now_s + RETRY_S
        self._plan()

    def _fail(self, code: str, text: str) -> None:
        self._job = self.ask = None
        if code == "forbidden" and not self._opens_gate:
            self._tails_allowed = False  # these keys hear only what is stored: there are no such tails
            return
        if not self._opens_gate and code not in FOR_GOOD:
            self._tails_wanted = self._unstored_wanted = True  # nothing else would have it looked for again
        self.counts["query_failures"] += 1
        if not self._failing:
            self._failing = True
            self.out.append(Notice(QUERY_FAILED, f"the query endpoint gave no answer: {text}", code=code))
        self._retry_at_s = self._now_s + self._retry_s
        self._retry_s = min(self._retry_s * 2, RETRY_LIMIT_S)
        # A plain start goes live without its snapshot when nobody answers; a resumed one waits, to keep the order.
        plain_start = not self.joined and self.resume is None and code == "timeout"
        is_late = self._waited_s() > self.options.heal_timeout_s
        if code in FOR_GOOD or plain_start or is_late or self.has_given_up:
            self._give_up()

    def _give_up(self) -> None:
        """Go on without what was asked for; the losses are told as the events are let through."""
        if not self._failing:
            self._failing = True
            text = "no heartbeat came to start from: going on without last values and without the journal"
            self.out.append(Notice(QUERY_FAILED, text, code="no_heartbeat"))
        self._query_works = False
        self._retry_at_s = max(self._retry_at_s, self._now_s + self._retry_s)
        self.unopened = False
        if not self.joined and self.resume is not None:
            known_end = max(self.resume.confirmed, *self.resume.ahead.values(), 0)
            if self._beat_log == self.resume.log and self._proven_to >= known_end:  # else it lost its end
                self.take_up(self.resume.ahead)
            text = f"the position could not be resumed: events after {self.confirmed} come late, or not at all"
            self.out.append(Notice(NOT_WHOLE, text))
        if self.added or not self.based:
            self.book.baseline = False
        self.joined, self.discard = True, False
        self.open_gate()

    def describe(self, head: Body) -> None:
        """Take over what the daemon says of itself."""
        self.describe_again = False
        self.book.learn_kinds(head["kinds"])

    def forget_position(self, text: str) -> None:
        """Go on without a position."""
        self.out.append(Notice(NOT_WHOLE, text))
        self.resume = self.confirmed = self.log = None

    def begin(self, log: str | None, offset: int) -> None:
        """Note that a cut told where every topic stands."""
        self.log, self.joined, self.based, self.book.baseline = log or None, True, True, True
        if log != UNOPENED:
            self._journal = self._journal or bool(log)  # the last heartbeat may have come before it was opened
            self.confirm(offset)
        elif self.confirmed is None and self.options.heal:  # the first heartbeat that names the log confirms
            self._base_epoch, self.unopened = self.epoch, True

    def expect(self, tails: LastSeqs) -> None:
        """Keep the last numbers of a cut, to be judged after the next heartbeat."""
        if tails.epoch == self.epoch:
            self.tails = tails
