"""The journal's file: its tables and metadata, how it is opened, and its faults as texts."""

from __future__ import annotations

import secrets
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mt4pump.errors import JournalError

SYNCHRONOUS = ("off", "normal", "full")
WAL_LIMIT_BYTES = 256 * 2**20
"""A larger log is restarted. Up to it the file is kept: overwriting it costs half of making it longer."""
WAL_SHARE = 4
"""Which part of ``max_bytes`` the write-ahead log may take, at most."""
WAL_HELD_LEAST_BYTES = 256 * 2**20
SYNCED_LEVELS = ("full", "extra")
"""Levels at which a commit is on the disk when it returns; files of earlier versions may name ``extra``."""


@dataclass(frozen=True, slots=True)
class JournalOptions:
    """How safe, how old, how large, and whose open orders.

    ``synchronous`` is what a loss of **power** costs. A crash of the daemon alone costs no committed event.

    - ``off``: ten seconds of commits, and perhaps the file: a damaged one is quarantined.
    - ``normal``: the same ten seconds; the file stays sound.
    - ``full``: nothing. Each commit waits for the disk, and so does the stream: 0.1 ms on a good SSD, 10 ms and more
      on a hard disk.

    Readers may have received what a loss of power deleted. Its offsets are not given again, and a replay across them is
    not ``whole``.

    Events older than ``max_age_s`` by `ProvenClock` and by their highest ``ts`` are deleted. So are the oldest ones
    when the file and ``wal_limit_bytes`` of its write-ahead log exceed ``max_bytes``. A ``max_age_s`` or
    ``max_bytes`` of 0 is no bound. The file does not shrink: freed pages are used again. The log is restarted at
    ``wal_limit_bytes``. While another program holds it by an open transaction it grows; at ``wal_max_bytes``
    nothing more is stored. ``identity`` names the account of the open orders.
    """

    synchronous: str = "normal"
    max_age_s: float = 0.0
    max_bytes: int = 0
    identity: str = ""

    @property
    def wal_limit_bytes(self) -> int:
        """Return the size at which the write-ahead log is restarted."""
        return min(WAL_LIMIT_BYTES, self.max_bytes // WAL_SHARE) if self.max_bytes else WAL_LIMIT_BYTES

    @property
    def wal_max_bytes(self) -> int:
        """Return the size at which nothing more is stored in a log that is held; 0 for no bound."""
        return max(self.max_bytes, WAL_HELD_LEAST_BYTES) if self.max_bytes else 0

    def __post_init__(self) -> None:
        """Refuse a level that SQLite would silently replace by another."""
        if self.synchronous not in SYNCHRONOUS:
            raise ValueError(f"synchronous must be one of {', '.join(SYNCHRONOUS)}, not {self.synchronous!r}")


class Stored(NamedTuple):
    """One durable event. ``offset`` names it, ``ts`` is ns since 1970, ``topic`` and ``body`` are its frames.

    ``ticket`` is the order that the event leaves open, negative for one that it ends; 0 for no order.
    """

    offset: int
    ts: int
    topic: bytes
    body: bytes
    ticket: int = 0


class Replayed(NamedTuple):
    """One durable event as read back; ``topic`` and ``body`` are the original frames."""

    offset: int
    topic: bytes
    body: bytes


class JournalPage(NamedTuple):
    """One page of a replay.

    ``next`` is what to pass as ``after`` for the next page, None when the end was reached; a page may be empty and
    still have ``next``. ``last`` is the highest offset given to an event so far, ``first_available`` the lowest one
    that can still be read (0 when none can). ``whole`` is False when events that belong behind ``after``
    are not there: deleted by retention, published while the journal failed, or possibly lost with the power.
    ``log`` names the file.
    """

    events: list[Replayed]
    next: int | None
    last: int
    first_available: int
    whole: bool
    log: str


VERSION = 2
APPLICATION_ID = 0x4D543450
"""``MT4P``: marks the file as ours."""
PAGE_BYTES = 4096
"""Larger pages make groups a tenth cheaper but a table of many orders half as dear again."""
BUSY_WAIT_S = 0.05
"""How long the pump thread waits for another process that holds the file."""
READER_WAIT_S = 1.0
CACHE_KIB = 32 * 1024

TABLES = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID",
    # "reached" is the highest ts so far: events are searched by time in it, by bisection, without an index.
    # "ticket" is the order that the event leaves open, negative for one that it ends, 0 for none.
    """CREATE TABLE events ("offset" INTEGER PRIMARY KEY, ts INTEGER NOT NULL, reached INTEGER NOT NULL,
        ticket INTEGER NOT NULL, topic BLOB NOT NULL, body BLOB NOT NULL)""",
    "CREATE TABLE kinds (kind BLOB PRIMARY KEY, last INTEGER NOT NULL) WITHOUT ROWID",
    # Gaps: events may be missing after "after" and before "next"; "unstored" of them were published unstored.
    """CREATE TABLE breaks (after INTEGER PRIMARY KEY, next INTEGER NOT NULL, unstored INTEGER NOT NULL,
        why TEXT NOT NULL)""",
    'CREATE TABLE orders (ticket INTEGER PRIMARY KEY, "row" BLOB NOT NULL)',
)

