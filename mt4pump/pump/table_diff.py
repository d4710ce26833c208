"""A table as last published, one whole read of it, and what differs between the two; pure.

A row is kept as a fingerprint of its bytes and its packed publishable fields: a hundred thousand accounts take some
600 bytes each, and only rows that changed are decoded. A comparison is a generator that yields None after each step of
a millisecond at most. Between steps its caller may apply records, which are newer than the read, after `settle`.
"""

from __future__ import annotations

import hashlib
import struct
from collections import OrderedDict
from collections.abc import Callable, Container, Hashable, Iterable, Iterator
from typing import Any, Generic, NamedTuple, TypeVar

import msgpack

from mt4pump.errors import LayoutError
from mt4pump.mt4.codes import ACTION_NAMES, Transaction
from mt4pump.mt4.manager import Array
from mt4pump.mt4.record import Decoder, Fields, Record, format_of

ROWS_PER_STEP = 2_000
"""Keys indexed in one step: some 0.3 ms."""
KEYS_PER_STEP = 32
"""Rows compared in one step: some 0.5 ms if all changed."""
INTEGER_FORMATS = frozenset({"i", "I"})
ENDED_LIMIT = 20_000
"""Ended rows, and ended orders, that are kept, because their own records may still come, or come again."""

RunSteps = Callable[[Iterable[None]], object]
Row = tuple[bytes, bytes]
"""A row as it is kept: its fingerprint and its packed fields."""
Key = Any
Change = TypeVar("Change")

ADD, DELETE, UPDATE = ACTION_NAMES[Transaction.ADD], ACTION_NAMES[Transaction.DELETE], ACTION_NAMES[Transaction.UPDATE]


class TableEvent(NamedTuple):
    """One changed row: ``action`` (add update delete change_group) and its publishable fields."""

    action: str
    fields: Fields


class TableRead(Generic[Change]):
    """The rows of one read by their field ``key``; each key is compared once, by ``compare(key)``."""

    def __init__(self, array: Array, decoder: Decoder, key: str, compare: Callable[[Key], Iterator[Change]]) -> None:
        """Raise LayoutError when ``array`` is no array of the decoder's record."""
        record = decoder.record
        self._count = _count_rows(array, record)
        self._array = memoryview(array)
        self._size = record.size
        self._decoder = decoder
        self._key = key
        self._compare = compare
        has_integer_keys = record.by_name[key].format in INTEGER_FORMATS
        self._keys = struct.Struct(format_of(record, {key})) if has_integer_keys else None
        self._first: dict[Key, int] = {}
        self._more: dict[Key, list[int]] = {}  # few keys have a second row
        self._indexed = 0
        self._settled: set[Key] = set()

    def __contains__(self, key: object) -> bool:
        return key in self._first

    def __iter__(self) -> Iterator[Key]:
        return iter(self._first)

    def index(self) -> Iterator[None]:
        """Index the keys of the remaining rows, some at each step."""
        per_step = KEYS_PER_STEP if self._keys is None else ROWS_PER_STEP  # without `_keys` whole rows are decoded
        while self._indexed < self._count:
            start, end = self._indexed, min(self._indexed + per_step, self._count)
            if self._keys is not None:
                part = self._array[start * self._size : end * self._size]
                keys: Iterator[Key] = (key for (key,) in self._keys.iter_unpack(part))
            else:
                keys = (self._decoder(self._row(number))[self._key] for number in range(start, end))
            for number, key in enumerate(keys, start):
                if self._first.setdefault(key, number) != number:
                    self._more.setdefault(key, []).append(number)
            self._indexed = end
            yield None

    def settle(self, key: Key) -> Iterator[Change]:
        """Yield the differences of the key whose record is applied next, unless it was compared before.

        The keys of all rows are indexed first: some 40 ms for 200,000.
        """
        for _ in self.index():
            pass
        if key not in self._settled:
            self._settled.add(key)
            yield from self._compare(key)

    def settle_all(self, keys: Iterable[Key], per_step: int, skip: Container[Key] = ()) -> Iterator[Change | None]:
        """Yield the differences of all ``keys`` that are not in ``skip``, and None after ``per_step`` keys."""
        for count, key in enumerate(keys, 1):
            if key not in self._settled and key not in skip:
                self._settled.add(key)
                yield from self._compare(key)
            if not count % per_step:
                yield None

    def rows(self, key: Key) -> list[bytes]:
        """Return the rows of ``key`` in their order: several where the API lists the key more than once."""
        return [self._row(number) for number in (self._first[key], *self._more.get(key, ()))]

    def _row(self, number: int) -> bytes:
        return bytes(self._array[number * self._size : (number + 1) * self._size])


