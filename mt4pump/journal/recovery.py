"""A file that cannot be used any more: set aside under another name, never deleted; its last offset is saved."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
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
"""All that tells how far offsets may have come."""
OFFSET_LIMIT = 2**62
"""A number above it is no offset but a damaged byte."""


def companion(path: Path, suffix: str) -> Path:
    """Return the name of a file that SQLite keeps beside its main one."""
    return path.with_name(path.name + suffix)


def orphaned(path: Path) -> bool:
    """Whether the main file is missing or empty while its write-ahead log is not: opening would destroy that log."""
    if path.exists() and path.stat().st_size > 0:
        return False
    wal = companion(path, "-wal")
    return wal.exists() and wal.stat().st_size > 0


def set_aside(path: Path, now_ns: int) -> Path:
    """Rename the file and its companions to ``<name>.damaged-<UTC time>``; return the new name.

    The main file first: what is left after a crash in between is an orphaned log, which is noticed, and not an older
    journal, which is not.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_ns // 10**9))
    for number in range(NAMES_LIMIT):
        name = f"{path.name}.damaged-{stamp}{f'.{number}' if number else ''}"
        aside = path.with_name(name)
        if not any(companion(aside, suffix).exists() for suffix in ("", *COMPANIONS)):
            break
    else:
        raise OSError(f"{NAMES_LIMIT} damaged files of {stamp} are here already: {path}")
    for suffix in ("", *COMPANIONS):
        part = companion(path, suffix)
        if part.exists():
            part.rename(companion(aside, suffix))
    return aside


def salvage(aside: Path) -> int | None:
    """Return the highest offset that a damaged file knows of, None when it does not tell.

    The mark of reserved offsets counts, too: it covers events that the damage hides.
    """
    if not aside.exists():
        return None
    found: list[int] = []
    try:
        with closing(connect(aside, wait_s=READER_WAIT_S, read_only=True)) as connection:
            for query in HIGHEST:
                found += _number(connection, query)
    except sqlite3.Error:
        return None
    return max(found, default=None)


def _number(connection: sqlite3.Connection, query: str) -> list[int]:
    try:
        row = connection.execute(query).fetchone()
    except sqlite3.Error:
        return []
    value = row[0] if row else None
    return [value] if isinstance(value, int) and 0 <= value < OFFSET_LIMIT else []
