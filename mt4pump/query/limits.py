"""Options of the query endpoint, and long work in slices, so that the pump thread never waits long for the interpreter.

Python runs one thread at a time. The pump thread releases the interpreter at every send, tens of times per batch; a
thread that works meanwhile takes it each time, and handing it back costs far more than the send. So long work checks
every few dozen microseconds whether the pump is busy, and sleeps until it is not (`YieldToPump`). Beside a rapid stream
it also rests: the reader of its result needs a core, too, and there may be only two.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QueryOptions:
    """Bounds of the query endpoint."""

    # ---- sockets and requests ----
    sndhwm: int = 16  # replies that libzmq keeps of one connection
    rcvhwm: int = 3  # requests that libzmq keeps of one connection before it stops reading
    max_request_bytes: int = 65_536
    max_prefixes: int = 256  # of one request
    # ---- one page ----
    page_rows: int = 1_000  # where the request has no `limit`
    limit_rows: int = 10_000  # the greatest `limit`
    page_bytes: int = 2**20  # a page ends above this
    page_s: float = 0.05  # or after this time of work
    slice_rows: int = 500  # rows of the journal that are read at a time
    # ---- work and rest of the query thread ----
    work_s: float = 0.0002  # it works so long
    rest_s: float = 0.005  # then it rests so long, beside a rapid stream
    snapshot_rest_s: float = 0.0001  # the same amid a snapshot, as its client waits for it
    flood_rests: float = 0.5  # under a flood it rests so many times as long as it worked
    # ---- snapshots ----
    snapshot_wait_s: float = 2.0  # within this time the pump must make one
    snapshots_held: int = 8  # in all
    snapshots_per_client: int = 4
    snapshots_per_connection: int = 2
    snapshot_idle_s: float = 30.0  # kept so long after the last read
    snapshot_evictable_s: float = 2.0  # the same, where another one needs its place
    snapshot_old_s: float = 15.0  # there, kept so long in all, however often it is read
    # ---- queued requests ----
    waiting_limit: int = 128  # of one connection
    waiting_bytes: int = 2**18  # of one connection
    waiting_bytes_total: int = 2**23
    waiting_s: float = 5.0  # a request that waits longer is refused
    # ---- replies that clients have not read ----
    unread_bytes_short: int = 2**18  # short replies, per connection
    unread_bytes_per_client: int = 2**24
    unread_bytes: int = 2**26  # of all
    unread_s: float = 30.0  # who reads none for so long is disconnected
    # ---- connections ----
    connections_limit: int = 512  # above so many, the longest idle ones are closed
    connections_per_client: int = 256  # the same of one client
    silent_s: float = 10.0  # one that sends no request for so long is closed


NAP_S, NAPS = 0.0002, 10
"""How long, and how often in a row, long work sleeps while the pump is busy."""
RAPID_PER_S = 1_000.0
"""Events per second from which on a stream is rapid."""
DUE_S = 0.0005
"""How long it works after that: a fifth of the time, even if the pump never becomes idle."""


class Stopped(Exception):
    """The thread was stopped amid its work."""


class YieldToPump:
    """Sleeps while the pump is busy, for a bounded time; ``received`` returns how many events the pump has received."""

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
        """Return as soon as the pump is idle, or when work is due nevertheless."""
        if not self._is_busy() or self._now_s() < self._due_until_s:
            return
        for _ in range(NAPS):
            self._sleep(NAP_S)
            if not self._is_busy():
                return
        self._due_until_s = self._now_s() + DUE_S

    def is_rapid(self) -> bool:
        """Return whether events came at `RAPID_PER_S` or faster since the last call."""
        count, since_s = self._seen
        self._seen = (self._received(), self._now_s())
        return self._seen[0] - count > RAPID_PER_S * (self._seen[1] - since_s)


class WorkBudget:
    """Measures the time of one request, yields to the pump, and beside a rapid stream rests after each ``work_s``.

    ``rest_s`` is how long it rests.
    """

    def __init__(
        self,
        work_s: float,
        rest_s: float,
        yield_to_pump: YieldToPump,
        is_stopping: Callable[[], bool] = lambda: False,
        *,
        now_s: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._work_s = work_s
        self.rest_s = rest_s
        self._yield_to_pump = yield_to_pump
        self._is_stopping = is_stopping
        self._now_s = now_s
        self._sleep = sleep
        self.begin()

    def begin(self) -> None:
        """Start the clock of a request."""
        self._began_s = self._since_s = self._now_s()

    def spent_s(self) -> float:
        """Return how long ago the request began, rests included."""
        return self._now_s() - self._began_s

    def tick(self) -> bool:
        """Yield or rest when it is time to; return whether it rested. Raises Stopped.

        To be called every few dozen microseconds of work.
        """
        self._yield_to_pump()
        if self._now_s() - self._since_s < self._work_s:
            return False
        if self._is_stopping():
            raise Stopped
        is_rapid = self._yield_to_pump.is_rapid()
        if is_rapid:
            self._sleep(self.rest_s)
        self._since_s = self._now_s()
        return is_rapid
