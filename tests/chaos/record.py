"""What a reader stores: blocks of rows with the position after them, each block whole or not there at all.

A block is its length and CRC-32 (big-endian, 4 bytes each) and one msgpack list ``[position, topics, rows]``. Rows
refer to topics by their place in all ``topics`` of one run of the reader. A block that was being written when the
reader was killed is cut off at the next start: its events come again, as the position before it does not have them.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgpack

from mt4pump.client import Event, Notice
from mt4pump.client.subscriber import BaseSubscriber

HEAD = struct.Struct(">II")
RUN, DURABLE, PASSING, NOTICE = range(4)
LIVE, HEALED, SNAPSHOT = range(3)
BLOCK_ROWS = 400

Row = list[Any]
"""``[RUN, number]``, ``[DURABLE, topic, epoch, seq, came, offset, crc]``, ``[PASSING, topic, epoch, seq, came]``,
``[NOTICE, kind, topic's name, count, text]``. ``offset`` 0: it had none."""


class Block(NamedTuple):
    """One block; ``end`` is where the next one begins."""

    position: dict[str, Any] | None
    topics: list[str]
    rows: list[Row]
    end: int


def blocks(path: Path) -> Iterator[Block]:
    """Yield the whole blocks of a file, up to the first that is not."""
    if not path.exists():
        return
    with path.open("rb") as file:
        end = 0
        while len(head := file.read(HEAD.size)) == HEAD.size:
            length, crc = HEAD.unpack(head)
            payload = file.read(length)
            if len(payload) < length or zlib.crc32(payload) != crc:
                return
            end += HEAD.size + length
            position, topics, rows = msgpack.unpackb(payload)
            yield Block(position, topics, rows, end)


class Recorder:
    """Appends to ``path``. ``position`` is the one to resume from, None in an empty file; ``run`` counts from 1.

    ``reached`` is per topic that is not stored: epoch, and the last number that is accounted for.
    """

    def __init__(self, path: Path) -> None:
        self.position: dict[str, Any] | None = None
        self.reached: dict[str, tuple[int, int]] = {}
        self.run, end = 1, 0
        for block in blocks(path):
            self.position, end = block.position or self.position, block.end
            self.run += sum(row[0] == RUN for row in block.rows)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT)
        os.ftruncate(self._file, end)
        os.lseek(self._file, 0, os.SEEK_END)
        self._numbers: dict[str, int] = {}
        self._fresh: list[str] = []
        self._rows: list[Row] = [[RUN, self.run]]

    @property
    def is_due(self) -> bool:
        """Return whether a block's worth of rows waits."""
        return len(self._rows) >= BLOCK_ROWS

    def add(self, item: Event | Notice, epoch: int) -> None:
        """Add one item; ``epoch`` is the daemon's current run."""
        if isinstance(item, Notice):
            self._rows.append([NOTICE, item.kind, item.topic, item.count, item.text])
            if item.kind == "lost":
                known, number = self.reached.get(item.topic, (epoch, 0))
                self.reached[item.topic] = (epoch, (number if known == epoch else 0) + item.count)
            return
        if item.topic == "heartbeat":
            return
        came = SNAPSHOT if item.snapshot else HEALED if item.healed else LIVE
        topic = self._number_of(item.topic)
        offset = item.offset
        if (offset is None and item.kind in {"quote", "unknown"}) or item.topic == "session.ping":
            self._rows.append([PASSING, topic, item.epoch, item.seq, came])
            self.reached[item.topic] = (item.epoch, item.seq)
        else:
            self._rows.append([DURABLE, topic, item.epoch, item.seq, came, offset or 0, zlib.crc32(item.frames[1])])

    def write(self, sub: BaseSubscriber) -> None:
        """Write what was added, with the position after it, in one go."""
        if not self._rows:
            return
        position = sub.position
        payload = msgpack.packb([position.as_dict() if position else None, self._fresh, self._rows])
        os.write(self._file, HEAD.pack(len(payload), zlib.crc32(payload)) + payload)
        self._fresh, self._rows = [], []

    def _number_of(self, topic: str) -> int:
        number = self._numbers.get(topic)
        if number is None:
            number = self._numbers[topic] = len(self._numbers)
            self._fresh.append(topic)
        return number
