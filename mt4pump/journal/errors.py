"""Faults of the file as texts: what happened, where, what to do."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import NamedTuple

from mt4pump.errors import JournalError

FAULTS = (sqlite3.Error, OSError, JournalError, OverflowError, MemoryError)
"""All that a disk, a file or a value that SQLite cannot hold may raise (OverflowError: a number above 2**63)."""

DAMAGED = "damaged"
BUSY = "locked"

ADVICE: dict[int, tuple[str, str]] = {
    sqlite3.SQLITE_FULL: ("disk_full", "the disk is full: free space on it"),
    sqlite3.SQLITE_READONLY: ("read_only", "the file is read-only: give the daemon's user the right to write to it"),
    sqlite3.SQLITE_PERM: ("read_only", "access is denied: give the daemon's user the right to write to it"),
    sqlite3.SQLITE_CANTOPEN: (
        "cannot_open",
        "it cannot be opened: the path must be a file in a folder where the daemon's user may create files",
    ),
    sqlite3.SQLITE_IOERR: ("io_error", "the disk reports an error: check the system's log, the disk and the quota"),
    sqlite3.SQLITE_BUSY: (BUSY, "another process holds it locked: end that process, or give this one its own data_dir"),
    sqlite3.SQLITE_LOCKED: (BUSY, "it is locked: end whatever else uses it"),
    sqlite3.SQLITE_CONSTRAINT: (
        "other_writer",
        "another process wrote our next offset: two daemons share one data_dir, end one of them",
    ),
    sqlite3.SQLITE_CORRUPT: (DAMAGED, "the file is damaged: it is quarantined, a new one is begun; check the disk"),
    sqlite3.SQLITE_NOTADB: (DAMAGED, "this is not a journal, or a damaged one: it is quarantined, a new one is begun"),
}


class JournalFileError(JournalError):
    """A fault that SQLite itself does not name. ``name`` is what it is counted under."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


class FaultText(NamedTuple):
    """A fault: the ``name`` to count and the ``text`` to log."""

    name: str
    text: str


def explain(error: BaseException, path: Path, doing: str) -> FaultText:
    """Return the text of an error that occurred while ``doing`` something with the file at ``path``."""
    if isinstance(error, JournalFileError):
        return FaultText(error.name, f"{doing}: {path}: {error}")
    if isinstance(error, sqlite3.Error):
        name, advice = ADVICE.get(_result_code(error), ("sqlite_error", "an error of SQLite that has no advice here"))
        detail = getattr(error, "sqlite_errorname", type(error).__name__)
        return FaultText(name, f"{doing}: {path}: {advice} ({error}; {detail})")
    if isinstance(error, OSError):
        return FaultText("file_error", f"{doing}: {path}: {error.strerror or error}: check the folder and its rights")
    return FaultText("value_error", f"{doing}: {path}: {type(error).__name__}: {error}")


def is_damage(error: BaseException) -> bool:
    """Return whether an error means that the file must be quarantined."""
    if isinstance(error, JournalFileError):
        return error.name == DAMAGED
    return _result_code(error) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def _result_code(error: BaseException) -> int:
    """Return SQLite's primary result code, -1 for none."""
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else -1
