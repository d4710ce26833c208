"""Faults of the disk: reported, counted, survived; `append` returns False meanwhile.

Private access: the pause before the next attempt, because that it is short again shows only at the next fault.
"""

import itertools
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from mt4pump.journal import Journal, Stored
from mt4pump.journal import journal as journal_module
from mt4pump.journal import opening as opening_module
from mt4pump.journal.schema import VERSION, explain, is_damage
from mt4pump.journal.store import OpenOrders
from tests.journal.journals import (
    NOW_NS,
    Clock,
    add,
    append_until_refused,
    events,
    first_page,
    no_orders,
    open_journal,
    opened,
    read_all,
    store_of,
)


def connection_of(journal: Journal) -> sqlite3.Connection:
    return store_of(journal).connection


def test_a_full_disk_is_reported_and_counted_and_all_orders_are_stored_afterwards(path: Path, clock: Clock) -> None:
    with opened(path, clock=clock) as journal:
        assert journal.append((), {1: b"one"})
        add(journal, 5)
        connection_of(journal).execute("PRAGMA max_page_count=20")
        stored = append_until_refused(journal)
        assert not journal.durable
        assert "the disk is full" in journal.error
        assert str(path) in journal.error
        assert not journal.append([Stored(0, NOW_NS, b"trade.1", b"")] * 3, {2: b"two"})
        counters = journal.counters()
        assert (counters["unstored"], counters["errors"], journal.fault_counters.counts["disk_full"]) == (8, 1, 1)
        assert journal.last_offset == stored
        journal.maintain(lambda: {2: b"two", 3: b"three"})
        assert not journal.durable, "not before its time"
        clock.advance(1)
        journal.maintain(lambda: {2: b"two", 3: b"three"})
        assert (journal.durable, journal.error, journal.unstored_after) == (True, "", None)
        assert journal.open_orders() == {2: b"two", 3: b"three"}
        add(journal, 1)
        assert journal.last_offset == stored + 1
    assert not first_page(path, after=stored).whole
    assert first_page(path, after=stored + 1).whole


