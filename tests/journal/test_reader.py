"""Pages of a replay: what is asked for and nothing else, in bounded work, and what is missing is reported."""

import sqlite3
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mt4pump.errors import JournalError
from mt4pump.journal import Journal, JournalReader, Stored
from mt4pump.journal import reader as reader_module
from mt4pump.journal.reader import condition, successor
from mt4pump.wire import outermost
from tests.journal.journals import NOW_NS, Clock, add, events, kill, no_orders, open_journal, opened, read_all

HOUR_NS = 3600 * 10**9


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    with opened(path) as journal:
        yield journal


@pytest.fixture
def reader(path: Path) -> Iterator[JournalReader]:
    with closing(JournalReader(path)) as reader:
        yield reader


def offsets(reader: JournalReader, *prefixes: bytes, **asked: int | None) -> list[int]:
    page = reader.page(
        after=asked.get("after") or 0,
        to=asked.get("to"),
        prefixes=prefixes,
        limit=asked.get("limit") or 10_000,
        since=asked.get("since"),
        until=asked.get("until"),
    )
    return [event.offset for event in page.events]


def test_after_and_to_bound_what_is_read(journal: Journal, reader: JournalReader) -> None:
    add(journal, 10)
    assert offsets(reader, after=3, to=7) == [4, 5, 6, 7]
    assert offsets(reader, after=10) == []
    assert offsets(reader, after=99) == []
    assert offsets(reader, after=-5, to=2) == [1, 2]
    assert offsets(reader, after=5, to=3) == []


def test_next_leads_through_all_pages_and_ends_with_none(journal: Journal, reader: JournalReader) -> None:
    add(journal, 10)
    pages = []
    after: int | None = 0
    while after is not None:
        page = reader.page(after=after, to=9, limit=4)
        pages.append([event.offset for event in page.events])
        after = page.next
    assert pages == [[1, 2, 3, 4], [5, 6, 7, 8], [9]]


TRAPS = [
    b"trade.1",
    b"trade.10",
    b"trade.2",
    b"t",
    b"\xff",
    b"\xff\xff",
    b"\xff\xffa",
    b"a\xff",
    b"a\xff\xff",
    b"b",
    b"",
]


@pytest.mark.parametrize(
    "prefixes",
    [(b"trade.1",), (b"trade.",), (b"\xff",), (b"\xff\xff",), (b"a\xff",), (b"a", b"\xff"), (b"",), (), (b"no",)],
)
def test_prefixes_match_as_on_a_sub_socket(
    journal: Journal, reader: JournalReader, prefixes: tuple[bytes, ...]
) -> None:
    assert journal.append(events(journal, *TRAPS), {})
    wanted = [at for at, topic in enumerate(TRAPS, 1) if not prefixes or topic.startswith(prefixes)]
    assert offsets(reader, *prefixes) == wanted


@settings(deadline=None)
@given(st.lists(st.binary(max_size=4), max_size=6), st.binary(max_size=5))
def test_the_condition_holds_exactly_for_topics_that_begin_with_a_prefix(prefixes: list[bytes], topic: bytes) -> None:
    kept = outermost(prefixes)
    matches = not kept or any(
        topic >= prefix and (end is None or topic < end) for prefix in kept for end in [successor(prefix)]
    )
    assert matches == (not prefixes or topic.startswith(tuple(prefixes)))
    sql, values = condition(kept)
    assert sql.count("?") == len(values)


def test_256_prefixes_work_and_search_fewer_rows(
    journal: Journal, reader: JournalReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "SCAN_ROWS", 320)
    add(journal, 100, b"trade.99999")
    prefixes = tuple(b"user.%03d" % number for number in range(256))
    page = reader.page(after=0, prefixes=prefixes, limit=10)
    assert (page.events, page.next) == ([], 10)


