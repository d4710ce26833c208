"""The store: all of a batch or nothing, each thing once, and no file that is somebody else's.

Private access: the store's connection, because the limit that stands for a full disk and the trace of its statements
belong to one connection.
"""

from __future__ import annotations

import math
import os
import sqlite3
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from mt4pump_consumers.monitor.execution import Alert
from mt4pump_consumers.monitor.recorder import CsvFile
from mt4pump_consumers.monitor.rules import Condition, RuleMemory
from mt4pump_consumers.monitor.store import IN_MEMORY_ROWS, Batch, MonitorStore

from mt4pump.process.program import StartError
from tests.consumers.monitor.monitor_run import NS, execution


@contextmanager
def opened(path: Path | None, **options: Any) -> Iterator[MonitorStore]:
    """Open a store with a webhook."""
    with closing(MonitorStore(path, **{"webhook": True, "backlog": 100, **options})) as store:
        yield store


def alert(name: str) -> Alert:
    """Return an alert of this id."""
    return Alert(name, "rule", "volume", "warning", "firing", "1001", 5, "text", {})


def kept(store: MonitorStore, query: str) -> list[Any]:
    """Return the rows of a query, as another program reads the file."""
    assert store.path is not None
    with closing(sqlite3.connect(store.path)) as reader:
        return reader.execute(query).fetchall()


def webhook_counts(store: MonitorStore) -> dict[str, int]:
    """Return how many alerts are none, pending, sent, failed, dropped."""
    return dict(kept(store, "SELECT webhook, count(*) FROM alerts GROUP BY webhook"))


def place(confirmed: int) -> dict[str, Any]:
    """Return a position."""
    return {"log": "l", "confirmed": confirmed, "ahead": {}}


def test_what_was_committed_is_there_in_the_next_run(tmp_path: Path) -> None:
    path, memory = tmp_path / "s.db", RuleMemory()
    memory.begin(("calls", "1001"), Condition(7, reported=True))
    memory.set_quiet(("big", "1001"), 9)
    done = execution(3, offset=11, comment="=cmd", profit=-1.5)
    with opened(path) as store:
        store.commit(Batch([done], [alert("a")], place(11)), memory)
        assert not memory.is_touched
    with opened(path) as store:
        assert store.position() == place(11)
        assert store.latest(10) == [done]
        again = store.memory()
        assert (again.conditions, again.quiet) == (memory.conditions, memory.quiet)
        assert webhook_counts(store) == {"pending": 1}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has ACLs instead of modes")
@pytest.mark.parametrize("exists", [False, True])
def test_store_lock_and_csv_are_for_this_user_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, exists: bool
) -> None:
    path, table = tmp_path / "s.db", tmp_path / "t.csv"
    before = os.umask(0)
    try:
        if exists:
            with opened(path):
                pass
            path.chmod(0o666)
        with opened(path) as store:
            csv = CsvFile(table, store)
            store.commit(Batch([execution(1)], [alert("a")], place(11)), RuleMemory())
            csv.write()
            modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("s.db", "s.db-wal", "s.db-shm", "s.db.lock", "t.csv"), 0o600)
    assert ("could be read by other users of this machine: made private" in caplog.text) is exists


def test_what_ended_is_forgotten_by_the_file_too(tmp_path: Path) -> None:
    memory = RuleMemory()
    memory.begin(("calls", "1001"), Condition(7, reported=True))
    with opened(tmp_path / "s.db") as store:
        store.commit(Batch(), memory)
        memory.end(("calls", "1001"))
        store.commit(Batch(), memory)
        assert store.memory().conditions == {}


def test_an_event_that_comes_again_is_kept_once_and_counted(tmp_path: Path) -> None:
    with opened(tmp_path / "s.db") as store:
        store.commit(Batch([execution(1), execution(2)], [alert("a")]), RuleMemory())
        store.commit(Batch([execution(2), execution(3)], [alert("a"), alert("b")]), RuleMemory())
        assert (store.counts["executions"], store.counts["repeats"], store.counts["alerts"]) == (3, 1, 2)
        assert [done.seq for done in store.latest(10)] == [1, 2, 3]


def test_the_same_number_in_another_life_of_the_daemon_is_another_event(tmp_path: Path) -> None:
    with opened(tmp_path / "s.db") as store:
        store.commit(Batch([execution(1), execution(1, epoch=2)]), RuleMemory())
        assert store.counts["executions"] == 2


