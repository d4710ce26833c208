"""Which fault comes when, out of a seed; pure."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

KILL_DAEMON, RESTART_DAEMON, KILL_READER, STOP_READER = "kill_daemon", "restart_daemon", "kill_reader", "stop_reader"
DROP, STORM, SKIP, NULL, MUTE, BURST = "drop", "storm", "skip", "null", "mute", "burst"

MEANINGS = {
    KILL_DAEMON: "kill -9 of the daemon, new start with another (often tiny) high-water mark",
    RESTART_DAEMON: "clean stop of the daemon, new start with a tiny high-water mark",
    KILL_READER: "kill -9 of a subscriber, which resumes from its file",
    STOP_READER: "SIGSTOP of a subscriber, SIGCONT later",
    DROP: "the Manager session is lost",
    STORM: "STOP_PUMPING again and again, and sessions lost in a row",
    SKIP: "trade events that the API swallows",
    NULL: "records that come as NULL",
    MUTE: "a session without any callback",
    BURST: "hundreds of positions closed at once",
}
WEIGHTS = {
    KILL_DAEMON: 4,
    RESTART_DAEMON: 2,
    KILL_READER: 5,
    STOP_READER: 5,
    DROP: 3,
    STORM: 2,
    SKIP: 3,
    NULL: 1,
    MUTE: 1,
    BURST: 2,
}
TINY_HWMS, ALL_HWMS = (1, 5, 20, 100), (1, 5, 20, 100, 1_000, 100_000)
FIRST_S = 0.5
"""Nothing happens before the readers are there."""


class Fault(NamedTuple):
    """One fault: seconds from the start, its kind, whom it meets (a reader's number), how long or how much."""

    at_s: float
    kind: str
    reader: int
    amount: float
    sndhwm: int

    def __str__(self) -> str:
        whom = f" reader {self.reader}" if self.kind in {KILL_READER, STOP_READER} else ""
        return f"{self.at_s:7.1f} s {self.kind}{whom} {self.amount:g}"


def planned(seed: int, count: int, length_s: float, readers: Sequence[str]) -> list[Fault]:
    """Return ``count`` faults in order of time, spread over ``length_s``; of many, each kind comes at least once."""
    random = Random(seed)  # noqa: S311 - chance that can be repeated is the point
    kinds = list(WEIGHTS)
    random.shuffle(kinds)
    kinds.sort(key=lambda kind: -WEIGHTS[kind])  # a short run has the harshest
    kinds = kinds[:count]
    kinds += random.choices(list(WEIGHTS), list(WEIGHTS.values()), k=count - len(kinds))
    random.shuffle(kinds)
    times = sorted(random.uniform(FIRST_S, max(FIRST_S, length_s)) for _ in kinds)
    return [_fault(random, at_s, kind, len(readers)) for at_s, kind in zip(times, kinds, strict=True)]


def _fault(random: Random, at_s: float, kind: str, readers: int) -> Fault:
    amounts = {
        KILL_DAEMON: random.uniform(0.0, 1.5),  # seconds that it is away
        RESTART_DAEMON: random.uniform(0.0, 0.5),
        KILL_READER: random.uniform(0.0, 2.0),
        STOP_READER: random.choice((0.3, 1.0, 3.0, 6.0)) * random.uniform(0.7, 1.3),
        DROP: random.choice((0.0, 0.0, 0.5, 1.0)),
        STORM: random.randrange(20, 200),
        SKIP: random.randrange(1, 30),
        NULL: random.randrange(1, 20),
        MUTE: 0,
        BURST: random.randrange(100, 600),
    }
    hwms = ALL_HWMS if kind == KILL_DAEMON else TINY_HWMS
    return Fault(at_s, kind, random.randrange(readers), amounts[kind], random.choice(hwms))
