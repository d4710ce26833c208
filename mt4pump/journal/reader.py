"""Reads the journal from another thread, a page at a time, with bounded work per page."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mt4pump.errors import JournalError
from mt4pump.journal.schema import (
    FAULTS,
    JournalPage,
    Replayed,
    check_ours,
    connect,
    explain,
    first_value,
    read_meta,
)
from mt4pump.journal.store import DISORDER_NS
from mt4pump.wire import outermost

PAGE_ROWS = 10_000
PAGE_BYTES = 2**20
SCAN_ROWS = 50_000
"""Rows searched for one page; fewer when each must be compared with many prefixes."""
CHEAP_PREFIXES = 8
BATCH_ROWS = 16


def successor(prefix: bytes) -> bytes | None:
    """Return the smallest bytes above all that begin with ``prefix``; None when there are none (only 0xff)."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None


def condition(prefixes: Sequence[bytes]) -> tuple[str, list[bytes]]:
    """Return an SQL condition on ``topic`` and its values."""
    terms: list[str] = []
    values: list[bytes] = []
    for prefix in prefixes:
        end = successor(prefix)
        terms.append("topic >= ?" if end is None else "(topic >= ? AND topic < ?)")
        values += [prefix] if end is None else [prefix, end]
    return " OR ".join(terms), values


