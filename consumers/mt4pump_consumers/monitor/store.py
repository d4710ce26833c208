"""Executions, alerts, the rules' memory and the position in the stream: one file, one transaction for all of them.

That is what makes each execution stored once and each alert made once, whenever the monitor is killed: either all of a
batch is there, and the position behind it, or nothing, and the batch comes again.
"""

from __future__ import annotations

import json
import logging
import math
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mt4pump.private_files import PRIVATE, create_private, is_open_to_all, make_private
from mt4pump.process.clock import ProvenClock
from mt4pump.process.program import StartError
from mt4pump_consumers.monitor.execution import NS, REALS, Alert, Execution
from mt4pump_consumers.monitor.rules import Condition, RuleMemory

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


POSITION, PROVEN = "position", "proven_ts"
IN_MEMORY_ROWS = 10_000
"""Executions that a store without a file remembers, for the CSV file to catch up."""
DELETED_AT_ONCE = 2_000
DAY_S = 86_400
WAL_HELD = (
    "another program's open transaction keeps it from being emptied: end that transaction (a backup, an sqlite3 shell,"
    " a scanner), or copy the file and read the copy"
)
NONE, PENDING, DROPPED = "none", "pending", "dropped"


ADD_EXECUTION = (
    f"INSERT INTO executions ({COLUMNS}) VALUES ({', '.join('?' * len(NAMES))})"  # noqa: S608 - our own column names
    " ON CONFLICT (epoch, topic, seq) DO NOTHING"
)
ADD_ALERT = (
    "INSERT INTO alerts (id, ts, rule, status, subject, text, body, webhook, made_s) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (id) DO NOTHING"
)


@dataclass(slots=True)
class Batch:
    """What one transaction holds. ``position``: where the stream goes on after it, None if that is not known yet."""

    executions: list[Execution] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    position: dict[str, Any] | None = None


