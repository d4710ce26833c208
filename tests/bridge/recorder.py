"""What a ``notify`` of the bridge receives."""

from __future__ import annotations

from threading import get_native_id
from typing import NamedTuple


class Event(NamedTuple):
    """One call of ``notify`` and the native thread that made it."""

    code: int
    action: int
    data: bytes
    thread: int


class NotifyRecorder:
    """A ``notify`` that writes down what it receives."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, code: int, action: int, data: bytes) -> None:
        self.events.append(Event(code, action, data, get_native_id()))

    def codes(self) -> list[int]:
        """Return the codes received so far, in order."""
        return [event.code for event in self.events]

    def data(self, code: int) -> list[bytes]:
        """Return what came with one code, in order."""
        return [event.data for event in self.events if event.code == code]
