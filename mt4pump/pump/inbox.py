"""The door between a foreign thread and the pump thread: put and leave.

Why it is safe: `SimpleQueue.put` is one C call that takes no Python lock and may be called from any thread, also from
inside a callback that interrupted another `put`. A doorbell's mark is set before its item is put and cleared before its
table is read, so whatever changed before a ring was swallowed is still seen by the read that follows it.
"""

from __future__ import annotations

from queue import Empty, SimpleQueue
from typing import Any

from mt4pump.clock import NowNs, wall_clock
from mt4pump.mt4.codes import PumpCode
from mt4pump.mt4.manager import Notify

START, STOP = int(PumpCode.START_PUMPING), int(PumpCode.STOP_PUMPING)
DOORBELLS = 256
"""Codes 1 to 255 may ring; a stranger code beyond is put like a record."""


RawRecord = tuple[int, int, Any, int]
"""``(code, action, data, ts)`` of one call of the pump callback; plain, as a named tuple costs four times as much.

``code`` is a PUMP_ number, ``action`` a TRANS_ number, ``data`` the record's bytes (empty: NULL, the table as a whole
changed), ``ts`` ns since 1970 taken in the callback. A negative ``code`` is the daemon's own word to the pump thread
(see `mt4pump.pump.loop`), with its object in ``data``.
"""


class Inbox:
    """Bounded queue of `RawRecord`; what does not fit is counted in ``refused``, never waited for.

    ``limit`` bounds records. Other calls are doorbells: at most one per code waits, the rest is counted in
    ``coalesced``; but START, of which there is one per session, always fits. The counters are written by foreign
    threads without a lock: CPython switches threads at calls and jumps, never inside ``self.n += 1``. ``abandoned``
    counts what was accepted and not taken in time at the end: see `abandon`.
    """

    def __init__(self, limit: int, now_ns: NowNs | None = None) -> None:
        self.limit = limit
        self.accepted = 0
        self.coalesced = 0
        self.refused = 0
        self.abandoned = 0
        self.last_callback_ts = 0
        self.now_ns = now_ns or wall_clock()[0]
        self._queue: SimpleQueue[RawRecord] = SimpleQueue()
        self._rung = bytearray(DOORBELLS)
        self.notify = self._make_notify()

    def __len__(self) -> int:
        return self._queue.qsize()

    @property
    def received(self) -> int:
        """Return how many times the pump called back: the sign of life of a session."""
        return self.accepted + self.coalesced + self.refused

    def _make_notify(self) -> Notify:
        """Return ``notify(code, action, data)``, called on foreign threads; ``data`` is a copy nobody else writes to.

        A closure, as it finds its names in half the time a method does, and the DLL's thread waits for it.
        """
        inbox, rung, now_ns = self, self._rung, self.now_ns
        put, size, limit = self._queue.put, self._queue.qsize, self.limit

        def notify(code: int, action: int, data: bytes) -> None:
            if not data and 0 < code < DOORBELLS:
                if rung[code]:  # its stamp is the first ring's, so a quote is never said to be younger than it is
                    inbox.coalesced += 1
                    return
                rung[code] = 1
            elif code == START and not data:  # one per session, and without it the session never runs: always fits
                rung[STOP] = 0  # a STOP after this START is news, whatever was swallowed before it
            elif size() >= limit:
                inbox.refused += 1
                return
            inbox.accepted += 1
            inbox.last_callback_ts = ts = now_ns()
            put((code, action, data, ts))

        return notify

    def tell(self, code: int, payload: object) -> None:
        """Put the daemon's own word to the pump thread, in order with the events."""
        self._queue.put((code, 0, payload, self.now_ns()))

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

    def abandon(self, word: int) -> list[RawRecord]:
        """Empty the inbox at the end: count records in ``abandoned``, return the daemon's words, from ``word`` on.

        Takes what waits now, as foreign threads may still put more.
        """
        waiting = [item for _ in range(len(self)) if (item := self.take_now()) is not None]
        self.abandoned += sum(1 for code, _, data, _ in waiting if code < word and data)
        return [item for item in waiting if item[0] >= word]

    def _taken(self, item: RawRecord) -> RawRecord:
        code = item[0]
        if 0 < code < DOORBELLS and not item[2]:
            self._rung[code] = 0
        return item
