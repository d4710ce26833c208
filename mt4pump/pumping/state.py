"""The state at one moment between two events, and how another thread asks the pump thread for it.

Only the pump thread knows where an event ends, so only it can cut: a `CutRequest` reaches it through the inbox, in
order with the events, and is answered with a `Cut` that never changes again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from threading import Event
from typing import NamedTuple

from mt4pump.manager_api.decode import Fields


class Row(NamedTuple):
    """One last value: its topic and its fields, plain or as one packed msgpack map.

    The fields are without ``epoch`` and ``seq``; they may have a ``ts`` of their own (plain ones only). Nobody changes
    them after the cut.
    """

    topic: bytes
    packed: bytes | Fields


@dataclass(frozen=True, slots=True)
class Cut:
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
    rows: Iterable[Row]


class CutRequest:
    """Asks for a cut of the topics that start with one of ``prefixes``; made by one thread, answered by the pump's."""

    def __init__(self, prefixes: tuple[bytes, ...]) -> None:
        self.prefixes = prefixes
        self._cut: Cut | None = None
        self._answered = Event()
        self._given_up = False

    @property
    def is_open(self) -> bool:
        """Return whether somebody still waits: a cut for nobody need not be made."""
        return not self._given_up and not self._answered.is_set()

    def answer(self, cut: Cut | None) -> None:
        """Hand over the cut, and wake who waits for it; None says at once that none could be made."""
        self._cut = cut
        self._answered.set()

    def wait(self, timeout_s: float) -> Cut | None:
        """Return the cut, or None when there was none within ``timeout_s``, or none could be made (`is_open` tells)."""
        return self._cut if self._answered.wait(timeout_s) else None

    def give_up(self) -> None:
        """Wait no longer."""
        self._given_up = True
