"""Tables that the API tells as a whole (NULL data) or row by row; pure.

A row is kept as a fingerprint of its bytes and its packed publishable fields: a broker's hundred thousand accounts
then take some 600 bytes each, and a re-read of the table decodes only the rows that changed.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator
from typing import NamedTuple

import msgpack

from mt4pump.errors import LayoutError
from mt4pump.manager_api.codes import ACTION_NAMES, Transaction
from mt4pump.manager_api.decode import Decoder, Fields

Row = tuple[bytes, bytes]
"""A row as it is kept: its fingerprint and its packed fields."""

ADD, DELETE, UPDATE = ACTION_NAMES[Transaction.ADD], ACTION_NAMES[Transaction.DELETE], ACTION_NAMES[Transaction.UPDATE]


ENDED_LIMIT = 20_000
"""Rows that reads of the whole table ended and whose own records may still come: remembered by key."""


class TableEvent(NamedTuple):
    """One changed row: ``action`` (add update delete change_group) and its publishable fields."""

    action: str
    fields: Fields


class Table:
    """The rows of one table as last told. ``key`` names the field that a row is known by.

    Where the API lists a key more than once (an account that is online twice), the row told last stands for it, and
    the others are kept beside it: the key changed when the rows under it did, in whatever order they come.
    """

    def __init__(self, decoder: Decoder, key: str) -> None:
        self._decoder = decoder
        self._key = key
        self._rows: dict[Hashable, Row] = {}
        self._doubled: dict[Hashable, dict[bytes, Row]] = {}  # all rows of a key that has several, by packed fields
        self._ended_by_read: OrderedDict[Hashable, bool] = OrderedDict()
        self.primed = False

    def __contains__(self, key: Hashable) -> bool:
        return key in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def copy(self) -> dict[Hashable, Row]:
        """Return a copy of the rows: their keys, and fingerprint and packed fields of each."""
        return self._rows.copy()

    def apply(self, action: int, data: bytes) -> TableEvent | None:
        """Take one row as the pump told it; return None for a repeat, which says what is known already.

        A repeat is a row with the same publishable fields, or the end of a row that a read of the whole table had
        ended. An action number that the API does not have counts as an update.
        """
        fields = self._decoder(data)
        key, name = fields[self._key], ACTION_NAMES.get(action, UPDATE)
        before, was_doubled = self._rows.get(key), self._doubled.pop(key, None) is not None
        was_ended = self._ended_by_read.pop(key, None) is not None
        if name == DELETE:
            self._rows.pop(key, None)
            is_repeat = was_ended
        else:
            packed = msgpack.packb(fields)
            self._rows[key] = fingerprint(data), packed
            is_same = before is not None and before[1] == packed and not was_doubled
            is_repeat = is_same and action != Transaction.CHANGE_GRP  # which is news even where no field shows it
        return None if is_repeat else TableEvent(name, fields)

    def reread(self, array: bytes) -> Iterator[TableEvent]:
        """Take the whole table and yield what differs from the rows before it; the first read yields nothing."""
        size = self._decoder.record.size
        if len(array) % size:
            raise LayoutError(f"array of {self._decoder.record.name}: {len(array)} bytes is not a multiple of {size}")
        rows = (array[start : start + size] for start in range(0, len(array), size))
        known, doubled = self._rows, self._doubled
        self._list(rows, known)
        if self.primed:
            yield from list(self._changes(known, doubled))
        self.primed = True

    def _list(self, rows: Iterable[bytes], known: dict[Hashable, Row]) -> None:
        """Take over ``rows``; only those that are not among the ``known`` ones are decoded."""
        self._rows, self._doubled = {}, {}
        by_print = {kept[0]: key for key, kept in known.items()}
        for row in rows:
            row_print = fingerprint(row)
            key = by_print.get(row_print)
            if key is not None:
                kept = known[key]
            else:
                fields = self._decoder(row)
                key, kept = fields[self._key], (row_print, msgpack.packb(fields))
            first = self._rows.setdefault(key, kept)
            if first[1] != kept[1]:
                self._doubled.setdefault(key, {first[1]: first})[kept[1]] = kept

    def _changes(self, known: dict[Hashable, Row], doubled: dict[Hashable, dict[bytes, Row]]) -> Iterator[TableEvent]:
        for key, kept in self._rows.items():
            before = known.get(key)
            if kept is before and key not in self._doubled and key not in doubled:
                continue
            now = self._doubled.get(key, {kept[1]: kept})
            then = doubled.get(key) or ({before[1]: before} if before else {})
            tell = [packed for packed in now if packed not in then]
            stays = now.get(before[1], kept) if before else kept
            shown = now[tell[-1]] if tell else stays
            if not tell and now.keys() != then.keys():
                tell = [shown[1]]  # of several rows, one is gone
            self._rows[key] = shown
            for place, packed in enumerate(tell):
                yield TableEvent(UPDATE if before or place else ADD, msgpack.unpackb(packed))
        for key in known.keys() - self._rows.keys():
            self._ended_by_read[key] = True
            yield TableEvent(DELETE, msgpack.unpackb(known[key][1]))
        for key in self._ended_by_read.keys() & self._rows.keys():
            del self._ended_by_read[key]
        while len(self._ended_by_read) > ENDED_LIMIT:
            self._ended_by_read.popitem(last=False)


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
