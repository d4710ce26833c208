"""Unpacks msgpack from other programs at a bounded cost, whatever its bytes are; pure.

msgpack reserves the memory of a list as soon as it reads its length, so nested headers of 5 bytes each can claim
gigabytes, and one byte of input can become an empty map of 64 bytes. Therefore the length of a list and of a map, the
number of values, and the entries that all open lists reserve together are limited.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgpack

from mt4pump.errors import FrameError

SHORT_BYTES = 512
"""Up to this length no limit is needed: the input reserves less than the square of its length."""
PLAIN_BYTES = 65_536
"""Up to this length the values of a message need not be counted: each takes at least one byte."""
DEPTH = 1_024
"""Deepest nesting of msgpack; it raises StackError, a ValueError, beyond it."""
LIST16, LIST32 = 0xDC, 0xDD
"""First bytes of lists that are longer than 15."""
SHORT_LIST = 15
FAULTS = (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException)


@dataclass(frozen=True, slots=True)
class UnpackLimits:
    """Limits of one message: entries per list and per map, values in all, entries that open lists reserve.

    ``unique`` refuses a map with a duplicate key.
    """

    list_entries: int
    map_entries: int
    values: int
    reserved: int = DEPTH * DEPTH
    unique: bool = False


MESSAGE = UnpackLimits(list_entries=1_024, map_entries=65_536, values=262_144)
"""A body or a head of this protocol; the largest known list has 128 entries, the largest map 10,000."""


def unpack(packed: bytes, limits: UnpackLimits = MESSAGE) -> Any:
    """Return the one value in ``packed``; raises FrameError, and nothing else, when it is not one within ``limits``."""
    try:
        if limits is not MESSAGE or len(packed) > PLAIN_BYTES:
            return _counted(packed, limits)
        if len(packed) <= SHORT_BYTES:
            return msgpack.unpackb(packed)
        return msgpack.unpackb(packed, max_array_len=limits.list_entries, max_map_len=limits.map_entries)
    except FAULTS as error:
        raise FrameError(f"not msgpack, or beyond its limits: {reason(error)}") from error


def unpack_map(packed: bytes, limits: UnpackLimits = MESSAGE) -> dict[str, Any]:
    """Return the map with text keys in ``packed``; raises FrameError when it is not one within ``limits``."""
    value = unpack(packed, limits)
    if type(value) is not dict:
        raise FrameError(f"a msgpack {type(value).__name__}, no map")
    for key in value:
        if type(key) is not str:
            raise FrameError("a msgpack map with a key that is no text")
    return value


def unpack_stream(chunks: Iterable[bytes], limits: UnpackLimits, buffer_bytes: int) -> Iterator[Any]:
    """Yield the values in ``chunks``; raises FrameError at the first that is not within ``limits``.

    A value or chunk above ``buffer_bytes`` is refused. Errors of ``chunks`` itself are not caught.
    An incomplete value at the end is not yielded.
    """
    counter = _ValueCounter(limits)
    unpacker = msgpack.Unpacker(max_buffer_size=buffer_bytes, **counter.options(limits.list_entries))
    for chunk in chunks:
        try:
            unpacker.feed(chunk)
        except FAULTS as error:
            raise FrameError(f"a value of more than {buffer_bytes} bytes") from error
        while True:
            try:
                value = unpacker.unpack()
            except msgpack.OutOfData:
                break
            except FAULTS as error:
                raise FrameError(f"not msgpack, or beyond its limits: {reason(error)}") from error
            yield value
            counter.left = limits.values


def reason(error: Exception) -> str:
    """Return the reason of a msgpack error; some have no text."""
    return str(error)[:80] or type(error).__name__


def _counted(packed: bytes, limits: UnpackLimits) -> Any:
    counter = _ValueCounter(limits)
    return msgpack.unpackb(packed, **counter.options(_list_entries(packed, limits)))


def _list_entries(packed: bytes, limits: UnpackLimits) -> int:
    """Return the longest list with which all lists that ``packed`` can open reserve at most ``limits.reserved``."""
    headers = min(packed.count(LIST16) + packed.count(LIST32), DEPTH)  # counts other bytes of these values too
    return min(limits.list_entries, max(limits.reserved // (headers or 1), SHORT_LIST))


class _ValueCounter:
    """Counts the values of one message while msgpack unpacks it; raises ValueError beyond ``limits.values``."""

    def __init__(self, limits: UnpackLimits) -> None:
        self._limits = limits
        self.left = limits.values

    def options(self, list_entries: int) -> dict[str, Any]:
        """Return msgpack's options for these limits."""
        maps: dict[str, Callable[[Any], Any]] = (
            {"object_pairs_hook": self._unique_map} if self._limits.unique else {"object_hook": self._counted}
        )
        return {
            "list_hook": self._counted,
            "ext_hook": self._extension,
            "max_array_len": list_entries,
            "max_map_len": self._limits.map_entries,
            **maps,
        }

    def _count(self, values: int) -> None:
        self.left -= values
        if self.left < 0:
            raise ValueError(f"more than {self._limits.values} values")

    def _counted(self, value: Any) -> Any:
        self._count(1 + len(value))
        return value

    def _unique_map(self, pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
        """Return the map of ``pairs``; a duplicate key is an error."""
        self._count(1 + len(pairs))
        unique = dict(pairs)
        if len(unique) < len(pairs):
            key, _ = Counter(key for key, _ in pairs).most_common(1)[0]
            raise ValueError(f"key {key!r:.60} comes twice")
        return unique

    def _extension(self, code: int, data: bytes) -> Any:
        self._count(1)
        return msgpack.ExtType(code, data)