def test_a_batch_that_does_not_fit_onto_the_disk_leaves_nothing_behind_and_works_later(tmp_path: Path) -> None:
    with opened(tmp_path / "s.db") as store:
        store.commit(Batch([execution(1)], position=place(1)), RuleMemory())
        pages = store._connection.execute("PRAGMA page_count").fetchone()[0]  # noqa: SLF001
        store._connection.execute(f"PRAGMA max_page_count = {pages + 1}")  # noqa: SLF001
        memory = RuleMemory()
        memory.set_quiet(("big", "1001"), 9)
        batch = Batch([execution(seq, comment="x" * 500) for seq in range(2, 500)], [alert("a")], place(500))
        with pytest.raises(sqlite3.OperationalError, match="full"):
            store.commit(batch, memory)
        assert (store.position(), store.last_row(), store.counts["executions"]) == (place(1), 1, 1)
        assert memory.is_touched
        store._connection.execute("PRAGMA max_page_count = 1000000")  # noqa: SLF001
        store.commit(batch, memory)
        assert (store.position(), store.counts["executions"]) == (place(500), 499)


def test_lots_can_be_asked_for_in_sql_and_no_number_stays_none(tmp_path: Path) -> None:
    with opened(tmp_path / "s.db") as store:
        store.commit(Batch([execution(volume=150, profit=math.nan)]), RuleMemory())
        assert kept(store, "SELECT lots FROM executions") == [(1.5,)]
        assert math.isnan(store.latest(1)[0].profit)


def test_alerts_beyond_the_backlog_are_kept_but_not_sent_counted_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(tmp_path / "s.db", backlog=2) as store:
        store.commit(Batch(alerts=[alert(name) for name in "abcd"]), RuleMemory())
        assert webhook_counts(store) == {"pending": 2, "dropped": 2}
        assert store.counts["alerts_dropped"] == 2
        assert len(store.unlogged(10)) == 4
        assert "2 alerts are stored and not sent: 2 wait for the webhook already (alert_backlog)" in caplog.text


def test_alerts_that_wait_already_take_room_in_the_backlog(tmp_path: Path) -> None:
    with opened(tmp_path / "s.db", backlog=2) as store:
        store.commit(Batch(alerts=[alert("a")]), RuleMemory())
        assert store.counts["alerts_dropped"] == 0
        store.commit(Batch(alerts=[alert(name) for name in "bcd"]), RuleMemory())
        assert webhook_counts(store) == {"pending": 2, "dropped": 2}
        assert store.counts["alerts_dropped"] == 2


def test_without_a_webhook_no_alert_waits_for_one(tmp_path: Path) -> None:
    with opened(tmp_path / "s.db", webhook=False) as store:
        store.commit(Batch(alerts=[alert("a")]), RuleMemory())
        assert webhook_counts(store) == {"none": 1}


def test_alerts_that_were_logged_are_not_logged_by_the_next_run(tmp_path: Path) -> None:
    with opened(tmp_path / "s.db") as store:
        store.commit(Batch(alerts=[alert("a"), alert("b")]), RuleMemory())
        store.set_logged(1)
    with opened(tmp_path / "s.db") as store:
        assert [number for number, _ in store.unlogged(10)] == [2]


def test_only_what_is_too_old_is_forgotten_and_no_alert_that_waits(tmp_path: Path) -> None:
    now_ns = time.time_ns()
    with opened(tmp_path / "s.db", keep_days=1) as store:
        store.commit(
            Batch([execution(1, ts=now_ns - 2 * 86_400 * NS), execution(2, ts=now_ns)], [alert("a")]), RuleMemory()
        )
        assert store.forget() is False
        assert [done.seq for done in store.latest(10)] == [2]
        assert webhook_counts(store) == {"pending": 1}


def test_a_clock_that_is_far_ahead_for_a_moment_makes_it_forget_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ns, ahead_ns = time.time_ns(), [0]
    monkeypatch.setattr(time, "time_ns", lambda: now_ns + ahead_ns[0])
    with opened(tmp_path / "s.db", keep_days=1) as store:
        store.commit(Batch([execution(1, ts=now_ns), execution(2, ts=now_ns)]), RuleMemory())
        store.forget()
        ahead_ns[0] = 30 * 86_400 * NS
        assert store.forget() is False
    with opened(tmp_path / "s.db", keep_days=1) as store:  # nor when it starts while the clock is wrong
        store.forget()
        assert [done.seq for done in store.latest(10)] == [1, 2]


