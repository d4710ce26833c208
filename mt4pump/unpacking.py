"""Unpacks msgpack that somebody else packed, at a bounded cost, whatever its bytes are; pure.

msgpack reserves the memory of a list as soon as it reads its length, so nested headers of 5 bytes each can claim
gigabytes, and one byte of input can become an empty map of 64 bytes. So the length of a list and of a map, the number
of values, and the entries that all open lists may reserve together are limited.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgpack

from mt4pump.errors import FrameError

SHORT_BYTES = 512
"""Up to this length no limit is needed: what the input may claim is less than the square of its length."""
PLAIN_BYTES = 65_536
"""Up to this length the values of a message of the stream need not be counted: each takes a byte at least."""
DEPTH = 1_024
"""How deep msgpack nests at most; beyond it raises StackError, which is a ValueError."""
LIST16, LIST32 = 0xDC, 0xDD
"""First bytes of lists that are longer than 15."""
SHORT_LIST = 15
FAULTS = (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException)


@dataclass(frozen=True, slots=True)
class UnpackLimits:
    """What one message may hold: entries per list and per map, values in all, entries that open lists reserve.

    ``unique`` refuses a map with a key that comes twice.
    """

    list_entries: int
    map_entries: int
    values: int
    reserved: int = DEPTH * DEPTH
    unique: bool = False


MESSAGE = UnpackLimits(list_entries=1_024, map_entries=65_536, values=262_144)
"""A body or a head of this protocol; the largest known list has 128 entries, the largest map 10,000."""


def unpack(packed: bytes, limits: UnpackLimits = MESSAGE) -> Any:
    """Return the one value that ``packed`` is; raises FrameError (nothing else) when it is none within ``limits``."""
    try:
        if limits is not MESSAGE or len(packed) > PLAIN_BYTES:
            return _counted(packed, limits)
        if len(packed) <= SHORT_BYTES:
            return msgpack.unpackb(packed)
        return msgpack.unpackb(packed, max_array_len=limits.list_entries, max_map_len=limits.map_entries)
    except FAULTS as error:
        raise FrameError(f"not msgpack, or beyond its limits: {reason(error)}") from error


def unpack_map(packed: bytes, limits: UnpackLimits = MESSAGE) -> dict[str, Any]:
    """Return the map with text keys that ``packed`` is; raises FrameError when it is none within ``limits``."""
    value = unpack(packed, limits)
    if type(value) is not dict:
        raise FrameError(f"a msgpack {type(value).__name__}, no map")
    for key in value:
        if type(key) is not str:
            raise FrameError("a msgpack map with a key that is no text")
    return value


def unpack_stream(chunks: Iterable[bytes], limits: UnpackLimits, buffer_bytes: int) -> Iterator[Any]:
    """Yield the values that ``chunks`` are; raises FrameError at the first that is none within ``limits``.

    No value, and no chunk, is larger than ``buffer_bytes``. What ``chunks`` itself raises passes through.
    A value that is cut off at the end is not yielded.
    """
    count = _Count(limits)
    unpacker = msgpack.Unpacker(max_buffer_size=buffer_bytes, **count.options(limits.list_entries))
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
            count.left = limits.values


def reason(error: Exception) -> str:
    """Return what msgpack has against its input, in a few words; its own errors have no text."""
    return str(error)[:80] or type(error).__name__


def _counted(packed: bytes, limits: UnpackLimits) -> Any:
    count = _Count(limits)
    return msgpack.unpackb(packed, **count.options(_list_entries(packed, limits)))


def _list_entries(packed: bytes, limits: UnpackLimits) -> int:
    """Return how long a list may be, so that all that can be open in ``packed`` reserve no more than they may."""
    headers = min(packed.count(LIST16) + packed.count(LIST32), DEPTH)  # other bytes of these values count, too
    return min(limits.list_entries, max(limits.reserved // (headers or 1), SHORT_LIST))


class _Count:
    """Counts the values of one message while msgpack makes them; raises ValueError beyond ``limits.values``."""

    def __init__(self, limits: UnpackLimits) -> None:
        self._limits = limits
        self.left = limits.values

    def options(self, list_entries: int) -> dict[str, Any]:
        """Return msgpack's options for these limits."""
        maps: dict[str, Callable[[Any], Any]] = (
            {"object_pairs_hook": self._unique} if self._limits.unique else {"object_hook": self._taken}
        )
        return {
            "list_hook": self._taken,
            "ext_hook": self._extension,
            "max_array_len": list_entries,
            "max_map_len": self._limits.map_entries,
            **maps,
        }

    def _spend(self, values: int) -> None:
        self.left -= values
        if self.left < 0:
            raise ValueError(f"more than {self._limits.values} values")

    def _taken(self, value: Any) -> Any:
        self._spend(1 + len(value))
        return value

    def _unique(self, pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
        """Return the map of ``pairs``; two values for one key are an error, as nobody can tell which one is meant."""
        self._spend(1 + len(pairs))
        made = dict(pairs)
        if len(made) < len(pairs):
            raise ValueError(f"key {_twice(pairs)!r:.60} comes twice")
        return made

    def _extension(self, code: int, data: bytes) -> Any:
        self._spend(1)
        return msgpack.ExtType(code, data)


def _twice(pairs: list[tuple[Any, Any]]) -> object:
    """Return the first key that comes twice."""
    seen = set()
    for key, _ in pairs:
        if key in seen:
            return key
        seen.add(key)
    return None
