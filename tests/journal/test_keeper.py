"""The write-ahead log is moved into the file by the keeper, and bounded by the pump thread."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mt4pump.journal import JournalReader
from mt4pump.journal import keeper as keeper_module
from mt4pump.journal import store as store_module
from mt4pump.journal import writer as writer_module
from tests.journal.making import Clock, add, events, nothing, open_journal, opened, read_all, wait_for


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite3"


@pytest.fixture(autouse=True)
def hasty_keeper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper_module, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(keeper_module, "CHECKPOINT_BYTES", 10_000)


def test_the_keeper_moves_the_log_so_that_it_begins_anew_by_itself(path: Path) -> None:
    with opened(path) as journal:
        keeper = journal._keeper
        assert keeper is not None
        sizes = []
        for _ in range(5):
            add(journal, 100, size=500)
            assert journal._store is not None
            written = journal._store.bytes_written
            wait_for(lambda written=written: keeper.kept_bytes >= written)  # type: ignore[misc]
            sizes.append(journal.vitals()["wal_bytes"])
        assert sizes[-1] == sizes[-2], "the log is written over, it does not grow"


def test_what_is_about_to_be_committed_does_not_count_as_written_yet(path: Path) -> None:
    with opened(path) as journal:
        store = journal._store
        assert store is not None
        store.connection.execute("BEGIN IMMEDIATE")
        store._insert(events(journal, b"trade.1", body=b"x" * 100))
        assert store.bytes_written == 0, "a keeper that moves the log now does not find it there"
        store._commit()
        assert store.bytes_written > 100


def test_the_keeper_syncs_the_mark_of_reserved_offsets(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "RESERVE_BLOCK", 1000)
    with opened(path) as journal:
        store = journal._store
        assert store is not None
        store.reserved = store.reserved_synced = 600
        add(journal, 200)
        assert store.reserved == 1200
        wait_for(lambda: store.reserved_synced == 1200)
        assert store.late_syncs == 0


def test_a_log_beyond_its_bound_is_begun_anew_at_the_keepers_word(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper_module, "WAL_LIMIT_BYTES", 100_000)
    with opened(path) as journal:
        keeper = journal._keeper
        assert keeper is not None
        add(journal, 500, size=500)
        wait_for(lambda: keeper.restart_wanted)
        before = journal.vitals()["wal_bytes"]
        wait_for(lambda: word_taken(journal, keeper))
        assert journal.vitals()["wal_bytes"] == before
        assert journal.complaints.counts["wal_held"] == 0
        assert journal.wal_restarts > 0


def word_taken(journal: writer_module.Journal, keeper: keeper_module.Keeper) -> bool:
    add(journal, 1)
    return not keeper.restart_wanted


def test_a_log_beyond_its_bound_is_begun_anew_unless_a_reader_holds_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "WAL_LIMIT_BYTES", 50_000)
    with opened(path) as journal, closing(sqlite3.connect(path, isolation_level=None)) as other:
        add(journal, 10)
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM events").fetchone()
        add(journal, 500, size=500)
        wait_for(lambda: held(journal))
        other.execute("ROLLBACK")
        wait_for(lambda: writes_over_its_beginning(journal))
        assert journal.durable
        stored = journal.last_offset
    assert read_all(path) == list(range(1, stored + 1))


def writes_over_its_beginning(journal: writer_module.Journal) -> bool:
    """Whether the log did not grow with what was added. The keeper may be in the way for a moment."""
    journal.tend(nothing)
    before = journal.vitals()["wal_bytes"]
    add(journal, 10)
    return journal.vitals()["wal_bytes"] == before


def held(journal: writer_module.Journal) -> bool:
    journal.tend(nothing)
    return journal.complaints.counts["wal_held"] > 0


def test_trouble_of_the_keeper_is_counted_and_a_new_one_begun(path: Path) -> None:
    with opened(path) as journal:
        keeper = journal._keeper
        assert keeper is not None
        keeper.trouble = OSError(28, "No space left on device")
        journal.tend(nothing)
        assert journal._keeper is not keeper
        assert journal.durable
        assert (journal.vitals()["errors"], journal.complaints.counts["file_error"]) == (1, 1)
        keeper.end()
        keeper.join()


def test_damage_met_by_the_keeper_sets_the_file_aside(path: Path) -> None:
    clock = Clock()
    with opened(path, clock=clock) as journal:
        add(journal, 3)
        assert journal._keeper is not None
        journal._keeper.trouble = corrupt()
        journal.tend(nothing)
        assert not journal.durable
        clock.advance(1)
        journal.tend(nothing)
        add(journal, 1)
        assert (journal.last_offset, journal.vitals()["set_aside"]) == (4, 1)


def corrupt() -> sqlite3.Error:
    with closing(sqlite3.connect(":memory:")) as connection:
        try:
            connection.deserialize(b"SQLite format 3\0" + b"\xa5" * 4080)
            connection.execute("SELECT * FROM sqlite_master")
        except sqlite3.Error as error:
            return error
    raise AssertionError("that should have been no database")


def test_closing_ends_the_keeper_and_empties_the_log_also_beside_a_reader(path: Path) -> None:
    journal = open_journal(path)
    add(journal, 100)
    keeper = journal._keeper
    assert keeper is not None
    with closing(JournalReader(path)) as reader:
        assert len(reader.page(after=0, to=None, prefixes=(), limit=1000).events) == 100
        journal.close()
        assert not keeper.is_alive()
        wal = path.with_name(path.name + "-wal")
        assert not wal.exists() or wal.stat().st_size == 0, "gone where the reader holds no file between two pages"
        assert len(reader.page(after=0, to=None, prefixes=(), limit=1000).events) == 100
