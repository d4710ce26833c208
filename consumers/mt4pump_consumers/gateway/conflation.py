"""At most one value per interval and key, and always the last one; pure.

The first value of a quiet key goes at once. Those that follow within the interval wait, each in place of the one
before, until the next `due`. All keys that are busy come due together: a reader of many symbols gets one write, not
one per symbol.
"""

from __future__ import annotations

from typing import Generic, TypeVar

Value = TypeVar("Value")

EARLY_S = 1e-6
"""So much too soon is on time: an event loop fires within its clock's resolution, and times are sums of floats."""


class Conflation(Generic[Value]):
    """``hot`` holds every key that was sent within the last interval, with the value that waits (None: none)."""

    def __init__(self, interval_s: float) -> None:
        self.interval_s = interval_s
        self.hot: dict[str, Value | None] = {}
        self.replaced = 0
        self._sent_at_s: dict[str, float] = {}

    def offer(self, key: str, value: Value, now_s: float) -> bool:
        """Take a value; return whether it is to be sent now."""
        if key in self.hot:
            self.replaced += self.hot[key] is not None
            self.hot[key] = value
            return False
        self.hot[key] = None
        self._sent_at_s[key] = now_s
        return True

    def due(self, now_s: float) -> list[Value]:
        """Return the values whose wait is over; keys with none become quiet."""
        latest_s = now_s - self.interval_s + EARLY_S
        values = []
        for key in [key for key in self.hot if self._sent_at_s[key] <= latest_s]:
            value = self.hot[key]
            if value is None:
                del self.hot[key], self._sent_at_s[key]
            else:
                self.hot[key] = None
                self._sent_at_s[key] = now_s
                values.append(value)
        return values
