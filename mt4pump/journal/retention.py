"""Deletes events that are too old or too many, oldest first, a bounded number at a time."""

from __future__ import annotations

import sqlite3
from typing import Any

from mt4pump.journal.schema import JournalOptions, first_value, pragma, write_meta
from mt4pump.process.clock import ProvenClock

STEP_ROWS = 500
SAMPLE_ROWS = 100
ROW_BYTES = 32
"""What a row takes beside topic and body."""


class Retention:
    """Measures what must be deleted and deletes it in the caller's transaction.

    ``has_backlog`` is True while events wait to be deleted. ``first`` is the lowest offset stored, ``deleted`` counts
    rows, ``size_bytes`` is the pages in use when last measured.
    """

    def __init__(self, connection: sqlite3.Connection, options: JournalOptions, clock: ProvenClock) -> None:
        self.deleted = self.size_bytes = self.first = 0
        self.has_backlog = False
        self._connection = connection
        self._max_age_ns = int(options.max_age_s * 1e9)
        self._max_bytes = options.max_bytes - options.wal_limit_bytes if options.max_bytes else 0
        self._clock = clock
        self._rows_over = 0
        self.measure()

    def measure(self) -> None:
        """Measure how many rows are over the size, and whether the oldest is over the age; cheap at any size."""
        self._clock.read()  # also without a limit of age: others delete by the proven time
        pages = pragma(self._connection, "page_count") - pragma(self._connection, "freelist_count")
        self.size_bytes = pages * pragma(self._connection, "page_size")
        self.first = self.first or self._lowest()
        self._rows_over = 0
        if self._max_bytes and self.size_bytes > self._max_bytes:
            self._rows_over = -(-(self.size_bytes - self._max_bytes) // self._bytes_per_row())
        self.has_backlog = self._rows_over > 0 or self._oldest() < self._oldest_allowed()

    def step(self, rows: int, needs_from: int) -> None:
        """Delete up to ``rows`` of the oldest rows, none from offset ``needs_from`` on."""
        keep_from = min(needs_from, max(self._after_oldest(min(rows, self._rows_over)), self._first_young(rows)))
        last = self._connection.execute(
            'SELECT "offset", reached FROM events WHERE "offset" < ? ORDER BY "offset" DESC LIMIT 1', (keep_from,)
        ).fetchone()
        if last is None or keep_from <= self.first:
            self.has_backlog = False
            return
        removed = self._connection.execute('DELETE FROM events WHERE "offset" < ?', (keep_from,)).rowcount
        self._connection.execute("DELETE FROM breaks WHERE next < ?", (keep_from,))
        write_meta(self._connection, {"forgotten": last[0], "forgotten_until": last[1]})
        self._rows_over = max(0, self._rows_over - removed)
        self.deleted += removed
        self.first = self._lowest()

    def _first_young(self, rows: int) -> int:
        """Return the first offset to keep among the oldest ``rows`` by their age; 0 when none is too old."""
        limit = self._oldest_allowed()
        if self._oldest() >= limit:
            return 0
        young = self._value(
            'SELECT min("offset") FROM (SELECT "offset", reached FROM events ORDER BY "offset" LIMIT ?) '
            "WHERE reached >= ?",
            rows,
            limit,
        )
        return self._after_oldest(rows) if young is None else int(young)

    def _after_oldest(self, rows: int) -> int:
        """Return the offset after the oldest ``rows`` rows; 0 for none."""
        last = self._value('SELECT max("offset") FROM (SELECT "offset" FROM events ORDER BY "offset" LIMIT ?)', rows)
        return 0 if last is None else int(last) + 1

    def _oldest_allowed(self) -> int:
        return self._clock.read() - self._max_age_ns if self._max_age_ns > 0 else 0

    def _oldest(self) -> int:
        """Return when the oldest event came: not its own ts, which a clock that was set back makes too old."""
        oldest = self._value('SELECT reached FROM events ORDER BY "offset" LIMIT 1')
        return 1 << 62 if oldest is None else int(oldest)

    def _lowest(self) -> int:
        return int(self._value('SELECT min("offset") FROM events') or 0)

    def _bytes_per_row(self) -> int:
        mean = self._value(
            'SELECT avg(length(topic) + length(body)) FROM (SELECT topic, body FROM events ORDER BY "offset" LIMIT ?)',
            SAMPLE_ROWS,
        )
        return int(mean or 0) + ROW_BYTES

    def _value(self, sql: str, *values: int) -> Any:
        return first_value(self._connection, sql, *values)
