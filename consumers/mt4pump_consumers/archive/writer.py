"""Turns events into batches of Arrow tables, and commits batches to the store in a thread of its own."""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from queue import Empty, Queue
from threading import Event as ThreadEvent
from typing import Any

import pyarrow as pa

from mt4pump.client import Event, Heartbeat, Notice
from mt4pump.process.backoff import Backoff
from mt4pump_consumers.archive.columns import GAPS, gap_table, table_of
from mt4pump_consumers.archive.gaps import PING, UNNUMBERED_KINDS, GapFinder
from mt4pump_consumers.archive.journals import KnownJournals
from mt4pump_consumers.archive.settings import SERVER_CODE
from mt4pump_consumers.archive.store import ArchiveBatch, ArchiveStore, StoreChangedError, StoreError, StreamState

CHUNK_EVENTS = 20_000
"""Events that are kept as Python objects before they become Arrow tables, which take a tenth of the memory."""
RETRY_FIRST_S, RETRY_LAST_S = 0.5, 30.0
WAIT_S = 0.1

log = logging.getLogger(__name__)


class BatchBuilder:
    """Collects events, for the thread that reads. ``counts``: ``events`` and ``gaps`` by kind, ``duplicates``.

    ``has_durable`` is true while an event of the journal waits to be committed.
    """

    def __init__(self, state: StreamState, counts: Counter[tuple[str, str]]) -> None:
        self.counts = counts
        self.gaps = GapFinder(state.seqs, state.first_epoch)
        self.has_durable = False
        self._log: str | None = (state.position or {}).get("log")
        self._journals = KnownJournals(state.position or {})
        self._server_code = ""
        self._events: dict[str, list[Event]] = defaultdict(list)
        self._waiting = self._repeated = 0
        self._last_ts = 0
        self._batch = ArchiveBatch()

    @property
    def rows(self) -> int:
        """Return how many events wait to be committed."""
        return self._batch.rows + self._waiting

    def add(self, event: Event) -> None:
        """Add an event."""
        self._events[event.kind].append(event)
        self.has_durable |= event.offset is not None
        self._waiting += 1
        if self._waiting >= CHUNK_EVENTS:
            self._convert()

    def heartbeat(self, heartbeat: Heartbeat) -> None:
        """Follow the daemon's log and server code, which the events after this heartbeat have.

        Raises StoreChangedError when it is another daemon than the store's.
        """
        code = heartbeat.server_code or ""
        if not SERVER_CODE.fullmatch(code):
            log.warning("server_code %.80r of the daemon is not safe as a part of a path and is not used", code)
            code = ""
        self._journals.check(heartbeat.log, code)
        if (heartbeat.log, code) != (self._log, self._server_code):
            self._convert()
            self._log, self._server_code = heartbeat.log or self._log, code
        self._last_ts = heartbeat.ts

    def lost(self, notice: Notice) -> None:
        """Note that the client reported events as lost."""
        self._convert()
        self.gaps.lost(notice, self._last_ts or time.time_ns())

    def take_batch(self, position: Mapping[str, Any] | None) -> ArchiveBatch:
        """Return what was added since the last call, with the position after it."""
        self._convert()
        found, seqs = self.gaps.take()
        if found:
            what = "1 hole is" if len(found) == 1 else f"{len(found)} holes are"
            log.warning("%s recorded in the dataset gaps; the last: %s", what, found[-1]["why"])
            for gap in found:
                self.counts["gaps", gap.get("kind", "")] += 1
            self._batch.tables[self._server_code, GAPS].append(gap_table(found))
        batch, self._batch, self.has_durable = self._batch, ArchiveBatch(), False
        batch.position, batch.seqs = self._journals.position(position), seqs
        batch.first_epoch = self.gaps.first_epoch
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
            durable = [event for event in events if event.topic != PING] if unnumbered else events
            kept = [*self._new(durable), *kept]
        self.counts["duplicates", ""] = self.gaps.duplicates + self._repeated
        return kept

    def _new(self, events: list[Event]) -> list[Event]:
        """Return the durable events that are not stored yet."""
        found = self._journals.new(self._log, events)
        self._journals.add(self._log, found)
        self._repeated += len(events) - len(found)
        return found


class BatchWriter:
    """Commits batches in order; `run` is for a thread of its own. A batch that fails is tried until it works.

    ``error`` is why the last try failed, empty when it worked. ``rows`` is what waits. ``ended_by`` is why `run` has
    returned before its time.
    """

    def __init__(self, store: ArchiveStore, buffer_events: int) -> None:
        self.error = self.ended_by = ""
        self.failures = self.commits = self.rows = 0
        self.committed_s = time.monotonic()
        self._store, self._buffer_events = store, buffer_events
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
        backoff = Backoff(RETRY_FIRST_S, RETRY_LAST_S)
        while True:
            try:
                self._store.commit(batch)
            except StoreChangedError as error:
                self.error = self.ended_by = str(error)
                return False
            except (OSError, pa.ArrowException, StoreError) as error:
                self.failures += 1
                self.error = str(error)
                delay_s = backoff.next_s()
                log.error("%s cannot be written (%s): trying again in %.1f s", self._store.name, error, delay_s)  # noqa: TRY400
                if self._stop.wait(delay_s):
                    log.warning("ending with %d events uncommitted: the journal has those that are durable", self.rows)
                    return False
            else:
                if self.error:
                    log.info("%s can be written again", self._store.name)
                self.error, self.committed_s = "", time.monotonic()
                self.commits += 1
                return True
