"""Tables that the API gives as a whole (NULL data) or row by row, and what changed in them; pure.

A row is kept as a fingerprint of its bytes and its packed publishable fields: a hundred thousand accounts take some
600 bytes each, and reading the table again decodes only the rows that changed.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator
from typing import NamedTuple

import msgpack

from mt4pump.mt4.codes import ACTION_NAMES, Transaction
from mt4pump.mt4.decode import Decoder, Fields
from mt4pump.pump.table_read import KEYS_PER_STEP, ROWS_PER_STEP, TableRead

Row = tuple[bytes, bytes]
"""A row as it is kept: its fingerprint and its packed fields."""

ADD, DELETE, UPDATE = ACTION_NAMES[Transaction.ADD], ACTION_NAMES[Transaction.DELETE], ACTION_NAMES[Transaction.UPDATE]


ENDED_LIMIT = 20_000
"""Keys of rows that a read of the whole table ended and whose own records may still come."""


class TableEvent(NamedTuple):
    """One changed row: ``action`` (add update delete change_group) and its publishable fields."""

    action: str
    fields: Fields


class Table:
    """The rows of one table as last published. ``key`` names the field that identifies a row.

    Where the API lists a key more than once (an account that is online twice), all its rows are kept and the one
    published last represents it. The key changed if the set of its rows changed, in whatever order they come.
    """

    def __init__(self, decoder: Decoder, key: str) -> None:
        self._decoder = decoder
        self._key = key
        self._rows: dict[Hashable, Row] = {}
        self._doubled: dict[Hashable, dict[bytes, Row]] = {}  # all rows of a key that has several, by packed fields
        self._ended_by_table: OrderedDict[Hashable, bool] = OrderedDict()
        self._read: TableRead | None = None
        self.has_baseline = False

    def __contains__(self, key: Hashable) -> bool:
        return key in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def copy(self) -> dict[Hashable, Row]:
        """Return a copy of the rows: their keys, and fingerprint and packed fields of each."""
        return self._rows.copy()

    def apply(self, action: int, data: bytes) -> TableEvent | None:
        """Apply one record of the pump; return None for a repeat.

        A repeat is a row with the same publishable fields, or the end of a row that a read of the whole table had
        ended. An unknown action number counts as an update.
        """
        fields = self._decoder(data)
        key, name = fields[self._key], ACTION_NAMES.get(action, UPDATE)
        before, was_doubled = self._rows.get(key), self._doubled.pop(key, None) is not None
        was_ended = self._ended_by_table.pop(key, None) is not None
        if name == DELETE:
            self._rows.pop(key, None)
            is_repeat = was_ended
        else:
            packed = msgpack.packb(fields)
            self._rows[key] = fingerprint(data), packed
            is_same = before is not None and before[1] == packed and not was_doubled
            is_repeat = is_same and action != Transaction.CHANGE_GRP  # which is a change even if no field shows it
        return None if is_repeat else TableEvent(name, fields)

    def reread(self, array: bytes) -> Iterator[TableEvent]:
        """Replace the rows by a whole table and yield the differences; the first read yields nothing."""
        return (event for event in self.compare(array) if event is not None)

    def compare(self, array: bytes) -> Iterator[TableEvent | None]:
        """Do the same in steps: yield None where the caller may apply other records before it resumes.

        The key of such a record must be settled first (see `settle`). Until the first read has ended, rows that are not
        known are added to the baseline and not yielded.
        """
        read = TableRead(array, self._decoder.record, self._key, lambda row: self._decoder(row)[self._key])
        known = list(self._rows)
        self._read = read
        try:
            yield from read.index()
            for count, key in enumerate(read, 1):
                if read.settle(key):
                    yield from self._compare_key(read, key)
                if not count % KEYS_PER_STEP:
                    yield None
            for count, key in enumerate(known, 1):
                if read.settle(key):
                    yield from self._end_missing(key)
                if not count % ROWS_PER_STEP:
                    yield None
            self.has_baseline = True
        finally:
            self._read = None

    def settle(self, data: bytes) -> Iterator[TableEvent]:
        """Yield the differences that a running comparison finds for the key of the record that is applied next."""
        if (read := self._read) is None:
            return
        read.finish_index()
        key = self._decoder(data)[self._key]
        if not read.settle(key):
            return
        if key in read:
            yield from self._compare_key(read, key)
        else:
            yield from self._end_missing(key)

    def _compare_key(self, read: TableRead, key: Hashable) -> Iterator[TableEvent]:
        """Replace the rows of ``key`` by those of the read and yield the differences."""
        before, doubled = self._rows.get(key), self._doubled.get(key, {})
        then = doubled or ({before[1]: before} if before else {})
        by_print = {kept[0]: kept for kept in then.values()}
        now: dict[bytes, Row] = {}
        for row in read.rows(key):
            row_print = fingerprint(row)
            kept = by_print.get(row_print) or (row_print, msgpack.packb(self._decoder(row)))
            now.setdefault(kept[1], kept)
        first = next(iter(now.values()))
        self._ended_by_table.pop(key, None)
        if first is before and len(now) == 1 and not doubled:
            return
        changed = [packed for packed in now if packed not in then]
        stays = now.get(before[1], first) if before else first
        shown = now[changed[-1]] if changed else stays
        if not changed and now.keys() != then.keys():
            changed = [shown[1]]  # of several rows, one is gone
        self._rows[key] = shown
        self._doubled.pop(key, None)
        if len(now) > 1:
            self._doubled[key] = now
        if before is None and not self.has_baseline:
            return
        for place, packed in enumerate(changed):
            yield TableEvent(UPDATE if before or place else ADD, msgpack.unpackb(packed))

    def _end_missing(self, key: Hashable) -> Iterator[TableEvent]:
        """End ``key``, of which the read has no row."""
        before = self._rows.pop(key, None)
        self._doubled.pop(key, None)
        if before is None:
            return
        self._ended_by_table[key] = True
        if len(self._ended_by_table) > ENDED_LIMIT:
            self._ended_by_table.popitem(last=False)
        yield TableEvent(DELETE, msgpack.unpackb(before[1]))


def fingerprint(row: bytes) -> bytes:
    """Return a digest that identifies a row; `hash` has only 32 bits on 32-bit Python."""
    return hashlib.blake2b(row, digest_size=16).digest()


class FlagTable:
    """The rows of a table whose flag (a field) is not 0: margin level, activation.

    The API's doorbell does not name the rows whose flag changed: `changes` compares with the rows flagged before.
    """

    def __init__(self, key: str, flag: str) -> None:
        self._key = key
        self._flag = flag
        self._flagged: dict[Hashable, Fields] = {}

    def flagged(self) -> list[Fields]:
        """Return the rows whose flag is set."""
        return list(self._flagged.values())

    def changes(self, rows: Iterable[Fields]) -> Iterator[TableEvent]:
        """Yield newly flagged rows (add), rows with another flag (update) and rows whose flag is now 0 (delete)."""
        return (event for event in self.compare(rows) if event is not None)

    def is_flagged(self, key: Hashable) -> bool:
        """Return whether the flag of row ``key`` is set."""
        return key in self._flagged

    def compare(self, rows: Iterable[Fields | None]) -> Iterator[TableEvent | None]:
        """Do the same in steps: each None among the rows is yielded, and the caller may pause there."""
        gone = dict(self._flagged)
        for fields in rows:
            if fields is None:
                yield None
                continue
            key = fields[self._key]
            was = gone.pop(key, None)
            if fields[self._flag]:
                self._flagged[key] = fields
                if was is None or was[self._flag] != fields[self._flag]:
                    yield TableEvent(ADD if was is None else UPDATE, fields)
            elif was is not None:
                del self._flagged[key]
                yield TableEvent(DELETE, fields)
        for key, fields in gone.items():
            self._flagged.pop(key, None)
            yield TableEvent(DELETE, {**fields, self._flag: 0})
