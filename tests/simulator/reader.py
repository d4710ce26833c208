"""A session as a reader has it: collects events and quotes until the test has seen enough.

Private access: the thread of the simulator, because its end is what every test must be sure of.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import Any

from mt4pump.errors import ConnectionLost
from mt4pump.mt4.codes import PumpCode
from mt4pump.mt4.layout import SYMBOL_INFO, TRADE_RECORD
from mt4pump.mt4.manager import Manager, Notify
from mt4pump.mt4.record import Decoder
from mt4pump.simulator.broker import SimulatedBroker
from mt4pump.simulator.options import SimulatorOptions
from mt4pump.simulator.server import Simulator

LIMIT_S = 30.0
START_S = 1_700_000_000.0
REAL_TICKS = Path(__file__).parents[2].parent / "shared" / "data" / "ticks"
CLOCK_CODES = {PumpCode.START_PUMPING, PumpCode.STOP_PUMPING, PumpCode.PING, PumpCode.UPDATE_BIDASK}
"""Codes that are no part of what is repeatable."""

RawEvent = tuple[int, int, bytes]
decode_trade = Decoder(TRADE_RECORD)
decode_quote = Decoder(SYMBOL_INFO)


class Reader:
    """Connects, pumps, selects every symbol, and reads quotes when BIDASK comes."""

    def __init__(self, simulator: Simulator, *, flags: int = 0, select: bool = True) -> None:
        self.simulator = simulator
        self.manager = simulator.manager()
        self.events: list[RawEvent] = []
        self.quotes = bytearray()
        self.at_start: dict[str, bytes] = {}
        self.wake = Event()
        self.select = select
        pump(self.manager, self.notify, flags)

    def notify(self, code: int, action: int, data: bytes) -> None:
        if code == PumpCode.START_PUMPING:
            for name in ("trades", "users", "requests", "symbols", "groups"):
                self.at_start[name] = bytes(self.manager.table(name))
        self.events.append((code, action, data))
        self.wake.set()

    def read_until(self, seen: Callable[[], object], limit_s: float = LIMIT_S) -> None:
        """Read until ``seen``; fails after ``limit_s``."""
        deadline = time.monotonic() + limit_s
        while not seen():
            assert time.monotonic() < deadline, f"not seen within {limit_s} s; {len(self.events)} events"
            self.wake.wait(0.01)
            self.wake.clear()
            self.read()

    def read(self) -> None:
        """Select the symbols when pumping started, and read the queued quotes; nothing once the session is lost."""
        with suppress(ConnectionLost):
            if self.select and self.codes():
                self.select = False
                for instrument in self.simulator.broker.market.instruments:
                    self.manager.select_symbol(instrument.raw_name)
            while quotes := self.manager.updated_quotes():
                self.quotes += quotes

    def codes(self) -> list[int]:
        return [code for code, _, _ in self.events]

    def repeatable(self) -> list[RawEvent]:
        """Return the events that belong to the repeatable sequence."""
        return [event for event in self.events if event[0] not in CLOCK_CODES]

    def trades(self) -> list[RawEvent]:
        return [event for event in self.events if event[0] == PumpCode.UPDATE_TRADES]

    def quote_count(self) -> int:
        return len(self.quotes) // SYMBOL_INFO.size

    def decoded_quotes(self) -> list[dict[str, Any]]:
        return list(decode_quote.many(bytes(self.quotes)))


def pump(manager: Manager, notify: Notify, flags: int = 0) -> None:
    """Connect, log in, and switch to pumping."""
    manager.connect("simulated:443")
    manager.login(1, "any")
    manager.pump(flags, notify)


def collected(broker: SimulatedBroker) -> list[RawEvent]:
    """Return a list to which the events of ``broker`` are added from now on."""
    events: list[RawEvent] = []
    broker.context.emit = lambda code, action, data: events.append((code, action, data))
    return events


def wait_for(seen: Callable[[], object], limit_s: float = LIMIT_S) -> None:
    """Wait until ``seen``, without reading; fails after ``limit_s``."""
    never, deadline = Event(), time.monotonic() + limit_s
    while not seen():
        assert time.monotonic() < deadline, f"not seen within {limit_s} s"
        never.wait(0.005)


@contextmanager
def running(**options: Any) -> Iterator[Simulator]:
    """Yield a started simulator and stop it; its thread must have ended without an error."""
    simulator = Simulator(SimulatorOptions(**{"start_s": START_S, **options}))
    simulator.start()
    try:
        yield simulator
    finally:
        simulator.stop()
    assert simulator._thread is not None  # noqa: SLF001
    assert not simulator._thread.is_alive()  # noqa: SLF001
    assert not simulator.failures


def write_ticks(path: Path, *rows: str, header: str = "time_ms,symbol,bid,ask") -> Path:
    path.write_text("\n".join([header, *rows, ""]), encoding="utf-8")
    return path
