"""The store without a server: a folder of Parquet files."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
from prometheus_client.core import GaugeMetricFamily, Metric

from mt4pump_consumers.archive.columns import GAPS, NOT_IN_JOURNAL, TICK
from mt4pump_consumers.archive.compaction import date_of, maintain
from mt4pump_consumers.archive.folder import ArchiveFolder, Staged, place_of
from mt4pump_consumers.archive.settings import ArchiveSettings
from mt4pump_consumers.archive.store import ArchiveBatch, StreamState

DAY_NS = 86_400 * 1_000_000_000


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
        """Commit a batch; raises OSError or an error of Arrow, and then nothing is committed."""
        commit(self._folder, batch)

    def maintain(self, settings: ArchiveSettings, feed_ts: int) -> None:
        """Join small files and delete old days; raises OSError or FolderError."""
        maintain(self._folder, settings, feed_ts)

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


def commit(folder: ArchiveFolder, batch: ArchiveBatch) -> None:
    """Write the files of a batch and commit them with its position; raises OSError, and then nothing is committed."""
    staged: list[Staged] = []
    try:
        for (code, kind), tables in batch.tables.items():
            for date, table in by_date(pa.concat_tables(tables)):
                staged.append(folder.stage(table, kind, place_of(kind, code, date)))
        folder.commit(staged, position=batch.position, seqs=batch.seqs, first_epoch=batch.first_epoch)
    except BaseException:
        folder.discard(staged)
        raise


def by_date(table: pa.Table) -> list[tuple[str, pa.Table]]:
    """Return the rows of each UTC date of ``ts``."""
    days = pc.divide(table["ts"], DAY_NS)
    return [(date_of(day * DAY_NS), table.filter(pc.equal(days, day))) for day in sorted(pc.unique(days).to_pylist())]
