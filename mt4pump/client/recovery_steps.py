"""The jobs of `Recovery`: what each asks the query endpoint for, step by step; pure.

A job yields an `Ask` and is sent the `Reply`; a reply that does not fit raises QueryError, and the job is started again
later. Each job leaves the state such that it can be started again.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any, NamedTuple

from mt4pump.client.checks import journal_count
from mt4pump.client.event import NOT_WHOLE, RECOVERED, Frames
from mt4pump.client.ordering import UNOPENED, Ordering, StreamOptions
from mt4pump.client.position import Position
from mt4pump.client.query import PAGE_LIMIT, Ask, QueryError, QueryJob, ReplayPages, Reply, further_pages
from mt4pump.client.topic_state import Gate
from mt4pump.wire import Body

OTHER_LOG = "the daemon has another journal now: what the old one had more cannot be asked for"


class OtherLogError(QueryError):
    """A page is of another journal than the heartbeats named; ``head`` is its head."""

    def __init__(self, head: Body) -> None:
        super().__init__("other_log", "the daemon has another journal than its heartbeat said")
        self.head = head


class LogEnd(NamedTuple):
    """How far a journal went when a heartbeat told: ``offset`` was its last. ``log`` is None if there is no journal."""

    log: str | None
    offset: int


class RecoverySteps:
    """Makes the jobs, and has what they change beside the `Ordering`.

    ``joined``: events flow. ``discard``: events are dropped, as the snapshot will be later. ``added`` are topics that
    still need their snapshot. ``pages`` counts delivered pages of the journal. ``log_end`` is what the last heartbeat
    said of the journal. ``is_kinds_stale``: the daemon was restarted, and may store other kinds. ``reused``: two runs
    of the daemon used this offset, so until a heartbeat names the log it may be another one; else 0.
    """

    def __init__(self, ordering: Ordering, options: StreamOptions, resume: Position | None) -> None:
        self.resume = resume
        self.joined = not options.query
        self.discard = options.query
        self.added: list[str] = []
        self.pages = 0
        self.log_end = LogEnd(None, 0)
        self.is_kinds_stale = False
        self.reused = 0
        self.last_seqs = LastSeqs(ordering)
        self._ordering = ordering
        self._with_values = options.snapshot

    def add(self, names: Iterable[str]) -> None:
        """Add topics that need their snapshot; everything waits for it."""
        self.added += names
        self._ordering.close_for(Gate.ALL_WAIT)

    def remove(self, names: Iterable[str]) -> None:
        """Remove topics that need no snapshot any more."""
        gone = set(names)
        self.added = [name for name in self.added if name not in gone]

    def follow_restart(self) -> None:
        """Forget what was asked of the run of the daemon that ended."""
        self.last_seqs.drop()
        self.is_kinds_stale = True

    def set_log_end(self, log_end: LogEnd) -> None:
        """Set what the last heartbeat said of the journal."""
        self.log_end = log_end

    def set_reused(self, offset: int) -> None:
        """Set an offset that two runs of the daemon used; 0: none."""
        self.reused = offset

    def go_live(self) -> None:
        """Deliver events without a snapshot."""
        if self.added:
            self._ordering.subscriptions.forget_baseline()
        self.joined, self.discard = True, False

    def join(self) -> QueryJob:
        """Go live with a snapshot: deliver what the position missed, the last values, then what came since.

        When events flow already (the endpoint was away at the start), those from before the snapshot go first.
        """
        ordering = self._ordering
        is_late = self.joined
        if self.resume is None:
            self.discard = False  # if the endpoint is silent, events are delivered without a snapshot
        description = yield from self.describe()
        self._check_epoch(description)  # else heartbeats of the run before, still to be read, name another log
        # Not before the answer: a late join would hold up what flows, and might never be answered.
        ordering.close_for(Gate.ALL_WAIT)
        resumed = self._resume(description)
        if resumed:
            yield from self._replay_pages(description["offset"])
        self.discard = False
        asked: Body = {"topics": ordering.subscriptions.prefixes(), "values": self._with_values}
        page = yield Ask("snapshot", asked)
        snapshot = page.head
        self._check_epoch(snapshot)
        if resumed:
            _check_opened(snapshot)
            yield from self._replay_pages(snapshot["offset"])
        if is_late:
            ordering.release_until(snapshot["ts"], snapshot["offset"])
        yield from self._apply_snapshot(page, asked, is_first=not is_late)
        self.joined = True
        log, offset = snapshot.get("log"), snapshot["offset"]
        if is_late and self.log_end.log == log:  # events from before the snapshot may still be on their way
            offset = min(offset, self.log_end.offset)
        ordering.finish_snapshot(log, offset)

    def extend(self, names: list[str]) -> QueryJob:
        """Get the snapshot of topics that were added while the stream runs."""
        ordering = self._ordering
        if not ordering.query_works:
            yield from self.describe()  # events must not wait only for this to fail again
        ordering.close_for(Gate.ALL_WAIT)
        asked: Body = {"topics": ordering.subscriptions.prefixes(names), "values": self._with_values}
        page = yield Ask("snapshot", asked)
        self._check_epoch(page.head)
        yield from self._apply_snapshot(page, asked, is_first=False)
        self.remove(names)

    def replay(self, to: int | None) -> QueryJob:
        """Deliver what the journal has after the confirmed offset, ``to`` an offset or its end."""
        ordering = self._ordering
        if ordering.can_recover:
            ordering.close_for(Gate.DURABLE_WAIT)
        if self.is_kinds_stale:
            yield from self.describe()
        before = ordering.counts["healed"]
        yield from self._replay_pages(to)
        if recovered := ordering.counts["healed"] - before:
            text = f"{recovered} events were delivered out of the journal"
            ordering.report(RECOVERED, text, count=recovered)

    def describe(self) -> Generator[Ask, Reply, Body]:
        """Ask which kinds the daemon stores; return the description."""
        reply = yield Ask("describe", {})
        self.is_kinds_stale = False
        self._ordering.subscriptions.set_durable_kinds(reply.head["kinds"])
        return reply.head

    def probe(self) -> QueryJob:
        """Find out whether the endpoint answers again."""
        yield from self.describe()

    def _apply_snapshot(self, page: Reply, asked: Body, *, is_first: bool) -> QueryJob:
        """Apply the snapshot whose first page is ``page`` page by page."""
        snapshot, apply = page.head, self._ordering.apply_snapshot
        return further_pages(page, asked, lambda each: apply(each, snapshot, is_first=is_first))

    def _replay_pages(self, to: int | None) -> QueryJob:
        """Deliver page by page; the confirmed offset follows, so that a failure in the middle costs nothing."""
        ordering = self._ordering
        is_reported = False
        pages = ReplayPages()
        while to is None or (ordering.confirmed or 0) < to:
            after = ordering.confirmed or 0
            asked: Body = {"topics": ordering.subscriptions.prefixes(), "after": after, "limit": PAGE_LIMIT}
            page = yield Ask("replay", asked if to is None else {**asked, "to": to})
            head = page.head
            reached = pages.next_of(page, after)
            if ordering.log is not None and (head.get("log") != ordering.log or self.reused):
                raise OtherLogError(head)
            if to is not None and head["last"] < to:  # the journal has lost its end since `to` was named
                raise OtherLogError(head)
            epoch = head.get("epoch") or 0
            if epoch > ordering.epoch and head["last"] < ordering.highest_offset(epoch):  # its heartbeat says why
                raise OtherLogError(head)
            ordering.set_opened()
            if not head["whole"] and not is_reported:
                is_reported = True
                ordering.report(NOT_WHOLE, _why_not_whole(after, head))
            ordering.handle_replayed(page)
            if reached is None:
                ordering.confirm(head["last"] if to is None else to)
                return
            ordering.confirm(reached if to is None else min(reached, to))
            self.pages += 1

    def _resume(self, head: Body) -> bool:
        """Restore the stored position in the daemon's journal; return whether there is anything to replay from."""
        ordering = self._ordering
        log, last = head.get("log"), head["offset"]
        if ordering.confirmed is None or self.resume is None:
            return False
        _check_opened(head)
        if log is None:
            self.resume = None
            ordering.name_log(None)
            ordering.report(NOT_WHOLE, "the daemon has no journal: the position cannot be resumed")
            return False
        if ordering.log is None and ordering.confirmed <= last:
            ordering.name_log(log)
        if log != ordering.log:
            text = "the position is of another journal: going on from the start of the one there is"
            self._restart_position(log, 0, text)
        elif ordering.confirmed > last:
            text = (
                f"the journal ends at {last}, the position is {ordering.confirmed}: "
                "it lost its end, and uses offsets again"
            )
            self._restart_position(log, last, text)
        elif self.resume.log in {None, log}:
            ordering.restore_ahead(self.resume.ahead)
        return True

    def _restart_position(self, log: str, offset: int, text: str) -> None:
        """Go on after ``offset`` instead of the position, which must not come back when this join is tried again."""
        ordering = self._ordering
        ordering.drop_held(lambda body: body["epoch"] == ordering.epoch)  # the journal has the older ones, or lost them
        ordering.switch_log(log, offset, text)
        self.resume = Position(log, offset)

    def _check_epoch(self, head: Body) -> None:
        if head.get("epoch") != self._ordering.epoch:
            raise QueryError("restarted", "the daemon was restarted meanwhile")


