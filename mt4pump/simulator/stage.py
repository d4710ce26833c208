"""What everybody in the simulated world shares: its clock, its chance, its ear."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

Emit = Callable[[int, int, bytes], None]
"""Takes one event of the simulated server: ``(code, action, data)``."""


class SimulatedClock:
    """UTC seconds of the simulated world (``now_s``), and what its server's clock shows."""

    __slots__ = ("now_s", "server_utc_offset_s")

    def __init__(self, now_s: float, server_utc_offset_s: int) -> None:
        self.now_s = now_s
        self.server_utc_offset_s = server_utc_offset_s

    @property
    def server_time_s(self) -> int:
        """Return whole seconds since 1970 on the server's clock."""
        return int(self.now_s) + self.server_utc_offset_s

    @property
    def server_day(self) -> int:
        """Return the day on the server's clock, counted from 1970."""
        return self.server_time_s // 86_400


@dataclass(slots=True)
class Stage:
    """Clock, source of all chance, taker of all events, and code page of one simulated world."""

    clock: SimulatedClock
    random: Random
    emit: Emit
    encoding: str
