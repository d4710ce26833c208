"""Statements for many rows at once, in a few fixed sizes so that SQLite keeps them prepared; pure.

Each step of a statement lets other threads have the interpreter: beside a busy callback thread getting it back costs
far more than the row. So 256 rows go in four steps, not in 256 (`executemany` takes one per row).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

SIZES = (64, 16, 4, 1)


class Chunked:
    """One statement in all `SIZES`: ``head`` + ``item`` repeated with commas + ``tail``; ``width`` values per item."""

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
PUT_META = Chunked("INSERT OR REPLACE INTO meta VALUES ", "(?,?)")
PUT_ORDERS = Chunked("INSERT INTO orders VALUES ", "(?,?)", " ON CONFLICT(ticket) DO UPDATE SET row=excluded.row")
DROP_ORDERS = Chunked("DELETE FROM orders WHERE ticket IN (", "?", ")")
