"""A publisher that loses, repeats, holds back and swallows messages, as `mt4pump.publisher.faults` says.

For people who write subscribers, with the simulator only. What goes wrong goes wrong behind numbering and journal, on
the way out: so ``seq`` proves each loss, and a replay has what was lost.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from random import Random

import zmq

from mt4pump.log import FaultCounters
from mt4pump.publisher.binding import SocketOptions
from mt4pump.publisher.faults import WireFaults
from mt4pump.publisher.frames import ConnectionGate
from mt4pump.publisher.publisher import Publisher
from mt4pump.wire import FIRST

HELD_LIMIT = 200_000
"""Messages that a slow wire holds; what comes beyond is lost, and counted."""


@dataclass(slots=True)
class WireFaultCounters:
    """What the faults did to messages so far, over all lives of the daemon."""

    wire_dropped: int = 0
    wire_duplicated: int = 0
    wire_muted: int = 0
    wire_held: int = 0
    wire_overflown: int = 0

    def counters(self) -> dict[str, int]:
        """Return them for the heartbeat's ``source``."""
        return asdict(self)


class FaultyPublisher(Publisher):
    """A `Publisher` with faults. ``tally`` counts them; ``seed`` makes a run's chance the same each time."""

    counts_large = False  # what is held back here is not libzmq's

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        options: SocketOptions,
        gate: ConnectionGate | None = None,
        fault_counters: FaultCounters | None = None,
        *,
        faults: WireFaults,
        tally: WireFaultCounters,
        seed: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._faults = faults
        self._tally = tally
        self._random = Random(seed).random  # noqa: S311 - chance, no secret
        self._clock = clock
        self._began_s = clock()
        self._topic = b""
        self._held: deque[tuple[float, bytes, bytes]] = deque()
        super().__init__(context, endpoint, options, gate, fault_counters)

    def read_subscriptions(self) -> bool:
        """Send what was held back long enough, then look as any publisher does."""
        self._release(self._clock())
        return super().read_subscriptions()

    def close(self) -> None:
        """Send what is held back, then close."""
        self._release(float("inf"))
        super().close()

    def _open(self) -> None:
        super()._open()
        self._send_raw = self.send_frame
        self.send_frame = self._send_frame

    def _send_frame(self, data: bytes, flags: int = 0, /) -> None:
        """Take one frame of a message; its last one decides what becomes of it."""
        if flags & zmq.SNDMORE:
            self._topic = data
            return
        faults, tally, now_s = self._faults, self._tally, self._clock()
        if faults.is_mute(now_s - self._began_s):
            tally.wire_muted += 1
        elif faults.drop and self._random() < faults.drop:
            tally.wire_dropped += 1
        else:
            self._send_or_hold(now_s, self._topic, data)
            if faults.duplicate and self._random() < faults.duplicate:
                tally.wire_duplicated += 1
                self._send_or_hold(now_s, self._topic, data)

    def _send_or_hold(self, now_s: float, topic: bytes, body: bytes) -> None:
        """Send a message, or hold it back."""
        if not self._faults.slow_s:
            self._send_now(topic, body)
        elif len(self._held) >= HELD_LIMIT:
            self._tally.wire_overflown += 1
        else:
            self._tally.wire_held += 1
            self._held.append((now_s + self._faults.slow_s, topic, body))
        self._release(now_s)

    def _release(self, now_s: float) -> None:
        while self._held and self._held[0][0] <= now_s:
            _, topic, body = self._held.popleft()
            self._send_now(topic, body)

    def _send_now(self, topic: bytes, body: bytes) -> None:
        try:
            self._send_raw(topic, FIRST)
        except self.full:
            self.send_frame = self._send_raw  # past the faults: this message has met them
            try:
                self.resend(topic, body)
            finally:
                self.send_frame = self._send_frame
        else:
            self._send_raw(body)
