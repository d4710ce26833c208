"""One open journal file: what a commit writes, events and open orders. Raises what SQLite raises; `Journal` handles it.

Many rows are written by few statements, because SQLite releases the interpreter at each.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from mt4pump.journal.retention import STEP_ROWS, Retention
from mt4pump.journal.schema import (
    DAMAGED,
    PAGE_BYTES,
    SYNCED_LEVELS,
    JournalFileError,
    JournalOptions,
    Stored,
    companion,
    first_value,
    pragma,
    write_meta,
)
from mt4pump.private_files import sync_file
from mt4pump.process.clock import NowNs, ProvenClock
from mt4pump.wire import kind_of

RESERVE_BLOCK = 100_000
"""Offsets are reserved on the disk so many at a time; after a power loss up to twice as many are skipped."""
KINDS_EVERY = 1000
"""Events between two writings of the table of kinds; opening reads those after it."""
ORDERS_PENDING_LIMIT, ORDERS_PER_COMMIT = 10_000, 1_000
"""Pending orders from which commits write some, and how many (some 2 ms; a commit adds 256 at most)."""
ORDERS_PER_MAINTENANCE = 4_000
"""Pending orders that `Store.maintain` writes each second (some 8 ms); up to the limit until all were stored once."""
CLOCK_EVERY_NS = 60 * 10**9
CLOCK_GAIN_MAX = 24.0
"""Hours of a jump ahead of the clock that an hour confirms, at most."""
DISORDER_NS = 60 * 10**9
"""A ``ts`` that far below the highest one means that the clock was set back."""
NEVER = 2**63 - 1
SIZES = (64, 16, 4, 1)
"""Rows per statement."""


class Chunked:
    """One statement for many rows, in all `SIZES`: ``head``, ``item`` repeated with commas, ``tail``."""

    def __init__(self, head: str, item: str, tail: str = "") -> None:
        self.width = item.count("?")
        self._sql = [(size, f"{head}{','.join([item] * size)}{tail}") for size in SIZES]

    def over(self, flat: Sequence[Any]) -> Iterator[tuple[str, Sequence[Any]]]:
        """Yield statement and values until all of ``flat``, the rows' values end to end, are used."""
        at, left, width = 0, len(flat) // self.width, self.width
        for size, sql in self._sql:
            while left >= size:
                end = at + size * width
                yield sql, flat[at:end]
                at, left = end, left - size


INSERT_EVENTS = Chunked("INSERT INTO events VALUES ", "(?,?,?,?,?,?)")
PUT_KINDS = Chunked("INSERT OR REPLACE INTO kinds VALUES ", "(?,?)")
PUT_ORDERS = Chunked("INSERT INTO orders VALUES ", "(?,?)", " ON CONFLICT(ticket) DO UPDATE SET row=excluded.row")
DROP_ORDERS = Chunked("DELETE FROM orders WHERE ticket IN (", "?", ")")