class JournalReader:
    """Pages of events, for any one thread.

    Its connection is read-only, opened when first needed and again when the file was replaced. It holds no lock
    between two pages. ``unstored_after``, where given, is `Journal.unstored_after`: while the journal fails, a page
    that is not whole is known only from it. ``yield_to_pump`` is called after every few rows: SQLite releases the
    interpreter at every row, and taking it back slows the pump thread.
    """

    def __init__(
        self,
        path: Path,
        unstored_after: Callable[[], int | None] = lambda: None,
        yield_to_pump: Callable[[], object] = lambda: None,
    ) -> None:
        self._path = path.absolute()
        self._yield_to_pump = yield_to_pump
        self._unstored_after = unstored_after
        self._connection: sqlite3.Connection | None = None
        self._file_id: tuple[int, int] = (0, 0)

    def page(
        self,
        *,
        after: int,
        to: int | None = None,
        prefixes: Sequence[bytes] = (),
        limit: int = PAGE_ROWS,
        since: int | None = None,
        until: int | None = None,
    ) -> JournalPage:
        """Return events after offset ``after`` up to ``to``, in order, whose topic begins with one of ``prefixes``.

        No prefix, or an empty one, means all topics. ``since`` and ``until`` (ns since 1970, both included) select
        by the events' ``ts``. At most ``limit`` events, `PAGE_ROWS` and about `PAGE_BYTES` of bodies (one event at
        least); raises JournalError.
        """
        try:
            connection = self._connect()
            connection.execute("BEGIN")
            search = _Search(connection, after, to, self._unstored_after(), self._yield_to_pump)
            page = search.page(outermost(prefixes), max(1, min(limit, PAGE_ROWS)), since, until)
            connection.execute("COMMIT")
        except FAULTS as error:
            self.close()
            raise JournalError(explain(error, self._path, "reading the journal").text) from error
        if os.name == "nt":
            self.close()  # an open file cannot be renamed on Windows
        return page

    def close(self) -> None:
        """Close the file; the next page opens it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connect(self) -> sqlite3.Connection:
        """Return the connection, a new one if another file has the name now."""
        status = self._path.stat()
        file_id = (status.st_dev, status.st_ino)
        if self._connection is not None and file_id == self._file_id:
            return self._connection
        self.close()
        connection = connect(self._path, read_only=True)
        try:
            check_ours(connection)
        except BaseException:
            connection.close()
            raise
        self._connection, self._file_id = connection, file_id
        return connection


class _Search:
    """The search for one page, inside one read transaction, which sees one state of the file."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        after: int,
        to: int | None,
        unstored_after: int | None,
        yield_to_pump: Callable[[], object],
    ) -> None:
        self._connection = connection
        self._yield_to_pump = yield_to_pump
        self._meta = meta = read_meta(connection)
        # Two statements: SQLite finds one extreme at once, and reads the whole table for two.
        first, last = self._value('SELECT min("offset") FROM events'), self._value('SELECT max("offset") FROM events')
        self._last = max(last or 0, int(meta["base"]), int(meta["forgotten"]))
        self._first_available = first or 0
        self._first = first or self._last + 1
        self._after = max(0, after)
        self._to = to
        self._unstored_after = unstored_after

    def page(self, prefixes: Sequence[bytes], limit: int, since: int | None, until: int | None) -> JournalPage:
        """Search a bounded range of offsets and return what matches."""
        after = self._after if since is None else max(self._after, self._last_before(since))
        end = self._end(until)
        events: list[Replayed] = []
        following = None
        start = self._value('SELECT min("offset") FROM events WHERE "offset" > ?', after)
        if start is not None and start <= end:
            scan_rows = SCAN_ROWS * CHEAP_PREFIXES // max(CHEAP_PREFIXES, len(prefixes))
            scanned_to = min(end, start + scan_rows - 1)
            events, is_full = self._fetch(*_query(start, scanned_to, prefixes, since, until), limit)
            reached = events[-1].offset if is_full else scanned_to
            following = reached if reached < end else None
        whole = self._is_whole(after, since)
        return JournalPage(events, following, self._last, self._first_available, whole, str(self._meta["log"]))

    def _fetch(self, sql: str, values: list[Any], limit: int) -> tuple[list[Replayed], bool]:
        """Return the matching events of a range, and whether ``limit`` or the size ended them."""
        cursor = self._connection.execute(sql, [*values, limit])
        events: list[Replayed] = []
        make, size = tuple.__new__, 0  # `_make` takes half a µs more per event
        for row in cursor:  # one by one: a few large bodies together may exceed the memory
            event = make(Replayed, row)
            size += len(row[2])
            if size > PAGE_BYTES and events:
                cursor.close()
                return events, True
            events.append(event)
            if not len(events) % BATCH_ROWS:
                self._yield_to_pump()
        return events, len(events) == limit

    def _end(self, until: int | None) -> int:
        """Return the last offset to search; after it every ``ts`` is above ``until``, or nothing is requested."""
        end = self._last if self._to is None else min(self._to, self._last)
        if until is None:
            return end
        # Unless the clock was set back no ts is further than DISORDER_NS below the highest one before it.
        return min(end, max(self._first_reaching(until + DISORDER_NS + 1) - 1, int(self._meta["disorder"])))

    def _is_whole(self, after: int, since: int | None) -> bool:
        """Return whether no event is missing that was published after ``after``."""
        if since is None:
            is_deleted = after < self._first - 1
        else:
            is_deleted = self._after < self._meta["forgotten"] and since <= self._meta["forgotten_until"]
        to = self._last + 1 if self._to is None else self._to
        unstored_after = self._unstored_after
        if is_deleted or (unstored_after is not None and after <= unstored_after < to):
            return False
        # next - 1 is the last skipped offset: a reader that has it knows of the gap, one before it may not.
        sql = "SELECT 1 FROM breaks WHERE (after >= ?1 OR next - 2 >= ?1) AND after < ?2 LIMIT 1"
        return self._value(sql, after, to) is None

    def _last_before(self, ts: int) -> int:
        """Return the offset of the last event before the first one that reaches ``ts``, 0 for none."""
        return self._value('SELECT max("offset") FROM events WHERE "offset" < ?', self._first_reaching(ts)) or 0

    def _first_reaching(self, ts: int) -> int:
        """Return the offset of the first event with a ``ts`` that high, ``last + 1`` when there is none."""
        low, high = self._first, self._last + 1
        while low < high:
            middle = (low + high) // 2
            row = self._connection.execute(
                'SELECT "offset", reached FROM events WHERE "offset" >= ? ORDER BY "offset" LIMIT 1', (middle,)
            ).fetchone()
            if row is None or row[1] >= ts:
                high = middle
            else:
                low = row[0] + 1
        return low

    def _value(self, sql: str, *values: object) -> Any:
        return first_value(self._connection, sql, *values)


def _query(
    start: int, end: int, prefixes: Sequence[bytes], since: int | None, until: int | None
) -> tuple[str, list[Any]]:
    """Return the statement for the matching events of a range, and its values except the limit."""
    sql = 'SELECT "offset", topic, body FROM events WHERE "offset" BETWEEN ? AND ?'
    values: list[Any] = [start, end]
    for term, value in (("ts >= ?", since), ("ts <= ?", until)):
        if value is not None:
            sql += f" AND {term}"
            values.append(value)
    if any(prefixes):
        term, bounds = condition(prefixes)
        sql += f" AND ({term})"
        values += bounds
    return f'{sql} ORDER BY "offset" LIMIT ?', values
