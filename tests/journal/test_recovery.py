"""A file that cannot be used is quarantined, never deleted, and offsets continue."""

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from mt4pump.journal import opening
from mt4pump.journal.opening import is_orphaned, quarantine, recover_last_offset
from mt4pump.journal.schema import companion
from mt4pump.journal.store import RESERVE_BLOCK
from tests.journal.journals import (
    NOW_NS,
    Clock,
    add,
    append_until_refused,
    first_page,
    kill,
    no_orders,
    open_journal,
    opened,
    read_all,
    store_of,
)

MICROSECONDS = NOW_NS // 1000
NAME = "journal.sqlite3.damaged-20270115T080000Z"
FILES_CAN_BE_TAKEN = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows lets nobody delete or replace a file that the daemon has open"
)


def test_a_text_file_in_its_place_is_quarantined_and_kept(path: Path) -> None:
    text = "not a database, whatever its name says\n" * 100
    path.write_text(text)
    with opened(path) as journal:
        assert journal.durable
        assert journal.last_offset == MICROSECONDS
        assert (journal.counters()["set_aside"], journal.fault_counters.counts["damaged"]) == (1, 1)
        add(journal, 1)
        assert journal.last_offset == MICROSECONDS + 1
    assert path.with_name(NAME).read_text() == text
    page = first_page(path)
    assert (page.first_available, page.whole) == (MICROSECONDS + 1, False), "what was before is unknown"
    assert not first_page(path, since=NOW_NS - 1).whole
    assert first_page(path, after=MICROSECONDS).whole


