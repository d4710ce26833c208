"""What everybody in the simulated world shares: its clock, its chance, its ear."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from threading import Lock, get_ident

MAX_LAG_S = 1.0


class Schedule:
    """Ties positions of a schedule (seconds) to a clock that the caller reads (seconds).

    The first question after the start or a `pause` makes its position due now. Later deadlines are counted from there,
    so small delays are caught up. More than ``max_lag_s`` behind, the schedule slips: ``slips`` counts how often,
    ``slipped_s`` how much was given up.
    """

    def __init__(self, max_lag_s: float = MAX_LAG_S) -> None:
        self._max_lag_s = max_lag_s
        self._zero_s: float | None = None
        self.slips = 0
        self.slipped_s = 0.0

    def wait_s(self, position_s: float, now_s: float) -> float:
        """Return seconds until ``position_s`` is due; 0 when it is."""
        if self._zero_s is None:
            self._zero_s = now_s - position_s
        late_s = now_s - self._zero_s - position_s
        if late_s > self._max_lag_s:
            self._zero_s += late_s
            self.slips += 1
            self.slipped_s += late_s
            return 0.0
        return max(0.0, -late_s)

    def position_s(self, now_s: float) -> float | None:
        """Return the position that is due at ``now_s``; None before the first question."""
        return None if self._zero_s is None else now_s - self._zero_s

    def pause(self) -> None:
        """Forget the deadlines: the next question is due at once, whenever it comes."""
        self._zero_s = None


class FairLock:
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


Emit = Callable[[int, int, bytes], None]
"""Takes one event of the simulated server: ``(code, action, data)``."""


class SimulatedClock:
    """UTC seconds of the simulated world (``now_s``), and what its server's clock shows."""

    __slots__ = ("now_s", "server_utc_offset_s")

    def __init__(self, now_s: float, server_utc_offset_s: int) -> None:
        self.now_s = now_s
        self.server_utc_offset_s = server_utc_offset_s

    @property
    def server_time_s(self) -> int:
        """Return whole seconds since 1970 on the server's clock."""
        return int(self.now_s) + self.server_utc_offset_s

    @property
    def server_day(self) -> int:
        """Return the day on the server's clock, counted from 1970."""
        return self.server_time_s // 86_400


@dataclass(slots=True)
class Context:
    """Clock, source of all chance, taker of all events, and code page of one simulated world."""

    clock: SimulatedClock
    random: Random
    emit: Emit
    encoding: str
