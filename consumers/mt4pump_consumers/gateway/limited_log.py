"""Log lines that strangers can cause, at a bounded rate."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

LINES = 20
INTERVAL_S = 10.0


class LimitedLog:
    """At most `LINES` lines of one text in `INTERVAL_S`; how many were left out is said with the next one."""

    def __init__(self, log: logging.Logger, now_s: Callable[[], float] = time.monotonic) -> None:
        self._log, self._now_s = log, now_s
        self._counts: dict[str, int] = {}
        self._until_s: dict[str, float] = {}

    def write(self, level: int, text: str, *values: object) -> None:
        """Log one line; ``text`` is one of ours, what comes from outside stands in ``values``."""
        now_s = self._now_s()
        count = self._counts.get(text, 0)
        if now_s >= self._until_s.get(text, 0.0):
            if count > LINES:
                self._log.log(level, "%d more lines like the next one were left out", count - LINES)
            self._until_s[text], count = now_s + INTERVAL_S, 0
        self._counts[text] = count + 1
        if count < LINES:
            self._log.log(level, text, *values)
