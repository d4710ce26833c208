"""An event that a signal handler may set."""

from __future__ import annotations

import time
from queue import Empty, SimpleQueue
from threading import Event


class Flag(Event):
    """As `threading.Event`, and `set` may also be called by a signal handler.

    ``Event.set`` takes a lock which the very ``wait`` that the signal interrupted may hold: that thread would then wait
    for itself, for ever. `queue.SimpleQueue.put` is made to be called there, so what wakes is a token in one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._on = False
        self._tokens: SimpleQueue[None] = SimpleQueue()

    def is_set(self) -> bool:
        """Return whether it is set."""
        return self._on

    def set(self) -> None:
        """Set it, and wake all who wait for it."""
        if not self._on:
            self._on = True
            self._tokens.put(None)

    def clear(self) -> None:
        """Take it back."""
        self._on = False
        while not self._tokens.empty():
            self._take(0)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, or ``timeout`` seconds; return whether it is."""
        deadline_s = None if timeout is None else time.monotonic() + timeout
        while not self._on:
            left_s = None if deadline_s is None else max(0.0, deadline_s - time.monotonic())
            if not self._take(left_s):
                break
            if self._on:
                self._tokens.put(None)  # for the next who waits
        return self._on

    def _take(self, timeout_s: float | None) -> bool:
        try:
            self._tokens.get(timeout=timeout_s)
        except Empty:
            return False
        return True
