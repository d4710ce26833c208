"""The write-ahead log is moved into the file by the checkpointer, and bounded by the pump thread.

Private access: two steps of a commit, because the checkpointer may run between them, and `append` does both.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from mt4pump.journal import Journal, JournalOptions, JournalReader
from mt4pump.journal import checkpointer as checkpointer_module
from mt4pump.journal import journal as journal_module
from mt4pump.journal import schema as schema_module
from mt4pump.journal import store as store_module
from tests.journal.journals import (
    Clock,
    add,
    checkpointer_of,
    events,
    no_orders,
    number,
    open_journal,
    opened,
    store_of,
    wait_for,
)


@pytest.fixture(autouse=True)
def hasty_checkpointer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpointer_module, "CHECK_INTERVAL_S", 0.01)
    monkeypatch.setattr(checkpointer_module, "CHECKPOINT_BYTES", 10_000)


def test_the_checkpointer_moves_the_log_so_that_it_restarts_by_itself(path: Path) -> None:
    with opened(path) as journal:
        checkpointer = checkpointer_of(journal)
        sizes = []
        for _ in range(5):
            add(journal, 100, size=500)
            written = store_of(journal).bytes_written
            wait_for(lambda written=written: checkpointer.moved_bytes >= written)  # type: ignore[misc]
            sizes.append(journal.counters()["wal_bytes"])
        assert sizes[-1] == sizes[-2], "the log is written over, it does not grow"


def test_what_is_about_to_be_committed_does_not_count_as_written_yet(path: Path) -> None:
    with opened(path) as journal:
        store = store_of(journal)
        store.connection.execute("BEGIN IMMEDIATE")
        store._insert(events(journal, b"trade.1", body=b"x" * 100))  # noqa: SLF001
        assert store.bytes_written == 0, "a checkpointer that moves the log now does not find it there"
        store._commit()  # noqa: SLF001
        assert store.bytes_written > 100


def test_the_checkpointer_syncs_the_reserved_offsets(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "RESERVE_BLOCK", 1000)
    threads: set[str] = set()
    monkeypatch.setattr(store_module, "sync_file", lambda _: threads.add(threading.current_thread().name))
    with opened(path) as journal:
        store = store_of(journal)
        store.reserved = store.reserved_synced = 600
        add(journal, 200)
        assert store.reserved == 1200
        wait_for(lambda: store.reserved_synced == 1200)
        assert threads == {"journal-checkpointer"}


def test_a_log_beyond_its_limit_is_restarted_on_request(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "WAL_FORCE", 1000)
    restarts: list[bool] = []
    with opened(path, JournalOptions(max_bytes=400_000)) as journal:
        checkpointer, store = checkpointer_of(journal), store_of(journal)
        restart_wal = store.restart_wal

        def restart(*, shrink: bool) -> bool:
            restarts.append(restart_wal(shrink=shrink))
            return restarts[-1]

        monkeypatch.setattr(store, "restart_wal", restart)
        add(journal, 500, size=500)
        wait_for(lambda: checkpointer.restart_wanted)
        before = number(journal, "wal_bytes")
        wait_for(lambda: word_taken(journal, checkpointer))
        assert number(journal, "wal_bytes") <= before
        assert journal.fault_counters.counts["wal_held"] == 0
        assert any(restarts)


def word_taken(journal: Journal, checkpointer: checkpointer_module.Checkpointer) -> bool:
    add(journal, 1)
    return not checkpointer.restart_wanted


@contextmanager
def foreign_transaction(path: Path) -> Iterator[None]:
    """A backup, a shell or a scanner that reads from the file and does not end its transaction."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM events").fetchone()
        yield
        other.execute("ROLLBACK")


def until(journal: Journal, is_so: Callable[[], bool], clock: Clock | None = None) -> None:
    """Maintain and add until something holds."""

    def goes_on() -> bool:
        if clock is not None:
            clock.advance(1)
        journal.maintain(no_orders)
        if not is_so():
            journal.append(events(journal, *[b"trade.1"] * 20, body=b"x" * 500), {})
            return False
        return True

    wait_for(goes_on)


def maintained(journal: Journal, orders: dict[int, bytes] | None = None) -> Journal:
    journal.maintain(lambda: orders or {})
    return journal


