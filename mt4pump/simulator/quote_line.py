"""The quotes that wait for the reader: every one, in order.

Why it is safe without a lock: one thread appends and one takes, and a deque's ends are each one C call. The bound is
kept by the feed, which asks for room before it appends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection

from mt4pump.simulator.market import NAME_BYTES

QUOTES_PER_CALL = 256


class QuoteLine:
    """First in, first out, of SymbolInfo bytes. ``wake`` is called when the feed waits and there is room again."""

    def __init__(self, limit: int, wake: Callable[[], None]) -> None:
        self.limit = limit
        self.unread = 0
        """Quotes that nobody read: their symbol was not selected, or the session had gone."""
        self._line: deque[bytes] = deque()
        self._wake = wake
        self._low = limit // 2
        self._is_waited_for = False
        self.put = self._line.append

    def __len__(self) -> int:
        return len(self._line)

    def has_room(self, quotes: int) -> bool:
        """Return whether ``quotes`` more fit in; if not, ``wake`` is called once half of the line is gone."""
        fits = len(self._line) + quotes <= self.limit
        self._is_waited_for = not fits
        return fits

    def take(self, selected: Collection[bytes]) -> bytes:
        """Return up to `QUOTES_PER_CALL` records of ``selected`` symbols (raw names), empty when there is none left."""
        taken: list[bytes] = []
        pop = self._line.popleft
        try:
            for _ in range(self.limit):
                quote = pop()
                if quote[:NAME_BYTES] in selected:
                    taken.append(quote)
                    if len(taken) == QUOTES_PER_CALL:
                        break
                else:
                    self.unread += 1
        except IndexError:
            pass  # the line is empty
        if self._is_waited_for and len(self._line) <= self._low:
            self._is_waited_for = False
            self._wake()
        return b"".join(taken)

    def clear(self) -> None:
        """Throw away what waits."""
        self.unread += len(self._line)
        self._line.clear()
