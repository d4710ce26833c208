"""A file that cannot be used any more is renamed, never deleted, and its last offset recovered."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path

from mt4pump.journal.schema import READER_WAIT_S, connect

COMPANIONS = ("-wal", "-shm")
NAMES_LIMIT = 1000

HIGHEST = (
    'SELECT max("offset") FROM events',
    "SELECT max(last) FROM kinds",
    "SELECT max(next) FROM breaks",
    "SELECT value FROM meta WHERE name = 'base'",
    "SELECT value FROM meta WHERE name = 'forgotten'",
    "SELECT value FROM meta WHERE name = 'reserved'",
)
"""All that shows which offsets may have been given."""
OFFSET_LIMIT = 2**62
"""A greater number is no offset but a damaged byte."""


def companion(path: Path, suffix: str) -> Path:
    """Return the name of a file that SQLite keeps beside its main one."""
    return path.with_name(path.name + suffix)


def is_orphaned(path: Path) -> bool:
    """Return whether the file is missing or empty but its write-ahead log is not: opening would destroy that log."""
    if path.exists() and path.stat().st_size > 0:
        return False
    wal = companion(path, "-wal")
    return wal.exists() and wal.stat().st_size > 0


def quarantine(path: Path, now_ns: int) -> Path:
    """Rename the file and its companions to ``<name>.damaged-<UTC time>``; return the new name.

    The main file first: a crash in between leaves an orphaned log, which is detected, and not an older journal, which
    is not.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_ns // 10**9))
    for number in range(NAMES_LIMIT):
        target = path.with_name(f"{path.name}.damaged-{stamp}{f'.{number}' if number else ''}")
        if not any(companion(target, suffix).exists() for suffix in ("", *COMPANIONS)):
            break
    else:
        raise OSError(f"{NAMES_LIMIT} damaged files of {stamp} are here already: {path}")
    for suffix in ("", *COMPANIONS):
        part = companion(path, suffix)
        if part.exists():
            part.rename(companion(target, suffix))
    return target


def recover_last_offset(path: Path) -> int | None:
    """Return the highest offset that a damaged file shows, None for none.

    Reserved offsets count, too: they cover events that the damage hides.
    """
    if not path.exists():
        return None
    found: list[int] = []
    with suppress(sqlite3.Error), closing(connect(path, wait_s=READER_WAIT_S, read_only=True)) as connection:
        for query in HIGHEST:
            with suppress(sqlite3.Error):
                row = connection.execute(query).fetchone()
                if row and isinstance(row[0], int) and 0 <= row[0] < OFFSET_LIMIT:
                    found.append(row[0])
    return max(found, default=None)
