"""What a stream asks the query endpoint for, step by step; pure.

A job yields an `Ask` and is sent the `Reply`; a reply that does not fit raises QueryError, and the job is begun anew
later. Each leaves the stream such that beginning anew is right.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mt4pump.client.checks import event_body
from mt4pump.client.events import SNAPSHOT
from mt4pump.client.notices import HEALED, NOT_WHOLE, Notice
from mt4pump.client.pages import ReplayPages, SnapshotPages
from mt4pump.client.position import Position
from mt4pump.client.query_connection import Ask, QueryError, Reply
from mt4pump.wire import Body

if TYPE_CHECKING:
    from mt4pump.client.recovery import Recovery

UNOPENED = ""
"""What stands for the log as long as the daemon could not open its file: which one it is, is not known yet."""
PAGE_LIMIT = 5_000
"""Events asked for in one replay request."""

Job = Generator[Ask, Reply, None]


@dataclass(slots=True)
class LastSeqs:
    """Last numbers of topics at a cut. ``is_ripe``: all from before the cut that will ever come is here."""

    epoch: int
    ts: int
    offset: int
    seqs: dict[bytes, int]
    rows: dict[bytes, tuple[bytes, bytes]]
    is_ripe: bool = False


def join(stream: Recovery) -> Job:
    """Go live with a cut: what the position has missed, the last values, then what came since.

    When events flow already (the endpoint was away at the start), those from before the cut go first.
    """
    late = stream.joined
    if stream.resume is None:
        stream.discard = False  # if the endpoint is silent, this is what comes instead
    description = yield Ask("describe", {})
    stream.describe(description.head)
    stream.wait_for_all()  # not before: one that comes late would hold up what flows, and perhaps never be answered
    resumed = _resume(stream, description.head)
    if resumed:
        yield from pages_of_journal(stream, description.head["offset"])
    stream.discard = False
    values = stream.options.snapshot
    asked = {"topics": stream.book.prefixes(), "values": values}
    page = yield Ask("snapshot", asked)
    cut = page.head
    _same_epoch(stream, cut)
    if resumed:
        _see_open(cut)
        yield from pages_of_journal(stream, cut["offset"])
    if late:
        stream.let_through_until(cut["ts"], cut["offset"])
    pages = SnapshotPages()
    while True:
        cursor = pages.next_of(page)
        _adopt(stream, page, cut, afresh=not late)
        if cursor is None:
            break
        page = yield Ask("snapshot", {**asked, "cursor": cursor})
    stream.begin(cut.get("log"), cut["offset"])


def extend(stream: Recovery, names: list[str]) -> Job:
    """Take in topics that were added while the stream runs."""
    if stream.has_given_up:
        yield from probe(stream)  # nothing is to be held up only to fail again
    stream.wait_for_all()
    asked = {"topics": stream.book.prefixes(names), "values": stream.options.snapshot}
    page = yield Ask("snapshot", asked)
    cut = page.head
    _same_epoch(stream, cut)
    pages = SnapshotPages()
    while True:
        cursor = pages.next_of(page)
        _adopt(stream, page, cut, afresh=False)
        if cursor is None:
            break
        page = yield Ask("snapshot", {**asked, "cursor": cursor})
    stream.added = [name for name in stream.added if name not in names]


def replay(stream: Recovery, to: int | None) -> Job:
    """Deliver what the journal has after the confirmed offset, ``to`` an offset or its end."""
    stream.wait_for_durable()
    if stream.describe_again:  # another daemon may store other kinds
        description = yield Ask("describe", {})
        stream.describe(description.head)
    before = stream.counts["healed"]
    yield from pages_of_journal(stream, to)
    if healed := stream.counts["healed"] - before:
        stream.out.append(Notice(HEALED, f"{healed} events were delivered out of the journal", count=healed))


def probe(stream: Recovery) -> Job:
    """See whether the endpoint answers again."""
    description = yield Ask("describe", {})
    stream.describe(description.head)


def look_for_tails(stream: Recovery, prefixes: list[bytes]) -> Job:
    """Learn the last numbers of topics whose losses the journal cannot show; they are judged later."""
    asked: Body = {"topics": prefixes, "values": True}
    page = yield Ask("snapshot", asked)
    cut = page.head
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
    stream.expect(LastSeqs(cut["epoch"], cut["ts"], cut["offset"], seqs, rows))


def pages_of_journal(stream: Recovery, to: int | None) -> Job:
    """Deliver page by page; the confirmed offset follows, so that a failure in the middle costs nothing."""
    told = False
    pages = ReplayPages(PAGE_LIMIT)
    while to is None or (stream.confirmed or 0) < to:
        after = stream.confirmed or 0
        asked: Body = {"topics": stream.book.prefixes(), "after": after, "limit": PAGE_LIMIT}
        page = yield Ask("replay", asked if to is None else {**asked, "to": to})
        head = page.head
        reached = pages.next_of(page, after)
        if stream.log is not None and head.get("log") != stream.log:
            raise QueryError("other_log", "the daemon has another journal than its heartbeat said")
        if not head["whole"] and not told:
            told = True
            stream.out.append(Notice(NOT_WHOLE, _what_is_gone(after, head)))
        for frames in page.pairs():
            stream.take_replayed(frames)
        stream.tell_overtaken()
        if reached is None:
            stream.confirm(head["last"] if to is None else to)
            return
        stream.confirm(reached if to is None else min(reached, to))
        stream.went_on()


def _what_is_gone(after: int, head: Body) -> str:
    first: Any = head.get("first_available") or int(head.get("last") or 0) + 1  # 0: nothing is stored any more
    if first > after + 1:
        return f"the journal no longer has offsets {after + 1} to {first - 1}: they were deleted (retention)"
    return f"after offset {after} the journal is not whole: events were published while it could not be written"


def _resume(stream: Recovery, head: Body) -> bool:
    """Take up the stored position in the daemon's journal; return whether there is anything to replay from."""
    log, last = head.get("log"), head["offset"]
    if stream.confirmed is None or stream.resume is None:
        return False
    _see_open(head)
    if log is None:
        stream.forget_position("the daemon has no journal: the position cannot be resumed")
        return False
    if stream.log is None and stream.confirmed <= last:
        stream.log = log
    if log != stream.log:
        text = "the position is of another journal: going on from the start of the one there is"
        _start_anew(stream, log, 0, text)
    elif stream.confirmed > last:
        text = (
            f"the journal ends at {last}, the position is {stream.confirmed}: it lost its end, and uses offsets again"
        )
        _start_anew(stream, log, last, text)
    elif stream.resume.log in {None, log}:
        stream.take_up(stream.resume.ahead)
    return True


