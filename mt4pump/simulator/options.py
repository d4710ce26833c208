"""The options of a simulation, and its faults on demand: what goes wrong, when, how often; pure.

A fault's text is ``kind@SECONDS[+EVERY][:AMOUNT]``, for example ``drop@10``, ``skip@5+20:3``, ``burst@2``. Seconds are
counted on the simulated clock from the first PumpingSwitch on (for tick files: on the clock of the ticks).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from pathlib import Path

from mt4pump.errors import did_you_mean
from mt4pump.simulator.tick_formats import TickOptions

DEFAULT_AMOUNTS = {"drop": 0.0, "silent": 60.0, "mute": None, "null": 1.0, "skip": 1.0, "burst": 500.0}
MEANINGS = {
    "drop": "the session is lost; AMOUNT = seconds until a new one is let in (0)",
    "silent": "the session is lost; for AMOUNT seconds the server lets sessions in and answers no login (60)",
    "mute": "no callback any more, not even PING, until a new session; no AMOUNT",
    "null": "the next AMOUNT events of every code that carries a record come as NULL (1)",
    "skip": "the next AMOUNT trade events are not sent though the table changes (1)",
    "burst": "AMOUNT positions are closed at once (500)",
}
COUNT_LIMIT = 100_000
SHORTEST_EVERY_S = 0.1
"""A repeated fault may not come so often that nothing else happens."""

FORM = re.compile(r"(?P<kind>[a-z]+)@(?P<at_s>[0-9.]+)(?:\+(?P<every_s>[0-9.]+))?(?::(?P<amount>[0-9.]+))?")
CURE = "write KIND@SECONDS[+EVERY][:AMOUNT], for example drop@10 or skip@5+20:3"


@dataclass(frozen=True, slots=True)
class SimulatedFault:
    """One fault: ``kind`` (a key of `MEANINGS`), first at ``at_s`` seconds, then every ``every_s`` (None: once).

    ``amount`` is what `DEFAULT_AMOUNTS` says per kind; None is its default. Raises ValueError for values that make no
    sense.
    """

    kind: str
    at_s: float = 0.0
    every_s: float | None = None
    amount: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in DEFAULT_AMOUNTS:
            hint, kinds = did_you_mean(self.kind, DEFAULT_AMOUNTS, spelled=repr), ", ".join(DEFAULT_AMOUNTS)
            raise ValueError(f"there is no fault {self.kind!r}; {hint and f'{hint} '}kinds: {kinds}")
        if self.amount is not None:
            self._check_amount(self.amount)
        if not (math.isfinite(self.at_s) and self.at_s >= 0):
            raise ValueError(f"fault {self.kind}: starts at {self.at_s} s; give seconds from 0 on")
        if self.every_s is not None and not (math.isfinite(self.every_s) and self.every_s >= SHORTEST_EVERY_S):
            raise ValueError(f"fault {self.kind}: repeats every {self.every_s} s; give {SHORTEST_EVERY_S} s or more")

    def _check_amount(self, amount: float) -> None:
        what, meaning = f"fault {self.kind}", MEANINGS[self.kind]
        if DEFAULT_AMOUNTS[self.kind] is None:
            raise ValueError(f"{what} takes no amount: {meaning}")
        if not (math.isfinite(amount) and amount >= 0):
            raise ValueError(f"{what}: amount {amount} makes no sense: {meaning}")
        if self.kind not in {"drop", "silent"} and not (amount == int(amount) and 1 <= amount <= COUNT_LIMIT):
            raise ValueError(f"{what}: amount {amount:g} must be a whole number from 1 to {COUNT_LIMIT}: {meaning}")

    @property
    def size(self) -> float:
        """Return ``amount``, or the default of the kind; 0 where it takes none."""
        return (DEFAULT_AMOUNTS[self.kind] or 0.0) if self.amount is None else self.amount


def parse_fault(text: str) -> SimulatedFault:
    """Return the fault that ``text`` describes; raises ValueError that says what to write instead."""
    match = FORM.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(f"fault {text!r} cannot be read: {CURE}; kinds: {', '.join(DEFAULT_AMOUNTS)}")
    try:
        numbers = {name: float(text) for name, text in match.groupdict().items() if text and name != "kind"}
        return SimulatedFault(match["kind"], **numbers)
    except ValueError as error:
        raise ValueError(f"fault {text!r}: {error}; {CURE}") from error


class FaultSchedule:
    """Faults in order of time."""

    def __init__(self, faults: Iterable[SimulatedFault]) -> None:
        self._heap = [(fault.at_s, number, fault) for number, fault in enumerate(faults)]
        heapify(self._heap)

    @property
    def next_s(self) -> float:
        """Return when the next fault is due, seconds since the first PumpingSwitch; infinite when there is none."""
        return self._heap[0][0] if self._heap else math.inf

    def pop_due(self, elapsed_s: float) -> list[SimulatedFault]:
        """Return the faults due by ``elapsed_s`` in order; a repeated one at most once."""
        due: list[SimulatedFault] = []
        again: list[tuple[float, int, SimulatedFault]] = []
        while self._heap and self._heap[0][0] <= elapsed_s:
            at_s, number, fault = heappop(self._heap)
            due.append(fault)
            if fault.every_s is not None:
                missed = math.floor((elapsed_s - at_s) / fault.every_s)
                again.append((at_s + (missed + 1) * fault.every_s, number, fault))
        for each in again:  # not above: by rounding the next time may be due already
            heappush(self._heap, each)
        return due


@dataclass(frozen=True, slots=True)
class SimulatorOptions:
    """How to simulate; `mt4pump.settings` checks what people can set.

    Attributes:
        ticks: Tick files (`mt4pump.simulator.tick_files`) to replay instead of the random walk.
        tick_options: What those files do not contain: symbol, time zone, order of day and month.
        speed: Speed of a replay as a multiple of the original; infinite: without waiting.
        seed: Seed of everything random.
        rate: Quotes per second of the random walk; 0: no quotes and no trades; infinite: as fast as it goes.
        accounts: Trading accounts at the start (a replay has five at most).
        faults: What goes wrong, and when.
        server_utc_offset_s: Server clock minus UTC, seconds.
        start_s: UTC seconds since 1970 at which simulated time begins; it then advances with the quotes (1 ms each when
            ``rate`` is infinite), so that a run can be repeated. None: simulated time is the wall clock.
        encoding: Code page of the server's text.
        quote_buffer: Unread quotes before the market waits for the reader; at least 1,024.
        ping_interval_s: Seconds of wall clock between PINGs.
    """

    ticks: tuple[Path, ...] = ()
    tick_options: TickOptions = field(default_factory=TickOptions)
    speed: float = 1.0
    seed: int = 1
    rate: float = 200.0
    accounts: int = 200
    faults: tuple[SimulatedFault, ...] = ()
    server_utc_offset_s: int = 10800
    start_s: float | None = None
    encoding: str = "cp1252"
    quote_buffer: int = 8192
    ping_interval_s: float = 1.0
