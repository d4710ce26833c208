"""Replies without a socket: snapshots that the pump makes late or not at all, and pages of stored events."""

from __future__ import annotations

import gc
import itertools
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mt4pump.journal import Journal, JournalOptions, JournalPage, JournalReader, Stored
from mt4pump.pump.snapshot import SnapshotRequest, StateSnapshot
from mt4pump.query.handlers import SNAPSHOT_GAP_S, QuerySources, RequestHandler, replay_page
from mt4pump.query.limits import QueryOptions, Stopped, WorkBudget, YieldToPump
from mt4pump.query.requests import EVERY_TOPIC, ParsedRequest, RequestError
from mt4pump.query.snapshots import Peer
from mt4pump.security import EVERYTHING
from mt4pump.wire import Body
from tests.query.endpoint import LOG, TS, UNDISTURBED, BrokenJournalError, FakePump, FakeReader, accounts, stored
from tests.query.test_limits import Clock

PEER = Peer(b"peer", "")
SNAPSHOT = StateSnapshot(epoch=1, log=None, offset=0, offsets={}, ts=2, seqs={b"quote.A": 3}, rows=())
OPTIONS = QueryOptions()


def handler_of(
    request_snapshot: Callable[[SnapshotRequest], object],
    clock: Clock | None = None,
    reader: JournalReader | None = None,
    describe: Callable[[], Body] = dict,
    **options: float,
) -> RequestHandler:
    """Return a handler; with a ``clock`` only that moves its time."""
    times = {"now_s": lambda: clock.now_s, "sleep": clock.sleep} if clock else {}
    sources = QuerySources(lambda _user: EVERYTHING, request_snapshot, reader, describe, UNDISTURBED)
    return RequestHandler(QueryOptions(**options), sources, **times)  # type: ignore[arg-type]


def reply_to(handler: RequestHandler, request: dict[str, object], peer: Peer) -> list[bytes]:
    return handler.reply(*handler.parse(msgpack.packb(request)), peer)


def head_of(handler: RequestHandler, peer: Peer = PEER, op: str = "snapshot", **request: object) -> dict[str, Any]:
    """Return the head of a reply."""
    head: dict[str, Any] = msgpack.unpackb(reply_to(handler, {"op": op, **request}, peer)[0])
    return head


BAD = (b"\xc1", b"\x91" * 500, b"\x81\xa2op\xa1x", b"\x81\xa2id\x90", b"\x81\xa2op\xa8snapshot\xa5limit\xa1x", b"")


def test_a_refused_request_holds_nothing_of_what_was_unpacked_and_is_freed_at_once() -> None:
    handler = handler_of(FakePump().request)
    gc.disable()  # what is in a cycle stays until the collector runs, which is seldom in the daemon
    try:
        for payload in (*BAD, None):
            id_, error = handler.parse(payload)
            assert isinstance(error, RequestError)
            assert (error.__traceback__, error.__cause__, error.__context__) == (None, None, None)
            assert msgpack.unpackb(handler.reply(id_, error, PEER)[0])["error"] == str(error)
            is_freed = weakref.ref(error)
            del error
            assert is_freed() is None, payload
    finally:
        gc.enable()


def test_a_snapshot_that_comes_between_two_checks_is_no_failure() -> None:
    def answer(request: SnapshotRequest) -> None:
        plain = request.wait

        def just_missed(timeout_s: float) -> StateSnapshot | None:  # noqa: ARG001 - it is called as `wait`
            request.wait = plain  # type: ignore[method-assign]
            request.answer(SNAPSHOT)
            return None

        request.wait = just_missed  # type: ignore[method-assign]

    head = head_of(handler_of(answer))
    assert (head["ok"], head.get("seqs")) == (True, {"quote.A": 3})


@pytest.mark.parametrize(
    ("request_snapshot", "wait_s"),
    [(lambda request: request.answer(None), 60.0), (lambda _request: None, 0.05)],
    ids=["at once when it failed", "in time when it never comes"],
)
def test_a_snapshot_that_is_not_made_is_refused(
    request_snapshot: Callable[[SnapshotRequest], object], wait_s: float
) -> None:
    head = head_of(handler_of(request_snapshot, snapshot_wait_s=wait_s))
    assert (head["ok"], head["code"]) == (False, "busy")


@pytest.mark.parametrize(("snapshot_s", "gap_s"), [(0.01, 0.05), (1.0, SNAPSHOT_GAP_S)])
def test_between_two_snapshots_the_pump_has_five_times_their_time_for_its_other_work(
    snapshot_s: float, gap_s: float
) -> None:
    clock, gaps_s, ended_s = Clock(), [], [0.0]

    def answer(request: SnapshotRequest) -> None:
        gaps_s.append(clock.now_s - ended_s[-1])
        clock.now_s += snapshot_s
        ended_s.append(clock.now_s)
        request.answer(SNAPSHOT)

    handler = handler_of(answer, clock)
    assert all(head_of(handler)["ok"] for _ in range(3))
    assert gaps_s == pytest.approx([0.0, gap_s, gap_s])


