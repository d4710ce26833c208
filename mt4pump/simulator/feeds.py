"""Where the quotes come from: a random walk, or recorded ticks. Each feed knows what is due, and when the next is.

Times: ``now_s`` is a monotonic clock; ``elapsed_s`` seconds of simulated time since the first PumpingSwitch, on which
faults are scheduled. A feed never makes quotes beyond ``until_s`` of simulated time, so that a fault has the same
place between the quotes however fast the run is.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Collection
from typing import Protocol

from mt4pump.mt4.codes import PumpCode, Transaction
from mt4pump.simulator.context import Schedule
from mt4pump.simulator.market import NAME_BYTES, Instrument, specification_of
from mt4pump.simulator.options import SimulatorOptions
from mt4pump.simulator.tick_files import TickFiles
from mt4pump.simulator.tick_formats import Tick
from mt4pump.simulator.world import PutQuote, World

QUOTES_PER_CALL = 256


class QuoteQueue:
    """First in, first out, of SymbolInfo bytes. ``wake`` is called when the feed waits and there is room again."""

    def __init__(self, limit: int, wake: Callable[[], None]) -> None:
        self.limit = limit
        self.unread = 0
        """Quotes that nobody read: their symbol was not selected, or the session had gone."""
        self._line: deque[bytes] = deque()
        self._wake = wake
        self._low = limit // 2
        self._is_waited_for = False
        self.put = self._line.append

    def __len__(self) -> int:
        return len(self._line)

    def has_room(self, quotes: int) -> bool:
        """Return whether ``quotes`` more fit in; if not, ``wake`` is called once half of the line is gone."""
        fits = len(self._line) + quotes <= self.limit
        self._is_waited_for = not fits
        return fits

    def take(self, selected: Collection[bytes]) -> bytes:
        """Return up to `QUOTES_PER_CALL` records of ``selected`` symbols (raw names), empty when there is none left."""
        taken: list[bytes] = []
        pop = self._line.popleft
        try:
            for _ in range(self.limit):
                quote = pop()
                if quote[:NAME_BYTES] in selected:
                    taken.append(quote)
                    if len(taken) == QUOTES_PER_CALL:
                        break
                else:
                    self.unread += 1
        except IndexError:
            pass  # the line is empty
        if self._is_waited_for and len(self._line) <= self._low:
            self._is_waited_for = False
            self._wake()
        return b"".join(taken)

    def clear(self) -> None:
        """Throw away what waits."""
        self.unread += len(self._line)
        self._line.clear()


CHUNK = 256
"""Quotes made in one go: between two, readers get their turn and faults their chance."""
FLAT_OUT_STEP_S = 0.001
"""Simulated time per quote when there is no rate."""

log = logging.getLogger(__name__)


class Feed(Protocol):
    """Moves the world."""

    pace: Schedule
    exhausted: bool
    """No quote will come any more."""
    awaits: bytes
    """Raw name of a symbol that came up on the way and should be selected before the next quote; mostly empty."""

    def begin(self, now_s: float) -> None:
        """Start: the first session pumps."""

    def elapsed_s(self, now_s: float) -> float:
        """Return how much simulated time is over."""

    def wait_s(self, now_s: float) -> float:
        """Return seconds until the next quote is due; infinite when there is none."""

    def advance(self, now_s: float, until_s: float, put: PutQuote | None) -> int:
        """Make the quotes that are due, `CHUNK` at most; return how many."""

    def pause(self) -> None:
        """Stand still: go on at the next `advance` as if no time had passed."""


class WalkFeed:
    """The random walk at ``rate`` quotes per second."""

    def __init__(self, world: World, options: SimulatorOptions) -> None:
        self.pace = Schedule()
        self.exhausted = False
        self.awaits = b""
        self._world = world
        self._rate = options.rate
        self._start_s = options.start_s
        self._begun_s = 0.0
        self._step_s = 0.0
        if self._rate:
            self._step_s = FLAT_OUT_STEP_S if math.isinf(self._rate) else 1 / self._rate

    def begin(self, now_s: float) -> None:
        """Start: the first session pumps."""
        self._begun_s = now_s

    def elapsed_s(self, now_s: float) -> float:
        """Return simulated time: counted in quotes when the run can be repeated, else by the clock."""
        if self._start_s is None or not self._rate:
            return now_s - self._begun_s
        made_s = self._world.quotes * self._step_s
        due_s = self.pace.position_s(now_s)
        return made_s if math.isinf(self._rate) else min(made_s, due_s or 0.0)

    def wait_s(self, now_s: float) -> float:
        """Return seconds until the next quote is due."""
        if not self._rate:
            return math.inf
        if math.isinf(self._rate):
            return 0.0
        return self.pace.wait_s(self._world.quotes / self._rate, now_s)

    def advance(self, now_s: float, until_s: float, put: PutQuote | None) -> int:
        """Make the quotes that are due, and let the traders act."""
        self._set_clock(now_s)
        if self.wait_s(now_s) > 0:
            return 0
        count = self._due(now_s)
        if self._start_s is None:
            self._world.walk(count, time.time(), 0.0, put)
        else:
            if math.isfinite(until_s):
                count = max(1, min(count, math.ceil(until_s / self._step_s) - self._world.quotes))
            self._world.walk(count, self._start_s, self._step_s, put)
        return count

    def pause(self) -> None:
        """Go on later as if no time had passed."""
        self.pace.pause()

    def _due(self, now_s: float) -> int:
        position_s = self.pace.position_s(now_s)
        if math.isinf(self._rate) or position_s is None:
            return CHUNK
        return max(1, min(CHUNK, int(position_s * self._rate) - self._world.quotes + 1))

    def _set_clock(self, now_s: float) -> None:
        """Keep the world's clock right for what happens between quotes (a burst in an idle market)."""
        if self._start_s is None:
            self._world.clock.now_s = time.time()
        elif not self._rate:
            self._world.clock.now_s = self._start_s + self.elapsed_s(now_s)


