"""The events that wait for an answer of the query endpoint, in the order in which they came, and their bound; pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from mt4pump.wire import Body

HELD_BYTES_LIMIT = 128 * 2**20
"""Bytes of events that may wait for the journal; beyond it nothing is read until it answers."""

Frames = tuple[bytes, bytes]


class HeldEvents:
    """Holds events. ``limit`` is how many; a reader must not add more when `is_full`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._events: deque[tuple[Frames, Body]] = deque()
        self._size_bytes = 0

    def __len__(self) -> int:
        return len(self._events)

    def __iter__(self) -> Iterator[tuple[Frames, Body]]:
        return iter(self._events)

    @property
    def is_full(self) -> bool:
        """Return whether no more messages should be read."""
        return len(self._events) >= self._limit or self._size_bytes >= HELD_BYTES_LIMIT

    @property
    def first(self) -> Body | None:
        """Return the body of the event that waits longest."""
        return self._events[0][1] if self._events else None

    @property
    def last(self) -> Body | None:
        """Return the body of the event that came last."""
        return self._events[-1][1] if self._events else None

    def add(self, frames: Frames, body: Body) -> None:
        """Add an event at the end."""
        self._events.append((frames, body))
        self._size_bytes += len(frames[1])

    def take_all(self) -> deque[tuple[Frames, Body]]:
        """Return all events, which are not held any more."""
        events, self._events, self._size_bytes = self._events, deque(), 0
        return events

    def drop_unstored(self) -> int:
        """Drop the events that have no offset; return how many."""
        dropped = 0
        for frames, body in self.take_all():
            if "offset" in body:
                self.add(frames, body)
            else:
                dropped += 1
        return dropped
