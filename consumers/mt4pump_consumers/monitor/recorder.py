"""Gathers what happened, commits it in groups, and distributes it: log, CSV file, webhook."""

from __future__ import annotations

import io
import json
import logging
import os
import sqlite3
import time
from collections.abc import Callable
from csv import writer as csv_writer
from pathlib import Path
from typing import BinaryIO

from mt4pump.private_files import private_opener
from mt4pump.process.backoff import Backoff
from mt4pump.process.program import Shutdown
from mt4pump_consumers.monitor.execution import Execution, iso_time
from mt4pump_consumers.monitor.rules import RESOLVED, RuleEngine, RuleMemory
from mt4pump_consumers.monitor.state import MonitorState
from mt4pump_consumers.monitor.store import WAL_HELD, Batch, MonitorStore
from mt4pump_consumers.monitor.views import MonitorView
from mt4pump_consumers.monitor.webhook import Webhook
from mt4pump_consumers.spreadsheet import harmless

log = logging.getLogger(__name__)
alert_log = logging.getLogger("mt4pump_consumers.monitor.alert")

ROWS_AT_ONCE = 5_000
HEADER = (
    *("time", "login", "order", "change", "side", "lots", "symbol", "open_time", "open_price", "close_time"),
    *("close_price", "sl", "tp", "profit", "storage", "commission", "taxes", "magic", "comment", "reason", "state"),
    *("synthetic", "epoch", "topic", "seq", "offset", "ts"),
)
FOREIGN_TEXTS = ("change", "side", "symbol", "comment", "topic")
"""Columns with text that the feed brings; the others are numbers, and ours."""


class CsvFile:
    """Appends executions to a CSV file, each once, also when the monitor is killed in the midst of a line.

    The rows come out of the store, after they were committed, so what has to follow the last noted length of the file
    is known to the byte. What is there already of it (written, but not noted before the kill) is not written again.
    For the thread that owns the store. ``failures`` counts writes that did not work; they are tried again.
    """

    def __init__(self, path: Path, store: MonitorStore) -> None:
        self.path = path
        self.failures = 0
        self._store = store
        self._name = f"csv {path.absolute()}"
        note = store.note(self._name)
        self._is_checked = False
        if note is not None:
            place = json.loads(note)
            self._row, self._bytes = int(place["row"]), int(place["bytes"])
            if self._row > store.last_row():  # the store was emptied once and counts anew: none of its rows is written
                log.warning("%s: the store's rows were counted anew: all that it has now are added", path)
                self._row = 0
        else:
            self._row, self._bytes = store.last_row(), path.stat().st_size if path.exists() else 0
            self._keep()

    def write(self) -> bool:
        """Append what is new; return whether there may be more. Raises OSError, sqlite3.Error."""
        rows = self._store.executions_after(self._row, ROWS_AT_ONCE)
        if not rows:
            return False
        text = "".join(_line(_cells(done)) for _, done in rows).encode()
        with open(self.path, "a+b", opener=private_opener) as file:
            end = file.seek(0, os.SEEK_END)
            if not end and self._bytes:
                log.warning("%s is gone, or was emptied: it is begun anew", self.path)
                self._bytes = 0
            if not self._bytes:
                text = _line(HEADER).encode() + text
            there = 0 if self._is_checked and end == self._bytes else self._already(file, end, text)
            self._is_checked = False  # if this write breaks off, look again
            file.write(text[there:])
            file.flush()
            os.fsync(file.fileno())
            self._bytes = file.tell()
        self._row = rows[-1][0]
        self._is_checked = True
        self._keep()
        return len(rows) == ROWS_AT_ONCE

    def _keep(self) -> None:
        self._store.set_note(self._name, json.dumps({"row": self._row, "bytes": self._bytes}))

    def _already(self, file: BinaryIO, end: int, text: bytes) -> int:
        """Return how much of ``text`` the file holds already behind the noted length."""
        file.seek(min(self._bytes, end))
        there = file.read(len(text) + 1)
        if end >= self._bytes and text.startswith(there):
            return len(there)
        log.warning("%s was changed by somebody else; rows go on at its end", self.path)
        file.seek(end - 1)
        if file.read(1) != b"\n":
            file.write(b"\r\n")
        return 0


def _cells(done: Execution) -> tuple[object, ...]:
    values = done.as_dict()
    cells = {**values, "time": iso_time(done.ts), "lots": f"{done.lots:.2f}", "synthetic": int(done.synthetic)}
    for name in FOREIGN_TEXTS:
        cells[name] = harmless(str(cells[name]))
    return tuple(cells[name] for name in HEADER)


def _line(cells: tuple[object, ...]) -> str:
    out = io.StringIO()
    csv_writer(out).writerow(cells)
    return out.getvalue()


GROUP = 2_000
"""Executions and alerts that are committed at once."""
WAIT_S, POSITION_S = 0.1, 1.0
"""Longest that news wait for their commit; that a position without news does."""
COMMIT_SHARE = 10
"""Commits take at most one part in so many of the time, so that a slow disk makes larger groups, no jam."""
RETRY_FIRST_S, RETRY_LAST_S = 0.5, 15.0
FORGET_S, CSV_RETRY_S = 60.0, 5.0
LOGGED_AT_ONCE = 1_000
LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "critical": logging.ERROR}