def _start_anew(stream: Recovery, log: str, offset: int, text: str) -> None:
    """Go on after ``offset`` instead of the position, which must not come back when this join is tried again."""
    stream.start_log(log, offset, text)
    stream.resume = Position(log, offset)


def _adopt(stream: Recovery, page: Reply, cut: Body, *, afresh: bool) -> None:
    """Take one page of a cut: where its topics stand, and their last values.

    A topic that runs already keeps its place (and needs no values) unless all is begun ``afresh``.
    """
    epoch, offset = cut["epoch"], cut["offset"]
    running = set()
    for topic, seq in page.head["seqs"].items():
        track = stream.book.track(topic.encode())
        if not track.wanted or not track.rank:
            continue
        if track.epoch == epoch and not afresh:
            running.add(track.wire)
            continue
        track.epoch, track.seq = epoch, seq
        if track.durable and seq:
            track.offset = max(track.offset, offset)
    for frames in page.pairs():
        track = stream.book.track(frames[0])
        if track.wanted and (not stream.based or track.wire not in running):
            stream.deliver(track, frames, event_body(*frames), SNAPSHOT)


def _see_open(head: Body) -> None:
    if head.get("log") == UNOPENED:
        raise QueryError("journal_error", "the daemon could not open its journal yet: it tries again by itself")


def _same_epoch(stream: Recovery, cut: Body) -> None:
    if cut["epoch"] != stream.epoch:
        raise QueryError("restarted", "the daemon was started anew meanwhile")
