"""A loss of power may take back commits: offsets are skipped then, and only then."""

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from mt4pump.journal import Journal, JournalOptions
from mt4pump.journal import opening as opening_module
from mt4pump.journal import store as store_module
from mt4pump.journal.opening import boot_identity, is_same_boot
from mt4pump.journal.schema import companion
from mt4pump.journal.store import RESERVE_BLOCK
from mt4pump.private_files import sync_file
from tests.journal.journals import Clock, add, change_meta, first_page, kill, open_journal, opened, read_all, store_of

OTHER_BOOT = "id:00000000-0000-0000-0000-000000000000"


def lose_power(journal: Journal, path: Path) -> None:
    """Kill the daemon and restart the machine; all that was committed is on the disk, which nobody can know."""
    kill(journal)
    restart_machine(path)


def test_events_that_the_disk_never_had_do_not_have_their_offsets_given_again(path: Path) -> None:
    journal = open_journal(path)
    add(journal, 5)
    synced = companion(path, "-wal").read_bytes()
    add(journal, 5)
    kill(journal)
    companion(path, "-wal").write_bytes(synced)
    restart_machine(path)
    with opened(path) as journal:
        add(journal, 1)
    assert read_all(path) == [1, 2, 3, 4, 5, RESERVE_BLOCK + 1]
    assert not first_page(path, after=10).whole


def restart_machine(path: Path) -> None:
    change_meta(path, boot=OTHER_BOOT)  # moves the log into the file and deletes it
    companion(path, "-wal").write_bytes(bytes(32))  # a log was there, and nothing in it can be used


def test_after_a_loss_of_power_offsets_continue_after_those_reserved_on_the_disk(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = open_journal(path)
    add(journal, 5)
    lose_power(journal, path)
    with opened(path) as journal:
        assert journal.last_offset == RESERVE_BLOCK
        assert "the machine went down" in caplog.text
        add(journal, 2)
    assert read_all(path)[-2:] == [RESERVE_BLOCK + 1, RESERVE_BLOCK + 2]
    assert not first_page(path, after=5).whole, "6 and later may have been seen"
    assert first_page(path, after=RESERVE_BLOCK).whole
    assert first_page(path, after=0, to=4).whole, "what lies before the gap is complete"


@pytest.mark.parametrize("level", ["full", "extra"])
def test_with_synced_commits_nothing_is_skipped(path: Path, level: str) -> None:
    options = JournalOptions(synchronous="full")
    journal = open_journal(path, options)
    add(journal, 5)
    change_meta(path, synchronous=level)  # extra: as earlier versions wrote it
    lose_power(journal, path)
    with opened(path, options) as journal:
        assert journal.last_offset == 5
    assert first_page(path).whole


def test_the_level_of_the_run_that_ended_counts_not_the_new_one(path: Path) -> None:
    journal = open_journal(path, JournalOptions(synchronous="off"))
    add(journal, 5)
    lose_power(journal, path)
    with opened(path, JournalOptions(synchronous="full")) as journal:
        assert journal.last_offset == RESERVE_BLOCK


def test_after_a_clean_end_another_boot_skips_nothing(path: Path) -> None:
    with opened(path) as journal:
        add(journal, 5)
    change_meta(path, boot=OTHER_BOOT)
    with opened(path) as journal:
        assert journal.last_offset == 5


@pytest.mark.parametrize("made", ["after a clean end", "while the daemon ran"])
def test_a_restored_copy_uses_no_offset_again_that_readers_may_have(
    path: Path, clock: Clock, made: str, caplog: pytest.LogCaptureFixture
) -> None:
    copy = path.with_name("copy.sqlite3")
    journal = open_journal(path, clock=clock)
    add(journal, 5)
    if made == "after a clean end":
        journal.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM INTO ?", (str(copy),))
    if made == "after a clean end":
        journal = open_journal(path, clock=clock)
    for _ in range(30):
        clock.advance(0.1)
        add(journal, 9_000, ts=clock.ns)  # in 3 s more than are reserved, and less than a daemon can publish
    published = journal.last_offset
    journal.close()
    path.rename(path.with_name("old.sqlite3"))  # as the guide says
    copy.rename(path)
    with opened(path, clock=clock) as journal:
        assert journal.last_offset > published > 2 * RESERVE_BLOCK
        assert "is a copy" in caplog.text
        add(journal, 1)
        last = journal.last_offset
    assert not first_page(path, after=published).whole, "a reader that had all learns that it cannot know"
    with opened(path, clock=clock) as journal:
        assert journal.last_offset == last, "the copy is the daemon's file now"


def test_a_moved_file_is_no_copy(path: Path) -> None:
    with opened(path) as journal:
        add(journal, 5)
    moved = path.with_name("moved.sqlite3")
    path.rename(moved)
    with opened(moved) as journal:
        assert journal.last_offset == 5
    assert first_page(moved).whole


def test_a_file_of_an_earlier_version_is_no_copy(path: Path) -> None:
    with opened(path) as journal:
        add(journal, 5)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM meta WHERE name = 'inode'")
    with opened(path) as journal:
        assert journal.last_offset == 5


def test_since_over_a_break_is_not_whole(path: Path) -> None:
    journal = open_journal(path)
    add(journal, 5, ts=1_000)
    lose_power(journal, path)
    with opened(path, JournalOptions()) as journal:
        add(journal, 5, ts=3_000)
    assert not first_page(path, since=2_000).whole, "events of 2,000 may have been lost"


def test_reserved_offsets_are_on_the_disk_before_they_are_reached(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (store_module, opening_module):
        monkeypatch.setattr(module, "RESERVE_BLOCK", 100)
    journal = open_journal(path, JournalOptions())
    store = store_of(journal)
    late: list[Path] = []

    def sync_late(path: Path) -> None:
        if threading.current_thread() is threading.main_thread():
            late.append(path)
        sync_file(path)

    monkeypatch.setattr(store_module, "sync_file", sync_late)
    for _ in range(100):
        add(journal, 20)
        assert journal.last_offset <= store.reserved_synced <= store.reserved
    add(journal, 1000)
    assert journal.last_offset <= store.reserved_synced
    assert late, "the checkpointer cannot be that fast"
    journal.close()


def test_boots_are_distinguished() -> None:
    assert is_same_boot("id:a", "id:a")
    assert is_same_boot("at:1000", "at:1003")
    for one, other in (("id:a", "id:b"), ("at:1000", "at:1060"), ("at:1000", "id:a"), ("", ""), ("at:x", "at:1")):
        assert not is_same_boot(one, other)


def test_this_boot_has_an_identity_that_stays(tmp_path: Path) -> None:
    assert is_same_boot(boot_identity(), boot_identity())
    fallback = boot_identity(tmp_path / "none")
    assert fallback.startswith("at:")
    assert is_same_boot(fallback, boot_identity(tmp_path / "none"))


def test_a_kind_or_topic_that_became_text_is_read(path: Path) -> None:
    """One wrong bit in a row's header does it; SQLite notices nothing."""
    with opened(path) as journal:
        add(journal, 5)
        before = journal.last_offsets
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE kinds SET kind = CAST(kind AS TEXT)")
        connection.execute("UPDATE events SET topic = CAST(topic AS TEXT)")
        connection.execute("UPDATE meta SET value = 0 WHERE name = 'kinds_at'")
    with opened(path) as journal:
        assert journal.last_offsets == before