class OpenOrders:
    """The open orders, which a daemon compares with the server's table at its start.

    Their rows are the bodies of events, which are in the file anyway. So a commit does not write them, which would
    cost more than the events: changes are ``pending``, and those that a crash leaves pending are read from the events.

    ``identity`` is whose they are; ``present``: whether they are stored, maybe none; ``is_complete``: whether all.
    ``pending`` are the orders that changed (None: ended) since the table was last complete; a table of very many is
    written in parts, in several transactions of the caller. Those of another identity stay until ours are stored.
    """

    def __init__(self, connection: sqlite3.Connection, identity: str, meta: Mapping[str, Any]) -> None:
        self.present = self.is_complete = bool(meta["mirror"]) and str(meta["identity"]) == identity
        self._connection = connection
        self._identity = identity
        self._complete_at = int(meta["mirror_at"])
        self.pending: dict[int, bytes | None] = self._read_pending() if self.present else {}

    @property
    def needs_from(self) -> int:
        """Return the first offset whose event is still needed to complete the table."""
        return self._complete_at + 1 if self.present and self.pending else NEVER

    def rows(self) -> dict[int, bytes]:
        """Return ticket → row of all open orders; none when they are another identity's."""
        if not self.present:
            return {}
        rows: dict[int, bytes | None] = dict(self._connection.execute('SELECT ticket, "row" FROM orders'))
        return {ticket: row for ticket, row in (rows | self.pending).items() if row is not None}

    def change(self, orders: Mapping[int, bytes | None]) -> None:
        """Note changed rows and ended orders (None); the first change of a new identity starts from none."""
        if not self.present:
            self._connection.execute("DELETE FROM orders")
            write_meta(self._connection, {"identity": self._identity, "mirror": 0})  # until the table is complete
            self.pending.clear()
            self.present, self.is_complete = True, False
        self.pending.update(orders)

    def replace(self, orders: Mapping[int, bytes]) -> None:
        """Note all orders anew. Until they are written the old ones stay: a crash meanwhile loses no order."""
        if self.present:
            known = (ticket for (ticket,) in self._connection.execute("SELECT ticket FROM orders"))
            self.pending = {ticket: None for ticket in known if ticket not in orders}
        self.change(orders)

    def write(self, last: int, limit: int | None) -> int:
        """Write up to ``limit`` pending orders and return how many; ``last`` is the last event that they include."""
        part = dict(islice(self.pending.items(), limit))
        # By ticket: neighbours share a page, and every page touched is written whole.
        kept = [value for ticket, row in sorted(part.items()) if row is not None for value in (ticket, row)]
        for sql, values in PUT_ORDERS.over(kept):
            self._connection.execute(sql, values)
        for sql, values in DROP_ORDERS.over([ticket for ticket, row in part.items() if row is None]):
            self._connection.execute(sql, values)
        for ticket in part:
            del self.pending[ticket]
        if not self.pending:
            write_meta(self._connection, {"mirror_at": last} | ({"mirror": 1} if self.present else {}))
            self._complete_at, self.is_complete = last, self.present
        return len(part)

    def _read_pending(self) -> dict[int, bytes | None]:
        """Return what events changed after the table was last complete."""
        rows = self._connection.execute(
            'SELECT ticket, body FROM events WHERE "offset" > ? AND ticket != 0 ORDER BY "offset"', (self._complete_at,)
        )
        return {abs(ticket): body if ticket > 0 else None for ticket, body in rows}