def test_a_log_that_a_foreign_transaction_holds_is_counted_and_logged_once_and_shrinks_afterwards(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    limit = 400_000
    with opened(path, JournalOptions(max_bytes=limit * 4)) as journal:
        assert number(journal, "wal_limit_bytes") == limit
        add(journal, 10)
        with foreign_transaction(path):
            until(journal, lambda: number(journal, "wal_bytes") > 8 * limit)
            until(journal, lambda: number(journal, "wal_held_s") > 0)
            assert journal.durable
            assert journal.fault_counters.counts["wal_held"] == 1
            assert caplog.text.count("another program's open transaction keeps it from being emptied") == 1
        until(journal, lambda: number(journal, "wal_held_s") == 0)
        until(journal, lambda: number(journal, "wal_bytes") <= limit)
        assert journal.fault_counters.counts["wal_held"] == 1
        with foreign_transaction(path):
            until(journal, lambda: journal.fault_counters.counts["wal_held"] == 2)
        assert (journal.durable, journal.counters()["errors"], journal.counters()["unstored"]) == (True, 0, 0)


def test_a_log_that_is_held_shrinks_also_when_nothing_more_is_stored(path: Path) -> None:
    with opened(path, JournalOptions(max_bytes=400_000)) as journal:
        add(journal, 10)
        with foreign_transaction(path):
            until(journal, lambda: number(journal, "wal_bytes") > 1_000_000 and number(journal, "wal_held_s") > 0)
        wait_for(lambda: number(maintained(journal), "wal_bytes") <= 200_000)


def test_a_log_that_is_held_takes_nothing_more_at_its_bound_and_all_goes_on_when_it_is_free(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(schema_module, "WAL_HELD_LEAST_BYTES", 2_000_000)
    orders = {5: b"an order"}
    with opened(path, JournalOptions(max_bytes=400_000, identity="me")) as journal:
        assert journal.append((), dict(orders))
        add(journal, 10)
        with foreign_transaction(path):
            until(journal, lambda: not journal.durable)
            size = number(journal, "wal_bytes")
            assert size >= 2_000_000  # how far beyond depends on how long a slow checkpointer holds the log
            stored = journal.last_offset
            for _ in range(50):
                assert not journal.append(events(journal, *[b"trade.1"] * 20, body=b"x" * 500), {6: b"another"})
                journal.maintain(lambda: orders)
            assert (number(journal, "wal_bytes"), journal.last_offset) == (size, stored)
            assert number(journal, "unstored") >= 1000
            assert "held by another program's open transaction" in journal.error
            assert journal.unstored_after == stored
            assert journal.fault_counters.counts["wal_full"] == 1
            assert "events are published unstored from here on" in caplog.text
        wait_for(lambda: maintained(journal, orders).durable)
        assert (journal.error, journal.counters()["error"]) == ("", "")
        add(journal, 5)
        assert number(journal, "wal_bytes") <= 200_000
        assert journal.open_orders() == orders
        last = journal.last_offset
    with closing(JournalReader(path)) as reader:
        assert not reader.page(after=stored - 1, limit=1).whole
        assert reader.page(after=last - 1, limit=1).whole


def test_a_daemon_that_ends_while_its_log_is_full_records_the_gap_at_its_next_start(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema_module, "WAL_HELD_LEAST_BYTES", 1_000_000)
    with opened(path, JournalOptions(max_bytes=400_000)) as journal:
        add(journal, 10)
        with foreign_transaction(path):
            until(journal, lambda: not journal.durable)
            stored = journal.last_offset
            journal.append(events(journal, b"trade.1"), {})
            journal.close()
    with opened(path) as journal:
        add(journal, 1)
        with closing(JournalReader(path)) as reader:
            assert not reader.page(after=stored, limit=1).whole


def test_a_reader_that_moves_on_holds_nothing(path: Path) -> None:
    """Our own reader, page by page, and any that begins a new transaction now and then."""
    with opened(path, JournalOptions(max_bytes=400_000)) as journal, closing(JournalReader(path)) as reader:
        add(journal, 10)
        for _ in range(8):
            until(journal, lambda: True)
            add(journal, 200, size=500)
            reader.page(after=0)
        until(journal, lambda: number(journal, "wal_bytes") <= 300_000)
        assert journal.fault_counters.counts["wal_held"] == 0


def test_the_bounds_follow_the_size_that_was_set() -> None:
    mib = 2**20
    assert JournalOptions().wal_limit_bytes == 256 * mib
    assert JournalOptions(max_bytes=64 * mib).wal_limit_bytes == 16 * mib
    assert JournalOptions().wal_max_bytes == 0
    assert JournalOptions(max_bytes=64 * mib).wal_max_bytes == 256 * mib
    assert JournalOptions(max_bytes=2**40).wal_max_bytes == 2**40


def test_a_fault_of_the_checkpointer_is_counted_and_a_new_one_started(path: Path) -> None:
    with opened(path) as journal:
        checkpointer = checkpointer_of(journal)
        checkpointer.error = OSError(28, "No space left on device")
        journal.maintain(no_orders)
        assert checkpointer_of(journal) is not checkpointer
        assert journal.durable
        assert (journal.counters()["errors"], journal.fault_counters.counts["file_error"]) == (1, 1)
        checkpointer.stop()
        checkpointer.join()


def test_damage_met_by_the_checkpointer_quarantines_the_file(path: Path, clock: Clock) -> None:
    with opened(path, clock=clock) as journal:
        add(journal, 3)
        checkpointer_of(journal).error = corrupt()
        journal.maintain(no_orders)
        assert not journal.durable
        clock.advance(1)
        journal.maintain(no_orders)
        add(journal, 1)
        assert (journal.last_offset, journal.counters()["set_aside"]) == (4, 1)


def corrupt() -> sqlite3.Error:
    with closing(sqlite3.connect(":memory:")) as connection:
        try:
            connection.deserialize(b"SQLite format 3\0" + b"\xa5" * 4080)
            connection.execute("SELECT * FROM sqlite_master")
        except sqlite3.Error as error:
            return error
    raise AssertionError("that should have been no database")


def test_closing_stops_the_checkpointer_and_empties_the_log_also_beside_a_reader(path: Path) -> None:
    journal = open_journal(path)
    add(journal, 100)
    checkpointer = checkpointer_of(journal)
    with closing(JournalReader(path)) as reader:
        assert len(reader.page(after=0).events) == 100
        journal.close()
        assert not checkpointer.is_alive()
        wal = path.with_name(path.name + "-wal")
        assert not wal.exists() or wal.stat().st_size == 0, "gone where the reader holds no file between two pages"
        assert len(reader.page(after=0).events) == 100
