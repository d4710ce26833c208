"""The tables of the store, and how its file is opened."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

from mt4pump.private_files import create_private, is_open_to_all, make_private
from mt4pump.process.program import StartError
from mt4pump_consumers.monitor.execution import REALS, Execution

VERSION = 1
BUSY_S = 30.0
"""Longest wait for the other connection (stream and webhook have one each) to end its transaction."""
WAL_LIMIT_BYTES = 64 * 2**20
"""A longer write-ahead log is emptied; that it cannot be is reported: another program has a transaction open."""
WAL_MAX_BYTES = 2**30
"""With a write-ahead log this long nothing more is written until it can be emptied."""

TYPES = {"topic": "TEXT", "change": "TEXT", "symbol": "TEXT", "comment": "TEXT"}
NAMES = Execution._fields
COLUMNS = ", ".join(f'"{name}"' for name in NAMES)


def _definition(name: str) -> str:
    return f'"{name}" {"REAL" if name in REALS else TYPES.get(name, "INTEGER")}'


SCHEMA = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE executions (
    id INTEGER PRIMARY KEY,
    {", ".join(_definition(name) for name in NAMES)},
    lots REAL GENERATED ALWAYS AS (volume / 100.0) VIRTUAL,
    UNIQUE (epoch, topic, seq)
);
CREATE INDEX executions_ts ON executions (ts);
CREATE TABLE alerts (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    ts INTEGER NOT NULL,
    rule TEXT NOT NULL,
    status TEXT NOT NULL,
    subject TEXT NOT NULL,
    text TEXT NOT NULL,
    body TEXT NOT NULL,
    logged INTEGER NOT NULL DEFAULT 0,
    webhook TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due_s REAL NOT NULL DEFAULT 0,
    made_s REAL NOT NULL,
    sent_s REAL,
    error TEXT NOT NULL DEFAULT ''
);
CREATE INDEX alerts_waiting ON alerts (due_s, number) WHERE webhook = 'pending';
CREATE INDEX alerts_unlogged ON alerts (number) WHERE logged = 0;
CREATE INDEX alerts_ts ON alerts (ts);
CREATE TABLE conditions (
    rule TEXT NOT NULL, subject TEXT NOT NULL, since INTEGER NOT NULL, told INTEGER NOT NULL,
    PRIMARY KEY (rule, subject)
) WITHOUT ROWID;
CREATE TABLE quiet (
    rule TEXT NOT NULL, subject TEXT NOT NULL, ts INTEGER NOT NULL, PRIMARY KEY (rule, subject)
) WITHOUT ROWID;
PRAGMA user_version = {VERSION};
"""


log = logging.getLogger(__name__)


def connect(path: Path | None) -> sqlite3.Connection:
    """Return a connection that leaves transactions to us; ``None`` is a store in memory, gone at the end."""
    connection = sqlite3.connect(path or ":memory:", timeout=BUSY_S, isolation_level=None)
    # Committed means: outlives a crash of the monitor. A power cut may take the last transactions, whole; as the
    # position is in them, what they held comes again from the daemon's journal.
    try:
        connection.executescript(
            f"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA journal_size_limit = {WAL_LIMIT_BYTES};"
        )
    except BaseException:
        connection.close()
        raise
    return connection


def _make_private(path: Path | None) -> None:
    """Make the files of the store readable for this user alone: they hold trades. Raises OSError."""
    if path is None:
        return
    if not path.exists():
        create_private(path)
    for part in (path, *(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))):
        if make_private(part):
            log.warning("store: %s could be read by other users of this machine: made private", part)
    if is_open_to_all(path.parent):
        log.warning("store: every user of this machine may replace files in %s: chmod o-w %s", path.parent, path.parent)


def open_store(path: Path | None) -> sqlite3.Connection:
    """Return a connection to the store, made if need be; raises StartError for a file that cannot serve."""
    connection: sqlite3.Connection | None = None
    try:
        _make_private(path)
        connection = connect(path)
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not version and not tables:
            connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT;")
            version = VERSION
    except (sqlite3.Error, OSError) as error:
        if connection is not None:
            connection.close()
        cure = "move it away or name another; with --start journal a new one begins with all that mt4pump still has"
        raise StartError(f"store: {path} cannot be used: {error}; {cure}") from error
    if version != VERSION:
        connection.close()
        what = "no store of ours" if not version else f"a store of version {version}, this monitor writes {VERSION}"
        raise StartError(f"store: {path} is {what}: name another file")
    return connection