def test_a_snapshot_that_was_read_to_its_end_is_evicted_for_the_next_at_once() -> None:
    handler = handler_of(lambda request: request.answer(accounts(3)), Clock(), snapshots_held=1)
    for _ in range(2):
        head = head_of(handler, limit=2)
        assert head["cursor"], head
        while head["cursor"]:
            head = head_of(handler, cursor=head["cursor"])
            assert head["ok"], head


def test_a_snapshot_belongs_to_a_client_over_all_its_connections_and_to_no_other_client() -> None:
    handler = handler_of(FakePump(accounts(50)).request)
    cursor = head_of(handler, Peer(b"1", "dealer"), limit=20)["cursor"]
    assert head_of(handler, Peer(b"2", "dealer"), limit=20, cursor=cursor)["ok"]
    for other in (Peer(b"1", "tv"), Peer(b"dealer", "")):
        assert head_of(handler, other, limit=20, cursor=cursor)["code"] == "cursor_expired"


def test_a_replay_names_the_log_that_it_was_read_from() -> None:
    """The journal may be replaced between the reading of a page and of its description."""
    handler = handler_of(
        lambda _request: None, reader=FakeReader(stored(3)), describe=lambda: {"epoch": 7, "log": "another"}
    )
    head = head_of(handler, op="replay")
    assert (head["log"], head["epoch"]) == (LOG, 7)


def asked(
    after: int = 0, *, to: int | None = None, since: int | None = None, until: int | None = None, limit: int = 1_000
) -> ParsedRequest:
    return ParsedRequest("replay", limit=limit, after=after, to=to, since=since, until=until)


def one(
    reader: JournalReader, request: ParsedRequest, *prefixes: bytes, options: QueryOptions = OPTIONS
) -> tuple[Body, list[bytes]]:
    stopped_clock = WorkBudget(60, 0, UNDISTURBED, now_s=lambda: 0.0)  # a machine that is slow for once ends no page
    return replay_page(reader, request, prefixes or EVERY_TOPIC, options, stopped_clock)


def frames_of(events: list[Stored]) -> list[bytes]:
    return [frame for event in events for frame in (event.topic, event.body)]


def test_a_page_has_the_original_frames_and_says_where_it_continues() -> None:
    events = stored(10)
    head, frames = one(FakeReader(events), asked(2, limit=4))
    assert frames == frames_of(events[2:6])
    assert head == {
        "log": LOG,
        "ok": True,
        "whole": True,
        "first_available": 1,
        "next": 6,
        "last": 10,
        "count": 4,
    }


def test_at_the_end_there_is_no_next() -> None:
    assert one(FakeReader(stored(10)), asked(8))[0]["next"] is None
    assert one(FakeReader(), asked())[0] == {
        "log": LOG,
        "ok": True,
        "whole": True,
        "first_available": 1,
        "next": None,
        "last": 0,
        "count": 0,
    }


def test_a_page_reports_what_retention_deleted() -> None:
    reader = FakeReader(stored(10)[4:], first=5)
    head, _ = one(reader, asked(2))
    assert (head["whole"], head["first_available"]) == (False, 5)
    assert one(reader, asked(4))[0]["whole"] is True


def test_times_and_offsets_bound_it() -> None:
    reader = FakeReader(stored(100))
    assert one(reader, asked(10, to=20))[0]["count"] == 10
    assert one(reader, asked(since=TS + 11, until=TS + 20))[0]["count"] == 10


def test_only_what_was_asked_for_is_in_it() -> None:
    head, frames = one(FakeReader(stored(100)), asked(), b"trade.1003", b"trade.1007")
    assert set(frames[::2]) == {b"trade.1003", b"trade.1007"}
    assert head["count"] == 20


def test_it_reads_in_slices_and_never_more_than_asked_for() -> None:
    reader = FakeReader(stored(1_000))
    head, _ = one(reader, asked(limit=250), options=QueryOptions(slice_rows=100))
    assert (head["count"], head["next"], reader.steps) == (250, 250, 3)


def test_a_page_ends_when_it_is_large_enough() -> None:
    reader = FakeReader(stored(1_000, size=1_000))
    head, _ = one(reader, asked(limit=1_000), options=QueryOptions(slice_rows=10, page_bytes=100_000))
    assert (head["count"], head["next"]) == (100, 100)


def test_a_search_that_finds_nothing_ends_too_and_can_be_continued() -> None:
    reader = FakeReader(stored(10_000), scan=100)
    head, _ = one(reader, asked(), b"nothing.", options=QueryOptions(page_s=0))
    assert (head["count"], head["next"], reader.steps) == (0, 100, 1)


