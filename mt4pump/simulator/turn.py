"""Whose turn it is at the simulated world: the feed's or a reader's.

The feed takes the world again the moment it lets go, and Python's locks are not fair: a reader could starve. So whoever
wants the world waits at a gate first. The reader at the gate is next, as the feed cannot pass it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, get_ident


class Turn:
    """Mutual exclusion with a fair gate; the holder may enter again (a callback that reads a table)."""

    def __init__(self) -> None:
        self._gate = Lock()
        self._world = Lock()
        self._holder = 0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Hold the world for the length of a ``with`` block."""
        if self._holder == get_ident():  # only the holder itself can find its own number here
            yield
            return
        with self._gate:
            self._world.acquire()
        self._holder = get_ident()
        try:
            yield
        finally:
            self._holder = 0
            self._world.release()

    def wait_s(self, limit_s: float) -> bool:
        """Wait until the world was free for a moment, at most ``limit_s``; True at once for its holder."""
        if self._holder == get_ident():
            return True
        if not self._world.acquire(timeout=limit_s):
            return False
        self._world.release()
        return True
