"""Finds a thread that hangs: a call into the DLL that never returns raises nothing and ends nothing."""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections.abc import Callable, Hashable, Mapping
from threading import Thread

from mt4pump.errors import HangError

CHECK_GAP_MAX_S = 1.0
"""The time between two checks counts as this at most: no thread runs while machine or process is suspended."""

log = logging.getLogger(__name__)


class HangDetector:
    """Checks the progress of threads; one whose progress does not change for ``limit_s`` hangs. 0 is no limit."""

    def __init__(self, limit_s: float, now_s: Callable[[], float] = time.monotonic) -> None:
        self._limit_s = limit_s
        self._now_s = now_s
        self._checked_at_s = now_s()
        self._still: dict[Thread, tuple[Hashable, float]] = {}

    def check(self, progress: Mapping[Thread, Hashable | None]) -> HangError | None:
        """Return the error of the first thread that hangs; None if there is none.

        A thread's progress is a value that changes as it works, and None while it may be idle (it waits, it has
        ended). The stack of a thread that hangs is logged.
        """
        now_s = self._now_s()
        passed_s, self._checked_at_s = min(now_s - self._checked_at_s, CHECK_GAP_MAX_S), now_s
        for thread, value in progress.items():
            seen, still_s = self._still.get(thread, (None, 0.0))
            still_s = still_s + passed_s if value is not None and value == seen else 0.0
            self._still[thread] = value, still_s
            if 0 < self._limit_s <= still_s:
                text = f"the {thread.name} thread made no progress for {still_s:.0f} s (limit: hang_timeout_s) in "
                return HangError(text + _place(thread))
        return None


def _place(thread: Thread) -> str:
    """Return where ``thread`` is; log its whole stack."""
    frame = sys._current_frames().get(thread.ident or 0)  # noqa: SLF001 - documented, and the only way to see it
    if frame is None:
        return "a place that is not known"
    stack = traceback.extract_stack(frame)
    log.error("the stack of the %s thread:\n%s", thread.name, "".join(traceback.format_list(stack)).rstrip())
    last = stack[-1]
    return f"{last.name} ({last.filename}:{last.lineno})"
