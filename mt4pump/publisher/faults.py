"""A socket that loses, repeats, delays and suppresses messages on demand, for people who write subscribers.

Text form: ``drop=1%``, ``duplicate=0.5%``, ``restart=30s``, ``mute=60s:5s``, ``slow=200ms``. With the simulator only.
Messages are lost after they were numbered and stored, on the way out: so ``seq`` proves each loss, and a replay has
what was lost. A subscriber that is right detects every fault: a restart by ``epoch``, a mute wire by its silence.
With ``slow`` the large bodies that are held count as waiting for readers (PROTOCOL 12).
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

import zmq

from mt4pump.errors import did_you_mean
from mt4pump.publisher.binding import DirectSocket
from mt4pump.wire import FIRST

EXAMPLES = {
    "drop": ("drop=1%", "this share of the messages is not sent"),
    "duplicate": ("duplicate=1%", "this share of the messages is sent twice"),
    "restart": ("restart=30s", "at this interval the daemon restarts: connections end, epoch and seq start again"),
    "mute": (
        "mute=60s:5s",
        "at this interval nothing is sent, not even heartbeats, for 5 s, or for the time after a colon",
    ),
    "slow": ("slow=200ms", "every message is sent so much later"),
}
"""Per kind: how it is written, and what it means."""
MUTE_S = 5.0
RANGES_S = {"restart": (1.0, 86_400.0), "mute": (1.0, 86_400.0), "slow": (0.001, 60.0)}
FORM = re.compile(r"([a-z]+)\s*=\s*([0-9.]+)\s*(%|ms|s|m|)(?::([0-9.]+)\s*(ms|s|m|))?")
UNITS_S = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0}
HELD_LIMIT = 200_000
"""Messages that a socket holds; further ones are lost, and counted."""


@dataclass(frozen=True, slots=True)
class WireFaults:
    """All faults together; 0 is no fault. ``drop`` and ``duplicate`` are shares from 0 to 1.

    The daemon restarts every ``restart_s``; every ``mute_s`` nothing is sent for ``mute_length_s``; every message is
    delayed by ``slow_s``.
    """

    drop: float = 0.0
    duplicate: float = 0.0
    restart_s: float = 0.0
    mute_s: float = 0.0
    mute_length_s: float = 0.0
    slow_s: float = 0.0

    @property
    def touch_messages(self) -> bool:
        """Return whether any fault but a restart is among them."""
        return any((self.drop, self.duplicate, self.mute_s, self.slow_s))

    def is_mute(self, elapsed_s: float) -> bool:
        """Return whether nothing is sent so long after the start."""
        return 0 < self.mute_s <= elapsed_s and elapsed_s % self.mute_s < self.mute_length_s


def wire_faults_of(texts: Iterable[str]) -> WireFaults:
    """Return all faults together; raises ValueError for one that cannot be read, or is named twice."""
    found: dict[str, float] = {}
    for text in texts:
        fault = parse_wire_fault(text)
        if fault.keys() & found.keys():
            raise ValueError(f"wire fault {text.partition('=')[0].strip()} is named twice; name it once")
        found |= fault
    return WireFaults(**found)


def parse_wire_fault(text: str) -> dict[str, float]:
    """Return the fields of `WireFaults` that ``text`` sets; raises ValueError that says what to write instead."""
    match = FORM.fullmatch(text.strip().lower())
    kind = match[1] if match else text.partition("=")[0].strip().lower()
    if kind not in EXAMPLES:
        hint, examples = did_you_mean(kind, EXAMPLES), ", ".join(text for text, _ in EXAMPLES.values())
        raise ValueError(f"there is no wire fault {kind!r}; {hint and f'{hint} '}write {examples}")
    cure = "write {}: {}".format(*EXAMPLES[kind])
    if match is None or (match[4] and kind != "mute"):
        raise ValueError(f"wire fault {text!r} cannot be read; {cure}")
    try:
        length_s = float(match[4]) * UNITS_S[match[5]] if match[4] else None
        return _fields(kind, float(match[2]), match[3], length_s)
    except ValueError as error:
        raise ValueError(f"wire fault {text!r}: {error}; {cure}") from None


def _fields(kind: str, number: float, unit: str, length_s: float | None) -> dict[str, float]:
    if kind in {"drop", "duplicate"}:
        if unit != "%" or not 0 < number <= 100:
            raise ValueError("is no share of more than 0% and at most 100%")
        return {kind: number / 100}
    if unit == "%":
        raise ValueError("is a share, not a time")
    interval_s = number * UNITS_S[unit]
    low_s, high_s = RANGES_S[kind]
    if not low_s <= interval_s <= high_s:
        raise ValueError(f"is not from {low_s:g} to {high_s:g} seconds")
    if kind != "mute":
        return {f"{kind}_s": interval_s}
    length_s = min(MUTE_S, interval_s / 2) if length_s is None else length_s
    if not 0 < length_s < interval_s:
        raise ValueError(f"a silence of {length_s:g} s does not fit between two that begin {interval_s:g} s apart")
    return {"mute_s": interval_s, "mute_length_s": length_s}


@dataclass(slots=True)
class WireFaultCounters:
    """What the faults did to messages, over all runs of the daemon in this process."""

    wire_dropped: int = 0
    wire_duplicated: int = 0
    wire_muted: int = 0
    wire_held: int = 0
    wire_overflown: int = 0

    def counters(self) -> dict[str, int]:
        """Return them for the heartbeat's ``source``."""
        return asdict(self)


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
