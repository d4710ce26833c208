"""Subscribers that read too slowly: what they lose, and a bound in bytes on what is kept for them.

libzmq keeps up to ``sndhwm`` *messages* per subscriber, whatever their size, and a body may have 15 MiB (news, mail,
groups). So bodies above `LARGE_BYTES` are handed over without a copy and with a tracker, which tells when no queue
holds them any more: their bytes are known. Beyond `WAITING_BYTES_LIMIT` the connections end that hold them: those for
which the system has had unsent bytes at every look for `STALLED_S`. Where the system does not tell (only Linux does),
or nobody stalls, the body is not sent to anybody: a gap in ``seq``, which a replay fills.
"""

from __future__ import annotations

import struct
import sys
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import zmq

if sys.platform == "linux":
    import fcntl

SIOCOUTQNSD = 0x894B
"""Linux: how many bytes of a socket's queue were not sent yet."""
LARGE_BYTES = 8_192
WAITING_BYTES_LIMIT = 128 * 1024 * 1024
STALLED_S = 3.0


@dataclass(slots=True)
class SlowReaders:
    """``messages``: those at which a subscriber's queue was found to be newly full (see the publisher's text).

    ``moments``: times that this began after a second without; ``last_ts``: the last time, ns since 1970, 0 for never.
    ``large_bytes`` are those of large bodies that wait for somebody, ``large_dropped`` large bodies that were not sent
    as there were too many of these.
    """

    messages: int = 0
    moments: int = 0
    last_ts: int = 0
    large_bytes: int = 0
    large_dropped: int = 0

    def counters(self) -> dict[str, int]:
        """Return the heartbeat's ``slow_readers``."""
        return asdict(self)


class LargeBodies:
    """The large bodies that some queue still holds; ``slow.large_bytes`` are their bytes."""

    def __init__(self, slow: SlowReaders) -> None:
        self._slow = slow
        self._waiting: deque[tuple[zmq.MessageTracker, int]] = deque()

    def frame(self, body: bytes) -> zmq.Frame:
        """Return ``body`` as a frame that is known to wait until no queue holds it."""
        frame = zmq.Frame(body, track=True, copy=False, copy_threshold=0)
        assert isinstance(frame.tracker, zmq.MessageTracker)  # noqa: S101 - it was asked for
        self._waiting.append((frame.tracker, len(body)))
        self._slow.large_bytes += len(body)
        return frame

    def fits(self, size: int) -> bool:
        """Return whether a body of ``size`` bytes may wait beside the others. A large one alone always may."""
        self.settle()
        return not self._waiting or self._slow.large_bytes + size <= WAITING_BYTES_LIMIT

    def settle(self) -> None:
        """Forget those that nobody waits for any more."""
        left = deque((tracker, size) for tracker, size in self._waiting if not tracker.done)
        self._waiting = left
        self._slow.large_bytes = sum(size for _, size in left)


class StalledConnections:
    """Which connections take nothing, by the system's own queue for each; looked at while large bodies wait."""

    def __init__(self) -> None:
        self._since_s: dict[int, float] = {}

    def check(self, numbers: Iterable[int]) -> None:
        """Look at every connection."""
        now_s = time.monotonic()
        self._since_s = {number: self._since_s.get(number, now_s) for number in numbers if unsent_bytes(number)}

    def stalled(self) -> tuple[int, ...]:
        """Return those that had unsent bytes at every look for a while."""
        limit_s = time.monotonic() - STALLED_S
        return tuple(number for number, since_s in self._since_s.items() if since_s <= limit_s)

    def remove(self, number: int) -> None:
        """Forget a connection that ended."""
        self._since_s.pop(number, None)


def unsent_bytes(number: int) -> int:
    """Return how many bytes the system has not sent yet over the descriptor ``number``; 0 where it does not tell."""
    if sys.platform != "linux":
        return 0
    try:
        return int(struct.unpack("i", fcntl.ioctl(number, SIOCOUTQNSD, b"\0\0\0\0"))[0])
    except OSError:
        return 0
