"""Tables that the API tells as a whole (NULL data) or row by row; pure.

A row is kept as a fingerprint of its bytes and its packed publishable fields: a broker's hundred thousand accounts
then take some 600 bytes each, and a re-read of the table decodes only the rows that changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Iterator
from typing import NamedTuple

import msgpack

from mt4pump.errors import LayoutError
from mt4pump.manager_api.codes import ACTION_NAMES, Transaction
from mt4pump.manager_api.decode import Decoder, Fields

ADD, DELETE, UPDATE = ACTION_NAMES[Transaction.ADD], ACTION_NAMES[Transaction.DELETE], ACTION_NAMES[Transaction.UPDATE]


class TableEvent(NamedTuple):
    """One changed row: ``action`` (add update delete change_group) and its publishable fields."""

    action: str
    fields: Fields


class Table:
    """The rows of one table as last told. ``key`` names the field that a row is known by."""

    def __init__(self, decoder: Decoder, key: str) -> None:
        self._decoder = decoder
        self._key = key
        self._rows: dict[Hashable, tuple[bytes, bytes]] = {}
        self.primed = False

    def __contains__(self, key: Hashable) -> bool:
        return key in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def copy(self) -> dict[Hashable, tuple[bytes, bytes]]:
        """Return a copy of the rows: their keys, and fingerprint and packed fields of each."""
        return self._rows.copy()

    def apply(self, action: int, data: bytes) -> TableEvent:
        """Take one row as the pump told it. An action number that the API does not have counts as an update."""
        fields = self._decoder(data)
        name = ACTION_NAMES.get(action, UPDATE)
        if name == DELETE:
            self._rows.pop(fields[self._key], None)
        else:
            self._keep(data, fields)
        return TableEvent(name, fields)

    def reread(self, array: bytes) -> Iterator[TableEvent]:
        """Take the whole table and yield what differs from the rows before it; the first read yields nothing."""
        size = self._decoder.record.size
        if len(array) % size:
            raise LayoutError(f"array of {self._decoder.record.name}: {len(array)} bytes is not a multiple of {size}")
        rows = (array[start : start + size] for start in range(0, len(array), size))
        known, self._rows = self._rows, {}
        if not self.primed:
            self.primed = True
            for row in rows:
                self._keep(row, self._decoder(row))
            return
        yield from list(self._changes(rows, known))
        for key in known.keys() - self._rows.keys():
            yield TableEvent(DELETE, msgpack.unpackb(known[key][1]))

    def _changes(self, rows: Iterable[bytes], known: dict[Hashable, tuple[bytes, bytes]]) -> Iterator[TableEvent]:
        by_print = {kept[0]: key for key, kept in known.items()}
        for row in rows:
            key = by_print.get(fingerprint(row))
            if key is not None:
                self._rows[key] = known[key]
                continue
            fields = self._decoder(row)
            key = fields[self._key]
            before = known.get(key)
            packed = self._keep(row, fields)
            if before is None:
                yield TableEvent(ADD, fields)
            elif before[1] != packed:
                yield TableEvent(UPDATE, fields)

    def _keep(self, row: bytes, fields: Fields) -> bytes:
        packed: bytes = msgpack.packb(fields)
        self._rows[fields[self._key]] = (fingerprint(row), packed)
        return packed


def fingerprint(row: bytes) -> bytes:
    """Return what two different rows never share; `hash` has only 32 bits on 32-bit Python."""
    return hashlib.blake2b(row, digest_size=16).digest()


class Marks:
    """The rows of a table that carry a mark (a field that is not 0): margin level, activation.

    The API rings when marks change but does not say whose: `changes` compares with the rows marked before.
    """

    def __init__(self, key: str, mark: str) -> None:
        self._key = key
        self._mark = mark
        self._marked: dict[Hashable, Fields] = {}

    def marked(self) -> list[Fields]:
        """Return the rows that carry a mark."""
        return list(self._marked.values())

    def changes(self, rows: Iterable[Fields]) -> Iterator[TableEvent]:
        """Yield newly marked rows (add), rows with another mark (update) and rows that lost it (delete)."""
        before, self._marked = self._marked, {}
        gone = dict(before)
        for fields in rows:
            key = fields[self._key]
            was = gone.pop(key, None)
            if fields[self._mark]:
                self._marked[key] = fields
                if was is None or was[self._mark] != fields[self._mark]:
                    yield TableEvent(ADD if was is None else UPDATE, fields)
            elif was is not None:
                yield TableEvent(DELETE, fields)
        for fields in gone.values():
            yield TableEvent(DELETE, {**fields, self._mark: 0})
