"""The door between a foreign thread and the pump thread: put and leave.

Why it is safe: `SimpleQueue.put` is one C call that takes no Python lock and may be called from any thread, also from
inside a callback that interrupted another `put`. A doorbell's mark is set before its item is put and cleared before its
table is read, so whatever changed before a ring was swallowed is still seen by the read that follows it.
"""

from __future__ import annotations

from queue import Empty, SimpleQueue
from typing import Any

from mt4pump.clock import NowNs, wall_clock
from mt4pump.codes import PumpCode

START, STOP = int(PumpCode.START_PUMPING), int(PumpCode.STOP_PUMPING)
DOORBELLS = 256
"""Codes 1 to 255 may ring; a stranger code beyond is put like a record."""


RawRecord = tuple[int, int, Any, int]
"""``(code, action, data, ts)`` of one call of the pump callback; plain, as a named tuple costs four times as much.

``code`` is a PUMP_ number, ``action`` a TRANS_ number, ``data`` the record's bytes (empty: NULL, the table as a whole
changed), ``ts`` ns since 1970 taken in the callback. A negative ``code`` is the daemon's own word to the pump thread
(see `mt4pump.pump`), with its object in ``data``.
"""


class Inbox:
    """Bounded queue of `RawRecord`; what does not fit is counted in ``refused``, never waited for.

    ``limit`` bounds records and START; other calls without data are doorbells: at most one per code waits, the rest is
    counted in ``coalesced``. The counters are written by foreign threads without a lock: CPython switches threads at
    calls and jumps, never inside ``self.n += 1``.
    """

    def __init__(self, limit: int, now_ns: NowNs | None = None) -> None:
        self.limit = limit
        self.refused = 0
        self.received = 0
        self.coalesced = 0
        self.last_callback_ts = 0
        self.now_ns = now_ns or wall_clock()[0]
        self._queue: SimpleQueue[RawRecord] = SimpleQueue()
        self._put = self._queue.put
        self._size = self._queue.qsize
        self._rung = bytearray(DOORBELLS)

    def __len__(self) -> int:
        return self._size()

    def notify(self, code: int, action: int, data: bytes) -> None:
        """Take one pump event from any thread; ``data`` is a copy that nobody else writes to."""
        self.last_callback_ts = ts = self.now_ns()
        self.received += 1
        if not data and 0 < code < DOORBELLS:
            if self._rung[code]:
                self.coalesced += 1
                return
            self._rung[code] = 1
        elif self._size() >= self.limit:
            self.refused += 1
            return
        elif code == START:
            self._rung[STOP] = 0  # a STOP after this START is news, whatever was swallowed before it
        self._put((code, action, data, ts))

    def tell(self, code: int, payload: object) -> None:
        """Put the daemon's own word to the pump thread, in order with the events."""
        self._put((code, 0, payload, self.now_ns()))

    def take(self, timeout_s: float) -> RawRecord | None:
        """Return the next item, or None after ``timeout_s``. Only the pump thread takes."""
        try:
            item = self._queue.get(timeout=timeout_s)
        except Empty:
            return None
        return self._taken(item)

    def take_now(self) -> RawRecord | None:
        """Return the next item if there is one."""
        try:
            item = self._queue.get_nowait()
        except Empty:
            return None
        return self._taken(item)

    def _taken(self, item: RawRecord) -> RawRecord:
        code = item[0]
        if 0 < code < DOORBELLS and not item[2]:
            self._rung[code] = 0
        return item
