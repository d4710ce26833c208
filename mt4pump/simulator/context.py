"""What all parts of the simulated broker use: clock, random source, event sink, arrays of records, and a lock."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from threading import Lock, get_ident

from mt4pump.mt4.record import Record

Emit = Callable[[int, int, bytes], None]
"""Receives one event of the simulated server: ``(code, action, data)``."""


@dataclass(slots=True)
class Context:
    """Clock, random source and event sink; ``now_s`` is simulated time in UTC seconds since 1970."""

    now_s: float
    server_utc_offset_s: int
    random: Random
    emit: Emit
    encoding: str

    @property
    def server_time_s(self) -> int:
        """Return whole seconds since 1970 on the server's clock."""
        return int(self.now_s) + self.server_utc_offset_s

    @property
    def server_day(self) -> int:
        """Return the day on the server's clock, counted from 1970."""
        return self.server_time_s // 86_400


class RecordArray:
    """Records of one size by key, contiguous: a read is one copy, however many there are.

    When a record is deleted, the last one moves to its place.
    """

    def __init__(self, record: Record) -> None:
        self._size = record.size
        self._writers = {
            field.name: (struct.Struct(f"<{field.format}").pack_into, field.offset) for field in record.fields
        }
        self._data = bytearray()
        self._keys: list[int] = []
        self._positions: dict[int, int] = {}

    def __contains__(self, key: int) -> bool:
        return key in self._positions

    def __getitem__(self, key: int) -> bytes:
        offset = self._positions[key] * self._size
        return bytes(self._data[offset : offset + self._size])

    def __setitem__(self, key: int, packed: bytes) -> None:
        if key in self._positions:
            offset = self._positions[key] * self._size
            self._data[offset : offset + self._size] = packed
        else:
            self._positions[key] = len(self._keys)
            self._keys.append(key)
            self._data += packed

    def table(self) -> bytes:
        """Return all records as one array."""
        return bytes(self._data)

    def update(self, key: int, **values: float | bytes) -> None:
        """Change fields of the record of ``key`` in place."""
        start = self._positions[key] * self._size
        for name, value in values.items():
            write, offset = self._writers[name]
            write(self._data, start + offset, value)

    def discard(self, key: int) -> None:
        """Delete the record of ``key``, if there is one."""
        position = self._positions.pop(key, None)
        if position is None:
            return
        last_key, last_record = self._keys.pop(), bytes(self._data[-self._size :])
        del self._data[-self._size :]
        if last_key != key:
            self._keys[position], self._positions[last_key] = last_key, position
            self[last_key] = last_record


class FairLock:
    """Mutual exclusion without starvation; the holder may enter again (a callback that reads a table)."""

    def __init__(self) -> None:
        self._gate = Lock()
        self._lock = Lock()
        self._holder = self._depth = 0

    def __enter__(self) -> None:
        if self._holder != get_ident():  # only the holder itself can find its own number here
            with self._gate:
                self._lock.acquire()
            self._holder = get_ident()
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._holder = 0
            self._lock.release()

    def wait_until_free(self, timeout_s: float) -> bool:
        """Wait until the lock was free for a moment; True at once for its holder, False after ``timeout_s``."""
        if self._holder == get_ident():
            return True
        if not self._lock.acquire(timeout=timeout_s):
            return False
        self._lock.release()
        return True
