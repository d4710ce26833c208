"""The state of all desks at one moment, cut between two events for a snapshot.

The pump thread only copies references (values are replaced, never changed in place); rows are made of them when the
query thread reads the cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from mt4pump.manager_api.decode import Fields
from mt4pump.pumping.state import Row
from mt4pump.wire import Kind, topic_of

Source = Callable[[], Iterable[tuple[object, bytes | Fields]]]
"""Gives key and fields (or packed fields) of each row of one kind, as they were when it was made."""

Take = Callable[[], Source]
"""Takes hold of the rows of one kind as they are at this moment."""


class CutRows:
    """The rows of a cut, made one by one while somebody goes through them."""

    def __init__(self, sources: Iterable[tuple[Kind, Source]], suffix: str) -> None:
        self._sources = list(sources)
        self._suffix = suffix

    def __iter__(self) -> Iterator[Row]:
        for kind, source in self._sources:
            for key, fields in source():
                yield Row(topic_of(kind, key, self._suffix), fields)


def listed(rows: Iterable[Fields], key: str) -> Source:
    """Return a source of ``rows``, whose topics end in their field ``key``."""
    kept = list(rows)
    return lambda: ((row[key], row) for row in kept)


def touches(kind: Kind, prefixes: Iterable[bytes]) -> bool:
    """Return whether a topic of ``kind`` may start with one of ``prefixes``; none means all."""
    head = f"{kind.name}.".encode()
    asked = tuple(prefixes)
    return not asked or any(head.startswith(prefix) or prefix.startswith(head) for prefix in asked)
