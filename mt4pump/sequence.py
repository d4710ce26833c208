"""The check of sequence numbers by a reader: a gap in the numbers of a topic is a provable loss; pure."""

from __future__ import annotations

TOPICS_LIMIT = 1_000_000
"""Topics that a reader tracks; beyond it the older half is dropped."""


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
