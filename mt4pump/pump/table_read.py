"""A whole table as the API gave it, indexed by key, so that it can be compared key by key, in steps; pure."""

from __future__ import annotations

import struct
from collections.abc import Callable, Hashable, Iterator

from mt4pump.errors import LayoutError
from mt4pump.mt4.record import Record

ROWS_PER_STEP = 2_000
"""Keys indexed in one step: some 0.3 ms."""
KEYS_PER_STEP = 32
"""Rows compared in one step: some 0.5 ms if all changed."""
INTEGER_FORMATS = frozenset({"i", "I"})

KeyOf = Callable[[bytes], Hashable]


class TableRead:
    """The rows of one read. ``settled`` are the keys that were compared, or whose record came since.

    A record is newer than the read, so its key is settled before the record is applied, see `settle`.
    """

    def __init__(self, array: bytes, record: Record, key: str, key_of: KeyOf) -> None:
        """Raise LayoutError when ``array`` is no array of ``record``; ``key_of`` gives field ``key`` of a row."""
        self._size = record.size
        if len(array) % self._size:
            raise LayoutError(f"array of {record.name}: {len(array)} bytes is not a multiple of {self._size}")
        self._array = memoryview(array)
        self._count = len(array) // self._size
        self._key_of = key_of
        field = record.by_name[key]
        is_integer = field.format in INTEGER_FORMATS and not field.count
        rest = self._size - field.offset - 4
        self._keys = struct.Struct(f"<{field.offset}x{field.format}{rest}x") if is_integer else None
        self._index: dict[Hashable, int] = {}
        self._more: dict[Hashable, list[int]] = {}
        self._indexed = 0
        self.settled: set[Hashable] = set()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._index

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._index)

    def integers(self) -> Iterator[int]:
        """Yield the integer keys."""
        return (key for key in self._index if isinstance(key, int))

    def index(self) -> Iterator[None]:
        """Index the keys of all rows, some at each step."""
        while self._indexed < self._count:
            self._index_some()
            yield None

    def settle(self, key: Hashable) -> bool:
        """Settle a key; return False when it was settled before. All rows must be indexed."""
        if key in self.settled:
            return False
        self.settled.add(key)
        return True

    def finish_index(self) -> None:
        """Index the keys of all remaining rows."""
        while self._indexed < self._count:
            self._index_some()

    def rows(self, key: Hashable) -> Iterator[bytes]:
        """Yield the rows of ``key`` in their order: several where the API lists the key more than once."""
        yield self._row(self._index[key])
        yield from map(self._row, self._more.get(key, ()))

    def last_row(self, key: Hashable) -> bytes:
        """Return the last row of ``key``."""
        return self._row(self._more[key][-1] if key in self._more else self._index[key])

    def _row(self, number: int) -> bytes:
        return bytes(self._array[number * self._size : (number + 1) * self._size])

    def _index_some(self) -> None:
        start, end = self._indexed, min(self._indexed + ROWS_PER_STEP, self._count)
        if self._keys is not None:
            part = self._array[start * self._size : end * self._size]
            keys: Iterator[Hashable] = (key for (key,) in self._keys.iter_unpack(part))
        else:
            keys = (self._key_of(self._row(number)) for number in range(start, end))
        for number, key in enumerate(keys, start):
            if key in self._index:
                self._more.setdefault(key, []).append(number)
            else:
                self._index[key] = number
        self._indexed = end


class FlaggedRows:
    """Finds the rows whose field ``flag`` is not 0, or whose ``key`` is known, without decoding the others."""

    def __init__(self, record: Record, key: str, flag: str) -> None:
        self._record = record
        fields = sorted((record.by_name[name] for name in (key, flag)), key=lambda field: field.offset)
        gap = fields[1].offset - fields[0].offset - 4
        rest = record.size - fields[1].offset - 4
        self._struct = struct.Struct(f"<{fields[0].offset}xi{gap}xi{rest}x")
        self._key_first = fields[0].name == key

    def find(self, array: bytes, is_known: Callable[[int], bool]) -> Iterator[bytes | None]:
        """Yield those rows, and None after each step; raises LayoutError when ``array`` is no array of the record."""
        size, view = self._record.size, memoryview(array)
        if len(array) % size:
            raise LayoutError(f"array of {self._record.name}: {len(array)} bytes is not a multiple of {size}")
        for start in range(0, len(array), size * ROWS_PER_STEP):
            part = view[start : start + size * ROWS_PER_STEP]
            for number, (one, other) in enumerate(self._struct.iter_unpack(part)):
                key, flag = (one, other) if self._key_first else (other, one)
                if flag or is_known(key):
                    yield bytes(part[number * size : (number + 1) * size])
            yield None