def test_retries_back_off_to_half_a_minute_and_start_again_after_success(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(path, clock=clock) as journal:
        connection_of(journal).execute("PRAGMA max_page_count=1")
        append_until_refused(journal)

        def refuse(*_: object) -> None:
            raise sqlite3.OperationalError("no")

        sound, tried = opening_module.open_store, []
        monkeypatch.setattr(journal_module, "open_store", refuse)
        for second in range(200):
            before = journal.counters()["errors"]
            clock.advance(1)
            journal.maintain(no_orders)
            if journal.counters()["errors"] != before:
                tried.append(second)
        waits = [later - earlier for earlier, later in itertools.pairwise(tried)]
        assert waits == [2, 4, 8, 16, 30, 30, 30, 30, 30]
        monkeypatch.setattr(journal_module, "open_store", sound)
        clock.advance(30)
        journal.maintain(no_orders)
        journal.maintain(no_orders)
        assert journal.durable
        assert journal._backoff.upcoming_s == 1.0  # noqa: SLF001


def test_a_folder_in_its_place_is_reported_and_left_alone(path: Path, clock: Clock) -> None:
    (path / "inside").mkdir(parents=True)
    with opened(path, clock=clock) as journal:
        assert not journal.durable
        assert "folder" in journal.error
        assert journal.counters()["set_aside"] == 0
        assert (journal.log_id, journal.last_offset, journal.has_orders, journal.open_orders()) == ("", 0, False, {})
        assert (path / "inside").is_dir()
        (path / "inside").rmdir()
        path.rmdir()
        clock.advance(1)
        journal.maintain(no_orders)
        add(journal, 1)
        assert journal.last_offset == 1


def test_a_file_in_place_of_the_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("no folder")
    with opened(tmp_path / "data" / "journal.sqlite3") as journal:
        assert not journal.durable
        assert "data" in journal.error


def test_a_read_only_file_is_reported(path: Path, clock: Clock) -> None:
    # Rights do not bind a superuser, who may well run the tests: SQLite itself is made to refuse every write.
    with opened(path, clock=clock) as journal:
        connection_of(journal).execute("PRAGMA query_only=1")
        assert not journal.append(events(journal, b"trade.1"), {})
        assert "read-only" in journal.error
        assert journal.fault_counters.counts["read_only"] == 1


@pytest.mark.skipif(
    sys.platform == "win32" or not Path("/proc/self").exists(), reason="no folder that takes no files, whoever asks"
)
def test_a_folder_that_accepts_no_files_is_reported() -> None:
    with opened(Path("/proc/journal.sqlite3")) as journal:
        assert not journal.durable
        assert "cannot be opened" in journal.error
        assert not journal.append([Stored(1, NOW_NS, b"trade.1", b"")], {}), "nor can a file be made beside it"


def test_a_file_locked_by_another_process_costs_a_short_wait_and_is_reported(path: Path, clock: Clock) -> None:
    with opened(path, clock=clock) as journal, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert not journal.append(events(journal, b"trade.1"), {})
        assert "locked" in journal.error
        clock.advance(1)
        journal.maintain(no_orders)
        assert not journal.durable
        other.execute("ROLLBACK")
        clock.advance(2)
        journal.maintain(no_orders)
        add(journal, 1)
    assert read_all(path) == [1]


def test_a_second_daemon_on_the_same_file_is_noticed_by_both_and_no_offset_is_given_twice(
    path: Path, clock: Clock
) -> None:
    one, two = open_journal(path, clock=clock), open_journal(path, clock=clock)
    add(one, 3)
    assert not two.append(events(two, b"trade.2"), {}), "that offset is taken"
    assert "another process" in two.error
    assert "data_dir" in two.error
    clock.advance(1)
    two.maintain(no_orders)
    assert two.last_offset == 3
    add(two, 1)
    one.maintain(no_orders)
    assert not one.durable
    assert one.fault_counters.counts["other_writer"] == 1
    one.close()
    two.close()
    assert read_all(path) == [1, 2, 3, 4]


def test_maintenance_does_not_take_its_own_checkpointer_for_another_process(path: Path, clock: Clock) -> None:
    with opened(path, clock=clock) as journal:
        for _ in range(5):
            add(journal, 50, size=500)
            assert journal.durable
            with closing(sqlite3.connect(path)) as checkpointer:
                checkpointer.execute("PRAGMA wal_checkpoint(PASSIVE)")
            journal.maintain(no_orders)
        assert journal.durable, journal.error


def test_a_newer_version_of_the_tables_is_left_alone(path: Path, clock: Clock) -> None:
    with opened(path, clock=clock) as journal:
        add(journal, 1)
    with closing(sqlite3.connect(path)) as newer:
        newer.execute(f"PRAGMA user_version={VERSION + 1}")
    with opened(path, clock=clock) as journal:
        assert not journal.durable
        assert f"version {VERSION + 1}" in journal.error
        assert (journal.counters()["set_aside"], journal.fault_counters.counts["newer_version"]) == (0, 1)


def test_an_older_version_of_the_tables_is_quarantined_and_offsets_continue(path: Path, clock: Clock) -> None:
    with opened(path, clock=clock) as journal:
        add(journal, 7)
    with closing(sqlite3.connect(path)) as older:
        older.execute(f"PRAGMA user_version={VERSION - 1}")
    with opened(path, clock=clock) as journal:
        assert journal.durable
        assert journal.counters()["set_aside"] == 1
        assert journal.last_offset >= 7  # behind what the old file had reserved


def test_a_place_without_write_ahead_log_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    def memory(*_: object, **__: object) -> sqlite3.Connection:
        return sqlite3.connect(":memory:", isolation_level=None)

    monkeypatch.setattr(opening_module, "connect", memory)
    with opened(path) as journal:
        assert "local disk" in journal.error


@pytest.mark.skipif(os.name == "nt", reason="no limit of that kind here")
def test_a_file_size_limit_is_an_io_error_that_stops_nothing(path: Path) -> None:
    # The limit binds the whole process, so that a child has it.
    program = f"""
import resource, sys
from pathlib import Path
from tests.journal.journals import add, append_until_refused, no_orders, open_journal, Clock
clock = Clock()
journal = open_journal(Path({str(path)!r}), clock=clock)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
last = append_until_refused(journal)
print(last, journal.error)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
clock.advance(1)
journal.maintain(no_orders)
add(journal, 1)
print(journal.last_offset, journal.durable, journal.error)
journal.close()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    failed, recovered = done.stdout.splitlines()
    last, _, printed = failed.partition(" ")
    assert "disk" in printed
    assert recovered == f"{int(last) + 1} True "
    assert read_all(path) == list(range(1, int(last) + 2))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipes among its files")
def test_a_pipe_instead_of_a_file_is_reported_and_left_where_it_is(path: Path) -> None:
    os.mkfifo(path)
    journal = open_journal(path)
    assert not journal.durable
    assert "a device or a pipe" in journal.error
    journal.close()
    assert [file.name for file in path.parent.iterdir() if file.name.startswith(path.name)] == [path.name]
    assert path.is_fifo()


def test_orders_that_the_caller_never_had_are_left_alone_after_a_fault(path: Path, clock: Clock) -> None:
    with opened(path, clock=clock) as journal:
        assert journal.append((), {1: b"one"})
    with opened(path, clock=clock) as journal:
        connection_of(journal).execute("PRAGMA query_only=1")
        assert not journal.append(events(journal, b"trade.1"), {})
        clock.advance(1)
        journal.maintain(lambda: pytest.fail("nobody has all open orders yet"))
        assert journal.open_orders() == {1: b"one"}


def test_orders_that_could_not_be_stored_are_stored_after_recovery(path: Path, clock: Clock) -> None:
    path.mkdir()
    with opened(path, clock=clock) as journal:
        assert not journal.append((), {1: b"one"})
        path.rmdir()
        clock.advance(1)
        journal.maintain(lambda: {1: b"one", 5: b"five"})
        assert journal.has_orders
        assert journal.open_orders() == {1: b"one", 5: b"five"}


def test_orders_of_the_last_run_are_not_overwritten_unread_by_a_file_that_opens_late(path: Path, clock: Clock) -> None:
    with opened(path) as journal:
        assert journal.append((), {1: b"one", 2: b"two"})
    moved = path.with_name("moved")
    path.rename(moved)
    path.mkdir()
    with opened(path, clock=clock) as journal:
        assert not journal.append((), {2: b"two"})
        assert not journal.has_unread_orders
        path.rmdir()
        moved.rename(path)
        clock.advance(1)
        journal.maintain(lambda: {2: b"two"})
        assert journal.has_unread_orders
        assert journal.open_orders() == {1: b"one", 2: b"two"}
        assert not journal.has_unread_orders
        journal.replace_orders({2: b"two"})
        assert journal.open_orders() == {2: b"two"}


def test_orders_that_cannot_be_read_stay_unread_until_the_file_opens_again(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise sqlite3.OperationalError("no")

    with opened(path) as journal:
        assert journal.append((), {1: b"one"})
    with opened(path, clock=clock) as journal:
        with monkeypatch.context() as patch:
            patch.setattr(OpenOrders, "rows", fail)
            assert journal.open_orders() == {}
        assert not journal.durable
        assert not journal.append((), {2: b"two"})
        clock.advance(1)
        journal.maintain(lambda: {2: b"two"})
        assert journal.has_unread_orders
        assert journal.open_orders() == {1: b"one"}


def test_orders_that_cannot_be_replaced_are_a_fault_like_any_other(path: Path, clock: Clock) -> None:
    with opened(path, clock=clock) as journal:
        assert journal.append((), {1: b"one"})
        connection_of(journal).execute("PRAGMA query_only=1")
        journal.replace_orders({2: b"two"})
        assert not journal.durable
        journal.replace_orders({3: b"three"})
        clock.advance(1)
        journal.maintain(lambda: {2: b"two"})
        assert journal.open_orders() == {2: b"two"}


def test_errors_without_advice_are_reported_too() -> None:
    path = Path("/x/journal.sqlite3")
    assert "no advice" in explain(sqlite3.OperationalError("odd"), path, "doing").text
    assert explain(OverflowError("big"), path, "doing").name == "value_error"
    assert explain(OSError(5, "Input/output error"), path, "doing").text.count("Input/output error") == 1
    assert not is_damage(OSError())
