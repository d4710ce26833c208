"""Turns events into batches of Arrow tables, and commits batches to the folder in a thread of its own."""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from queue import Empty, Queue
from threading import Event as ThreadEvent
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mt4pump.client import Event, Heartbeat, Notice
from mt4pump_consumers.archive.columns import GAPS, gap_table, table_of
from mt4pump_consumers.archive.compaction import date_of
from mt4pump_consumers.archive.folder import SERVER_CODE, ArchiveFolder, Staged, State, place_of
from mt4pump_consumers.archive.gaps import PING, UNNUMBERED_KINDS, GapFinder

CHUNK_EVENTS = 20_000
"""Events that are kept as Python objects before they become Arrow tables, which take a tenth of the memory."""
RETRY_FIRST_S, RETRY_LAST_S = 0.5, 30.0
DAY_NS = 86_400 * 1_000_000_000
WAIT_S = 0.1

log = logging.getLogger(__name__)


@dataclass(slots=True)
class ArchiveBatch:
    """What one commit stores: tables by (server code, kind), and the position after them."""

    tables: dict[tuple[str, str], list[pa.Table]] = field(default_factory=lambda: defaultdict(list))
    rows: int = 0
    position: Mapping[str, Any] | None = None
    seqs: dict[str, list[int]] = field(default_factory=dict)
    first_epoch: int = 0


class BatchBuilder:
    """Collects events, for the thread that reads. ``counts``: ``events`` and ``gaps`` by kind, ``duplicates``."""

    def __init__(self, state: State, counts: Counter[tuple[str, str]]) -> None:
        self.counts = counts
        self.gaps = GapFinder(state.seqs, state.first_epoch)
        self._log: str | None = (state.position or {}).get("log")
        self._server_code = ""
        self._events: dict[str, list[Event]] = defaultdict(list)
        self._waiting = 0
        self._last_ts = 0
        self._batch = ArchiveBatch()

    @property
    def rows(self) -> int:
        """Return how many events wait to be committed."""
        return self._batch.rows + self._waiting

    def add(self, event: Event) -> None:
        """Add an event."""
        self._events[event.kind].append(event)
        self._waiting += 1
        if self._waiting >= CHUNK_EVENTS:
            self._convert()

    def heartbeat(self, beat: Heartbeat) -> None:
        """Follow the daemon's log and server code, which the events after this heartbeat have."""
        code = beat.server_code or ""
        if not SERVER_CODE.fullmatch(code):
            log.warning("server_code %.80r of the daemon is not safe as a part of a path and is not used", code)
            code = ""
        if (beat.log, code) != (self._log, self._server_code):
            self._convert()
            self._log, self._server_code = beat.log or self._log, code
        self._last_ts = beat.ts

    def lost(self, notice: Notice) -> None:
        """Note that the client reported events as lost."""
        self._convert()
        self.gaps.lost(notice, self._last_ts or time.time_ns())

    def cut(self, position: Mapping[str, Any] | None) -> ArchiveBatch:
        """Return what was added since the last cut, with the position after it."""
        self._convert()
        found, seqs = self.gaps.take()
        if found:
            for gap in found:
                self.counts["gaps", gap.get("kind", "")] += 1
            self._batch.tables[self._server_code, GAPS].append(gap_table(found))
        batch, self._batch = self._batch, ArchiveBatch()
        batch.position, batch.seqs, batch.first_epoch = position, seqs, self.gaps.first_epoch
        return batch

    def _convert(self) -> None:
        for kind, events in self._events.items():
            kept = self._checked(kind, events)
            if kept:
                self._batch.tables[self._server_code, kind].append(table_of(kind, kept, self._log))
                self._batch.rows += len(kept)
                self._last_ts = max(self._last_ts, kept[-1].ts)
                self.counts["events", kind] += len(kept)
        self._events.clear()
        self._waiting = 0

    def _checked(self, kind: str, events: list[Event]) -> list[Event]:
        """Return the events that are new; note the gaps before them."""
        numbered = kind not in UNNUMBERED_KINDS or events[0].offset is not None
        unnumbered = [event for event in events if event.topic == PING] if numbered else events
        kept = list(self.gaps.check(unnumbered)) if unnumbered else []
        if numbered:
            self.gaps.check_durable(events)
            kept = [*(event for event in events if event.topic != PING), *kept] if unnumbered else events
        self.counts["duplicates", ""] = self.gaps.duplicates
        return kept


class BatchWriter:
    """Commits batches in order; `run` is for a thread of its own. A batch that fails is tried until it works.

    ``error`` is why the last try failed, empty when it worked. ``rows`` is what waits.
    """

    def __init__(self, folder: ArchiveFolder, buffer_events: int) -> None:
        self.error = ""
        self.failures = self.commits = self.rows = 0
        self.committed_s = time.monotonic()
        self._folder, self._buffer_events = folder, buffer_events
        self._queue: Queue[ArchiveBatch] = Queue()
        self._stop = ThreadEvent()

    @property
    def is_full(self) -> bool:
        """Return whether reading must wait."""
        return self.rows >= self._buffer_events

    @property
    def is_idle(self) -> bool:
        """Return whether all batches are committed."""
        return not self._queue.unfinished_tasks

    def put(self, batch: ArchiveBatch) -> None:
        """Hand over a batch; never waits."""
        self.rows += batch.rows
        self._queue.put(batch)

    def stop(self) -> None:
        """Have `run` return as soon as all batches are committed, or the next try fails."""
        self._stop.set()

    def run(self) -> None:
        """Commit batches until `stop`."""
        while not (self._stop.is_set() and self.is_idle):
            try:
                batch = self._queue.get(timeout=WAIT_S)
            except Empty:
                continue
            if not self._until_it_works(batch):
                return
            self.rows -= batch.rows
            self._queue.task_done()

    def _until_it_works(self, batch: ArchiveBatch) -> bool:
        delay_s = RETRY_FIRST_S
        while True:
            try:
                commit(self._folder, batch)
            except (OSError, pa.ArrowException) as error:
                self.failures += 1
                self.error = str(error)
                log.error("%s cannot be written (%s): trying again in %.1f s", self._folder.path, error, delay_s)  # noqa: TRY400
                if self._stop.wait(delay_s):
                    log.warning("ending with %d events uncommitted: the journal has those that are durable", self.rows)
                    return False
                delay_s = min(delay_s * 2, RETRY_LAST_S)
            else:
                if self.error:
                    log.info("%s can be written again", self._folder.path)
                self.error, self.committed_s = "", time.monotonic()
                self.commits += 1
                return True


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
