"""Reads one large table on a thread of its own, so that the pump thread can publish quotes meanwhile.

With 100,000 accounts UsersGet takes a tenth of a second. Only quotes go on: records wait for the read, as they would if
the pump thread read the table itself.
"""

from __future__ import annotations

from threading import Thread

from mt4pump.mt4.manager import Array, Manager

LARGE_TABLES = frozenset({"users", "trades"})
"""Tables that grow with the number of accounts: 112 and 45 MB for 100,000 accounts with two orders each."""


class ReadThread(Thread):
    """One read of table ``name``; it begins at once, and on the calling thread where no thread can be started."""

    def __init__(self, manager: Manager, name: str) -> None:
        super().__init__(name=f"read of table {name}", daemon=True)
        self._manager = manager
        self._table = name
        self._array: Array | None = None
        self._error: BaseException | None = None
        try:
            self.start()
        except RuntimeError:
            self.run()

    def run(self) -> None:
        """Read the table."""
        try:
            self._array = self._manager.table(self._table)
        except BaseException as error:  # noqa: BLE001 - `array` raises it on the thread that asked
            self._error = error

    def has_ended(self, within_s: float) -> bool:
        """Return whether the read has ended; wait for it up to ``within_s``."""
        if self._array is None and self._error is None:
            self.join(within_s)
        return self._array is not None or self._error is not None

    def array(self) -> Array:
        """Return what was read; raises what the read raised."""
        error, self._error = self._error, None
        if error is None:
            assert self._array is not None  # noqa: S101 - it has ended
            return self._array
        try:
            raise error
        finally:
            del error  # its traceback leads here: the array in it would stay until the garbage collector runs
