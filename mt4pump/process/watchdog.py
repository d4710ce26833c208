"""Finds a thread that stands still: a call into the DLL that never comes back raises nothing and ends nothing."""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections.abc import Callable, Hashable, Mapping
from threading import Thread

from mt4pump.errors import HangError

LONGEST_LOOK_S = 1.0
"""What the time between two looks counts at most: while the machine sleeps, or this process is stopped, no thread can
go on, and none is to blame."""

log = logging.getLogger(__name__)


class HangDetector:
    """Looks at threads, over and over; one that shows the same mark for ``limit_s`` stands still. 0 is no limit."""

    def __init__(self, limit_s: float, now_s: Callable[[], float] = time.monotonic) -> None:
        self._limit_s = limit_s
        self._now_s = now_s
        self._looked_at_s = now_s()
        self._still: dict[Thread, tuple[Hashable, float]] = {}

    def check(self, marks: Mapping[Thread, Hashable | None]) -> HangError | None:
        """Return what is wrong with the first thread that stands still; None when all go on.

        A thread's mark is to be another one whenever it went on, and None while it may stand still (it waits, it has
        ended). Where it stands goes to the log.
        """
        now_s = self._now_s()
        passed_s, self._looked_at_s = min(now_s - self._looked_at_s, LONGEST_LOOK_S), now_s
        for thread, mark in marks.items():
            seen, still_s = self._still.get(thread, (None, 0.0))
            still_s = still_s + passed_s if mark is not None and mark == seen else 0.0
            self._still[thread] = mark, still_s
            if 0 < self._limit_s <= still_s:
                return HangError(
                    f"the {thread.name} thread has stood still for {still_s:.0f} s (hang_timeout_s) in {_place(thread)}"
                )
        return None


def _place(thread: Thread) -> str:
    """Return where ``thread`` is, and write its whole stack into the log."""
    frame = sys._current_frames().get(thread.ident or 0)  # noqa: SLF001 - documented, and the only way to see it
    if frame is None:
        return "a place that is not known"
    stack = traceback.extract_stack(frame)
    log.error("where the %s thread stands:\n%s", thread.name, "".join(traceback.format_list(stack)).rstrip())
    last = stack[-1]
    return f"{last.name} ({last.filename}:{last.lineno})"