def test_a_store_that_forgets_all_never_counts_its_rows_from_1_again(tmp_path: Path) -> None:
    with opened(tmp_path / "s.db", webhook=False, keep_days=1) as store:
        store.commit(Batch([execution(seq) for seq in (1, 2, 3)], [alert("a"), alert("b")]), RuleMemory())
        store.forget()
        assert [done.seq for done in store.latest(10)] == [3], "the last row stays, however old"
        assert [number for number, _ in store.unlogged(10)] == [2]
        store.commit(Batch([execution(4)], [alert("c")]), RuleMemory())
        assert [row for row, _ in store.executions_after(0, 10)] == [3, 4]
        assert [number for number, _ in store.unlogged(10)] == [2, 3]


def test_a_store_in_memory_stays_small() -> None:
    with opened(None, webhook=False) as store:
        for start in range(0, IN_MEMORY_ROWS + 4_000, 2_000):
            store.commit(Batch([execution(seq) for seq in range(start, start + 2_000)]), RuleMemory())
        assert len(store.executions_after(0, 10**6)) == IN_MEMORY_ROWS


def test_two_monitors_cannot_have_one_store(tmp_path: Path) -> None:
    with opened(tmp_path / "s.db"), pytest.raises(StartError, match="another monitor uses"), opened(tmp_path / "s.db"):
        pass
    with opened(tmp_path / "s.db"):
        pass


def test_files_that_are_no_store_are_refused_and_left_alone(tmp_path: Path) -> None:
    text, other, newer = tmp_path / "text.db", tmp_path / "other.db", tmp_path / "newer.db"
    text.write_text("not a database, and long enough to be looked at as one" * 50)
    for path, change in ((other, "CREATE TABLE theirs (x)"), (newer, "PRAGMA user_version = 9")):
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(change)
            connection.commit()
    for path, words in ((text, "cannot be used"), (other, "no store of ours"), (newer, "version 9")):
        before = path.read_bytes()
        with pytest.raises(StartError, match=words), opened(path):
            pass
        assert path.read_bytes()[100:] == before[100:]
    with pytest.raises(StartError, match="there is no folder"), opened(tmp_path / "none" / "s.db"):
        pass


def test_a_kill_between_any_two_statements_leaves_all_of_a_batch_or_nothing(tmp_path: Path) -> None:
    path, copies = tmp_path / "s.db", list[Path]()

    def copy(_statement: str) -> None:
        """Keep what the disk holds now: just that is left after a kill -9."""
        copies.append(tmp_path / f"copy{len(copies)}.db")
        for end in ("", "-wal"):
            Path(f"{copies[-1]}{end}").write_bytes(Path(f"{path}{end}").read_bytes())

    memory = RuleMemory()
    with opened(path) as store:
        store.commit(Batch([execution(1)], [], place(1)), memory)
        memory.set_quiet(("big", "1001"), 9)
        memory.begin(("calls", "1001"), Condition(7, reported=True))
        store._connection.set_trace_callback(copy)  # noqa: SLF001
        store.commit(Batch([execution(2), execution(3)], [alert("a"), alert("b")], place(3)), memory)
        copy("the end")
        store._connection.set_trace_callback(None)  # noqa: SLF001
    seen = set()
    for each in copies:
        with opened(each) as left:
            kept = left.memory()
            there = (left.last_row(), len(left.unlogged(9)), len(kept.quiet), len(kept.conditions))
            confirmed = (left.position() or {})["confirmed"]
            assert there == ((1, 0, 0, 0) if confirmed == 1 else (3, 2, 1, 1))
            seen.add(confirmed)
    assert seen == {1, 3}
    assert len(copies) > 8


def commit_each(store: MonitorStore, numbers: range) -> None:
    """Commit one execution at a time."""
    for number in numbers:
        store.commit(Batch([execution(number)], position=place(number)), RuleMemory())


def test_a_reader_that_stays_cannot_make_the_write_ahead_log_grow_without_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with opened(path) as store, closing(sqlite3.connect(path, isolation_level=None)) as reader:
        store.wal_limit_bytes, store.wal_max_bytes = 200_000, 400_000
        store.commit(Batch([execution(1)]), RuleMemory())
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM executions").fetchone()
        with pytest.raises(sqlite3.OperationalError, match="another program's open transaction"):
            commit_each(store, range(2, 2_000))
        assert 400_000 <= store.held_wal_bytes() < 500_000
        stored = store.last_row()
        reader.execute("COMMIT")
        store.commit(Batch([execution(stored + 1)], position=place(stored + 1)), RuleMemory())
        assert store.held_wal_bytes() == 0
        assert store.wal_bytes() < 200_000
        assert store.last_row() == stored + 1


def test_a_store_in_memory_has_no_write_ahead_log() -> None:
    with opened(None) as store:
        store.commit(Batch([execution(1)]), RuleMemory())
        assert (store.wal_bytes(), store.held_wal_bytes()) == (0, 0)
