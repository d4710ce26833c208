"""What went wrong, counted by name, and logged at most once a minute each: never one line per event."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable

QUIET_S = 60.0


class Complaints:
    """Counters of faults; ``counts`` is what the heartbeat shows. Names are few and fixed."""

    def __init__(self, log: logging.Logger, now_s: Callable[[], float] = time.monotonic) -> None:
        self.counts: Counter[str] = Counter()
        self._log = log
        self._now_s = now_s
        self._quiet_until_s: dict[str, float] = {}
        self._told: Counter[str] = Counter()

    def add(self, name: str, text: object) -> None:
        """Count a fault of kind ``name``; log ``text`` unless the same kind was logged within the last minute."""
        self.counts[name] += 1
        now_s = self._now_s()
        if now_s < self._quiet_until_s.get(name, 0.0):
            return
        self._quiet_until_s[name] = now_s + QUIET_S
        unseen = self.counts[name] - self._told[name] - 1
        self._told[name] = self.counts[name]
        more = f" ({unseen} more since the last such line)" if unseen else ""
        self._log.warning("%s: %s%s", name, text, more)