class Table:
    """The rows of one table as last published. ``key`` names the field that identifies a row.

    Where the API lists a key more than once (an account that is online twice), all its rows are kept and the one
    published last represents it. The key changed if the set of its rows changed, in whatever order they come.
    """

    def __init__(self, decoder: Decoder, key: str) -> None:
        self._decoder = decoder
        self._key = key
        self._rows: dict[Key, Row] = {}
        self._doubled: dict[Key, dict[bytes, Row]] = {}  # all rows of a key that has several, by packed fields
        self._ended_by_table: OrderedDict[Key, bool] = OrderedDict()
        self._read: TableRead[TableEvent] | None = None
        self.has_baseline = False

    def __contains__(self, key: Hashable) -> bool:
        return key in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self) -> Iterator[tuple[Key, bytes]]:
        """Return key and packed fields of each row, as they are now."""
        return ((key, packed) for key, (_, packed) in self._rows.copy().items())

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

    def compare(self, array: Array, run_steps: RunSteps | None = None) -> Iterator[TableEvent | None]:
        """Replace the rows by a whole table and yield the differences, in steps; the first read yields nothing.

        Until the first read has ended, rows that are not known are added to the baseline and not yielded. With
        ``run_steps``, which runs steps to their end, all rows are indexed first: the next record needs them all.
        """
        known = list(self._rows)
        self._read = read = TableRead(array, self._decoder, self._key, self._compare_key)
        try:
            if run_steps:
                run_steps(read.index())
            yield from read.index()
            yield from read.settle_all(read, KEYS_PER_STEP)
            yield from read.settle_all(known, ROWS_PER_STEP)
            self.has_baseline = True
        finally:
            self._read = None

    def settle(self, data: bytes) -> Iterator[TableEvent]:
        """Yield the differences that a running comparison finds for the key of the record that is applied next."""
        return self._read.settle(self._decoder(data)[self._key]) if self._read else iter(())

    def _compare_key(self, key: Key) -> Iterator[TableEvent]:
        """Replace the rows of ``key`` by those of the read and yield the differences."""
        assert self._read is not None  # noqa: S101 - only a read calls this
        if key not in self._read:
            yield from self._end_missing(key)
            return
        before, doubled = self._rows.get(key), self._doubled.get(key, {})
        then = doubled or ({before[1]: before} if before else {})
        by_print = {kept[0]: kept for kept in then.values()}
        now: dict[bytes, Row] = {}
        for row in self._read.rows(key):
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

    def _end_missing(self, key: Key) -> Iterator[TableEvent]:
        """End ``key``, of which the read has no row."""
        before = self._rows.pop(key, None)
        self._doubled.pop(key, None)
        if before is None:
            return
        self._ended_by_table[key] = True
        if len(self._ended_by_table) > ENDED_LIMIT:
            self._ended_by_table.popitem(last=False)
        yield TableEvent(DELETE, msgpack.unpackb(before[1]))


class FlagTable:
    """The rows of a table whose ``flag`` (a field) is not 0: margin level, activation; ``flagged`` by ``key``.

    The API's doorbell does not name the rows whose flag changed, so the whole table is compared with ``flagged``. All
    flags are 0 before the first read: it needs no baseline.
    """

    has_baseline = True

    def __init__(self, decoder: Decoder, key: str, flag: str) -> None:
        self.flagged: dict[Key, Fields] = {}
        self._decoder = decoder
        self._key = key
        self._flag = flag
        record = decoder.record
        self._pairs = struct.Struct(format_of(record, {key, flag}))
        self._key_first = record.by_name[key].offset < record.by_name[flag].offset

    def __len__(self) -> int:
        return len(self.flagged)

    def rows(self) -> Iterator[tuple[Key, Fields]]:
        """Return key and fields of each flagged row, as they are now."""
        return iter(self.flagged.copy().items())

    def compare(self, array: Array) -> Iterator[TableEvent | None]:
        """Yield newly flagged rows (add), rows with another flag (update) and rows whose flag is now 0 (delete)."""
        gone = dict(self.flagged)
        for row in self._find(array):
            if row is None:
                yield None
                continue
            fields = self._decoder(row)
            key = fields[self._key]
            was = gone.pop(key, None)
            if fields[self._flag]:
                self.flagged[key] = fields
                if was is None or was[self._flag] != fields[self._flag]:
                    yield TableEvent(ADD if was is None else UPDATE, fields)
            elif was is not None:
                del self.flagged[key]
                yield TableEvent(DELETE, fields)
        for key, fields in gone.items():
            self.flagged.pop(key, None)
            yield TableEvent(DELETE, {**fields, self._flag: 0})

    def _find(self, array: Array) -> Iterator[bytes | None]:
        """Yield the rows that are flagged now or were before, without decoding the others; None after each step."""
        size, view = self._decoder.record.size, memoryview(array)
        _count_rows(array, self._decoder.record)
        for start in range(0, len(array), size * ROWS_PER_STEP):
            part = view[start : start + size * ROWS_PER_STEP]
            for number, (one, other) in enumerate(self._pairs.iter_unpack(part)):
                key, flag = (one, other) if self._key_first else (other, one)
                if flag or key in self.flagged:
                    yield bytes(part[number * size : (number + 1) * size])
            yield None


def fingerprint(row: bytes) -> bytes:
    """Return a digest that identifies a row; `hash` has only 32 bits on 32-bit Python."""
    return hashlib.blake2b(row, digest_size=16).digest()


def _count_rows(array: Array, record: Record) -> int:
    """Return the number of rows; raises LayoutError when bytes are left over."""
    count, rest = divmod(len(array), record.size)
    if rest:
        raise LayoutError(f"array of {record.name}: {len(array)} bytes is not a multiple of {record.size}")
    return count
