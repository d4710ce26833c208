"""How far the server's clock is from UTC, inferred from live quotes; pure.

A quote's ``lasttime`` is whole seconds on the server's clock, which runs some whole number of quarters of an hour
beside UTC. A fresh quote is seconds old, so the nearest quarter is the offset, once enough quotes agree.
"""

from __future__ import annotations

QUARTER_S = 900
TOLERANCE_S = 120.0
"""A quote may be this old, or the server's clock this wrong, and still tell the quarter."""
LARGEST_OFFSET_S = 14 * 3600
AGREEMENTS = 5
"""Different seconds in a row that must tell the same offset before it is believed (also when it changes)."""


class ServerClock:
    """Server time minus UTC. ``offset_s`` is None until known; ``fixed_s`` sets it and nothing is inferred."""

    def __init__(self, fixed_s: int | None = None) -> None:
        self.offset_s = fixed_s
        self._fixed = fixed_s is not None
        self._last_time_s: int | None = None
        self._candidate_s: int | None = None
        self._agreed = 0

    def observe(self, lasttime_s: int, ts: int) -> None:
        """Take the newest ``lasttime`` of a batch of quotes and the ``ts`` (ns since 1970) it was received at.

        Only a ``lasttime`` that moved tells anything: the first one may be hours old on a quiet day.
        """
        before, self._last_time_s = self._last_time_s, lasttime_s
        if self._fixed or before is None or lasttime_s <= before:
            return
        difference_s = lasttime_s - ts / 1e9
        offset_s = round(difference_s / QUARTER_S) * QUARTER_S
        if abs(difference_s - offset_s) > TOLERANCE_S or abs(offset_s) > LARGEST_OFFSET_S:
            self._candidate_s, self._agreed = None, 0
            return
        self._agreed = self._agreed + 1 if offset_s == self._candidate_s else 1
        self._candidate_s = offset_s
        if self._agreed >= AGREEMENTS:
            self.offset_s = offset_s
