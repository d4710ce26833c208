"""A socket that loses, repeats, delays and suppresses messages on demand, for people who write subscribers.

With the simulator only; how the faults are written is in `mt4pump.settings.wire_faults`.
Messages are lost after they were numbered and stored, on the way out: so ``seq`` proves each loss, and a replay has
what was lost. A subscriber that is right detects every fault: a restart by ``epoch``, a mute wire by its silence.
With ``slow`` the large bodies that are held count as waiting for readers (PROTOCOL 12).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any

import zmq

from mt4pump.publisher.binding import DirectSocket
from mt4pump.settings.wire_faults import WireFaults
from mt4pump.wire import FIRST

HELD_LIMIT = 200_000
"""Messages that a socket holds; further ones are lost, and counted."""


@dataclass(slots=True)
class WireFaultCounters:
    """What the faults did to messages, over all runs of the daemon in this process; for the heartbeat's ``source``."""

    wire_dropped: int = 0
    wire_duplicated: int = 0
    wire_muted: int = 0
    wire_held: int = 0
    wire_overflown: int = 0


class FaultySocket(DirectSocket):
    """A publishing socket with ``faults``. ``tally`` counts them; the same ``seed`` gives the same faults.

    A message that a full queue does not accept is held: the next `send` raises zmq.Again, as that of any socket does,
    and it is sent once the queue accepts it, or XPUB_NODROP is switched off.
    """

    # Declared, because pyzmq takes any other attribute for an option of libzmq.
    faults: WireFaults
    _tally: WireFaultCounters
    _random: Callable[[], float]
    _clock: Callable[[], float]
    _began_s: float
    _topic: bytes
    _held: deque[tuple[float, bytes, Any, bool]]
    """When to send a message, its topic, its body and whether to copy that."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        kind: int,
        *,
        faults: WireFaults,
        tally: WireFaultCounters,
        seed: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(context, kind)
        self.faults = faults
        self._tally = tally
        self._random = Random(seed).random  # noqa: S311 - no secret
        self._clock = clock
        self._began_s = clock()
        self._topic = b""
        self._held = deque()

    def send(self, data: Any, flags: int = 0, *, copy: bool = True) -> None:  # type: ignore[override]
        """Keep the first frame of a message; with its last one decide what happens to it."""
        now_s = self._clock()
        if flags & zmq.SNDMORE:
            self._release(now_s)
            self._topic = data
            return
        faults, tally = self.faults, self._tally
        if faults.is_mute(now_s - self._began_s):
            tally.wire_muted += 1
        elif faults.drop and self._random() < faults.drop:
            tally.wire_dropped += 1
        else:
            self._hold(now_s, data, copy=copy)
            if faults.duplicate and self._random() < faults.duplicate:
                tally.wire_duplicated += 1
                self._hold(now_s, data, copy=copy)
        with suppress(zmq.Again):
            self._release(now_s)

    def recv(self, *arguments: Any, **options: Any) -> Any:
        """Send what was held long enough, then receive as any socket does."""
        with suppress(zmq.Again):
            self._release(self._clock())
        return super().recv(*arguments, **options)

    def close(self, linger: int | None = None) -> None:
        """Send what is held, unless the context is ended meanwhile, then close."""
        with suppress(zmq.ZMQError):
            if self._held and not self.closed:
                self.setsockopt(zmq.XPUB_NODROP, 0)
                self._release(float("inf"))
        super().close(linger)

    def _hold(self, now_s: float, body: Any, *, copy: bool) -> None:
        if len(self._held) >= HELD_LIMIT:
            self._tally.wire_overflown += 1
            return
        self._tally.wire_held += self.faults.slow_s > 0
        self._held.append((now_s + self.faults.slow_s, self._topic, body, copy))

    def _release(self, now_s: float) -> None:
        """Send what was held until now; raises zmq.Again at a message that a full queue does not accept."""
        while self._held and self._held[0][0] <= now_s:
            _, topic, body, copy = self._held[0]
            super().send(topic, FIRST)
            super().send(body, copy=copy)
            self._held.popleft()
