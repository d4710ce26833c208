"""Reading the journal from another thread, a page at a time, with bounded work per page."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from mt4pump.errors import JournalError
from mt4pump.journal.errors import FAULTS, explain
from mt4pump.journal.schema import READER_WAIT_S, JournalPage, Replayed, check_ours, connect, read_meta
from mt4pump.journal.store import DISORDER_NS


def successor(prefix: bytes) -> bytes | None:
    """Return the smallest bytes behind all that begin with ``prefix``; None when there are none (only 0xff)."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None


def minimal(prefixes: Iterable[bytes]) -> list[bytes]:
    """Return the prefixes without those that a shorter one covers; [] when all topics are meant."""
    kept: list[bytes] = []
    for prefix in sorted(set(prefixes)):
        if not prefix:
            return []
        if not kept or not prefix.startswith(kept[-1]):
            kept.append(prefix)
    return kept


def condition(prefixes: list[bytes]) -> tuple[str, list[bytes]]:
    """Return an SQL condition on ``topic`` (empty when all are meant) and its values, for `minimal` prefixes."""
    terms: list[str] = []
    values: list[bytes] = []
    for prefix in prefixes:
        end = successor(prefix)
        terms.append("topic >= ?" if end is None else "(topic >= ? AND topic < ?)")
        values += [prefix] if end is None else [prefix, end]
    return " OR ".join(terms), values


PAGE_ROWS = 10_000
PAGE_BYTES = 2**20
SCAN_ROWS = 50_000
"""Rows looked at for one page; fewer when each must be compared with many prefixes."""
CHEAP_PREFIXES = 8
BATCH_ROWS = 16