INITIAL_META: dict[str, Any] = {
    "identity": "",  # of the account whose open orders are stored
    "mirror": 0,  # whether the table of open orders is complete
    "mirror_at": 0,  # up to which offset; events after it show the rest
    "base": 0,  # offsets continue after this one when no event has a higher one
    "forgotten": 0,  # last offset deleted by retention
    "forgotten_until": 0,  # highest ts deleted by retention
    "kinds_at": 0,  # up to which offset the table of kinds is complete
    "proven_ts": 0,  # the time that retention has accepted, ns since 1970; 0: not stored yet
    "disorder": 0,  # last offset whose ts is far below an earlier one: the clock was set back
    "reserved": 0,  # no event above this offset was published before this was on the disk
    "clean": 1,  # 0 while a daemon has the file open
    "boot": "",  # identity of the machine's start during which it was opened
    "inode": "",  # the file's number in its file system: a copy has another one
    "synchronous": "normal",
}


def companion(path: Path, suffix: str) -> Path:
    """Return the name of a file that SQLite keeps beside its main one."""
    return path.with_name(path.name + suffix)


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open the file; the thread that opens a connection may hand it to another, never share it."""
    mode, wait_s = ("ro", READER_WAIT_S) if read_only else ("rwc", BUSY_WAIT_S)
    target = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(
        target, uri=True, isolation_level=None, timeout=wait_s, check_same_thread=False, cached_statements=64
    )


def prepare(connection: sqlite3.Connection, options: JournalOptions) -> None:
    """Set up a connection that writes; a commit makes no checkpoint, the checkpointer does."""
    pragma(connection, "page_size", PAGE_BYTES)  # holds for a new file only
    mode = pragma(connection, "journal_mode", "WAL")
    if mode != "wal":
        raise JournalFileError(
            "no_wal", f"no write-ahead log possible here (mode {mode}): use a local disk for data_dir"
        )
    pragma(connection, "synchronous", options.synchronous)
    pragma(connection, "wal_autocheckpoint", 0)
    pragma(connection, "journal_size_limit", options.wal_limit_bytes)
    pragma(connection, "cache_size", -CACHE_KIB)
    pragma(connection, "secure_delete", "OFF")  # some builds overwrite what retention deletes, page by page
    pragma(connection, "temp_store", "MEMORY")


def pragma(connection: sqlite3.Connection, name: str, value: object = None) -> Any:
    """Read or set a pragma; return the first value of its result, None for none."""
    return first_value(connection, f"PRAGMA {name}" if value is None else f"PRAGMA {name}={value}")


def first_value(connection: sqlite3.Connection, sql: str, *values: object) -> Any:
    """Return the first value of the first row of a result, None when there is no row."""
    row = connection.execute(sql, values).fetchone()
    return row[0] if row else None


def is_new(connection: sqlite3.Connection) -> bool:
    """Return whether the file has no tables; raises if it is another program's or of an unknown version.

    One of a version from before the first release (1) is quarantined.
    """
    application, version = pragma(connection, "application_id"), pragma(connection, "user_version")
    if not (application or version or first_value(connection, "SELECT count(*) FROM sqlite_master")):
        return True
    if application != APPLICATION_ID:
        raise JournalFileError(DAMAGED, "this is another program's database: it is quarantined, a new one is begun")
    if version < VERSION:
        raise JournalFileError(
            DAMAGED, f"the file has tables of version {version}: it is quarantined, a new one is begun"
        )
    if version > VERSION:
        raise JournalFileError(
            "newer_version",
            f"the file has version {version} of the tables, this program knows {VERSION}: "
            "use the newer mt4pump that wrote it, or move the file away",
        )
    return False


def check_ours(connection: sqlite3.Connection) -> None:
    """Raise if the file is not a journal that can be read, an empty one included."""
    if is_new(connection):
        raise JournalFileError("no_journal", "the file is empty: the daemon has not begun it yet")


def create(connection: sqlite3.Connection, base: int, now_ns: int) -> None:
    """Make the tables of a new file whose first event will be ``base + 1``; all or nothing.

    What another file held up to ``base``, and until now, counts as deleted.
    """
    before = {"forgotten": base, "forgotten_until": now_ns} if base else {}
    connection.execute("BEGIN IMMEDIATE")
    for statement in TABLES:
        connection.execute(statement)
    write_meta(connection, {**INITIAL_META, "log": secrets.token_hex(8), "base": base, "kinds_at": base, **before})
    pragma(connection, "application_id", APPLICATION_ID)
    pragma(connection, "user_version", VERSION)
    connection.execute("COMMIT")


def read_meta(connection: sqlite3.Connection) -> dict[str, Any]:
    """Return the table ``meta``."""
    meta = {**INITIAL_META, **dict(connection.execute("SELECT name, value FROM meta"))}
    if "log" not in meta:
        raise JournalFileError(DAMAGED, "its metadata is missing: it is quarantined, a new one is begun")
    return meta


def write_meta(connection: sqlite3.Connection, entries: dict[str, Any]) -> None:
    """Write entries of ``meta``, in the transaction of the caller."""
    connection.executemany("INSERT OR REPLACE INTO meta VALUES (?,?)", entries.items())


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
