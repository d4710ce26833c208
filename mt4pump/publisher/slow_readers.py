"""Subscribers that read too slowly: what they lose, and a limit of the bytes that are kept for them.

libzmq limits only the number of messages, and a body may have 15 MiB (news, mail, groups). So bodies above
`LARGE_BYTES` are handed over without a copy and with a tracker, which shows when no queue holds them any more. Beyond
`WAITING_BYTES_LIMIT` the connections with unsent bytes at every check for `STALLED_S` are closed; where there is none,
or the system does not report it (only Linux does), the body is sent to nobody: a gap in ``seq``.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import zmq

from mt4pump.publisher.descriptors import UNSENT, queued_bytes

LARGE_BYTES = 8_192
WAITING_BYTES_LIMIT = 128 * 1024 * 1024
STALLED_S = 3.0


@dataclass(slots=True)
class SlowReaders:
    """``messages``: those at which a subscriber's queue was newly full (ARCHITECTURE, "The publishing socket").

    ``moments``: times that this began after a second without; ``last_ts``: the last time, ns since 1970, 0 for never.
    ``large_bytes`` are those of large bodies in queues, ``large_dropped`` large bodies that were not sent because
    there were too many of these. The heartbeat's ``slow_readers``.
    """

    messages: int = 0
    moments: int = 0
    last_ts: int = 0
    large_bytes: int = 0
    large_dropped: int = 0


class LargeBodies:
    """The large bodies that some queue still holds, and the connections that accept nothing meanwhile."""

    def __init__(self, slow: SlowReaders) -> None:
        self._slow = slow
        self._waiting: deque[tuple[zmq.MessageTracker, int]] = deque()
        self._stalled_since_s: dict[int, float] = {}

    def frame(self, body: bytes) -> zmq.Frame:
        """Return ``body`` as a frame that is counted until no queue holds it."""
        frame = zmq.Frame(body, track=True, copy=False, copy_threshold=0)
        assert isinstance(frame.tracker, zmq.MessageTracker)  # noqa: S101 - it was requested
        self._waiting.append((frame.tracker, len(body)))
        self._slow.large_bytes += len(body)
        return frame

    def fits(self, size: int) -> bool:
        """Return whether a body of ``size`` bytes may wait beside the others. A large one alone always may."""
        self.settle()
        return not self._waiting or self._slow.large_bytes + size <= WAITING_BYTES_LIMIT

    def settle(self) -> None:
        """Forget the bodies that no queue holds any more."""
        self._waiting = deque((tracker, size) for tracker, size in self._waiting if not tracker.done)
        self._slow.large_bytes = sum(size for _, size in self._waiting)

    def check_stalled(self, numbers: Iterable[int]) -> None:
        """Check which of the connections have unsent bytes."""
        now_s, since_s = time.monotonic(), self._stalled_since_s
        stalled = (number for number in numbers if queued_bytes(number, UNSENT))
        self._stalled_since_s = {number: since_s.get(number, now_s) for number in stalled}

    def stalled(self) -> tuple[int, ...]:
        """Return the connections that had unsent bytes at every check for a while."""
        limit_s = time.monotonic() - STALLED_S
        return tuple(number for number, since_s in self._stalled_since_s.items() if since_s <= limit_s)

    def remove(self, number: int) -> None:
        """Forget a connection that ended."""
        self._stalled_since_s.pop(number, None)