def test_a_page_may_be_empty_and_go_on(
    journal: Journal, reader: JournalReader, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "SCAN_ROWS", 20)
    add(journal, 50)
    add(journal, 1, b"user.1")
    page = reader.page(after=0, prefixes=(b"user",), limit=10)
    assert (page.events, page.next, page.last) == ([], 20, 51)
    assert read_all(path, prefixes=(b"user",)) == [51]


def test_a_page_is_bounded_in_bytes_but_holds_one_event_at_least(
    journal: Journal, reader: JournalReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "PAGE_BYTES", 1000)
    add(journal, 10, size=300)
    add(journal, 2, size=5000)
    sizes = []
    after: int | None = 0
    while after is not None:
        page = reader.page(after=after)
        sizes.append(len(page.events))
        after = page.next
    assert sizes == [3, 3, 3, 1, 1, 1]


def test_a_page_of_large_bodies_holds_no_more_of_them_in_memory_than_it_gives(
    journal: Journal, reader: JournalReader
) -> None:
    add(journal, 16, size=2**20)
    tracemalloc.start()
    try:
        page = reader.page(after=0)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(page.events) == 1
    assert peak_bytes < 5 * 2**20


def test_a_page_is_bounded_in_rows(journal: Journal, reader: JournalReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "PAGE_ROWS", 7)
    add(journal, 20)
    page = reader.page(after=0, limit=1_000_000)
    assert (len(page.events), page.next) == (7, 7)


