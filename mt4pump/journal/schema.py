"""The file: its tables, its marks, how it is opened."""

from __future__ import annotations

import secrets
import sqlite3
from pathlib import Path
from typing import Any

from mt4pump.journal.faults import DAMAGED, FileTrouble
from mt4pump.journal.options import JournalOptions
from mt4pump.journal.statements import PUT_META

VERSION = 2
APPLICATION_ID = 0x4D543450
"""``MT4P``: tells our file from another program's."""
PAGE_BYTES = 4096
"""Larger pages make groups a tenth cheaper and a mirror of many orders half as dear again."""
BUSY_WAIT_S = 0.05
"""How long the pump thread waits for another process that holds the file."""
READER_WAIT_S = 1.0
CACHE_KIB = 32 * 1024

TABLES = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID",
    # "reached" is the highest ts so far: what is sought by time is sought in it, by bisection, without an index.
    # "ticket" is the order that the event leaves open, negative for one that it ends, 0 for none.
    """CREATE TABLE events ("offset" INTEGER PRIMARY KEY, ts INTEGER NOT NULL, reached INTEGER NOT NULL,
        ticket INTEGER NOT NULL, topic BLOB NOT NULL, body BLOB NOT NULL)""",
    "CREATE TABLE kinds (kind BLOB PRIMARY KEY, last INTEGER NOT NULL) WITHOUT ROWID",
    # Events may be missing behind "after" and before "next"; "unstored" of them are known of.
    """CREATE TABLE breaks (after INTEGER PRIMARY KEY, next INTEGER NOT NULL, unstored INTEGER NOT NULL,
        why TEXT NOT NULL)""",
    'CREATE TABLE orders (ticket INTEGER PRIMARY KEY, "row" BLOB NOT NULL)',
)

BEGINNING: dict[str, Any] = {
    "identity": "",  # whose open orders the mirror holds
    "mirror": 0,  # whether it holds them
    "mirror_at": 0,  # up to which offset; events behind it say the rest
    "base": 0,  # offsets go on behind this one when no event is above it
    "forgotten": 0,  # last offset deleted by retention
    "forgotten_until": 0,  # highest ts deleted by retention
    "kinds_at": 0,  # up to which offset the table of kinds is right
    "proven_ts": 0,  # the time that retention has believed, ns since 1970; 0: not stored yet
    "disorder": 0,  # last offset whose ts was far below one before it: the clock was set back
    "reserved": 0,  # no event above this offset was published before the mark was on the disk
    "clean": 1,  # 0 while a daemon has the file open
    "boot": "",  # the start of the machine during which it was opened
    "synchronous": "normal",
}


def connect(path: Path, *, wait_s: float, read_only: bool = False) -> sqlite3.Connection:
    """Open the file; the thread that opens a connection may hand it to another, never share it."""
    target = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
    return sqlite3.connect(
        target, uri=True, isolation_level=None, timeout=wait_s, check_same_thread=False, cached_statements=64
    )


def prepare(connection: sqlite3.Connection, options: JournalOptions) -> None:
    """Set what holds for a connection that writes; checkpoints are the keeper's, never a commit's."""
    pragma(connection, "page_size", PAGE_BYTES)  # holds for a new file only
    mode = pragma(connection, "journal_mode", "WAL")
    if mode != "wal":
        raise FileTrouble("no_wal", f"no write-ahead log possible here (mode {mode}): use a local disk for data_dir")
    pragma(connection, "synchronous", options.synchronous)
    pragma(connection, "wal_autocheckpoint", 0)
    pragma(connection, "journal_size_limit", options.wal_limit_bytes)
    pragma(connection, "cache_size", -CACHE_KIB)
    pragma(connection, "secure_delete", "OFF")  # some builds overwrite what retention deletes, page by page
    pragma(connection, "temp_store", "MEMORY")


def pragma(connection: sqlite3.Connection, name: str, value: object = None) -> Any:
    """Read or set a pragma; return the first value it answers with, None for no answer."""
    row = connection.execute(f"PRAGMA {name}" if value is None else f"PRAGMA {name}={value}").fetchone()
    return row[0] if row else None


def is_new(connection: sqlite3.Connection) -> bool:
    """Whether the file has no tables at all; raises when it is another program's, or of a version we do not know."""
    application, version = pragma(connection, "application_id"), pragma(connection, "user_version")
    if not (application or version or connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]):
        return True
    if application != APPLICATION_ID:
        raise FileTrouble(DAMAGED, "the file is a database, but no journal: it is set aside, a new one is begun")
    check_version(version)
    return False


def check_version(version: int) -> None:
    """Refuse a file whose tables we do not know; those before the first release (1) are set aside."""
    if version < VERSION:
        raise FileTrouble(DAMAGED, f"the file has tables of version {version}: it is set aside, a new one is begun")
    if version > VERSION:
        raise FileTrouble(
            "newer_version",
            f"the file has version {version} of the tables, this program knows {VERSION}: "
            "use the newer mt4pump that wrote it, or move the file away",
        )


def check_ours(connection: sqlite3.Connection) -> None:
    """Raise when the file is not a journal that we can read, an empty one included."""
    if is_new(connection):
        raise FileTrouble("no_journal", "the file is empty: the daemon has not begun it yet")


def create(connection: sqlite3.Connection, base: int, now_ns: int) -> None:
    """Make the tables of a new file whose first event will be ``base + 1``; all or nothing.

    What another file held up to ``base``, and until now, counts as forgotten.
    """
    before = {"forgotten": base, "forgotten_until": now_ns} if base else {}
    connection.execute("BEGIN IMMEDIATE")
    for statement in TABLES:
        connection.execute(statement)
    write_meta(connection, {**BEGINNING, "log": secrets.token_hex(8), "base": base, "kinds_at": base, **before})
    pragma(connection, "application_id", APPLICATION_ID)
    pragma(connection, "user_version", VERSION)
    connection.execute("COMMIT")


def read_meta(connection: sqlite3.Connection) -> dict[str, Any]:
    """Return all marks."""
    marks = {**BEGINNING, **dict(connection.execute("SELECT name, value FROM meta"))}
    if "log" not in marks:
        raise FileTrouble(DAMAGED, "its marks are gone: it is set aside, a new one is begun")
    return marks


def write_meta(connection: sqlite3.Connection, marks: dict[str, Any]) -> None:
    """Write marks, in the transaction of the caller."""
    for sql, values in PUT_META.over([part for mark in marks.items() for part in mark]):
        connection.execute(sql, values)