class Store:
    """The file while it is open, for one thread. ``meta`` is the table ``meta``, read when the file was opened.

    ``last`` is the last offset given, ``kinds`` the last one per kind, ``bytes_written`` what was committed to the
    log. Offsets up to ``reserved`` are reserved in the file, up to ``reserved_synced`` on the disk.
    """

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        options: JournalOptions,
        *,
        meta: dict[str, Any],
        now_ns: NowNs,
        now_s: Callable[[], float],
    ) -> None:
        self.path = path
        self.wal = companion(path, "-wal")
        self.connection = connection
        self.options = options
        self.log_id = str(meta["log"])
        highest = first_value(connection, 'SELECT max("offset") FROM events') or 0
        self.last = max(highest, int(meta["base"]), int(meta["forgotten"]))
        self.kinds = self._read_kinds(meta["kinds_at"])
        self.bytes_written = 0
        self._uncommitted_bytes = 0
        self.reserved = self.reserved_synced = int(meta["reserved"])
        self.orders = OpenOrders(connection, options.identity, meta)
        reached = first_value(connection, 'SELECT reached FROM events ORDER BY "offset" DESC LIMIT 1') or 0
        self._reached = max(reached, int(meta["forgotten_until"]))
        gain = min(max(options.max_age_s / 3600, 1.0), CLOCK_GAIN_MAX)
        self._proven_stored = int(meta["proven_ts"])
        self.clock = ProvenClock(self._proven_stored or self._reached or now_ns(), now_ns, now_s, gain)
        self.retention = Retention(connection, options, self.clock)
        self._disorder = self._disorder_stored = int(meta["disorder"])
        self._kinds_at = int(meta["kinds_at"])
        self._delete_credit = 0
        self._status = path.stat()
        self._data_version = pragma(connection, "data_version")

    def commit(self, events: Sequence[Stored], orders: Mapping[int, bytes | None] | None) -> None:
        """Store events and changed orders (None: not even an empty change) in one transaction."""
        self.connection.execute("BEGIN IMMEDIATE")
        kinds: dict[str, int] = {}
        last, kinds_at, reserved = self.last, self._kinds_at, self.reserved
        if events:
            last, kinds = self._insert(events)
            reserved = self._reserve(last)
            # While there is a backlog twice what is stored is deleted, in steps that are worth their statements.
            self._delete_credit += 2 * len(events) if self.retention.has_backlog else 0
            if last - kinds_at >= KINDS_EVERY or self._delete_credit >= STEP_ROWS:
                kinds_at = self._write_kinds(last, {**self.kinds, **kinds})
            if self._delete_credit >= STEP_ROWS:
                self.retention.step(self._delete_credit, self.orders.needs_from)
                self._delete_credit = 0
        if orders is not None:
            self.orders.change(orders)
        if orders is not None or len(self.orders.pending) >= ORDERS_PENDING_LIMIT:
            self._write_orders(last, ORDERS_PER_COMMIT)
        self._commit()
        self.last, self._kinds_at, self.reserved = last, kinds_at, reserved
        self.kinds.update(kinds)
        if last > self.reserved_synced:
            self.sync_reserved()  # the checkpointer, which has seconds for it, did not in time

    def replace_orders(self, orders: Mapping[int, bytes]) -> None:
        """Store all open orders anew; of very many the rest is written by `maintain` and the next commits."""
        self.connection.execute("BEGIN IMMEDIATE")
        self.orders.replace(orders)
        self._write_orders(self.last, ORDERS_PER_COMMIT)
        self._commit()

    def maintain(self, *, writes_all: bool = False) -> None:
        """Check that the file is still ours, then do what commits postpone; about once a second."""
        self._check_file()
        self.retention.measure()
        is_clock_due = self.clock.proven_ns - self._proven_stored >= CLOCK_EVERY_NS
        if self.retention.has_backlog or self._kinds_at < self.last or self.orders.pending or is_clock_due:
            self.connection.execute("BEGIN IMMEDIATE")
            kinds_at = self._write_kinds(self.last, self.kinds)
            part = ORDERS_PER_MAINTENANCE if self.orders.is_complete else ORDERS_PENDING_LIMIT
            self._write_orders(self.last, None if writes_all else part)
            self.retention.step(STEP_ROWS, self.orders.needs_from)
            if is_clock_due:  # so that the next run continues from it
                self._proven_stored = self.clock.proven_ns
                self._uncommitted_bytes += PAGE_BYTES
                write_meta(self.connection, {"proven_ts": self._proven_stored})
            self._commit()
            self._kinds_at = kinds_at

    def record_gap(self, to: int, *, unstored: int, why: str) -> None:
        """Record that events may be missing after ``last``, and continue after ``to``; in the caller's transaction."""
        self.connection.execute(
            "INSERT INTO breaks VALUES (?,?,?,?) ON CONFLICT(after) DO UPDATE SET next = max(next, excluded.next), "
            "unstored = unstored + excluded.unstored, why = why || '; ' || excluded.why",
            (self.last, to + 1, unstored, why),
        )
        write_meta(self.connection, {"base": to})
        self.last = to

    def wal_bytes(self) -> int:
        """Return the size of the write-ahead log."""
        return self.wal.stat().st_size

    def restart_wal(self, *, shrink: bool = False) -> bool:
        """Move all of the write-ahead log into the file, so that it starts again; return False if a reader holds it.

        With ``shrink`` its file is emptied; else it keeps its length, to be overwritten.
        """
        return not pragma(self.connection, f"wal_checkpoint({'TRUNCATE' if shrink else 'RESTART'})")

    def sync_reserved(self) -> None:
        """Have the reserved offsets on the disk; also for the checkpointer's thread."""
        reserved = self.reserved  # a commit may reserve more meanwhile
        if self.options.synchronous not in SYNCED_LEVELS:
            sync_file(self.wal)  # SQLite keeps no lock on its log, so a second handle does no harm
        self.reserved_synced = reserved

    def finish(self) -> None:
        """Write all that is postponed, record a clean end on the disk, and empty the log as far as readers allow."""
        self.maintain(writes_all=True)
        pragma(self.connection, "synchronous", "FULL")
        self.connection.execute("BEGIN IMMEDIATE")
        write_meta(self.connection, {"clean": 1, "proven_ts": self.clock.proven_ns})
        self.connection.execute("COMMIT")
        pragma(self.connection, "synchronous", self.options.synchronous)
        pragma(self.connection, "wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the file; an open transaction is rolled back."""
        self.connection.close()

    def _commit(self) -> None:
        self.connection.execute("COMMIT")
        # Not before: the checkpointer would count as moved what is not in the log yet, and leave it there.
        self.bytes_written += self._uncommitted_bytes
        self._uncommitted_bytes = 0

    def _write_orders(self, last: int, limit: int | None) -> None:
        self._uncommitted_bytes += PAGE_BYTES * self.orders.write(last, limit)

    def _insert(self, events: Sequence[Stored]) -> tuple[int, dict[str, int]]:
        """Insert events; return the last offset and the last one per kind."""
        kinds: dict[str, int] = {}
        flat: list[Any] = []
        reached, size = self._reached, 0
        pending = self.orders.pending if self.orders.present else None
        for offset, ts, topic, body, ticket in events:
            if ts > reached:
                reached = ts
            elif reached - ts > DISORDER_NS:
                self._disorder = offset
            kinds[kind_of(topic)] = offset
            size += len(body)
            flat += (offset, ts, reached, ticket, topic, body)
            if ticket and pending is not None:
                pending[abs(ticket)] = body if ticket > 0 else None
        execute = self.connection.execute
        for sql, values in INSERT_EVENTS.over(flat):
            execute(sql, values)
        self._reached = reached
        self._uncommitted_bytes += size
        return events[-1].offset, kinds

    def _reserve(self, last: int) -> int:
        """Reserve the next offsets long before they are reached, so that the checkpointer has time to sync that."""
        if self._disorder != self._disorder_stored:
            self._disorder_stored = self._disorder
            write_meta(self.connection, {"disorder": self._disorder})
        if last <= self.reserved - RESERVE_BLOCK // 2:
            return self.reserved
        write_meta(self.connection, {"reserved": last + RESERVE_BLOCK})
        return last + RESERVE_BLOCK

    def _write_kinds(self, last: int, kinds: Mapping[str, int]) -> int:
        """Write the table of kinds; must precede a step of retention, which deletes the events it is read from."""
        for sql, values in PUT_KINDS.over([value for kind, at in kinds.items() for value in (kind.encode(), at)]):
            self.connection.execute(sql, values)
        write_meta(self.connection, {"kinds_at": last})
        return last

    def _check_file(self) -> None:
        """Raise if another file has its name, or if it shrank or was written by another process."""
        try:
            now = self.path.stat()
            self.wal.stat()
        except FileNotFoundError:
            raise JournalFileError(
                "replaced", "the file was deleted while the daemon ran: a new one is created"
            ) from None
        if (now.st_dev, now.st_ino) != (self._status.st_dev, self._status.st_ino):
            raise JournalFileError("replaced", "the file was replaced while the daemon ran: it is opened again")
        if now.st_size < self._status.st_size:
            raise JournalFileError(DAMAGED, "the file was cut short: it is quarantined, a new one is begun")
        self._status = now
        version = pragma(self.connection, "data_version")
        if version != self._data_version:
            self._data_version = version
            raise JournalFileError(
                "other_writer", "another process writes to it: two daemons share one data_dir, end one of them"
            )

    def _read_kinds(self, kinds_at: int) -> dict[str, int]:
        kinds = self.connection.execute("SELECT CAST(kind AS BLOB), last FROM kinds")
        later = self.connection.execute(
            'SELECT CAST(topic AS BLOB), "offset" FROM events WHERE "offset" > ? ORDER BY "offset"', (kinds_at,)
        )
        return {kind_of(topic): offset for topic, offset in chain(kinds, later)}