@settings(deadline=None)
@given(
    steps=st.lists(st.integers(-7200, 7200), min_size=1, max_size=40),
    since=st.integers(-8000, 8000),
    until=st.integers(-8000, 8000),
)
def test_since_and_until_are_exact_even_when_the_clock_is_set_back(
    steps: list[int], since: int, until: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("times") / "journal.sqlite3"
    times = [NOW_NS + step * 10**9 for step in steps]
    since_ns, until_ns = NOW_NS + since * 10**9, NOW_NS + until * 10**9
    with opened(path) as journal:
        assert journal.append([Stored(at, ts, b"trade.1", b"") for at, ts in enumerate(times, 1)], {})
        with closing(JournalReader(path)) as reader:
            found = offsets(reader, since=since_ns, until=until_ns)
            assert found == [at for at, ts in enumerate(times, 1) if since_ns <= ts <= until_ns]
            assert offsets(reader, since=since_ns) == [at for at, ts in enumerate(times, 1) if ts >= since_ns]


def test_until_ends_the_search_where_time_has_passed_it(
    journal: Journal, reader: JournalReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "SCAN_ROWS", 10)
    add(journal, 5, ts=NOW_NS)
    add(journal, 1000, ts=NOW_NS + HOUR_NS)
    page = reader.page(after=0, until=NOW_NS)
    assert (len(page.events), page.next) == (5, None)


def test_since_is_whole_when_only_older_events_were_deleted(path: Path, clock: Clock) -> None:
    with opened(path, clock=clock) as journal, closing(JournalReader(path)) as reader:
        add(journal, 3, ts=NOW_NS)
        add(journal, 3, ts=NOW_NS + 2 * HOUR_NS)
        clock.advance((7 * 24 + 1) * 3600)
        journal.maintain(no_orders)
        by_offset = reader.page(after=0)
        assert ([event.offset for event in by_offset.events], by_offset.first_available) == ([4, 5, 6], 4)
        assert not by_offset.whole
        assert reader.page(after=3).whole
        assert reader.page(after=0, since=NOW_NS + HOUR_NS).whole
        assert not reader.page(after=0, since=NOW_NS).whole


def test_a_journal_without_events_has_no_first_one(path: Path) -> None:
    with opened(path), closing(JournalReader(path)) as reader:
        page = reader.page(after=0)
    assert (page.first_available, page.last, page.whole) == (0, 0, True)


def test_events_published_unstored_break_the_whole_for_those_before_them(path: Path, clock: Clock) -> None:
    with opened(path, clock=clock) as journal, closing(JournalReader(path, lambda: journal.unstored_after)) as reader:

        def whole(after: int, to: int | None = None) -> bool:
            return reader.page(after=after, to=to).whole

        add(journal, 3)
        assert whole(0)
        assert not journal.append([Stored(99, NOW_NS, b"", b"")], {})
        assert (whole(0), whole(3), whole(0, to=3)) == (False, False, True), "while the journal fails"
        clock.advance(1)
        journal.maintain(no_orders)
        add(journal, 2)
        assert (whole(0), whole(3), whole(4), whole(0, to=3)) == (False, False, True, True), "after it was repaired"
        assert not reader.page(after=0, since=NOW_NS).whole


def test_unstored_events_are_recorded_when_the_daemon_is_killed_before_it_can_record_a_gap(path: Path) -> None:
    journal = open_journal(path)
    add(journal, 3)
    assert not journal.append([Stored(99, NOW_NS, b"", b"")], {})
    with opened(path), closing(JournalReader(path)) as reader:
        assert not reader.page(after=3).whole
        assert [part.name for part in path.parent.glob("*.unstored")] == []


def test_a_reader_keeps_up_with_a_writer_and_never_sees_half_a_group(path: Path) -> None:
    faults: list[str] = []
    journal = open_journal(path)
    done: list[bool] = []

    def read() -> None:
        with closing(JournalReader(path)) as reader:
            position = 0
            while position < 6000:
                page = reader.page(after=position)
                found = [event.offset for event in page.events]
                if found != list(range(position + 1, position + 1 + len(found))) or page.last % 20:
                    faults.append(f"behind {position}: {found[:3]}, last {page.last}")
                    break
                position = found[-1] if found else position
        done.append(True)

    thread = Thread(target=read)
    thread.start()
    for _ in range(300):
        add(journal, 20)
    thread.join(60)
    journal.close()
    assert (faults, done) == ([], [True])


def test_a_reader_opens_the_file_that_replaced_the_old_one(tmp_path: Path) -> None:
    path, other = tmp_path / "journal.sqlite3", tmp_path / "other.sqlite3"
    with opened(path) as journal:
        add(journal, 3)
    with opened(other) as journal:
        add(journal, 5)
    with closing(JournalReader(path)) as reader:
        assert offsets(reader) == [1, 2, 3]
        other.replace(path)
        assert offsets(reader) == [1, 2, 3, 4, 5]


def test_a_journal_that_was_killed_can_be_read_without_a_daemon(path: Path) -> None:
    journal = open_journal(path)
    add(journal, 3)
    kill(journal)
    assert read_all(path) == [1, 2, 3]


def test_no_file_no_journal_and_a_newer_one_are_reported(tmp_path: Path) -> None:
    def fault(name: str) -> str:  # with the cause by its type: its text differs on Windows
        with closing(JournalReader(tmp_path / name)) as reader, pytest.raises(JournalError) as caught:
            offsets(reader)
        return f"{caught.value} {caught.value.__cause__!r}"

    (tmp_path / "text").write_text("no database at all, but long enough to be looked at " * 20)
    (tmp_path / "empty").touch()
    with opened(tmp_path / "newer"):
        pass
    with closing(sqlite3.connect(tmp_path / "newer")) as other:
        other.execute("PRAGMA user_version=3")
    assert "FileNotFoundError" in fault("none")
    assert str(tmp_path / "none") in fault("none")
    assert "not a journal" in fault("text")
    assert "not begun" in fault("empty")
    assert "version 3" in fault("newer")


def test_a_damaged_page_is_a_journal_error_and_not_the_end_of_the_reader(path: Path) -> None:
    with opened(path) as journal:
        add(journal, 2000, size=500)
    whole = path.read_bytes()
    hurt = bytearray(whole)
    for at in range(8 * 4096, len(hurt) - 4096, 4096):
        hurt[at : at + 100] = b"\xa5" * 100
    path.write_bytes(hurt)
    with closing(JournalReader(path)) as reader:
        with pytest.raises(JournalError, match="damaged"):
            offsets(reader)
        path.write_bytes(whole)
        assert len(offsets(reader)) == 2000
