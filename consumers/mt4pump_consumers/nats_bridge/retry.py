"""What throws the durable lane back: it is begun anew from what the stream holds."""

from __future__ import annotations


class JetStreamRetry(Exception):
    """The text says what happened and, where there is something to do, what.

    ``is_quiet``: it belongs to the normal course (a daemon's restart, an answer in doubt), and is no cause for alarm.
    ``refused_id`` is the id of the one message that JetStream refused for its own sake; empty: it was something else.
    """

    def __init__(self, text: str, *, is_quiet: bool = False, refused_id: str = "") -> None:
        super().__init__(text)
        self.is_quiet = is_quiet
        self.refused_id = refused_id


class Backoff:
    """Waits between attempts, doubling up to ``limit_s``; `reset` after success."""

    def __init__(self, limit_s: float, first_s: float = 0.05) -> None:
        self._first_s = min(first_s, limit_s)
        self._limit_s = limit_s
        self._next_s = self._first_s

    def reset(self) -> None:
        """Start from the shortest wait again."""
        self._next_s = self._first_s

    def next_s(self) -> float:
        """Return how long to wait now."""
        now_s, self._next_s = self._next_s, min(self._next_s * 2, self._limit_s)
        return now_s
