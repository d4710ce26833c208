"""The queue between the DLL's threads, which only put records, and the pump thread, which gets them.

Why it is safe: `SimpleQueue.put` is one C call that takes no Python lock and may be called from any thread, also from
inside a callback that interrupted another `put`. A doorbell's flag is set before its item is put and cleared before its
table is read, so the read also sees what changed before a doorbell that was coalesced.
"""

from __future__ import annotations

from collections import deque
from queue import Empty, SimpleQueue
from typing import Any

from mt4pump.mt4.codes import PumpCode
from mt4pump.mt4.manager import Notify
from mt4pump.process.clock import NowNs, wall_clock

START, STOP = int(PumpCode.START_PUMPING), int(PumpCode.STOP_PUMPING)
DOORBELLS = 256
"""Codes 1 to 255 may be doorbells; an unknown code beyond is put like a record."""

RawRecord = tuple[int, int, Any, int]
"""``(code, action, data, ts)`` of one call of the pump callback; plain, as a named tuple costs four times as much.

``code`` is a PUMP_ number, ``action`` a TRANS_ number, ``data`` the record's bytes (empty: NULL, the table as a whole
changed), ``ts`` ns since 1970 taken in the callback. A ``code`` from `Command.ATTACH` on is a command, with its payload
in ``data``.
"""


class Inbox:
    """Bounded queue of `RawRecord`; a record that does not fit is counted in ``refused`` and dropped.

    ``limit`` bounds records; while `get_doorbell` passes over some, there may be twice as many. Other calls are
    doorbells: at most one per code waits, the rest is counted in ``coalesced``. START, of which there is one per
    session, always fits. Foreign threads write the counters without a lock: CPython switches threads at calls and
    jumps, never inside ``self.n += 1``. ``dropped_at_end`` counts accepted records that were not handled before the
    end, see `drain`.
    """

    def __init__(self, limit: int, now_ns: NowNs | None = None) -> None:
        self.limit = limit
        self.accepted = 0
        self.coalesced = 0
        self.refused = 0
        self.dropped_at_end = 0
        self.last_callback_ts = 0
        self.now_ns = now_ns or wall_clock()[0]
        self._queue: SimpleQueue[RawRecord] = SimpleQueue()
        self._passed: deque[RawRecord] = deque()
        self._rung = bytearray(DOORBELLS)
        self.notify = self._make_notify()

    def __len__(self) -> int:
        return self._queue.qsize() + len(self._passed)

    @property
    def received(self) -> int:
        """Return the number of callbacks; it grows while the session is alive."""
        return self.accepted + self.coalesced + self.refused

    def _make_notify(self) -> Notify:
        """Return ``notify(code, action, data)``, called on foreign threads; ``data`` is a copy.

        A closure finds its names in half the time of a method, and the DLL's thread waits for it.
        """
        inbox, rung, now_ns = self, self._rung, self.now_ns
        put, size, limit = self._queue.put, self._queue.qsize, self.limit

        def notify(code: int, action: int, data: bytes) -> None:
            if not data and 0 < code < DOORBELLS:
                if rung[code]:  # the waiting one has the older ts, so a quote is never stamped too late
                    inbox.coalesced += 1
                    return
                rung[code] = 1
            elif code == START and not data:  # one per session, and the session needs it: always fits
                rung[STOP] = 0  # a STOP after this START must not be coalesced with an earlier one
            elif size() >= limit:
                inbox.refused += 1
                return
            inbox.accepted += 1
            inbox.last_callback_ts = ts = now_ns()
            put((code, action, data, ts))

        return notify

    def put_command(self, code: int, payload: object) -> None:
        """Put a command to the pump thread, in order with the records."""
        self._queue.put((code, 0, payload, self.now_ns()))

    def get(self, timeout_s: float = 0.0) -> RawRecord | None:
        """Return the next item, or None after ``timeout_s``. Only the pump thread calls this."""
        if self._passed:
            item = self._passed.popleft()
        else:
            try:
                item = self._queue.get(timeout=timeout_s)
            except Empty:
                return None
        code = item[0]
        if 0 < code < DOORBELLS and not item[2]:
            self._rung[code] = 0
        return item

    def get_doorbell(self, code: int, barrier: int) -> RawRecord | None:
        """Return the doorbell ``code`` if it waits; all that waits before it stays, in its order.

        No item ``barrier`` is passed over, and ``limit`` items at most: then None, too. Only for the pump thread.
        """
        passed = self._passed
        while len(passed) < self.limit and not (passed and passed[-1][0] == barrier):
            try:
                item = self._queue.get_nowait()
            except Empty:
                return None
            if item[0] == code and not item[2]:
                self._rung[code] = 0
                return item
            passed.append(item)
        return None

    def drain(self, first_command: int) -> list[RawRecord]:
        """Empty the inbox at the end: count the records in ``dropped_at_end``, return the commands.

        Commands are the codes from ``first_command`` on. What foreign threads put meanwhile stays in the queue.
        """
        waiting = [item for _ in range(len(self)) if (item := self.get()) is not None]
        self.dropped_at_end += sum(1 for code, _, data, _ in waiting if code < first_command and data)
        return [item for item in waiting if item[0] >= first_command]
