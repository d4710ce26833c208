"""Work in short stretches, so that the live stream's thread never waits long for the interpreter.

Python lets one thread run at a time. The live stream's thread lets go of it at every send, tens of times per batch; a
thread that works meanwhile takes it each time, and handing it back costs far more than the send. So long work looks
every few dozen microseconds whether the live stream has something to do, and sleeps until that is done (`YieldToPump`).
Beside a rapid live stream it rests as well: the reader of what it made needs a core, too, and there may be only two.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from mt4pump.publisher.binding import SocketOptions


@dataclass(frozen=True, slots=True)
class QueryOptions:
    """Bounds of the query endpoint.

    Pages: ``page_rows`` is the page of a request without ``limit``, ``limit_rows`` the greatest ``limit``. A page ends
    when it has its rows, when it is over ``page_bytes``, or after ``page_s`` of work; the journal is read
    ``slice_rows`` at a time. ``work_s`` and ``rest_s`` are how long the query thread works before it leaves the
    interpreter to others, and for how long; under a flood it rests ``flood_rests`` times as long as it worked.

    Snapshots: ``cut_wait_s`` is how long the pump may take to cut its state. At most ``cuts_held`` cuts are held, and
    fewer of one client or connection: for ``cut_idle_s`` after they were last read. Where there is no room for
    another one they are held ``cut_evictable_s`` after they were last read, and no longer than ``cut_old_s``.

    Waiting requests: ``waiting_limit`` of one connection, and bytes of one and of all; none waits longer than
    ``waiting_s``. Replies that are not read: of a connection one page or ``unread_bytes_short`` of others, and bounds
    per client and in all; a connection that reads nothing of them for ``unread_s`` is closed.

    Connections: those idle for longest are closed above ``connections_limit`` and ``connections_per_client``, any that
    asks nothing for ``silent_s``, and any that sends more than ``incomplete_bytes`` without the end of a message.

    ``transport`` gives heartbeat, keep-alive, IPv6 and linger; its ``sndhwm`` is the publisher's and not used here.
    """

    sndhwm: int = 16
    rcvhwm: int = 8
    max_request_bytes: int = 65_536
    max_prefixes: int = 256
    page_rows: int = 1_000
    limit_rows: int = 10_000
    page_bytes: int = 2**20
    page_s: float = 0.05
    slice_rows: int = 500
    work_s: float = 0.0002
    rest_s: float = 0.005
    flood_rests: float = 0.5
    cut_wait_s: float = 2.0
    cuts_held: int = 8
    cuts_per_client: int = 4
    cuts_per_connection: int = 2
    cut_idle_s: float = 30.0
    cut_evictable_s: float = 2.0
    cut_old_s: float = 15.0
    waiting_limit: int = 128
    waiting_bytes: int = 2**18
    waiting_bytes_total: int = 2**23
    waiting_s: float = 5.0
    unread_bytes_short: int = 2**18
    unread_bytes_per_client: int = 2**24
    unread_bytes: int = 2**26
    unread_s: float = 30.0
    connections_limit: int = 512
    connections_per_client: int = 256
    silent_s: float = 10.0
    incomplete_bytes: int = 2**22
    transport: SocketOptions = field(default_factory=SocketOptions)


NAP_S, NAPS = 0.0002, 10
"""How long, and how often in a row, long work sleeps while the live stream is busy."""
RAPID_PER_S = 1_000.0
"""Events per second from which on a live stream is rapid."""
DUE_S = 0.0005
"""How long it works then: a fifth of the time, though the live stream never comes to an end."""


class Stopped(Exception):
    """The thread was told to stop in the middle of its work."""


class YieldToPump:
    """Sleeps while the live stream is busy, a bounded time; after that a stretch of work is due all the same.

    ``is_busy`` tells whether the live stream has something to do, ``received`` how many events it has had so far.
    """

    def __init__(
        self,
        is_busy: Callable[[], object],
        received: Callable[[], int] = lambda: 0,
        *,
        sleep: Callable[[float], object] = time.sleep,
        now_s: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._is_busy = is_busy
        self._received = received
        self._seen = (0, 0.0)
        self._sleep = sleep
        self._now_s = now_s
        self._due_until_s = 0.0

    def __call__(self) -> None:
        """Return as soon as the live stream has nothing to do, at once when that is so."""
        if not self._is_busy() or self._now_s() < self._due_until_s:
            return
        for _ in range(NAPS):
            self._sleep(NAP_S)
            if not self._is_busy():
                return
        self._due_until_s = self._now_s() + DUE_S

    def is_rapid(self) -> bool:
        """Return whether `RAPID_PER_S` events came since the last call."""
        count, since_s = self._seen
        self._seen = (self._received(), self._now_s())
        return self._seen[0] - count > RAPID_PER_S * (self._seen[1] - since_s)


class WorkBudget:
    """Counts the time of one request. ``tick`` is to be called every few dozen microseconds of work.

    ``way`` makes way for the live stream; without one it rests.
    """

    def __init__(
        self,
        work_s: float,
        rest_s: float,
        is_stopping: Callable[[], bool] = lambda: False,
        way: YieldToPump | None = None,
        *,
        now_s: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._work_s = work_s
        self._rest_s = rest_s
        self._is_stopping = is_stopping
        self._way = way
        self._now_s = now_s
        self._sleep = sleep
        self._began_s = self._since_s = now_s()

    def begin(self) -> None:
        """Start the clock of a request."""
        self._began_s = self._since_s = self._now_s()

    def spent_s(self) -> float:
        """Return how long ago the request began, rests included."""
        return self._now_s() - self._began_s

    def tick(self) -> bool:
        """Make way, or rest if it is time to; return whether it rested for a rapid live stream.

        Raises Stopped when the thread is to end.
        """
        if self._way is not None:
            self._way()
        if self._now_s() - self._since_s < self._work_s:
            return False
        if self._is_stopping():
            raise Stopped
        is_rapid = self._way is not None and self._way.is_rapid()
        if is_rapid or self._way is None:
            self._sleep(self._rest_s)
        self._since_s = self._now_s()
        return is_rapid
