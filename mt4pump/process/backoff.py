"""How long to wait between attempts of what fails; pure. A file of its own: daemon and consumers use it."""

from __future__ import annotations


class Backoff:
    """Waits from ``first_s`` on, doubled up to ``limit_s``; `reset` after success. ``upcoming_s`` is the next one."""

    def __init__(self, first_s: float, limit_s: float) -> None:
        self._first_s = self.upcoming_s = min(first_s, limit_s)
        self._limit_s = limit_s

    def reset(self) -> None:
        """Start from the shortest wait again."""
        self.upcoming_s = self._first_s

    def next_s(self) -> float:
        """Return how long to wait now; the next one is twice as long."""
        now_s, self.upcoming_s = self.upcoming_s, min(self.upcoming_s * 2, self._limit_s)
        return now_s