class ReplayFeed:
    """Recorded ticks at ``speed`` times their own pace."""

    def __init__(self, world: World, files: TickFiles, options: SimulatorOptions) -> None:
        self.pace = Schedule()
        self.exhausted = False
        self.awaits = b""
        self._world = world
        self._speed = options.speed
        self._offset_s = options.server_utc_offset_s
        self._instruments = {instrument.name: instrument for instrument in world.market.instruments}
        self._ticks = iter(files)
        self._next: Tick | None = next(self._ticks, None)
        self._zero_ms = self._next[0] if self._next else 0
        self._furthest_s = 0.0
        self._ended_s: float | None = None
        self._days: dict[str, int] = {}

    def begin(self, now_s: float) -> None:
        """Start: the first session pumps."""

    def elapsed_s(self, now_s: float) -> float:
        """Return the ticks' own time since the first."""
        if self._ended_s is not None:
            return self._furthest_s + now_s - self._ended_s
        if math.isinf(self._speed):
            return self._position_s()
        return min(self._position_s(), (self.pace.position_s(now_s) or 0.0) * self._speed)

    def wait_s(self, now_s: float) -> float:
        """Return seconds until the next tick is due; infinite after the last."""
        if self._next is None:
            return math.inf
        return 0.0 if math.isinf(self._speed) else self.pace.wait_s(self._position_s() / self._speed, now_s)

    def advance(self, now_s: float, until_s: float, put: PutQuote | None) -> int:
        """Replay the ticks that are due, up to a new symbol: the reader gets the chance to select it."""
        count = 0
        while count < CHUNK and self._next and self._position_s() < until_s and not self.wait_s(now_s):
            instrument = self._instrument(self._next)
            if self.awaits:
                break
            self._quote(instrument, self._next, put)
            count += 1
            self._next = next(self._ticks, None)
        if self._next is None and self._ended_s is None:
            self._ended_s = now_s
            self.exhausted = True
        return count

    def pause(self) -> None:
        """Go on later with the next tick at once."""
        self.pace.pause()

    def _position_s(self) -> float:
        """Return the next tick's time since the first; never backwards, whatever the files say."""
        if self._next:
            self._furthest_s = max(self._furthest_s, (self._next[0] - self._zero_ms) / 1000)
        return self._furthest_s

    def _instrument(self, tick: Tick) -> Instrument:
        _, _, symbol, _, _, digits = tick
        instrument = self._instruments.get(symbol)
        emit = self._world.stage.emit
        market = self._world.market
        if instrument is None:
            self._instruments[symbol] = instrument = market.add(specification_of(symbol, digits))
            log.warning("tick files: symbol %s first comes up after the rows that were looked at for symbols", symbol)
            emit(PumpCode.UPDATE_SYMBOLS, Transaction.ADD, instrument.con_symbol)
            self.awaits = instrument.raw_name
        elif digits > instrument.digits:
            instrument.grow_digits(digits)
            log.warning("tick files: prices of %s now have %d decimals", symbol, digits)
            emit(PumpCode.UPDATE_SYMBOLS, Transaction.UPDATE, market.describe(instrument))
        return instrument

    def _quote(self, instrument: Instrument, tick: Tick, put: PutQuote | None) -> None:
        time_ms, _, _, bid, ask, _ = tick
        self._world.clock.now_s = time_ms / 1000
        server_time_s = time_ms // 1000 + self._offset_s
        scale = instrument.scale
        direction = instrument.take(round(bid * scale), round(ask * scale))
        if self._days.get(instrument.name) != server_time_s // 86_400:
            self._days[instrument.name] = server_time_s // 86_400
            instrument.start_day()
        if put:
            put(instrument.info(direction, server_time_s))
