"""The jobs of `Recovery`: what each asks the query endpoint for, step by step; pure.

A job yields an `Ask` and is sent the `Reply`; a reply that does not fit raises QueryError, and the job is started again
later. Each job leaves the state such that it can be started again.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any

from mt4pump.client.notices import HEALED, NOT_WHOLE, Notice
from mt4pump.client.ordering import UNOPENED, Ordering
from mt4pump.client.pages import ReplayPages, SnapshotPages
from mt4pump.client.position import Position
from mt4pump.client.query_connection import Ask, QueryError, Reply
from mt4pump.client.topic_state import LastSeqs
from mt4pump.wire import Body

PAGE_LIMIT = 5_000
"""Events asked for in one replay request."""

Job = Generator[Ask, Reply, None]


class RecoverySteps:
    """Makes the jobs, and owns what they change beside the `Ordering`.

    ``joined``: events flow. ``discard``: events are dropped, as the snapshot will be later. ``added`` are topics that
    still need their snapshot. ``pages`` counts delivered pages of the journal. ``heartbeat`` is the log and the
    offset that the last heartbeat named.
    """

    def __init__(self, ordering: Ordering, *, snapshot: bool, resume: Position | None, query: bool) -> None:
        self.resume = resume
        self.joined = not query
        self.discard = query
        self.added: list[str] = []
        self.pages = 0
        self.heartbeat: tuple[str | None, int] = (None, 0)
        self._ordering = ordering
        self._snapshot = snapshot
        self._describe_again = False

    def add(self, names: Iterable[str]) -> None:
        """Note topics that need their snapshot; everything waits for it."""
        self.added += names
        self._ordering.wait_for_all()

    def remove(self, names: Iterable[str]) -> None:
        """Note topics that need no snapshot any more."""
        gone = set(names)
        self.added = [name for name in self.added if name not in gone]

    def restart(self) -> None:
        """Note that the daemon was started again: it may store other kinds."""
        self._describe_again = True

    def go_live(self) -> None:
        """Let events flow without a snapshot."""
        if self.added:
            self._ordering.book.forget_baseline()
        self.joined, self.discard = True, False

    def _describe(self, head: Body) -> None:
        self._describe_again = False
        self._ordering.book.learn_kinds(head["kinds"])

    def join(self) -> Job:
        """Go live with a snapshot: deliver what the position missed, the last values, then what came since.

        When events flow already (the endpoint was away at the start), those from before the snapshot go first.
        """
        ordering = self._ordering
        late = self.joined
        if self.resume is None:
            self.discard = False  # if the endpoint is silent, this is what comes instead
        description = yield Ask("describe", {})
        self._same_epoch(description.head)  # else heartbeats of the run before, still to be read, name another log
        self._describe(description.head)
        # Not before the answer: a late join would hold up what flows, and might never be answered.
        ordering.wait_for_all()
        resumed = self._resume(description.head)
        if resumed:
            yield from self._replay_pages(description.head["offset"])
        self.discard = False
        values = self._snapshot
        asked = {"topics": ordering.book.prefixes(), "values": values}
        page = yield Ask("snapshot", asked)
        snapshot = page.head
        self._same_epoch(snapshot)
        if resumed:
            _see_open(snapshot)
            yield from self._replay_pages(snapshot["offset"])
        if late:
            ordering.let_through_until(snapshot["ts"], snapshot["offset"])
        pages = SnapshotPages()
        while True:
            cursor = pages.next_of(page)
            ordering.adopt(page, snapshot, afresh=not late)
            if cursor is None:
                break
            page = yield Ask("snapshot", {**asked, "cursor": cursor})
        self.joined = True
        log, offset = snapshot.get("log"), snapshot["offset"]
        if late and self.heartbeat[0] == log:  # events from before the snapshot may still be on their way
            offset = min(offset, self.heartbeat[1])
        ordering.begin(log, offset)

    def extend(self, names: list[str]) -> Job:
        """Take in topics that were added while the stream runs."""
        ordering = self._ordering
        if not ordering.query_works:
            yield from self.probe()  # nothing is to be held up only to fail again
        ordering.wait_for_all()
        asked = {"topics": ordering.book.prefixes(names), "values": self._snapshot}
        page = yield Ask("snapshot", asked)
        snapshot = page.head
        self._same_epoch(snapshot)
        pages = SnapshotPages()
        while True:
            cursor = pages.next_of(page)
            ordering.adopt(page, snapshot, afresh=False)
            if cursor is None:
                break
            page = yield Ask("snapshot", {**asked, "cursor": cursor})
        self.added = [name for name in self.added if name not in names]

    def replay(self, to: int | None) -> Job:
        """Deliver what the journal has after the confirmed offset, ``to`` an offset or its end."""
        ordering = self._ordering
        ordering.wait_for_durable()
        if self._describe_again:  # another daemon may store other kinds
            description = yield Ask("describe", {})
            self._describe(description.head)
        before = ordering.counts["healed"]
        yield from self._replay_pages(to)
        if healed := ordering.counts["healed"] - before:
            text = f"{healed} events were delivered out of the journal"
            ordering.out.append(Notice(HEALED, text, count=healed))

    def probe(self) -> Job:
        """See whether the endpoint answers again."""
        description = yield Ask("describe", {})
        self._describe(description.head)

    def find_last_seqs(self, prefixes: list[bytes]) -> Job:
        """Learn the last numbers of topics whose losses the journal cannot show; `Ordering` compares them later."""
        asked: Body = {"topics": prefixes, "values": True}
        page = yield Ask("snapshot", asked)
        snapshot = page.head
        seqs: dict[bytes, int] = {}
        rows: dict[bytes, tuple[bytes, bytes]] = {}
        pages = SnapshotPages()
        while True:
            cursor = pages.next_of(page)
            seqs.update((topic.encode(), seq) for topic, seq in page.head["seqs"].items())
            rows.update((topic, (topic, packed)) for topic, packed in page.pairs())
            if cursor is None:
                break
            page = yield Ask("snapshot", {**asked, "cursor": cursor})
        self._ordering.expect(LastSeqs(snapshot["epoch"], snapshot["ts"], snapshot["offset"], seqs, rows))

    def _replay_pages(self, to: int | None) -> Job:
        """Deliver page by page; the confirmed offset follows, so that a failure in the middle costs nothing."""
        ordering = self._ordering
        reported = False
        pages = ReplayPages(PAGE_LIMIT)
        while to is None or (ordering.confirmed or 0) < to:
            after = ordering.confirmed or 0
            asked: Body = {"topics": ordering.book.prefixes(), "after": after, "limit": PAGE_LIMIT}
            page = yield Ask("replay", asked if to is None else {**asked, "to": to})
            head = page.head
            reached = pages.next_of(page, after)
            if ordering.log is not None and (log := head.get("log")) != ordering.log:
                if log and ordering.hold.is_full:  # else the heartbeat that names it would never be read
                    text = "the daemon has another journal now: what the old one had more cannot be asked for"
                    ordering.start_log(log, 0, text)
                raise QueryError("other_log", "the daemon has another journal than its heartbeat said")
            ordering.note_opened()
            if not head["whole"] and not reported:
                reported = True
                ordering.out.append(Notice(NOT_WHOLE, _what_is_gone(after, head)))
            for frames in page.pairs():
                ordering.handle_replayed(frames)
            ordering.report_late()
            if reached is None:
                ordering.confirm(head["last"] if to is None else to)
                return
            ordering.confirm(reached if to is None else min(reached, to))
            self.pages += 1

    def _resume(self, head: Body) -> bool:
        """Take up the stored position in the daemon's journal; return whether there is anything to replay from."""
        ordering = self._ordering
        log, last = head.get("log"), head["offset"]
        if ordering.confirmed is None or self.resume is None:
            return False
        _see_open(head)
        if log is None:
            self.resume = None
            ordering.forget_position("the daemon has no journal: the position cannot be resumed")
            return False
        if ordering.log is None and ordering.confirmed <= last:
            ordering.choose_log(log)
        if log != ordering.log:
            text = "the position is of another journal: going on from the start of the one there is"
            self._start_again(log, 0, text)
        elif ordering.confirmed > last:
            text = (
                f"the journal ends at {last}, the position is {ordering.confirmed}: "
                "it lost its end, and uses offsets again"
            )
            self._start_again(log, last, text)
        elif self.resume.log in {None, log}:
            ordering.take_up(self.resume.ahead)
        return True

    def _start_again(self, log: str, offset: int, text: str) -> None:
        """Go on after ``offset`` instead of the position, which must not come back when this join is tried again."""
        self._ordering.start_log(log, offset, text)
        self.resume = Position(log, offset)

    def _same_epoch(self, head: Body) -> None:
        if head.get("epoch") != self._ordering.epoch:
            raise QueryError("restarted", "the daemon was restarted meanwhile")


def _what_is_gone(after: int, head: Body) -> str:
    first: Any = head.get("first_available") or int(head.get("last") or 0) + 1  # 0: nothing is stored any more
    if first > after + 1:
        return f"the journal no longer has offsets {after + 1} to {first - 1}: they were deleted (retention)"
    return f"after offset {after} the journal is not whole: events were published while it could not be written"


def _see_open(head: Body) -> None:
    if head.get("log") == UNOPENED:
        raise QueryError("journal_error", "the daemon could not open its journal yet: it tries again by itself")