class MonitorStore:
    """For one thread. ``counts``: executions, repeats, alerts, alerts_dropped (the webhook's backlog was full)."""

    def __init__(self, path: Path | None, *, webhook: bool, backlog: int, keep_days: int = 0) -> None:
        self.path = path
        self.counts = dict.fromkeys(("executions", "repeats", "alerts", "alerts_dropped", "forgotten"), 0)
        self._webhook = webhook
        self._backlog = backlog
        self._keep_days = keep_days
        self.wal_limit_bytes, self.wal_max_bytes = WAL_LIMIT_BYTES, WAL_MAX_BYTES
        self._lock = _lock(path)
        try:
            self._connection = open_store(path)
            proven = self.note(PROVEN) or ""
        except BaseException:
            self._release()
            raise
        start_ns = int(proven) if proven.isdecimal() else time.time_ns()
        self._clock = ProvenClock(start_ns, time.time_ns, time.monotonic)

    def close(self) -> None:
        """Close the file and let another monitor have it."""
        self._connection.close()
        self._release()

    # ---- what was left by the last run ----

    def position(self) -> dict[str, Any] | None:
        """Return the position to go on from; None in a new store."""
        value = self.note(POSITION)
        return None if value is None else json.loads(value)

    def memory(self) -> RuleMemory:
        """Return what the rules remembered."""
        memory = RuleMemory()
        for rule, subject, since, reported in self._connection.execute(
            "SELECT rule, subject, since, told FROM conditions"
        ):
            memory.conditions[rule, subject] = Condition(since, bool(reported))
        for rule, subject, ts in self._connection.execute("SELECT rule, subject, ts FROM quiet"):
            memory.quiet[rule, subject] = ts
        return memory

    def unlogged(self, limit: int) -> list[tuple[int, str]]:
        """Return number and body of alerts that no log has yet, oldest first."""
        query = "SELECT number, body FROM alerts WHERE logged = 0 ORDER BY number LIMIT ?"
        return self._connection.execute(query, (limit,)).fetchall()

    def note(self, name: str) -> str | None:
        """Return what `set_note` kept."""
        row = self._connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    # ---- writing ----

    def commit(self, batch: Batch, memory: RuleMemory) -> None:
        """Keep the batch, all or nothing; raises sqlite3.Error with nothing kept."""
        counts = dict(self.counts)
        with self._transaction() as connection:
            self._add_executions(connection, batch.executions, counts)
            self._add_alerts(connection, batch.alerts, counts)
            _keep_memory(connection, memory)
            if batch.position is not None:
                _set(connection, POSITION, json.dumps(batch.position))
            if self.path is None:
                oldest = "SELECT max(id) - ? FROM executions"
                connection.execute(f"DELETE FROM executions WHERE id <= ({oldest})", (IN_MEMORY_ROWS,))  # noqa: S608
        if dropped := counts["alerts_dropped"] - self.counts["alerts_dropped"]:
            what = "1 alert is" if dropped == 1 else f"{dropped} alerts are"
            log.error("%s stored and not sent: %d wait for the webhook already (alert_backlog)", what, self._backlog)
        self.counts = counts
        memory.touched_conditions.clear()
        memory.touched_quiet.clear()

    def set_note(self, name: str, value: str) -> None:
        """Keep a text under a name; raises sqlite3.Error."""
        with self._transaction() as connection:
            _set(connection, name, value)

    def set_logged(self, up_to: int) -> None:
        """Note that the log has the alerts up to this number; raises sqlite3.Error."""
        with self._transaction() as connection:
            connection.execute("UPDATE alerts SET logged = 1 WHERE logged = 0 AND number <= ?", (up_to,))

    def forget(self) -> bool:
        """Delete some of what is older than ``keep_days``; return whether there may be more. Raises sqlite3.Error.

        The last row stays however old it is: of an empty table SQLite would count from 1 again, and who remembers how
        far it read would take what comes then for old.
        """
        if not self._keep_days:
            return False
        before = self._clock.read() - self._keep_days * DAY_S * NS
        with self._transaction() as connection:
            _set(connection, PROVEN, str(self._clock.proven_ns))
            gone = 0
            for table, key, also in (("executions", "id", ""), ("alerts", "number", " AND webhook <> 'pending'")):
                last = f"SELECT max({key}) FROM {table}"  # noqa: S608 - our own names
                old = f"SELECT {key} FROM {table} WHERE ts < ? AND {key} < ({last}){also} LIMIT ?"  # noqa: S608
                gone += connection.execute(
                    f"DELETE FROM {table} WHERE {key} IN ({old})",  # noqa: S608
                    (before, DELETED_AT_ONCE),
                ).rowcount
        self.counts["forgotten"] += gone
        return gone >= DELETED_AT_ONCE

    # ---- reading ----

    def last_row(self) -> int:
        """Return the id of the last execution ever; 0 if there was none."""
        (last,) = self._connection.execute("SELECT max(id) FROM executions").fetchone()
        return last or 0

    def executions_after(self, row: int, limit: int) -> list[tuple[int, Execution]]:
        """Return stored executions with a greater id, in order, each with its id."""
        query = f"SELECT id, {COLUMNS} FROM executions WHERE id > ? ORDER BY id LIMIT ?"  # noqa: S608 - our own names
        rows = self._connection.execute(query, (row, limit))
        return [(found[0], _execution(found[1:])) for found in rows]

    def latest(self, limit: int) -> list[Execution]:
        """Return the last executions, oldest first."""
        return [done for _, done in self.executions_after(self.last_row() - limit, limit)]

    def waiting(self) -> int:
        """Return how many alerts wait for the webhook."""
        query = "SELECT count(*) FROM alerts WHERE webhook = 'pending'"
        return int(self._connection.execute(query).fetchone()[0])

    def wal_bytes(self) -> int:
        """Return the size of the write-ahead log."""
        wal = None if self.path is None else self.path.with_name(f"{self.path.name}-wal")
        return wal.stat().st_size if wal is not None and wal.exists() else 0

    def held_wal_bytes(self) -> int:
        """Return the size of a write-ahead log that another program's transaction keeps from being emptied, else 0."""
        if self.wal_bytes() <= self.wal_limit_bytes:
            return 0
        self._connection.execute("PRAGMA busy_timeout = 0")  # that transaction may stay open for hours
        try:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            self._connection.execute(f"PRAGMA busy_timeout = {BUSY_S * 1000:.0f}")
        size = self.wal_bytes()
        return size if size > self.wal_limit_bytes else 0

    # ---- inside ----

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._connection
        if connection.in_transaction:  # a commit that failed for want of space may have left it open
            connection.execute("ROLLBACK")
        if self.wal_bytes() >= self.wal_max_bytes and (size := self.held_wal_bytes()):
            raise sqlite3.OperationalError(f"{self.path}-wal: {size} bytes: {WAL_HELD}")
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _add_executions(
        self, connection: sqlite3.Connection, executions: Sequence[Execution], counts: dict[str, int]
    ) -> None:
        if executions:
            stored = connection.executemany(ADD_EXECUTION, executions).rowcount
            counts["executions"] += stored
            counts["repeats"] += len(executions) - stored

    def _add_alerts(self, connection: sqlite3.Connection, alerts: Sequence[Alert], counts: dict[str, int]) -> None:
        if not alerts:
            return
        room = 0
        if self._webhook:
            room = self._backlog - self.waiting()
        for alert in alerts:
            state = NONE if not self._webhook else PENDING if room > 0 else DROPPED
            row = (alert.id, alert.ts, alert.rule, alert.status, alert.subject, alert.text, json.dumps(alert.as_dict()))
            if connection.execute(ADD_ALERT, (*row, state, time.time())).rowcount:
                counts["alerts"] += 1
                counts["alerts_dropped"] += state == DROPPED
                room -= state == PENDING

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()


def _keep_memory(connection: sqlite3.Connection, memory: RuleMemory) -> None:
    for key in memory.touched_conditions:
        condition = memory.conditions.get(key)
        if condition is None:
            connection.execute("DELETE FROM conditions WHERE rule = ? AND subject = ?", key)
        else:
            connection.execute("INSERT OR REPLACE INTO conditions VALUES (?, ?, ?, ?)", (*key, *condition))
    for key in memory.touched_quiet:
        ts = memory.quiet.get(key)
        if ts is None:
            connection.execute("DELETE FROM quiet WHERE rule = ? AND subject = ?", key)
        else:
            connection.execute("INSERT OR REPLACE INTO quiet VALUES (?, ?, ?)", (*key, ts))


def _set(connection: sqlite3.Connection, name: str, value: str) -> None:
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))


def _execution(row: Sequence[Any]) -> Execution:
    values = dict(zip(NAMES, row, strict=True))
    reals = {name: math.nan if values[name] is None else values[name] for name in REALS}  # NaN is kept as NULL
    return Execution(**{**values, **reals, "synthetic": bool(values["synthetic"])})


def _lock(path: Path | None) -> FileLock | None:
    """Take the store for ourselves: two monitors on one would send alerts twice."""
    if path is None:
        return None
    if not path.parent.is_dir():
        raise StartError(f"store: there is no folder {path.parent}: make it, or name another file")
    lock = FileLock(f"{path}.lock", mode=PRIVATE)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise StartError(f"store: another monitor uses {path}: end it, or name another file") from error
    except OSError as error:
        raise StartError(f"store: {path} cannot be used: {error.strerror or error}: may we write there?") from error
    return lock
