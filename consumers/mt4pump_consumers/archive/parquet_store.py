"""The store without a server: a folder of Parquet files.

Its maintenance joins small files, makes a day that is over one sorted file, and deletes days beyond the limits.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from prometheus_client.core import GaugeMetricFamily, Metric

from mt4pump_consumers.archive.columns import GAPS, NOT_IN_JOURNAL, TICK, schema_of, sort_columns
from mt4pump_consumers.archive.folder import ArchiveFolder, DataFile, FolderError, Staged, place_of
from mt4pump_consumers.archive.settings import ArchiveSettings
from mt4pump_consumers.archive.store import ArchiveBatch, StreamState

SMALL_ROWS = 1_000_000
"""A file of the current day with fewer rows is joined with others."""
SLICE_ROWS = 1_000_000
"""Rows that are sorted in memory at once."""
SETTLED_S = 600.0
"""After the end of a day, in which late events of it may still arrive."""
NS = 1_000_000_000
DAY_NS = 86_400 * NS

log = logging.getLogger(__name__)


class ParquetStore:
    """An `ArchiveFolder` as a store."""

    def __init__(self, folder: ArchiveFolder) -> None:
        self.name = str(folder.path)
        self._folder = folder

    @property
    def state(self) -> StreamState:
        """Return what is committed."""
        return self._folder.state

    @property
    def durable_ts(self) -> int:
        """Return the time of the newest event of the journal that is committed; 0: none is."""
        files = list(self._folder.state.files.values())
        return max((file.last_ts for file in files if file.kind not in NOT_IN_JOURNAL), default=0)

    @property
    def newest_ts(self) -> int:
        """Return the time of the newest event that is committed; 0: none is. Imported ticks are none."""
        files = list(self._folder.state.files.values())
        return max((file.last_ts for file in files if file.kind not in {GAPS, TICK}), default=0)

    def commit(self, batch: ArchiveBatch) -> None:
        """Write the files of a batch and commit them with its position.

        Raises OSError or an error of Arrow, and then nothing is committed.
        """
        folder = self._folder
        staged: list[Staged] = []
        try:
            for (code, kind), tables in batch.tables.items():
                for date, table in by_date(pa.concat_tables(tables)):
                    staged.append(folder.stage(table, kind, place_of(kind, code, date)))
            folder.commit(staged, position=batch.position, seqs=batch.seqs, first_epoch=batch.first_epoch)
        except BaseException:
            folder.discard(staged)
            raise

    def maintain(self, settings: ArchiveSettings, feed_ts: int) -> None:
        """Join small files and delete old days; raises OSError or FolderError."""
        folder = self._folder
        folder.settle()
        delete_old(folder, settings, min(feed_ts, time.time_ns()))
        places: dict[str, list[DataFile]] = defaultdict(list)
        for file in list(folder.state.files.values()):
            places[file.place].append(file)
        open_from = date_of(feed_ts - int(SETTLED_S * NS))
        for files in places.values():
            is_over = files[0].date < open_from
            chosen = files if is_over else [file for file in files if file.rows < SMALL_ROWS]
            if len(chosen) >= (2 if is_over else settings.compact_files):
                join(folder, chosen)

    def metrics(self) -> Iterator[Metric]:
        """Yield what is known of the files and their disk."""
        files = list(self._folder.state.files.values())
        try:
            free = self._folder.free_bytes()
        except OSError:
            free = 0
        gauges: dict[str, tuple[str, float]] = {
            "mt4pump_archive_files": ("Committed files.", len(files)),
            "mt4pump_archive_bytes": ("Size of the committed files.", sum(file.bytes for file in files)),
            "mt4pump_archive_files_waiting": (
                "Files that could not be moved or deleted yet.",
                self._folder.files_waiting,
            ),
            "mt4pump_archive_free_bytes": ("Free space of the disk.", free),
        }
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(name, text, value)

    def close(self) -> None:
        """Let another archive write."""
        self._folder.close()


def date_of(ts: int) -> str:
    """Return the UTC date of a time in ns since 1970."""
    return datetime.fromtimestamp(ts // NS, UTC).date().isoformat()


def by_date(table: pa.Table) -> list[tuple[str, pa.Table]]:
    """Return the rows of each UTC date of ``ts``."""
    days = pc.divide(table["ts"], DAY_NS)
    return [(date_of(day * DAY_NS), table.filter(pc.equal(days, day))) for day in sorted(pc.unique(days).to_pylist())]


def join(folder: ArchiveFolder, files: Sequence[DataFile]) -> None:
    """Replace files of one place by a single sorted one; raises OSError."""
    kind, paths = files[0].kind, [folder.path / file.path for file in files]
    if not all(path.exists() for path in paths):
        return  # not moved to its place yet, or deleted by somebody: `settle` and the log say so
    schema = schema_of(kind)
    found = [pq.read_schema(path).remove_metadata() for path in paths]
    schema = pa.unify_schemas([schema, *found], promote_options="permissive").with_metadata(schema.metadata)
    data = ds.dataset(paths, schema=schema, format="parquet")
    order = [(name, "ascending") for name in sort_columns(kind)]
    with folder.staging(schema, files[0].place) as writer:
        for rows in slices(data, kind, sum(file.rows for file in files)):
            writer.write(data.to_table(filter=rows).sort_by(order))
    staged: Staged = writer.staged
    if staged.rows != sum(file.rows for file in files):
        folder.discard([staged])
        raise FolderError(f"{files[0].place}: joined files have {staged.rows} rows, which is wrong; they are kept")
    folder.commit([staged], removed=[file.path for file in files])
    log.debug("%s: %d files joined, %d rows", files[0].place, len(files), staged.rows)


def slices(data: ds.Dataset, kind: str, rows: int) -> Iterator[ds.Expression | None]:
    """Yield filters that part the rows, in the order of the sort columns, into groups that fit into memory."""
    if rows <= SLICE_ROWS:
        yield None
        return
    first = sort_columns(kind)[0]
    if first == "ts":
        yield from _ranges(data, "ts", None)
        return
    logs = data.to_table(columns=["log"])["log"].unique().drop_null().sort()
    for name in logs.to_pylist():
        yield from _ranges(data, "offset", ds.field("log") == name)
    yield ds.field("log").is_null()


def _ranges(data: ds.Dataset, column: str, only: ds.Expression | None) -> Iterator[ds.Expression]:
    values = data.to_table(columns=[column], filter=only)[column].combine_chunks().sort()
    bounds = sorted({values[at].as_py() for at in range(SLICE_ROWS, len(values), SLICE_ROWS)})
    key = ds.field(column)
    for start, end in pairwise([None, *bounds, None]):
        rows = only if only is not None else key.is_valid()
        if start is not None:
            rows &= key >= start
        if end is not None:
            rows &= key < end
        yield rows


def delete_old(folder: ArchiveFolder, settings: ArchiveSettings, now_ns: int) -> None:
    """Delete days beyond the limits of age and size, the oldest first, never the current day. Raises OSError."""
    files = sorted(folder.state.files.values(), key=lambda file: file.date)
    today = date_of(now_ns)
    oldest = (datetime.fromisoformat(today) - timedelta(days=settings.keep_days)).date().isoformat()
    size = sum(file.bytes for file in files)
    removed: list[DataFile] = []
    for file in files:
        too_old = settings.keep_days > 0 and file.date < oldest
        too_large = settings.max_bytes > 0 and size > settings.max_bytes
        if file.date < today and (too_old or too_large or (removed and removed[-1].date == file.date)):
            size -= file.bytes
            removed.append(file)
    if removed:
        log.info("deleting %d files up to %s, beyond the limits of age and size", len(removed), removed[-1].date)
        folder.commit([], removed=[file.path for file in removed])
