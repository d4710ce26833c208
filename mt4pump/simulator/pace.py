"""Absolute deadlines: a schedule that does not drift, and does not race after a long pause; pure."""

from __future__ import annotations

MAX_LAG_S = 1.0


class Pace:
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
