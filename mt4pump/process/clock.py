"""Nanoseconds since 1970 with sub-millisecond resolution everywhere.

Windows' `time.time_ns` steps by 15.6 ms before Python 3.13: there the wall clock is carried forward by the performance
counter and pulled back to the wall clock by `anchor`, which the pump thread calls once a heartbeat.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

NowNs = Callable[[], int]
TOLERATED_DRIFT_NS = 30_000_000
"""Two steps of the coarse clock; a smaller difference is the coarse clock's own error."""


class CarriedClock:
    """Wall clock carried forward by a fine monotonic counter; ``wall`` and ``fine`` return nanoseconds."""

    def __init__(self, wall: NowNs = time.time_ns, fine: NowNs = time.perf_counter_ns) -> None:
        self._wall = wall
        self._fine = fine
        self._offset_ns = wall() - fine()

    def now_ns(self) -> int:
        """Return ns since 1970."""
        return self._fine() + self._offset_ns

    def anchor(self) -> None:
        """Follow the wall clock after it was set, or drifted."""
        difference_ns = self._wall() - self.now_ns()
        if abs(difference_ns) > TOLERATED_DRIFT_NS:
            self._offset_ns += difference_ns


PROVEN_EXTRA = 24.0
"""After a jump ahead of the wall clock, the proven time catches up by so many seconds in each second."""


class ProvenClock:
    """Wall-clock time for deleting by age; after a jump ahead it follows only slowly.

    A clock that jumped ahead may be wrong, or the machine was off: both look the same. So the proven time follows the
    wall clock at ``1 + extra`` seconds per second of the monotonic clock ``now_s``, from ``start_ns`` on, and is never
    ahead of the wall clock. `proven_ns` never decreases, so that nothing has to be caught up after the clock was set
    back for a while. ``ahead_s`` is how far the wall clock is ahead of the proven time.
    """

    def __init__(self, start_ns: int, now_ns: NowNs, now_s: Callable[[], float], extra: float = PROVEN_EXTRA) -> None:
        self.proven_ns = start_ns
        self.ahead_s = 0.0
        self._now_ns = now_ns
        self._now_s = now_s
        self._rate_ns = (1.0 + extra) * 1e9
        self._read_at_s = now_s()

    def read(self) -> int:
        """Return ns since 1970."""
        now_ns, now_s = self._now_ns(), self._now_s()
        reach_ns = self.proven_ns + int(max(0.0, now_s - self._read_at_s) * self._rate_ns)
        self._read_at_s = now_s
        self.proven_ns = max(self.proven_ns, min(now_ns, reach_ns))
        self.ahead_s = max(0, now_ns - self.proven_ns) / 1e9
        return min(now_ns, self.proven_ns)


def wall_clock(
    platform: str = sys.platform, version: tuple[int, ...] = sys.version_info[:2]
) -> tuple[NowNs, Callable[[], None]]:
    """Return the ``now_ns`` to stamp events with, and the ``anchor`` to call about once a second."""
    if platform == "win32" and version < (3, 13):
        carried = CarriedClock()
        return carried.now_ns, carried.anchor
    return time.time_ns, lambda: None  # the system's clock is fine enough
