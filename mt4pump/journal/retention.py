"""Deletes what is too old or too much, oldest first, a bounded step at a time."""

from __future__ import annotations

import sqlite3

from mt4pump.clock import ProvenClock
from mt4pump.journal.schema import JournalOptions, pragma, write_meta

STEP_ROWS = 500
SAMPLE_ROWS = 100
ROW_BYTES = 32
"""What a row takes beside topic and body."""


class Retention:
    """Knows what must go and takes it away in the caller's transaction.

    ``behind`` is True while something waits to be deleted. ``first`` is the lowest offset stored, ``deleted`` counts
    rows, ``size_bytes`` is the pages in use, as of the last look.
    """

    def __init__(self, connection: sqlite3.Connection, options: JournalOptions, clock: ProvenClock) -> None:
        self.deleted = 0
        self.size_bytes = 0
        self.behind = False
        self._connection = connection
        self._max_age_ns = int(options.max_age_s * 1e9)
        self._max_bytes = options.max_bytes - options.wal_limit_bytes if options.max_bytes else 0
        self._clock = clock
        self._owed = 0
        self.first = self._lowest()
        self.look()

    def look(self) -> None:
        """Measure: how many rows are over the size, whether the oldest is over the age. Cheap, whatever the size."""
        pages = pragma(self._connection, "page_count") - pragma(self._connection, "freelist_count")
        self.size_bytes = pages * pragma(self._connection, "page_size")
        self.first = self.first or self._lowest()
        self._owed = 0
        if self._max_bytes and self.size_bytes > self._max_bytes:
            self._owed = -(-(self.size_bytes - self._max_bytes) // self._bytes_per_row())
        self.behind = self._owed > 0 or self._oldest() < self._cutoff()

    def step(self, rows: int, needs_from: int) -> bool:
        """Delete up to ``rows`` of the oldest rows, none from ``needs_from`` on; False when there was nothing to do."""
        keep_from = min(needs_from, max(self._over_size(min(rows, self._owed)), self._over_age(rows)))
        if keep_from <= self.first:
            self.behind = False
            return False
        gone = self._connection.execute(
            'SELECT "offset", reached FROM events WHERE "offset" < ? ORDER BY "offset" DESC LIMIT 1', (keep_from,)
        ).fetchone()
        if gone is None:
            self.behind = False
            return False
        removed = self._connection.execute('DELETE FROM events WHERE "offset" < ?', (keep_from,)).rowcount
        self._connection.execute("DELETE FROM breaks WHERE next < ?", (keep_from,))
        write_meta(self._connection, {"forgotten": gone[0], "forgotten_until": gone[1]})
        self._owed = max(0, self._owed - removed)
        self.deleted += removed
        self.first = self._lowest()
        return True

    def _over_size(self, rows: int) -> int:
        """Return the first offset to keep when ``rows`` must go; 0 for none."""
        return self._nth(rows) if rows > 0 else 0

    def _over_age(self, rows: int) -> int:
        """Return the first offset to keep among the oldest ``rows`` by their age; 0 when none is too old."""
        cutoff = self._cutoff()
        if self._oldest() >= cutoff:
            return 0
        young = self._connection.execute(
            'SELECT min("offset") FROM (SELECT "offset", reached FROM events ORDER BY "offset" LIMIT ?) '
            "WHERE reached >= ?",
            (rows, cutoff),
        ).fetchone()[0]
        return self._nth(rows) if young is None else int(young)

    def _nth(self, rows: int) -> int:
        """Return the offset behind the oldest ``rows`` rows."""
        found = self._connection.execute(
            'SELECT max("offset") FROM (SELECT "offset" FROM events ORDER BY "offset" LIMIT ?)', (rows,)
        ).fetchone()[0]
        return 0 if found is None else int(found) + 1

    def _cutoff(self) -> int:
        return self._clock.read() - self._max_age_ns if self._max_age_ns > 0 else 0

    def _oldest(self) -> int:
        """Return when the oldest event came: not its own ts, which a clock that was set back makes too old."""
        row = self._connection.execute('SELECT reached FROM events ORDER BY "offset" LIMIT 1').fetchone()
        return 2**63 if row is None else int(row[0])

    def _lowest(self) -> int:
        return int(self._connection.execute('SELECT ifnull(min("offset"), 0) FROM events').fetchone()[0])

    def _bytes_per_row(self) -> int:
        mean = self._connection.execute(
            'SELECT avg(length(topic) + length(body)) FROM (SELECT topic, body FROM events ORDER BY "offset" LIMIT ?)',
            (SAMPLE_ROWS,),
        ).fetchone()[0]
        return int(mean or 0) + ROW_BYTES
