"""The options of a simulation: plain values, checked once."""

from __future__ import annotations

import codecs
import math
from dataclasses import dataclass, field
from pathlib import Path

from mt4pump.simulator.faults import SimulatedFault
from mt4pump.simulator.tick_formats import TickOptions

ACCOUNTS_LIMIT = 100_000
QUARTER_HOUR_S = 900
SMALLEST_BUFFER = 1024


@dataclass(frozen=True, slots=True)
class SimulatorOptions:
    """How to simulate. Raises ValueError for a value that makes no sense; the text says what to write instead.

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
        quote_buffer: Unread quotes before the market waits for the reader.
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

    def __post_init__(self) -> None:
        try:
            codecs.lookup(self.encoding)
        except LookupError as error:
            msg = f"encoding {self.encoding!r}: Python knows no such code page; give for example cp1252 or cp1251"
            raise ValueError(msg) from error
        offset_s, start_s = self.server_utc_offset_s, self.start_s
        checks = {
            "speed": (self.speed > 0, "a number above 0, or 'max'"),
            "rate": (self.rate >= 0, "quotes per second, 0 for none, or 'max'"),
            "accounts": (1 <= self.accounts <= ACCOUNTS_LIMIT, f"1 to {ACCOUNTS_LIMIT}"),
            "server_utc_offset_s": (
                abs(offset_s) <= 14 * 3600 and offset_s % QUARTER_HOUR_S == 0,
                "seconds in steps of 900, at most 14 hours",
            ),
            "start_s": (
                start_s is None or (math.isfinite(start_s) and 86_400 <= start_s < 2**31 - 86_400),
                "UTC seconds between 1970-01-02 and 2038-01-18",
            ),
            "quote_buffer": (self.quote_buffer >= SMALLEST_BUFFER, f"{SMALLEST_BUFFER} or more"),
            "ping_interval_s": (self.ping_interval_s > 0, "seconds above 0"),
        }
        for name, (is_valid, cure) in checks.items():
            if not is_valid:
                raise ValueError(f"{name} {getattr(self, name)}: give {cure}")
