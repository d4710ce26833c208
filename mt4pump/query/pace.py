"""Work in short stretches, so that the live stream's thread never waits long for the interpreter.

Python lets one thread run at a time. A thread that wants to run while another works waits for a whole switch interval,
and does so after every call that lets go of the interpreter, as each send does. So long work stops of itself now and
then, for long enough that the others really get in: letting go without a pause is taken back before they woke up. While
nothing happens on the live stream there is nobody to wait for.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class Stopped(Exception):
    """The thread was told to stop in the middle of its work."""


class Pace:
    """Counts the time of one request. ``tick`` is to be called every few dozen microseconds of work.

    ``live`` counts what happened on the live stream; without it something always does.
    """

    def __init__(
        self,
        work_s: float,
        rest_s: float,
        is_stopping: Callable[[], bool] = lambda: False,
        live: Callable[[], int] | None = None,
        *,
        now_s: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._work_s = work_s
        self._rest_s = rest_s
        self._is_stopping = is_stopping
        self._live = live
        self._live_seen = -1
        self._now_s = now_s
        self._sleep = sleep
        self._began_s = self._since_s = now_s()

    def begin(self) -> None:
        """Start the clock of a request."""
        self._began_s = self._since_s = self._now_s()

    def spent_s(self) -> float:
        """Return how long ago the request began, rests included."""
        return self._now_s() - self._began_s

    def tick(self) -> None:
        """Rest if it is time to; raises Stopped when the thread is to end."""
        if self._now_s() - self._since_s < self._work_s:
            return
        if self._is_stopping():
            raise Stopped
        live = self._live() if self._live is not None else None
        if live is None or live != self._live_seen:
            self._sleep(self._rest_s)
        self._live_seen = live or 0
        self._since_s = self._now_s()