class EventRecorder:
    """For the thread that reads the stream."""

    def __init__(
        self,
        store: MonitorStore,
        memory: RuleMemory,
        *,
        engine: RuleEngine,
        state: MonitorState,
        view: MonitorView,
        csv: CsvFile | None,
        shutdown: Shutdown,
    ) -> None:
        self._store, self._memory, self._engine, self._state, self._view = store, memory, engine, state, view
        self._csv = csv
        self._shutdown = shutdown
        self.webhook: Webhook | None = None
        self._batch = Batch()
        self._has_failed = False
        self._due_s = 0.0
        self._position_due_s = 0.0
        self._forget_due_s = 0.0
        self._csv_due_s = 0.0
        self._csv_waits = csv is not None

    def take(self, done: Execution) -> None:
        """Take an execution to keep."""
        self._batch.executions.append(done)

    def is_due(self, now_s: float) -> bool:
        """Return whether it is time to commit."""
        batch, alerts = self._batch, self._engine.alerts
        if len(batch.executions) + len(alerts) >= GROUP:
            return True
        if batch.executions or alerts or self._memory.is_touched:
            return now_s >= self._due_s
        return now_s >= self._position_due_s

    def commit(self, position: dict[str, object] | None) -> bool:
        """Commit what was gathered, ``position`` behind it; return False if the end was asked for before it worked.

        While the store fails (a full disk) nothing more is read: what comes meanwhile is in the daemon's journal.
        """
        if self._has_failed:
            return False  # a position without what was before it would lose that
        batch, self._batch = self._batch, Batch()
        batch.alerts, self._engine.alerts = self._engine.alerts, []
        batch.position = position
        self._view.executions(batch.executions)
        self._view.alerts(batch.alerts)
        began_s = time.monotonic()
        self._has_failed = True
        if not self._retry(lambda: self._store.commit(batch, self._memory)):
            return False
        self._has_failed = False
        now_s = time.monotonic()
        self._due_s = now_s + max(WAIT_S, (now_s - began_s) * COMMIT_SHARE)
        self._position_due_s = now_s + POSITION_S
        self._check_wal()
        self._distribute(batch, now_s)
        return True

    def _check_wal(self) -> None:
        """Empty a long write-ahead log; log once, and show, that another program keeps it from being emptied."""
        try:
            size = self._store.held_wal_bytes()
        except (OSError, sqlite3.Error) as error:
            log.debug("the write-ahead log cannot be checked: %s", error)
            return
        if size and not self._state.held_wal_bytes:
            stop = self._store.wal_max_bytes
            log.warning("%s-wal: %d bytes: %s; writing stops at %d bytes", self._store.path, size, WAL_HELD, stop)
        elif self._state.held_wal_bytes and not size:
            log.info("%s-wal is emptied again", self._store.path)
        self._state.held_wal_bytes = size

    def log_unlogged(self) -> None:
        """Log the alerts that a run before this one committed, and was killed before it logged them."""
        while rows := self._store.unlogged(LOGGED_AT_ONCE):
            for number, body in rows:
                self._log_alert(number, json.loads(body))
            if not self._retry(lambda: self._store.set_logged(rows[-1][0])):
                return

    def _distribute(self, batch: Batch, now_s: float) -> None:
        for alert in batch.alerts:
            self._state.alerted(alert, _level(alert.severity, alert.status))
        if batch.alerts:
            self.log_unlogged()
            if self.webhook is not None:
                self.webhook.wake()
        self._csv_waits = self._csv_waits or bool(self._csv and batch.executions)
        if self._csv is not None and self._csv_waits and now_s >= self._csv_due_s:
            self._write_csv(self._csv, now_s)
        if now_s >= self._forget_due_s:
            self._forget(now_s)

    def _log_alert(self, number: int, alert: dict[str, object]) -> None:
        text = f"alert {number} [{alert['rule']}] {alert['text']}"
        extra = {"alert": alert["id"], "rule": alert["rule"], "status": alert["status"], "subject": alert["subject"]}
        alert_log.log(
            _level(str(alert["severity"]), str(alert["status"])), "%s (id %s)", text, alert["id"], extra=extra
        )

    def _write_csv(self, csv: CsvFile, now_s: float) -> None:
        try:
            while csv.write():
                if self._shutdown.asked():
                    return
        except (OSError, sqlite3.Error) as error:
            csv.failures += 1
            self._csv_due_s = now_s + CSV_RETRY_S
            self._state.problem = f"CSV: {error}"
            log.error("%s cannot be written (%s): tried again in %.0f s", csv.path, error, CSV_RETRY_S)  # noqa: TRY400
        else:
            self._csv_waits = False
            self._state.problem = ""

    def _forget(self, now_s: float) -> None:
        try:
            more = self._store.forget()
        except sqlite3.Error as error:
            more = False
            log.warning("the store cannot drop what is too old (%s): tried again later", error)
        self._forget_due_s = now_s + (POSITION_S if more else FORGET_S)

    def _retry(self, write: Callable[[], None]) -> bool:
        backoff = Backoff(RETRY_FIRST_S, RETRY_LAST_S)
        while True:
            try:
                write()
            except sqlite3.OperationalError as error:
                self._state.problem = f"store: {error}"
                delay_s = backoff.next_s()
                log.error("the store cannot be written (%s): tried again in %.1f s", error, delay_s)  # noqa: TRY400
                self._view.refresh(time.monotonic())
                if self._view.wait(self._shutdown, delay_s):
                    log.warning("ending without the last executions and alerts: they come again at the next start")
                    return False
            else:
                if backoff.upcoming_s != RETRY_FIRST_S:
                    self._state.problem = ""
                    log.info("the store can be written again")
                return True


def _level(severity: str, status: str) -> int:
    """Return logging's level of an alert; that something is over is good news."""
    return logging.INFO if status == RESOLVED else LEVELS[severity]
