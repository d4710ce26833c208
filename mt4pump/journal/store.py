"""One open journal file: what a commit writes. Raises what SQLite raises; `Journal` decides what that means."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mt4pump.clock import NowNs, ProvenClock
from mt4pump.journal.errors import DAMAGED, JournalFileError
from mt4pump.journal.open_orders import OpenOrders
from mt4pump.journal.recovery import companion
from mt4pump.journal.retention import STEP_ROWS, Retention
from mt4pump.journal.schema import (
    INSERT_EVENTS,
    PAGE_BYTES,
    PUT_KINDS,
    SYNCED_LEVELS,
    JournalOptions,
    Stored,
    kind_of,
    pragma,
    write_meta,
)

RESERVE_BLOCK = 100_000
"""Offsets are reserved on the disk so many at a time, and that many are skipped, twice at most, after a power loss."""
KINDS_EVERY = 1000
"""Events between two writings of the table of kinds; opening reads those behind it."""
MIRROR_BEHIND_LIMIT = 10_000
"""Orders that the mirror may be behind before a commit brings it up to date; `Store.tend` does it each second."""
CLOCK_EVERY_NS = 60 * 10**9
BELIEF_LIMIT = 24.0
"""Hours of a jump ahead of the clock that an hour proves, at most."""
DISORDER_NS = 60 * 10**9
"""A ``ts`` that far below the highest one means that the clock was set back."""


class Store:
    """The file while it is open, for one thread. ``marks`` is the table ``meta``, read when the file was opened.

    ``last`` is the last offset given, ``kinds`` the last one per kind, ``bytes_written`` what was committed to the
    log so far. Offsets up to ``reserved`` are reserved in the file, up to ``reserved_synced`` on the disk.
    """

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        options: JournalOptions,
        *,
        marks: dict[str, Any],
        now_ns: NowNs,
        now_s: Callable[[], float],
    ) -> None:
        self.path = path
        self.wal = companion(path, "-wal")
        self.connection = connection
        self.log_id = str(marks["log"])
        self.last = self._read_last(marks)
        self.kinds = self._read_kinds(marks["kinds_at"])
        self.bytes_written = 0
        self._uncommitted_bytes = 0
        self.late_syncs = 0
        self.reserved = self.reserved_synced = int(marks["reserved"])
        self.mirror = OpenOrders(connection, options.identity, marks)
        self.wal_limit_bytes, self.wal_max_bytes = options.wal_limit_bytes, options.wal_max_bytes
        self._synchronous = options.synchronous
        self._synced = options.synchronous in SYNCED_LEVELS
        self._reached = self._read_reached(marks)
        extra = min(max(options.max_age_s / 3600, 1.0), BELIEF_LIMIT)
        self._proven_kept = int(marks["proven_ts"])
        self.clock = ProvenClock(self._proven_kept or self._reached or now_ns(), now_ns, now_s, extra)
        self.retention = Retention(connection, options, self.clock)
        self._disorder = int(marks["disorder"])
        self._disorder_kept = self._disorder
        self._kinds_at = int(marks["kinds_at"])
        self._credit = 0
        self._status = path.stat()
        self._data_version = pragma(connection, "data_version")

    def commit(self, events: Sequence[Stored], orders: Mapping[int, bytes | None] | None) -> None:
        """Store events and changed orders (None: not even an empty change) in one transaction."""
        self.connection.execute("BEGIN IMMEDIATE")
        kinds: dict[bytes, int] = {}
        last, kinds_at, reserved = self.last, self._kinds_at, self.reserved
        if events:
            last, kinds = self._insert(events)
            reserved = self._reserve(last)
            # Twice what comes in goes out, in steps that are worth their statements, while something must go.
            self._credit += 2 * len(events) if self.retention.behind else 0
            if last - kinds_at >= KINDS_EVERY or self._credit >= STEP_ROWS:
                kinds_at = self._write_kinds(last, {**self.kinds, **kinds})
            if self._credit >= STEP_ROWS:
                self.retention.step(self._credit, self.mirror.needs_from)
                self._credit = 0
        if orders is not None:
            self.mirror.change(orders, last)
        if len(self.mirror.behind) >= MIRROR_BEHIND_LIMIT:
            self._catch_up_mirror(last)
        self._commit()
        self.last, self._kinds_at, self.reserved = last, kinds_at, reserved
        self.kinds.update(kinds)
        if orders is not None:
            self.mirror.present = True
        if last > self.reserved_synced:
            self._sync_reserve()

    def replace_mirror(self, orders: Mapping[int, bytes]) -> None:
        """Store all open orders anew."""
        self.connection.execute("BEGIN IMMEDIATE")
        self.mirror.replace(orders, self.last)
        self.connection.execute("COMMIT")
        self.mirror.present = True

    def tend(self) -> None:
        """Once a second: is the file still ours, then what commits put off: marks, retention."""
        self._check_place()
        self.retention.look()
        if self.retention.behind or self._kinds_at < self.last or self._is_clock_due():
            self.connection.execute("BEGIN IMMEDIATE")
            kinds_at = self._write_kinds(self.last, self.kinds)
            self._catch_up_mirror(self.last)
            self.retention.step(STEP_ROWS, self.mirror.needs_from)
            self._keep_clock()
            self._commit()
            self._kinds_at = kinds_at

    def skip(self, to: int, *, unstored: int, why: str) -> None:
        """Mark that events may be missing behind ``last``, and go on behind ``to``; in the caller's transaction."""
        self.connection.execute(
            "INSERT INTO breaks VALUES (?,?,?,?) ON CONFLICT(after) DO UPDATE SET next = max(next, excluded.next), "
            "unstored = unstored + excluded.unstored, why = why || '; ' || excluded.why",
            (self.last, to + 1, unstored, why),
        )
        write_meta(self.connection, {"base": to})
        self.last = to

    def mark(self, marks: dict[str, Any]) -> None:
        """Write marks, in a transaction of their own that is on the disk when this returns."""
        pragma(self.connection, "synchronous", "FULL")
        self.connection.execute("BEGIN IMMEDIATE")
        write_meta(self.connection, marks)
        self.connection.execute("COMMIT")
        pragma(self.connection, "synchronous", self._synchronous)

    def wal_bytes(self) -> int:
        """Return the size of the write-ahead log."""
        return self.wal.stat().st_size

    def restart_wal(self, *, shrink: bool = False) -> bool:
        """Move all of the write-ahead log into the file, so that it begins anew; False when a reader is in the way.

        With ``shrink`` its file is emptied; else it keeps its length, to be written over.
        """
        return not pragma(self.connection, f"wal_checkpoint({'TRUNCATE' if shrink else 'RESTART'})")

    def end_life(self) -> None:
        """Mark a clean end, on the disk, and empty the write-ahead log as far as readers let us."""
        self.tend()
        self.mark({"clean": 1, "proven_ts": self.clock.proven_ns})
        pragma(self.connection, "wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Let go of the file; an open transaction is undone."""
        self.connection.close()

    def _is_clock_due(self) -> bool:
        return self.clock.proven_ns - self._proven_kept >= CLOCK_EVERY_NS

    def _keep_clock(self) -> None:
        """Store the proven time now and then, so that the next run goes on from it."""
        if self._is_clock_due():
            self._proven_kept = self.clock.proven_ns
            self._uncommitted_bytes += PAGE_BYTES
            write_meta(self.connection, {"proven_ts": self._proven_kept})

    def _commit(self) -> None:
        self.connection.execute("COMMIT")
        # Not before: the keeper would take for moved what is not in the log yet, and leave it there until more comes.
        self.bytes_written += self._uncommitted_bytes
        self._uncommitted_bytes = 0

    def _catch_up_mirror(self, last: int) -> None:
        self._uncommitted_bytes += PAGE_BYTES * len(self.mirror.behind)
        self.mirror.catch_up(last)

    def _insert(self, events: Sequence[Stored]) -> tuple[int, dict[bytes, int]]:
        """Insert events; return the last offset and the last one per kind."""
        kinds: dict[bytes, int] = {}
        flat: list[Any] = []
        reached, size = self._reached, 0
        behind = self.mirror.behind if self.mirror.present else None
        for offset, ts, topic, body, ticket in events:
            if ts > reached:
                reached = ts
            elif reached - ts > DISORDER_NS:
                self._disorder = offset
            kinds[kind_of(topic)] = offset
            size += len(body)
            flat += (offset, ts, reached, ticket, topic, body)
            if ticket and behind is not None:
                behind[abs(ticket)] = body if ticket > 0 else None
        execute = self.connection.execute
        for sql, values in INSERT_EVENTS.over(flat):
            execute(sql, values)
        self._reached = reached
        self._uncommitted_bytes += size
        return events[-1].offset, kinds

    def _reserve(self, last: int) -> int:
        """Write the next mark of reserved offsets long before it is reached, so that the keeper has time to sync it."""
        if self._disorder != self._disorder_kept:
            self._disorder_kept = self._disorder
            write_meta(self.connection, {"disorder": self._disorder})
        if last <= self.reserved - RESERVE_BLOCK // 2:
            return self.reserved
        write_meta(self.connection, {"reserved": last + RESERVE_BLOCK})
        return last + RESERVE_BLOCK

    def _write_kinds(self, last: int, kinds: Mapping[bytes, int]) -> int:
        """Write the table of kinds; must precede a step of retention, which deletes what it could be read from."""
        for sql, values in PUT_KINDS.over([part for kind in kinds.items() for part in kind]):
            self.connection.execute(sql, values)
        write_meta(self.connection, {"kinds_at": last})
        return last

    def _sync_reserve(self) -> None:
        """The keeper did not get the mark onto the disk in time (it has seconds for it): do it here."""
        if not self._synced:
            self.late_syncs += 1
            sync_file(self.wal)
        self.reserved_synced = self.reserved

    def _check_place(self) -> None:
        """Raise when the file under this name is not the one that is open, shrank, or was written by somebody else."""
        try:
            now = self.path.stat()
            self.wal.stat()
        except FileNotFoundError:
            raise JournalFileError("replaced", "the file was deleted under the daemon: it is begun anew") from None
        if (now.st_dev, now.st_ino) != (self._status.st_dev, self._status.st_ino):
            raise JournalFileError("replaced", "the file was replaced under the daemon: it is opened again")
        if now.st_size < self._status.st_size:
            raise JournalFileError(DAMAGED, "the file was cut short: it is set aside, a new one is begun")
        self._status = now
        version = pragma(self.connection, "data_version")
        if version != self._data_version:
            self._data_version = version
            raise JournalFileError(
                "other_writer", "another process writes to it: two daemons share one data_dir, end one of them"
            )

    def _read_last(self, marks: dict[str, Any]) -> int:
        highest = self.connection.execute('SELECT ifnull(max("offset"), 0) FROM events').fetchone()[0]
        return max(int(highest), int(marks["base"]), int(marks["forgotten"]))

    def _read_kinds(self, kinds_at: int) -> dict[bytes, int]:
        kinds: dict[bytes, int] = dict(self.connection.execute("SELECT kind, last FROM kinds"))
        later = self.connection.execute(
            'SELECT "offset", topic FROM events WHERE "offset" > ? ORDER BY "offset"', (kinds_at,)
        )
        kinds.update((kind_of(topic), offset) for offset, topic in later)
        return kinds

    def _read_reached(self, marks: dict[str, Any]) -> int:
        row = self.connection.execute('SELECT reached FROM events ORDER BY "offset" DESC LIMIT 1').fetchone()
        return max(int(row[0]) if row else 0, int(marks["forgotten_until"]))


def sync_file(path: Path) -> None:
    """Have the system put a file on the disk; SQLite keeps no lock on its log, so a handle of our own harms nothing."""
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
