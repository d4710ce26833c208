"""The state of all handlers at one moment between two events, for the query thread.

The pump thread only copies references (values are replaced, never changed in place); the query thread makes rows of
them while it iterates the snapshot's ``rows``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from threading import Event
from typing import NamedTuple

from mt4pump.mt4.record import Fields
from mt4pump.wire import Kind, topic_of


class StateRow(NamedTuple):
    """One last value: its topic and its fields, plain or as one packed msgpack map.

    The fields have no ``epoch`` and ``seq``; plain ones may have a ``ts``. They do not change after the snapshot.
    """

    topic: bytes
    packed: bytes | Fields


@dataclass(frozen=True, slots=True)
class StateSnapshot:
    """All last values at one moment: every event before it is included, none after it.

    ``log`` is the journal's identity (None without a journal), ``offset`` its last durable event, ``offsets`` the same
    per kind, ``ts`` the moment in ns since 1970. ``seqs`` are the last numbers of topics, also of those without a row.
    ``rows`` are in no order, may be of more kinds and topics than were requested, and may be iterated once.
    """

    epoch: int
    log: str | None
    offset: int
    offsets: Mapping[str, int]
    ts: int
    seqs: Mapping[bytes, int]
    rows: Iterable[StateRow]


class SnapshotRequest:
    """A request for a snapshot of the topics that start with one of ``prefixes``, answered by the pump thread."""

    def __init__(self, prefixes: tuple[bytes, ...]) -> None:
        self.prefixes = prefixes
        self._snapshot: StateSnapshot | None = None
        self._answered = Event()
        self._is_cancelled = False

    @property
    def is_open(self) -> bool:
        """Return whether the request is neither answered nor cancelled."""
        return not self._is_cancelled and not self._answered.is_set()

    def answer(self, snapshot: StateSnapshot | None) -> None:
        """Hand over the snapshot and wake the waiting thread; None: the snapshot failed."""
        self._snapshot = snapshot
        self._answered.set()

    def wait(self, timeout_s: float) -> StateSnapshot | None:
        """Return the snapshot; None after ``timeout_s`` (`is_open` is still true then) or when it failed."""
        return self._snapshot if self._answered.wait(timeout_s) else None

    def cancel(self) -> None:
        """Cancel the request: the pump thread need not answer it."""
        self._is_cancelled = True


RowSource = Iterable[tuple[object, bytes | Fields]]
"""Key and fields (or packed fields) of each row of one kind, as they were when it was made."""

TakeRows = Callable[[], RowSource]
"""Captures the rows of one kind at this moment."""


def state_rows(sources: Iterable[tuple[Kind, RowSource]], suffix: str) -> Iterator[StateRow]:
    """Yield the rows of ``sources`` one by one, as they are iterated."""
    for kind, source in sources:
        for key, fields in source:
            yield StateRow(topic_of(kind, key, suffix), fields)


def rows_by_field(rows: Iterable[Fields], key: str) -> RowSource:
    """Return ``rows`` as they are now; their topics end in their field ``key``."""
    kept = list(rows)
    return ((row[key], row) for row in kept)


def touches(kind: Kind, prefixes: Iterable[bytes]) -> bool:
    """Return whether a topic of ``kind`` may start with one of ``prefixes``; none means all."""
    head = f"{kind.name}.".encode()
    asked = tuple(prefixes)
    return not asked or any(head.startswith(prefix) or prefix.startswith(head) for prefix in asked)
