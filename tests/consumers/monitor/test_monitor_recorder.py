"""The recorder: a store or a CSV file that cannot be written for a while costs nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mt4pump_consumers.monitor import recorder
from mt4pump_consumers.monitor.recorder import CSV_RETRY_S, RETRY_FIRST_S, RETRY_LAST_S, CsvFile, EventRecorder
from mt4pump_consumers.monitor.rules import RuleEngine, RuleMemory
from mt4pump_consumers.monitor.state import MonitorState
from mt4pump_consumers.monitor.store import MonitorStore
from mt4pump_consumers.monitor.views import MonitorView

from mt4pump.process.program import Shutdown
from tests.consumers.monitor.monitor_run import execution
from tests.consumers.monitor.test_monitor_store import opened, place


class Patience(Shutdown):
    """Ends in the wait number ``last``; no wait takes any time."""

    def __init__(self, last: int = 0) -> None:
        super().__init__()
        self.last = last
        self.waits: list[float] = []

    def wait(self, timeout_s: float | None = None) -> bool:
        assert timeout_s is not None
        self.waits.append(timeout_s)
        return len(self.waits) == self.last


class Table(CsvFile):
    """A CSV file that counts how often it is asked to write."""

    writes = 0

    def write(self) -> bool:
        self.writes += 1
        return super().write()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MonitorStore]:
    with opened(tmp_path / "s.db", webhook=False) as made:
        yield made


def made(
    store: MonitorStore, shutdown: Shutdown, csv: CsvFile | None = None, state: MonitorState | None = None
) -> EventRecorder:
    engine, state, view = RuleEngine([], RuleMemory()), state or MonitorState(), MonitorView()
    return EventRecorder(store, RuleMemory(), engine=engine, state=state, view=view, csv=csv, shutdown=shutdown)


def fail(store: MonitorStore, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Let the next commits fail."""
    commit, faults = store.commit, [sqlite3.OperationalError("database or disk is full")] * times

    def commit_later(*parts: Any) -> None:
        if faults:
            raise faults.pop()
        commit(*parts)

    monkeypatch.setattr(store, "commit", commit_later)


def test_a_store_that_fails_is_tried_again_ever_more_rarely_and_loses_nothing(
    store: MonitorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutdown = Patience()
    keeps = made(store, shutdown)
    fail(store, monkeypatch, 8)
    for offset in (11, 12):
        keeps.take(execution(offset, offset=offset))
        assert keeps.commit(place(offset))
    assert [done.offset for done in store.latest(10)] == [11, 12]
    assert store.position() == place(12)
    assert shutdown.waits[:3] == [RETRY_FIRST_S, 2 * RETRY_FIRST_S, 4 * RETRY_FIRST_S]
    assert shutdown.waits[-2:] == [RETRY_LAST_S, RETRY_LAST_S]


def test_once_it_ended_without_a_batch_no_later_position_is_kept(
    store: MonitorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeps = made(store, Patience(last=1))
    fail(store, monkeypatch, 1)
    keeps.take(execution(1, offset=11))
    assert not keeps.commit(place(11))
    assert not keeps.commit(place(12)), "the next run would go on behind what this one did not keep"
    assert store.position() is None


def test_a_csv_file_that_cannot_be_written_is_logged_counted_and_tried_again_after_a_pause(
    store: MonitorStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [0.0]
    monkeypatch.setattr(recorder, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    csv, state = Table(tmp_path / "share" / "t.csv", store), MonitorState()
    keeps = made(store, Patience(), csv, state)
    keeps.take(execution(1))
    keeps.commit(None)
    assert (csv.failures, csv.writes, state.problem[:4]) == (1, 1, "CSV:")
    csv.path.parent.mkdir()
    keeps.commit(None)
    assert csv.writes == 1, "not before the pause is over"
    now_s[0] = CSV_RETRY_S
    keeps.commit(None)
    assert (csv.failures, csv.path.read_bytes().count(b"EURUSD"), state.problem) == (1, 1, "")


def test_a_csv_file_is_looked_at_for_what_an_earlier_run_left_and_then_only_with_news(
    store: MonitorStore, tmp_path: Path
) -> None:
    csv = Table(tmp_path / "t.csv", store)
    keeps = made(store, Patience(), csv)
    writes = []
    for news in (0, 0, 1, 0):
        if news:
            keeps.take(execution(1))
        keeps.commit(None)
        writes.append(csv.writes)
    assert writes == [1, 1, 2, 2]
    assert csv.path.read_bytes().count(b"EURUSD") == 1


def test_a_write_ahead_log_that_another_program_holds_is_logged_once_and_shown_until_it_is_emptied(
    store: MonitorStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert store.path is not None
    state = MonitorState()
    keeps = made(store, Patience(), state=state)
    store.wal_limit_bytes = 100_000
    with closing(sqlite3.connect(store.path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM executions").fetchone()
        for number in range(1, 60):
            keeps.take(execution(number))
            assert keeps.commit(place(number))
    assert state.held_wal_bytes > 100_000
    assert caplog.text.count("another program's open transaction keeps it from being emptied") == 1
    assert keeps.commit(place(60))
    assert state.held_wal_bytes == 0
    assert "is emptied again" in caplog.text
