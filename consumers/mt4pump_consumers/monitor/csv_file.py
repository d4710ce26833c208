"""Appends executions to a CSV file, each once, also when the monitor is killed in the midst of a line.

The rows come out of the store, after they were committed, so what has to follow the last noted length of the file is
known to the byte. What is there already of it (written, but not noted before the kill) is not written again.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import os
from pathlib import Path
from typing import BinaryIO

from mt4pump.private_files import private_opener
from mt4pump_consumers.monitor.execution import Execution, iso_time
from mt4pump_consumers.monitor.store import MonitorStore
from mt4pump_consumers.spreadsheet import harmless

ROWS_AT_ONCE = 5_000
HEADER = (
    *("time", "login", "order", "change", "side", "lots", "symbol", "open_time", "open_price", "close_time"),
    *("close_price", "sl", "tp", "profit", "storage", "commission", "taxes", "magic", "comment", "reason", "state"),
    *("synthetic", "epoch", "topic", "seq", "offset", "ts"),
)
FOREIGN_TEXTS = ("change", "side", "symbol", "comment", "topic")
"""Columns with text that the feed brings; the others are numbers, and ours."""

log = logging.getLogger(__name__)


class CsvFile:
    """For the thread that owns the store. ``failures`` counts writes that did not work; they are tried again."""

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
    csv.writer(out).writerow(cells)
    return out.getvalue()
