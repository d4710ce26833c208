"""Puts the archive together: stream → batches → commits, with maintenance of the store beside them."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from threading import Thread
from typing import Any

from mt4pump.client import ClientError, ClientKeys, Event, Heartbeat, Notice, Position, Subscriber
from mt4pump.process.program import EXIT_FAILED, Shutdown, StartError
from mt4pump_consumers.archive.clickhouse_store import ClickhouseStore
from mt4pump_consumers.archive.folder import ArchiveFolder
from mt4pump_consumers.archive.metrics import ArchiveMetrics, JournalWatch, serve
from mt4pump_consumers.archive.parquet_store import ParquetStore
from mt4pump_consumers.archive.settings import POSTGRESQL_LIBRARIES, ArchiveSettings, is_clickhouse
from mt4pump_consumers.archive.store import ArchiveStore, StoreChangedError, StoreError
from mt4pump_consumers.archive.writer import BatchBuilder, BatchWriter
from mt4pump_consumers.feed_thread import keep_reading

HEARTBEAT = "heartbeat"
IDLE_S = 0.05
MAINTAIN_S = 5.0
END_S = 10.0
"""Longest wait for the last commit at the end."""
QUIET = frozenset({"silent", "disconnected"})
"""Notices after which nothing may come for long, so that what waits is committed at once."""
HOLES = frozenset({"lost", "not_whole"})

log = logging.getLogger(__name__)


def main(settings: ArchiveSettings, shutdown: Shutdown) -> int:
    """Archive until asked to end; return the exit code."""
    try:
        store = open_store(settings, shutdown)
    except StoreError as error:
        if shutdown.asked():
            return 0
        raise StartError(str(error)) from error
    try:
        code = Archive(settings, store).run(shutdown)
    finally:
        store.close()
    log.info("stopped")
    return code


def open_store(settings: ArchiveSettings, shutdown: Shutdown) -> ArchiveStore:
    """Return the store that the settings name; raises StoreError."""
    if settings.store is None:
        return ParquetStore(ArchiveFolder(settings.path))
    if is_clickhouse(settings.store):
        return ClickhouseStore(settings, shutdown.wait)
    try:
        from mt4pump_consumers.archive.postgresql_store import PostgresqlStore  # noqa: PLC0415 - an extra of its own
    except ImportError as error:
        if (error.name or "psycopg").partition(".")[0] != "psycopg":
            raise
        text = f"the library psycopg is not installed or has no libpq; it comes with: {POSTGRESQL_LIBRARIES}"
        raise StartError(text) from error
    return PostgresqlStore(settings, shutdown.wait)


class Archive:
    """The threads of the archive: reader, writer, maintenance; the main thread supervises them."""

    def __init__(self, settings: ArchiveSettings, store: ArchiveStore) -> None:
        self._settings, self._store = settings, store
        self.counts: Counter[tuple[str, str]] = Counter()
        self._builder = BatchBuilder(store.state, self.counts)
        self._writer = BatchWriter(store, settings.buffer_events)
        self._is_ending = False
        self._ended_by = ""
        self._position: Any = store.state.position
        if self._position is None and settings.start == "journal":
            self._position = 0
        try:
            self._keys = ClientKeys.load(settings.keys) if settings.keys else None
            self._subscriber: Subscriber | None = self._new_subscriber()
            self._watch = JournalWatch(settings, self._keys, store)
        except (ClientError, ValueError) as error:
            raise StartError(str(error)) from error

    def run(self, shutdown: Shutdown) -> int:
        """Run until asked to end; return the exit code. Raises RuntimeError when a thread ended that should not."""
        metrics = ArchiveMetrics(self._store, self._writer, self._watch, self.counts, shutdown)
        server = serve(self._settings, metrics)
        works = {
            "reader": self._read,
            "writer": self._writer.run,
            "maintenance": self._maintain,
            "watch": self._watch.run,
        }
        threads = {name: Thread(target=_logged(work), name=name, daemon=True) for name, work in works.items()}
        topics = " ".join(self._settings.topics)
        log.info("archiving %s from %s in %s", topics, self._settings.endpoint, self._store.name)
        for thread in threads.values():
            thread.start()
        try:
            while not shutdown.wait(1.0):
                dead = [name for name, thread in threads.items() if not thread.is_alive()]
                if self._writer.ended_by:
                    log.error("%s; start again to go on from what is there", self._writer.ended_by)
                    return EXIT_FAILED
                if self._ended_by:
                    log.error("%s", self._ended_by)
                    return EXIT_FAILED
                if dead:
                    raise RuntimeError(f"the thread {dead[0]} ended")
        finally:
            self._is_ending = True
            self._watch.close()
            if self._subscriber is not None:
                self._subscriber.close()
            threads["reader"].join(END_S)
            self._writer.stop()
            threads["writer"].join(END_S)
            threads["maintenance"].join(END_S)
            if server is not None:
                server.stop()
        return 0

    def _new_subscriber(self) -> Subscriber:
        settings = self._settings
        return Subscriber(
            settings.endpoint,
            query_endpoint=settings.query_address,
            topics=(*settings.topics, HEARTBEAT),
            resume_from=self._position,
            snapshot=False,
            keys=self._keys,
            notices=True,
        )

    def _read(self) -> None:
        """Read until the end, or until another daemon answers; a subscriber that fails is replaced where it was."""
        try:
            keep_reading(self._read_stream, lambda: self._is_ending, lambda delay_s: self._pause(_never, delay_s))
        except StoreChangedError as error:
            self._ended_by = str(error)

    def _read_stream(self) -> None:
        """Read with one subscriber, and commit what it read, unless that is of another daemon."""
        subscriber = self._subscriber = self._subscriber or self._new_subscriber()
        is_same_daemon = True
        try:
            if not self._is_ending:  # else `run` may have found none to close
                self._follow(subscriber)
        except StoreChangedError:
            is_same_daemon = False
            raise
        finally:
            if is_same_daemon:
                self._cut(subscriber)
            subscriber.close()
            self._subscriber = None

    def _follow(self, subscriber: Subscriber) -> None:
        builder, add, due_s = self._builder, self._builder.add, time.monotonic() + self._settings.commit_interval_s
        limit = min(self._settings.commit_events, self._settings.buffer_events)
        count = 0
        for item in subscriber:
            count += 1
            if isinstance(item, Notice):
                self._notice(item)
            elif isinstance(item, Heartbeat):
                builder.heartbeat(item)
            elif isinstance(item, Event):
                add(item)
                if count & 255:
                    continue
            is_quiet = isinstance(item, Notice) and item.kind in QUIET
            if time.monotonic() >= due_s or builder.rows >= limit or is_quiet:
                self._cut(subscriber)
                due_s = time.monotonic() + self._settings.commit_interval_s

    def _notice(self, notice: Notice) -> None:
        if notice.kind in HOLES:
            self._builder.lost(notice)

    def _cut(self, subscriber: Subscriber) -> None:
        """Hand what waits to the writer, then wait while too much of it is not committed.

        Events of the journal wait for the first position, which comes with the end of a replay's page: stored without
        one, they would be stored again after a restart.
        """
        position: Position | None = subscriber.position
        if position is None and (self._builder.has_durable or not self._builder.rows):
            return
        self._position = position.as_dict() if position is not None else self._position
        self._writer.put(self._builder.take_batch(self._position or None))
        if self._writer.is_full and not self._is_ending:
            text = "%d events wait for %s: reading stops until it can be written"
            log.warning(text, self._writer.rows, self._store.name)
            self._pause(lambda: not self._writer.is_full)

    def _pause(self, is_over: Callable[[], bool], limit_s: float = float("inf")) -> None:
        end_s = time.monotonic() + limit_s
        while not self._is_ending and not is_over() and time.monotonic() < end_s:
            time.sleep(IDLE_S)

    def _maintain(self) -> None:
        while not self._is_ending:
            self._pause(_never, MAINTAIN_S)
            if self._is_ending or not self._watch.feed_ts:
                continue
            try:
                self._store.maintain(self._settings, self._watch.feed_ts)
            except (OSError, StoreError) as error:
                self.counts["maintenance_failures", ""] += 1
                log.error("small files cannot be joined, or old events deleted: %s", error)  # noqa: TRY400


def _never() -> bool:
    return False


def _logged(work: Callable[[], None]) -> Callable[[], None]:
    """Return ``work`` with what ended it in the log."""

    def run() -> None:
        try:
            work()
        except Exception:
            log.exception("ended by an error that should not happen; please report it")

    return run