class LastSeqs:
    """Finds losses after which nothing came: compares the last numbers of topics, out of a snapshot, with ours.

    Of topics whose kind is stored the journal shows these, so they are asked for only when the daemon could not store
    an event. ``forbid``: the keys do not allow it, as they receive only what is stored.
    """

    def __init__(self, ordering: Ordering) -> None:
        self._ordering = ordering
        self._is_requested = self._is_of_all = False
        self._is_allowed = True
        self._unstored = (0, 0)
        self._head: Body = {}  # of the snapshot that was not compared yet; empty: there is none
        self._seqs: dict[bytes, int] = {}
        self._rows: dict[bytes, Frames] = {}
        self._is_complete = False  # every event from before the snapshot was received, or is lost

    def request(self, *, all_topics: bool = False) -> None:
        """Have the next job ask for last numbers; ``all_topics``: also of the kinds that are stored."""
        self._is_requested = True
        self._is_of_all = self._is_of_all or all_topics

    def forbid(self) -> None:
        """Make no more jobs."""
        self._is_allowed = False

    def drop(self) -> None:
        """Drop the numbers that were not compared yet, and the values beside them."""
        self._head, self._seqs, self._rows = {}, {}, {}

    def handle_heartbeat(self, body: Body, *, clean: bool) -> None:
        """Handle a heartbeat: everything that was published before it was received, or is lost."""
        self._is_requested = self._is_requested or not clean
        unstored = body["epoch"], journal_count(body, "unstored") or 0
        self._is_of_all = self._is_of_all or unstored != self._unstored or not body.get("durable")
        self._unstored = unstored
        if self._head and body["epoch"] == self._head["epoch"] and body["ts"] > self._head["ts"]:
            self._is_complete = True

    def next_job(self) -> QueryJob | None:
        """Return the job that asks for last numbers, None if there is nothing to ask."""
        if self._head or not self._is_requested:  # those that were not compared yet may be of more topics
            return None
        topics = self._ordering.subscriptions
        prefixes = topics.prefixes() if self._is_of_all else topics.unstored_prefixes()
        self._is_requested = self._is_of_all = False
        return self._ask(prefixes) if prefixes and self._is_allowed else None

    def _ask(self, prefixes: list[bytes]) -> QueryJob:
        asked: Body = {"topics": prefixes, "values": True}
        page = yield Ask("snapshot", asked)
        head = page.head
        self._seqs, self._rows = {}, {}

        def add(page: Reply) -> None:
            self._seqs.update((topic.encode(), seq) for topic, seq in page.head["seqs"].items())
            self._rows.update((frames[0], frames) for frames in page.pairs())

        yield from further_pages(page, asked, add)
        if head["epoch"] == self._ordering.epoch:
            self._head, self._is_complete = head, False
        else:
            self.drop()

    def report_losses(self) -> None:
        """Report what was lost at the end of topics in which nothing came since."""
        head, ordering = self._head, self._ordering
        if not head or not self._is_complete or (ordering.has_journal and (ordering.confirmed or 0) < head["offset"]):
            return  # what the journal has must come first
        seqs, rows = self._seqs, self._rows
        self.drop()
        for wire, seq in seqs.items():
            ordering.report_lost_up_to(wire, head["epoch"], seq, rows.get(wire))


def _why_not_whole(after: int, head: Body) -> str:
    first: Any = head.get("first_available") or int(head.get("last") or 0) + 1  # 0: nothing is stored any more
    if first > after + 1:
        return f"the journal no longer has offsets {after + 1} to {first - 1}: they were deleted (retention)"
    reasons = "it could not be written, the machine lost power, or an older copy was restored"
    return f"after offset {after} the journal is not whole: {reasons}"


def _check_opened(head: Body) -> None:
    if head.get("log") == UNOPENED:
        raise QueryError("journal_error", "the daemon could not open its journal yet: it tries again by itself")