def test_another_programs_database_is_quarantined_and_kept(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (x)")
        other.execute("INSERT INTO theirs VALUES (7)")
        other.commit()
    with opened(path) as journal:
        add(journal, 1)
    with closing(sqlite3.connect(path.with_name(NAME))) as other:
        assert other.execute("SELECT x FROM theirs").fetchall() == [(7,)]


def test_an_empty_file_is_used_and_nothing_is_quarantined(path: Path) -> None:
    path.touch()
    with opened(path) as journal:
        add(journal, 1)
        assert (journal.last_offset, journal.counters()["set_aside"]) == (1, 0)


@pytest.mark.parametrize("page", [0, 1, 2, 3])
def test_damaged_bytes_at_the_head_of_the_file_never_give_an_offset_twice(path: Path, page: int) -> None:
    with opened(path) as journal:
        add(journal, 500, size=300)
        log_id = journal.log_id
    hurt = bytearray(path.read_bytes())
    hurt[page * 4096 : page * 4096 + 200] = b"\xa5" * 200
    path.write_bytes(hurt)
    with opened(path) as journal:
        add(journal, 1)
        assert journal.durable
        assert journal.last_offset > 500
        assert (journal.log_id == log_id) == (journal.counters()["set_aside"] == 0), "a new file has a new identity"
        last = journal.last_offset
    assert read_all(path, after=last - 1) == [last]


def test_damage_of_the_newest_page_is_bridged_by_the_other_metadata(path: Path) -> None:
    with opened(path) as journal:
        add(journal, 500, size=300)
    hurt = bytearray(path.read_bytes())
    for at in range(8 * 4096, len(hurt), 4096):
        hurt[at : at + 4096] = b"\xa5" * 4096
    path.write_bytes(hurt)
    with opened(path) as journal:
        assert journal.durable
        assert 500 <= journal.last_offset <= 500 + 2 * RESERVE_BLOCK
        assert journal.counters()["set_aside"] == 1


@pytest.mark.parametrize("kept", [100, 4096, 5000, 3 * 4096, 10 * 4096])
def test_a_truncated_file_never_gives_an_offset_twice(path: Path, kept: int) -> None:
    with opened(path) as journal:
        add(journal, 500, size=300)
    path.write_bytes(path.read_bytes()[:kept])
    with opened(path) as journal:
        add(journal, 1)
        assert journal.last_offset > 500
        assert journal.counters()["set_aside"] == 1


def test_damage_met_at_run_time_quarantines_the_file_and_continues_by_one_with_all_orders(
    path: Path, clock: Clock
) -> None:
    with opened(path, clock=clock) as journal:
        assert journal.append((), {1: b"one"})
        add(journal, 300, size=300)
        log_id, store = journal.log_id, store_of(journal)
        store.restart_wal()
        store.connection.execute("PRAGMA cache_size=0")
        store.connection.execute("PRAGMA shrink_memory")
        with path.open("r+b") as file:
            for page in range(1, path.stat().st_size // 4096):
                file.seek(page * 4096)
                file.write(b"\xa5" * 4096)
        append_until_refused(journal)
        assert not journal.durable
        assert "damaged" in journal.error
        clock.advance(1)
        journal.maintain(lambda: {1: b"one", 2: b"two"})
        assert journal.durable, journal.error
        assert (journal.last_offset, journal.counters()["set_aside"]) == (300, 1)
        assert journal.log_id != log_id
        assert journal.open_orders() == {1: b"one", 2: b"two"}
        assert journal.last_offsets == {"trade": 300}
        add(journal, 1)
    assert path.with_name("journal.sqlite3.damaged-20270115T080001Z").exists()
    page = first_page(path)
    assert ([event.offset for event in page.events], page.whole) == ([301], False)


def test_a_file_cut_short_under_the_daemon_is_detected_and_quarantined(path: Path, clock: Clock) -> None:
    with opened(path, clock=clock) as journal:
        add(journal, 300, size=300)
        store_of(journal).restart_wal()
        journal.maintain(no_orders)
        with path.open("r+b") as file:
            file.truncate(4096)
        journal.maintain(no_orders)
        assert not journal.durable
        assert "cut short" in journal.error
        clock.advance(1)
        journal.maintain(no_orders)
        add(journal, 1)
        assert (journal.last_offset, journal.counters()["set_aside"]) == (301, 1)


@FILES_CAN_BE_TAKEN
def test_a_file_deleted_under_the_daemon_is_created_anew_and_offsets_continue(path: Path, clock: Clock) -> None:
    with opened(path, clock=clock) as journal:
        assert journal.append((), {1: b"one"})
        add(journal, 3)
        log_id = journal.log_id
        for suffix in ("", "-wal", "-shm"):
            companion(path, suffix).unlink()
        journal.maintain(no_orders)
        assert not journal.durable
        assert "deleted" in journal.error
        clock.advance(1)
        journal.maintain(lambda: {1: b"one"})
        add(journal, 1)
        assert journal.last_offset == 4
        assert journal.log_id != log_id
        assert journal.open_orders() == {1: b"one"}
    assert read_all(path) == [4]


@FILES_CAN_BE_TAKEN
def test_an_older_file_put_in_its_place_does_not_take_offsets_back(tmp_path: Path, path: Path, clock: Clock) -> None:
    backup = tmp_path / "backup.sqlite3"
    with opened(path, clock=clock) as journal:
        add(journal, 2)
    backup.write_bytes(path.read_bytes())
    with opened(path, clock=clock) as journal:
        add(journal, 8)
        companion(path, "-wal").unlink()
        companion(path, "-shm").unlink()
        backup.replace(path)
        journal.maintain(no_orders)
        assert "replaced" in journal.error or "deleted" in journal.error
        clock.advance(1)
        journal.maintain(no_orders)
        add(journal, 1)
        assert journal.last_offset == 11
    page = first_page(path)
    assert ([event.offset for event in page.events], page.whole) == ([1, 2, 11], False)
    assert first_page(path, after=10).whole


def test_a_log_without_its_file_is_quarantined_and_not_destroyed(path: Path) -> None:
    journal = open_journal(path)
    add(journal, 3)
    kill(journal)
    path.unlink()
    assert is_orphaned(path)
    wal = companion(path, "-wal").read_bytes()
    with opened(path) as journal:
        assert journal.last_offset == MICROSECONDS
    assert companion(path.with_name(NAME), "-wal").read_bytes() == wal


def test_a_log_deleted_after_a_kill_does_not_take_offsets_back(path: Path) -> None:
    journal = open_journal(path)
    add(journal, 3)
    store = store_of(journal)
    store.restart_wal()
    add(journal, 2)
    kill(journal)
    companion(path, "-wal").unlink()
    with opened(path) as journal:
        assert journal.last_offset == RESERVE_BLOCK
        add(journal, 1)
    assert not first_page(path).whole
    assert read_all(path) == [1, 2, 3, RESERVE_BLOCK + 1]


def test_names_of_files_quarantined_in_one_second_differ(path: Path) -> None:
    for text in ("one", "two", "three"):
        path.write_text(text)
        companion(path, "-wal").write_text(text)
        moved = quarantine(path, NOW_NS)
        assert (moved.read_text(), companion(moved, "-wal").read_text()) == (text, text)
    assert len(list(path.parent.iterdir())) == 6


def test_quarantine_gives_up_after_a_bounded_number_of_names(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "NAMES_LIMIT", 1)
    path.write_text("one")
    quarantine(path, NOW_NS)
    path.write_text("two")
    with pytest.raises(OSError, match="damaged"):
        quarantine(path, NOW_NS)
    assert path.read_text() == "two"


def test_recovery_finds_the_last_offset_of_a_sound_file_and_nothing_in_a_text(path: Path) -> None:
    with opened(path) as journal:
        add(journal, 3)
    assert recover_last_offset(path) == RESERVE_BLOCK
    path.write_text("text " * 1000)
    assert recover_last_offset(path) is None
    assert recover_last_offset(path.with_name("none")) is None
