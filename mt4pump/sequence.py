"""Sequence numbers per topic, and the check of a reader that finds gaps in them; pure."""

from __future__ import annotations

TOPICS_LIMIT = 1_000_000
"""Topics that a reader tracks; beyond it the older half is dropped."""


class Numbering:
    """Numbers the events of each topic 1, 2, 3 … within one run of the daemon (its ``epoch``)."""

    def __init__(self) -> None:
        self._last: dict[bytes, int] = {}

    def next(self, topic: bytes) -> int:
        """Return the next number of ``topic``."""
        number = self._last.get(topic, 0) + 1
        self._last[topic] = number
        return number

    def forget(self, topic: bytes) -> None:
        """Drop a topic that never comes again."""
        self._last.pop(topic, None)

    def last(self, topic: bytes) -> int:
        """Return the last number given to ``topic``, 0 before the first."""
        return self._last.get(topic, 0)

    def all(self) -> dict[bytes, int]:
        """Return a copy of the last number of every topic."""
        return self._last.copy()


class GapDetector:
    """Checks the sequence numbers that a reader receives.

    The first message of a topic sets its baseline: nothing before it counts as missed. So does the first one of a new
    epoch: durable offsets show what was lost around a restart of the daemon.
    """

    def __init__(self) -> None:
        self.gaps = 0
        self.missed = 0
        self.repeats = 0
        self._last: dict[bytes, tuple[int, int]] = {}

    def accept(self, topic: bytes, epoch: int, seq: int) -> int:
        """Return how many messages of ``topic`` are missing before this one; -1 for one seen before."""
        before = self._last.get(topic)
        if before is not None and before[0] == epoch:
            if seq <= before[1]:
                self.repeats += 1
                return -1
            missed = seq - before[1] - 1
        else:
            missed = 0
        if before is None and len(self._last) >= TOPICS_LIMIT:
            for known in list(self._last)[: TOPICS_LIMIT // 2]:
                del self._last[known]
        self._last[topic] = (epoch, seq)
        if missed:
            self.gaps += 1
            self.missed += missed
        return missed
