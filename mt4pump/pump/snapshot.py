"""The state of all desks at one moment, cut between two events for a snapshot.

The pump thread only copies references (values are replaced, never changed in place); rows are made of them when the
query thread reads the cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from threading import Event
from typing import NamedTuple

from mt4pump.mt4.decode import Fields
from mt4pump.wire import Kind, topic_of


class StateRow(NamedTuple):
    """One last value: its topic and its fields, plain or as one packed msgpack map.

    The fields are without ``epoch`` and ``seq``; they may have a ``ts`` of their own (plain ones only). Nobody changes
    them after the cut.
    """

    topic: bytes
    packed: bytes | Fields


@dataclass(frozen=True, slots=True)
class StateSnapshot:
    """All last values at one moment. Everything up to it is in the cut, nothing after it is.

    ``log`` and ``offset`` are the journal's identity (None without one) and its last durable event, ``offsets`` the
    same per kind, ``ts`` the moment in ns since 1970. ``seqs`` are the last numbers of topics, also of those without
    a row. ``rows`` are in no order, and may be of more kinds and topics than were asked for.
    """

    epoch: int
    log: str | None
    offset: int
    offsets: Mapping[str, int]
    ts: int
    seqs: Mapping[bytes, int]
    rows: Iterable[StateRow]


class SnapshotRequest:
    """Asks for a cut of the topics that start with one of ``prefixes``; made by one thread, answered by the pump's."""

    def __init__(self, prefixes: tuple[bytes, ...]) -> None:
        self.prefixes = prefixes
        self._cut: StateSnapshot | None = None
        self._answered = Event()
        self._given_up = False

    @property
    def is_open(self) -> bool:
        """Return whether somebody still waits: a cut for nobody need not be made."""
        return not self._given_up and not self._answered.is_set()

    def answer(self, cut: StateSnapshot | None) -> None:
        """Hand over the cut, and wake who waits for it; None says at once that none could be made."""
        self._cut = cut
        self._answered.set()

    def wait(self, timeout_s: float) -> StateSnapshot | None:
        """Return the cut, or None when there was none within ``timeout_s``, or none could be made (`is_open` tells)."""
        return self._cut if self._answered.wait(timeout_s) else None

    def give_up(self) -> None:
        """Wait no longer."""
        self._given_up = True


Source = Callable[[], Iterable[tuple[object, bytes | Fields]]]
"""Gives key and fields (or packed fields) of each row of one kind, as they were when it was made."""

Take = Callable[[], Source]
"""Takes hold of the rows of one kind as they are at this moment."""


class SnapshotRows:
    """The rows of a cut, made one by one while somebody goes through them."""

    def __init__(self, sources: Iterable[tuple[Kind, Source]], suffix: str) -> None:
        self._sources = list(sources)
        self._suffix = suffix

    def __iter__(self) -> Iterator[StateRow]:
        for kind, source in self._sources:
            for key, fields in source():
                yield StateRow(topic_of(kind, key, self._suffix), fields)


def listed(rows: Iterable[Fields], key: str) -> Source:
    """Return a source of ``rows``, whose topics end in their field ``key``."""
    kept = list(rows)
    return lambda: ((row[key], row) for row in kept)


def touches(kind: Kind, prefixes: Iterable[bytes]) -> bool:
    """Return whether a topic of ``kind`` may start with one of ``prefixes``; none means all."""
    head = f"{kind.name}.".encode()
    asked = tuple(prefixes)
    return not asked or any(head.startswith(prefix) or prefix.startswith(head) for prefix in asked)
