"""Reads large tables on a thread of its own, because a read may take tenths of a second and holds up every event.

The vendor states that the functions of a pumping interface are thread safe. The pump thread notes which keys records
touch until the read has ended: their state is newer, and the comparison skips them.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Event, Thread

from mt4pump.mt4.manager import Array, Manager

READ_WAIT_S = 0.01
"""How long the pump thread waits for a read: with a few thousand accounts it is over by then."""


class PendingRead:
    """A read of table ``name`` that was requested."""

    def __init__(self, manager: Manager, name: str) -> None:
        self._done = Event()
        self._manager = manager
        self._name = name
        self._array: Array = b""
        self._error: Exception | None = None

    def read(self) -> None:
        """Read the table, on the reader's thread."""
        try:
            self._array = self._manager.table(self._name)
        except Exception as error:  # noqa: BLE001 - `array` raises it on the thread that asked
            self._error = error
        self._done.set()

    @property
    def is_done(self) -> bool:
        """Return whether the read has ended."""
        return self._done.is_set()

    def wait(self) -> None:
        """Wait until the read has ended, for `READ_WAIT_S` at most."""
        self._done.wait(READ_WAIT_S)

    def array(self) -> Array:
        """Return what was read; raises what the read raised."""
        if self._error is not None:
            raise self._error
        return self._array


class TableReader(Thread):
    """Reads tables one after the other; ``wake`` is called after each.

    ``reading`` counts the reads that began; ``is_idle`` is true while none runs.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        super().__init__(name="table reader", daemon=True)
        self.reading = 0
        self.is_idle = True
        self._wake = wake
        self._queue: SimpleQueue[PendingRead | None] = SimpleQueue()

    def request(self, manager: Manager, name: str) -> PendingRead:
        """Request a read of table ``name``."""
        pending = PendingRead(manager, name)
        self._queue.put(pending)
        return pending

    def stop(self) -> None:
        """End the thread after what was requested."""
        self._queue.put(None)

    def run(self) -> None:
        """Read until stopped."""
        while (pending := self._queue.get()) is not None:
            self.reading += 1
            self.is_idle = False
            pending.read()
            self.is_idle = True
            self._wake()
            del pending  # else its array stays in memory until the next read
