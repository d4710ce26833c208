"""What the archive knows of the daemon's journal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("duckdb")

from mt4pump_consumers.archive import metrics
from mt4pump_consumers.archive.folder import ArchiveFolder
from mt4pump_consumers.archive.metrics import NS, JournalWatch
from mt4pump_consumers.archive.parquet_store import ParquetStore
from mt4pump_consumers.archive.settings import ArchiveSettings

from mt4pump.client import Heartbeat
from mt4pump.process.clock import ProvenClock
from tests.consumers.archive.archive_run import TS, batch_of, event, quote, rows

DAY_S = 86_400


def heartbeat(log: str, offset: int, day: float, **journal: float) -> Heartbeat:
    """Return a heartbeat of a journal that has deleted nothing."""
    ts = TS + int(day * DAY_S * NS)
    found = event("heartbeat", 1, ts=ts, log=log, offset=offset, journal={"first_offset": 1, **journal})
    assert isinstance(found, Heartbeat)
    return found


@pytest.mark.parametrize("is_first_archived", [True, False])
def test_a_deleted_journal_says_nothing_about_the_next_one(
    *, is_first_archived: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "Subscriber", MagicMock())
    answer: Mapping[str, Any] = {"retention": {"max_age_s": 7 * DAY_S}}
    monkeypatch.setattr(metrics, "Query", MagicMock())
    metrics.Query.return_value.__enter__.return_value.describe.return_value = answer  # type: ignore[attr-defined]
    position = {"log": "first", "confirmed": 10 if is_first_archived else 0}
    store: Any = SimpleNamespace(state=SimpleNamespace(position=position), durable_ts=TS, newest_ts=TS)
    watch = JournalWatch(MagicMock(), None, store)
    watch.handle(heartbeat("first", 10, 0))
    watch.handle(heartbeat("second", 1, 6))
    assert (watch.behind, watch.risk) == (1, 0)
    watch.handle(heartbeat("second", 1, 6 + 3.5))
    assert watch.risk == pytest.approx(0.5), "it counts from when the journal was seen first"
    store.state.position = {"log": "second", "confirmed": 1}
    watch.handle(heartbeat("second", 2, 13))
    assert watch.risk == pytest.approx(0.5)


@pytest.mark.parametrize("is_archive_ahead", [True, False])
def test_a_clock_that_is_far_ahead_for_a_moment_deletes_no_days(
    *, is_archive_ahead: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon says how far its clock is ahead of what its journal believes; without a journal it does not."""
    now_ns, now_s = [TS + DAY_S * NS], [0.0]
    clock = ProvenClock(TS, lambda: now_ns[0], lambda: now_s[0])
    monkeypatch.setattr(metrics, "ProvenClock", MagicMock(return_value=clock))
    monkeypatch.setattr(metrics, "Subscriber", MagicMock())
    monkeypatch.setattr(metrics, "Query", MagicMock())
    watch = JournalWatch(MagicMock(), None, MagicMock(durable_ts=0, newest_ts=0))
    now_s[0] = DAY_S
    watch.handle(heartbeat("", 0, 1))
    assert watch.feed_ts == TS + DAY_S * NS
    for second in range(12):
        now_s[0] += 1
        ahead_ns = 30 * DAY_S * NS if is_archive_ahead else 0
        now_ns[0] = TS + (DAY_S + second) * NS + ahead_ns
        watch.handle(heartbeat("", 0, 31, **({} if is_archive_ahead else {"clock_ahead_s": 30.0 * DAY_S})))
        assert watch.feed_ts <= TS + (DAY_S + 600) * NS
    now_ns[0] = TS + (DAY_S + 12) * NS
    watch.handle(heartbeat("", 0, 1))
    assert watch.feed_ts <= TS + (DAY_S + 12) * NS


def test_a_clock_that_is_wrong_at_the_start_deletes_no_days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Daemon and archive run on one machine whose clock is a year ahead, without a journal."""
    folder = ArchiveFolder(tmp_path)
    days = [quote(1 + day, ts=TS + day * DAY_S * NS) for day in range(5)]
    store = ParquetStore(folder)
    store.commit(batch_of(store, *days))
    now_s, year_ns = [0.0], 365 * DAY_S * NS
    now_ns = [TS + 4 * DAY_S * NS + year_ns]
    monkeypatch.setattr(metrics, "Subscriber", MagicMock())
    clock = SimpleNamespace(time_ns=lambda: now_ns[0], monotonic=lambda: now_s[0])
    monkeypatch.setattr(metrics, "time", clock)
    watch, settings = JournalWatch(MagicMock(), None, store), ArchiveSettings(keep_days=3)
    for second in range(600):
        now_s[0] += 1
        now_ns[0] += NS
        watch.handle(heartbeat("", 0, 4 + 365 + second / DAY_S))
        store.maintain(settings, watch.feed_ts)
    assert len(rows(tmp_path, "quote")) == 4, "three days and the current one, as without the jump"
    assert watch.feed_ts <= TS + (4 * DAY_S + 600 * 25) * NS
    folder.close()