def test_a_stop_ends_it_between_two_slices() -> None:
    reader = FakeReader(stored(1_000))
    with pytest.raises(Stopped):
        replay_page(reader, asked(), EVERY_TOPIC, QueryOptions(), WorkBudget(0, 0, UNDISTURBED, lambda: True))
    assert reader.steps == 1


def test_an_error_of_the_journal_is_reported() -> None:
    reader = FakeReader()
    reader.failure = BrokenJournalError("journal.db is damaged: it was quarantined")
    with pytest.raises(RequestError, match="quarantined") as caught:
        one(reader, asked())
    assert caught.value.code == "journal_error"


def test_a_reader_that_makes_no_progress_does_not_hold_it() -> None:
    class Stuck(FakeReader):
        def page(self, **_arguments: object) -> JournalPage:
            return JournalPage([], 5, 10, 1, whole=True, log=LOG)

    assert one(Stuck(), asked(5))[0]["count"] == 0


@settings(max_examples=60)
@given(st.data())
def test_pages_of_any_size_add_up_to_all_events(data: st.DataObject) -> None:
    events = stored(data.draw(st.integers(0, 300), "events"))
    reader = FakeReader(events, scan=data.draw(st.integers(1, 60), "scan"))
    options = QueryOptions(
        slice_rows=data.draw(st.integers(1, 40), "slice"), page_bytes=data.draw(st.integers(1, 4_000), "bytes")
    )
    after, limit = data.draw(st.integers(0, 320), "after"), data.draw(st.integers(1, 100), "limit")
    frames: list[bytes] = []
    place: int | None = after
    while place is not None:
        head, more = one(reader, asked(place, limit=limit), b"trade.100", options=options)
        assert head["count"] <= limit
        assert head["next"] is None or head["next"] > place
        frames += more
        place = head["next"]
    assert frames == frames_of([event for event in events if event.offset > after])


def test_a_page_beside_a_rapid_stream_ends_where_the_work_rests() -> None:
    """Its reader needs a core as well: many small pages, not one large one."""
    rapid = YieldToPump(lambda: False, itertools.count(10_000, 10_000).__next__, now_s=itertools.count(1.0).__next__)
    budget = WorkBudget(0.0, 0.0, rapid, now_s=lambda: 0.0, sleep=lambda _s: None)
    head, _ = replay_page(FakeReader(stored(3_000)), asked(limit=3_000), EVERY_TOPIC, OPTIONS, budget)
    assert (head["count"], head["next"]) == (OPTIONS.slice_rows, OPTIONS.slice_rows)
    quiet = WorkBudget(0.0, 0.0, UNDISTURBED, now_s=lambda: 0.0, sleep=lambda _s: None)
    head, _ = replay_page(FakeReader(stored(3_000)), asked(limit=3_000), EVERY_TOPIC, OPTIONS, quiet)
    assert head["count"] == 3_000


def journal_of(path: Path, count: int) -> Journal:
    journal = Journal(path, JournalOptions(), lambda: TS)
    assert journal.append(stored(count), {})
    return journal


def all_pages(handler: RequestHandler, **request: object) -> tuple[list[dict[str, Any]], list[int]]:
    """Return the heads of all pages of a replay, and the offsets that they hold."""
    heads: list[dict[str, Any]] = []
    offsets: list[int] = []
    after: int | None = 0
    while after is not None:
        head, *frames = reply_to(handler, {"op": "replay", "after": after, **request}, PEER)
        heads.append(msgpack.unpackb(head))
        assert heads[-1]["ok"], heads[-1]
        offsets += [msgpack.unpackb(body)[0] for body in frames[1::2]]
        after = heads[-1]["next"]
    return heads, offsets


def test_a_replay_gives_every_committed_event_once_and_in_order(tmp_path: Path) -> None:
    """What one connection commits, another reads, event for event."""
    journal, reader = journal_of(tmp_path / "journal", 3_000), JournalReader(tmp_path / "journal")
    handler = handler_of(lambda _request: None, reader=reader, page_s=1e9)
    heads, offsets = all_pages(handler, limit=700)
    assert offsets == list(range(1, 3_001))
    assert [head["count"] for head in heads] == [700, 700, 700, 700, 200]
    assert all(head["whole"] and head["last"] == 3_000 and head["log"] == journal.log_id for head in heads)
    assert all_pages(handler, limit=50, topics=["trade.1003"])[1] == list(range(3, 3_001, 10))
    assert all_pages(handler, since=TS + 2_000, until=TS + 2_010)[1] == list(range(2_000, 2_011))
    reader.close()
    journal.close()


def test_a_missing_journal_is_an_error_until_it_is_there(tmp_path: Path) -> None:
    reader = JournalReader(tmp_path / "journal")
    handler = handler_of(lambda _request: None, reader=reader)
    error = head_of(handler, op="replay")
    assert (error["code"], "journal" in error["error"]) == ("journal_error", True)
    journal = journal_of(tmp_path / "journal", 3)
    assert head_of(handler, op="replay")["count"] == 3
    reader.close()
    journal.close()
