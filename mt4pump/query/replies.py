"""What goes back: a head and the frames behind it; and the bodies of a snapshot; pure."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgpack

from mt4pump.mt4.decode import Fields
from mt4pump.query.requests import RequestError
from mt4pump.wire import Body

FIXMAP, MAP16, MAP32 = 0x80, 0xDE, 0xDF
ADDED = 4
"""Entries that a packed row gets: epoch, ts, snapshot, seq."""


class OutgoingReply(NamedTuple):
    """One answer. ``frames`` are topic, body, topic, body and so on."""

    head: Body
    frames: list[bytes]

    @property
    def events(self) -> int:
        """Return how many events or rows it carries."""
        return len(self.frames) // 2

    @property
    def size(self) -> int:
        """Return the bytes of its frames behind the head."""
        return sum(map(len, self.frames))


def refused(refusal: RequestError) -> OutgoingReply:
    """Return the answer that says why there is none."""
    return OutgoingReply({"ok": False, "code": refusal.code, "error": str(refusal)}, [])


class SnapshotBodies:
    """Makes the bodies of one cut's rows: their fields and ``epoch seq ts snapshot``.

    A packed row is not unpacked: its map gets a new length and four more entries.
    """

    def __init__(self, epoch: int, ts: int) -> None:
        self._pack = msgpack.Packer(unicode_errors="replace").pack
        self._known: Fields = {"epoch": epoch, "ts": ts, "snapshot": True}
        self._tail: bytes = self._pack(self._known)[1:] + self._pack("seq")

    def body(self, row: bytes | Fields, seq: int) -> bytes:
        """Return the body of one row; a ``ts`` among plain fields is kept. Raises ValueError for what is no map."""
        if isinstance(row, bytes):
            return longer_map(row, self._tail + self._pack(seq))
        packed: bytes = self._pack({**self._known, **row, "seq": seq})
        return packed


def longer_map(packed: bytes, entries: bytes) -> bytes:
    """Return a packed msgpack map with `ADDED` packed entries more; raises ValueError when it is not a map."""
    first = packed[0] if packed else 0
    if FIXMAP <= first < FIXMAP + 16:
        count, start = first - FIXMAP, 1
    elif first in {MAP16, MAP32} and len(packed) >= 5:
        start = 3 if first == MAP16 else 5
        count = int.from_bytes(packed[1:start], "big")
    else:
        raise ValueError(f"a packed row starts with {packed[:1]!r}: no msgpack map")
    return b"".join((_map_header(count + ADDED), packed[start:], entries))


def _map_header(count: int) -> bytes:
    if count < 16:
        return bytes((FIXMAP + count,))
    if count < 2**16:
        return bytes((MAP16,)) + count.to_bytes(2, "big")
    return bytes((MAP32,)) + count.to_bytes(4, "big")


def packed_head(head: dict[str, Any]) -> bytes:
    """Return the first frame of a reply."""
    packed: bytes = msgpack.packb(head, unicode_errors="replace")
    return packed