class JournalReader:
    """Pages of events, for any one thread.

    Its connection is its own, read-only, opened when first needed and again when the file was replaced. No lock of
    it outlives a page. ``unstored_after``, where given, is `Journal.unstored_after`: it lets a page say that it is not
    whole while the journal fails, which the file cannot. ``make_way`` is called between few rows, for threads that
    have more urgent work: SQLite lets go of the interpreter at every row, and taking it from them costs them dearly.
    """

    def __init__(
        self,
        path: Path,
        unstored_after: Callable[[], int | None] = lambda: None,
        make_way: Callable[[], object] = lambda: None,
    ) -> None:
        self._path = path.absolute()
        self._make_way = make_way
        self._unstored_after = unstored_after
        self._connection: sqlite3.Connection | None = None
        self._place: tuple[int, int] = (0, 0)

    def page(
        self,
        *,
        after: int,
        to: int | None,
        prefixes: Sequence[bytes],
        limit: int,
        since: int | None = None,
        until: int | None = None,
    ) -> JournalPage:
        """Return events behind offset ``after`` up to ``to``, in order, whose topic begins with one of ``prefixes``.

        No prefix, or an empty one, means all topics. ``since`` and ``until`` (ns since 1970, both included) select
        by the events' ``ts``. At most ``limit`` events, `PAGE_ROWS` and about `PAGE_BYTES` of bodies (one event at
        least); raises JournalError.
        """
        try:
            connection = self._connect()
            connection.execute("BEGIN")
            search = _Search(connection, after, to, self._unstored_after(), self._make_way)
            page = search.page(minimal(prefixes), max(1, min(limit, PAGE_ROWS)), since, until)
            connection.execute("COMMIT")
        except FAULTS as error:
            self.close()
            raise JournalError(explain(error, self._path, "reading the journal").text) from error
        if os.name == "nt":
            self.close()  # an open file cannot be set aside on Windows
        return page

    def close(self) -> None:
        """Let go of the file; the next page opens it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connect(self) -> sqlite3.Connection:
        """Return the connection, a new one when the file under the name is another one."""
        status = self._path.stat()
        place = (status.st_dev, status.st_ino)
        if self._connection is not None and place == self._place:
            return self._connection
        self.close()
        connection = connect(self._path, wait_s=READER_WAIT_S, read_only=True)
        try:
            check_ours(connection)
        except BaseException:
            connection.close()
            raise
        self._connection, self._place = connection, place
        return connection


class _Search:
    """One page, inside one read transaction: what it sees does not change under it."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        after: int,
        to: int | None,
        unstored_after: int | None,
        make_way: Callable[[], object],
    ) -> None:
        self._connection = connection
        self._make_way = make_way
        self._marks = read_meta(connection)
        self._log_id = str(self._marks["log"])
        # Two statements: SQLite finds one extreme at once, and reads the whole table for two.
        first, last = self._one('SELECT min("offset") FROM events'), self._one('SELECT max("offset") FROM events')
        self._last = max(last or 0, int(self._marks["base"]), int(self._marks["forgotten"]))
        self._first_available = first or 0
        self._first = first or self._last + 1
        self._after = max(0, after)
        self._to = to
        self._unstored_after = unstored_after

    def page(self, prefixes: list[bytes], limit: int, since: int | None, until: int | None) -> JournalPage:
        """Look at a bounded stretch of offsets and return what matches."""
        after = self._after if since is None else max(self._after, self._before_ts(since))
        end = self._end(until)
        whole = self._whole(after, since)
        start = self._one('SELECT min("offset") FROM events WHERE "offset" > ?', after)
        if start is None or start > end:
            return JournalPage([], None, self._last, self._first_available, whole, self._log_id)
        scan_rows = SCAN_ROWS * CHEAP_PREFIXES // max(CHEAP_PREFIXES, len(prefixes))
        scanned_to = min(end, start + scan_rows - 1)
        sql, values = _query(start, scanned_to, prefixes, since, until)
        events, cut = self._fetch(sql, values, limit)
        reached = events[-1].offset if cut else scanned_to
        following = reached if reached < end else None
        return JournalPage(events, following, self._last, self._first_available, whole, self._log_id)

    def _fetch(self, sql: str, values: list[Any], limit: int) -> tuple[list[Replayed], bool]:
        """Return the matching events of a stretch, and whether they were cut off by ``limit`` or size."""
        cursor = self._connection.execute(sql, [*values, limit])
        events: list[Replayed] = []
        size = 0
        for row in cursor:  # one by one: a few large bodies together may be more than memory
            event = Replayed._make(row)
            events.append(event)
            size += len(event.body)
            if size >= PAGE_BYTES:
                cursor.close()
                return _within(events, PAGE_BYTES), True
            if not len(events) % BATCH_ROWS:
                self._make_way()
        return events, len(events) == limit

    def _end(self, until: int | None) -> int:
        """Return the last offset to look at; behind it every ``ts`` is above ``until``, or nothing is wanted."""
        end = self._last if self._to is None else min(self._to, self._last)
        if until is None:
            return end
        # Where the clock was not set back no ts is further than DISORDER_NS below the highest one before it.
        return min(end, max(self._reaching(until + DISORDER_NS + 1) - 1, int(self._marks["disorder"])))

    def _whole(self, after: int, since: int | None) -> bool:
        """Whether nothing is missing behind ``after`` that was published there."""
        if since is None:
            forgotten = after < self._first - 1
        else:
            forgotten = self._after < self._marks["forgotten"] and since <= self._marks["forgotten_until"]
        to = self._last + 1 if self._to is None else self._to
        live = self._unstored_after
        if forgotten or (live is not None and after <= live < to):
            return False
        # next - 1 is the mark behind skipped offsets: who is there knows of the break, who is before it may not.
        sql = "SELECT 1 FROM breaks WHERE (after >= ?1 OR next - 2 >= ?1) AND after < ?2 LIMIT 1"
        return self._one(sql, after, to) is None

    def _before_ts(self, ts: int) -> int:
        """Return the offset of the last event before the first one with a ``ts`` that high, 0 for none."""
        return self._one('SELECT max("offset") FROM events WHERE "offset" < ?', self._reaching(ts)) or 0

    def _reaching(self, ts: int) -> int:
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

    def _one(self, sql: str, *values: object) -> int | None:
        row = self._connection.execute(sql, values).fetchone()
        return None if row is None or row[0] is None else int(row[0])


def _query(start: int, end: int, prefixes: list[bytes], since: int | None, until: int | None) -> tuple[str, list[Any]]:
    """Return the statement for the matching events of a stretch, and its values but for the limit."""
    sql = 'SELECT "offset", topic, body FROM events WHERE "offset" BETWEEN ? AND ?'
    values: list[Any] = [start, end]
    for term, value in (("ts >= ?", since), ("ts <= ?", until)):
        if value is not None:
            sql += f" AND {term}"
            values.append(value)
    if prefixes:
        term, bounds = condition(prefixes)
        sql += f" AND ({term})"
        values += bounds
    return f'{sql} ORDER BY "offset" LIMIT ?', values


def _within(events: list[Replayed], limit_bytes: int) -> list[Replayed]:
    """Return the first events whose bodies stay within a size, one at least."""
    size = 0
    for count, event in enumerate(events):
        size += len(event.body)
        if size > limit_bytes and count:
            return events[:count]
    return events
