"""What the stores in a database have in common: the start, days that are kept, nested values as JSON, metrics."""

from __future__ import annotations

import io
import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from pyarrow import csv

from mt4pump_consumers.archive.columns import EVENT_KINDS, GAPS, NOT_IN_JOURNAL
from mt4pump_consumers.archive.settings import ArchiveSettings
from mt4pump_consumers.archive.store import ArchiveBatch, StoreChangedError, StoreError, StreamState

KINDS = (*EVENT_KINDS, GAPS)
SERVER_CODE = "server_code"
START_LIMIT_S, RETRY_S = 30.0, 1.0
MAINTAIN_S = 60.0
OFFSET_COLUMNS = {"log": pa.string(), "offset": pa.int64()}

log = logging.getLogger(__name__)


def open_with_retries(name: str, attempt: Callable[[], None], pause: Callable[[float], bool]) -> None:
    """Call ``attempt`` until it works; raises its StoreError after `START_LIMIT_S`, or when ``pause`` returns true."""
    deadline_s = time.monotonic() + START_LIMIT_S
    while True:
        try:
            attempt()
        except StoreChangedError:
            raise
        except StoreError as error:
            text = f"{name} cannot be used ({error}): start the database, or correct store or its password"
            if time.monotonic() > deadline_s:
                raise StoreError(text) from error
            log.warning("%s cannot be used yet (%s): trying again in %.0f s", name, error, RETRY_S)
            if pause(RETRY_S):
                raise StoreError(text) from error
        else:
            return


def add_committed(state: StreamState, batch: ArchiveBatch) -> None:
    """Change ``state`` to that after ``batch``."""
    state.position = dict(batch.position) if batch.position else state.position
    state.seqs.update(batch.seqs)
    state.first_epoch = batch.first_epoch or state.first_epoch


def newest_durable_ts(batch: ArchiveBatch) -> int:
    """Return the time of the newest event of the journal in a batch; 0: there is none."""
    found = [
        pc.max(table["ts"]).as_py() or 0
        for (_, kind), parts in batch.tables.items()
        if kind not in NOT_IN_JOURNAL
        for table in parts
    ]
    return max(found, default=0)


def oldest_kept(settings: ArchiveSettings, feed_ts: int) -> datetime:
    """Return the start of the oldest UTC day that is kept."""
    now = datetime.fromtimestamp(min(feed_ts, time.time_ns()) / 1e9, UTC)
    return now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=settings.keep_days)


def database_metrics(size_bytes: int, reconnects: int) -> Iterator[Metric]:
    """Yield the size of the database and how often the connection broke."""
    yield GaugeMetricFamily("mt4pump_archive_bytes", "Size of the database.", size_bytes)
    text = "Connections to the database after the first one."
    yield CounterMetricFamily("mt4pump_archive_reconnects_total", text, reconnects)


def offsets_table(content: bytes) -> pa.Table:
    """Return CSV of log and offset as a table."""
    if not content:
        return pa.schema(OFFSET_COLUMNS.items()).empty_table()
    reading = csv.ReadOptions(column_names=list(OFFSET_COLUMNS))
    return csv.read_csv(io.BytesIO(content), reading, convert_options=csv.ConvertOptions(column_types=OFFSET_COLUMNS))


def json_texts(column: pa.ChunkedArray, clean: Callable[[str], str] = str) -> pa.Array:
    """Return nested values as JSON; numbers that it does not have are null. ``clean`` is called with each text."""
    values = column.to_pylist()
    return pa.array([None if one is None else json.dumps(_plain(one, clean)) for one in values], pa.string())


def _plain(value: Any, clean: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {name: _plain(each, clean) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each, clean) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return clean(value) if isinstance(value, str) else value
