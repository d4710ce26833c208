"""Pages of stored events: each one once, in order, whatever the sizes; and bounded work whatever is asked."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mt4pump.query.limits import QueryOptions, Stopped, WorkBudget, YieldToPump
from mt4pump.query.replay import PageReader, replay_page
from mt4pump.query.replies import OutgoingReply
from mt4pump.query.requests import EVERY_TOPIC, ReplayRequest, RequestError
from tests.query.stand import TS, Broken, Event, FakeReader, Page, stored

OPTIONS = QueryOptions()


def asked(
    after: int = 0, *, to: int | None = None, since: int | None = None, until: int | None = None, limit: int = 1_000
) -> ReplayRequest:
    return ReplayRequest(EVERY_TOPIC, after=after, to=to, since=since, until=until, limit=limit)


def one(reader: PageReader, request: ReplayRequest, *prefixes: bytes, options: QueryOptions = OPTIONS) -> OutgoingReply:
    standing_clock = WorkBudget(60, 0, now_s=lambda: 0.0)  # a machine that is slow for once ends no page
    return replay_page(reader, request, prefixes or EVERY_TOPIC, options, standing_clock)


def frames_of(events: list[Event]) -> list[bytes]:
    return [frame for event in events for frame in (event.topic, event.body)]


def test_a_page_has_the_original_frames_and_says_where_it_goes_on() -> None:
    events = stored(10)
    reply = one(FakeReader(events), asked(2, limit=4))
    assert reply.frames == frames_of(events[2:6])
    head = {"ok": True, "whole": True, "first_available": 1, "next": 6, "last": 10, "count": 4}
    assert reply.head == head


def test_at_the_end_there_is_no_next() -> None:
    assert one(FakeReader(stored(10)), asked(8)).head["next"] is None
    assert one(FakeReader(), asked()).head == {
        "ok": True,
        "whole": True,
        "first_available": 1,
        "next": None,
        "last": 0,
        "count": 0,
    }


def test_what_retention_deleted_is_told() -> None:
    reader = FakeReader(stored(10)[4:], first=5)
    assert one(reader, asked(2)).head["whole"] is False
    assert one(reader, asked(2)).head["first_available"] == 5
    assert one(reader, asked(4)).head["whole"] is True


def test_times_and_offsets_bound_it() -> None:
    reader = FakeReader(stored(100))
    assert one(reader, asked(10, to=20)).head["count"] == 10
    assert one(reader, asked(since=TS + 11, until=TS + 20)).head["count"] == 10


def test_only_what_was_asked_for_is_in_it() -> None:
    reply = one(FakeReader(stored(100)), asked(), b"trade.1003", b"trade.1007")
    assert set(reply.frames[::2]) == {b"trade.1003", b"trade.1007"}
    assert reply.head["count"] == 20


def test_it_reads_in_slices_and_never_more_than_asked_for() -> None:
    reader = FakeReader(stored(1_000))
    reply = one(reader, asked(limit=250), options=QueryOptions(slice_rows=100))
    assert (reply.head["count"], reply.head["next"], reader.steps) == (250, 250, 3)


def test_a_page_ends_when_it_is_large_enough() -> None:
    reader = FakeReader(stored(1_000, size=1_000))
    reply = one(reader, asked(limit=1_000), options=QueryOptions(slice_rows=10, page_bytes=100_000))
    assert reply.head["count"] == 100
    assert reply.head["next"] == 100


def test_a_search_that_finds_nothing_ends_too_and_can_be_gone_on_with() -> None:
    reader = FakeReader(stored(10_000), scan=100)
    reply = one(reader, asked(), b"nothing.", options=QueryOptions(page_s=0))
    assert (reply.head["count"], reply.head["next"], reader.steps) == (0, 100, 1)


def test_a_stop_ends_it_between_two_slices() -> None:
    reader = FakeReader(stored(1_000))
    with pytest.raises(Stopped):
        replay_page(reader, asked(), EVERY_TOPIC, QueryOptions(), WorkBudget(0, 0, lambda: True, now_s=lambda: 0.0))
    assert reader.steps == 1


def test_the_journals_trouble_is_told() -> None:
    reader = FakeReader()
    reader.failure = Broken("journal.db is damaged: it was set aside")
    with pytest.raises(RequestError, match="set aside") as caught:
        one(reader, asked())
    assert caught.value.code == "journal_error"


def test_a_reader_that_does_not_get_on_does_not_hold_it() -> None:
    class Stuck(FakeReader):
        def page(self, **_arguments: object) -> Page:
            return Page([], 5, 10, 1, whole=True)

    assert one(Stuck(), asked(5)).head["count"] == 0


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
        reply = one(reader, asked(place, limit=limit), b"trade.100", options=options)
        assert reply.head["count"] <= limit
        assert reply.head["next"] is None or reply.head["next"] > place
        frames += reply.frames
        place = reply.head["next"]
    assert frames == frames_of([event for event in events if event.offset > after])


def test_a_page_beside_a_rapid_live_stream_ends_where_the_work_rests() -> None:
    """Its reader needs a core as well: many small pages, not one large one."""
    rapid = YieldToPump(lambda: False, itertools.count(10_000, 10_000).__next__, now_s=itertools.count(1.0).__next__)
    pace = WorkBudget(0.0, 0.0, way=rapid, now_s=lambda: 0.0, sleep=lambda _s: None)
    reply = replay_page(FakeReader(stored(3_000)), asked(limit=3_000), EVERY_TOPIC, OPTIONS, pace)
    assert (reply.head["count"], reply.head["next"]) == (OPTIONS.slice_rows, OPTIONS.slice_rows)
    quiet = WorkBudget(0.0, 0.0, way=YieldToPump(lambda: False), now_s=lambda: 0.0, sleep=lambda _s: None)
    reply = replay_page(FakeReader(stored(3_000)), asked(limit=3_000), EVERY_TOPIC, OPTIONS, quiet)
    assert reply.head["count"] == 3_000
