"""The simulated broker, and what moves its prices: a random walk, or recorded ticks.

Times of the feeds: ``now_s`` is a monotonic clock; ``elapsed_s`` seconds of simulated time since the first
PumpingSwitch, on which faults are scheduled. A feed never makes quotes beyond ``until_s`` of simulated time, so that a
fault has the same place between the quotes however fast the run is.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from itertools import accumulate
from random import Random

from mt4pump.mt4.codes import PumpCode, SymbolDirection, Transaction
from mt4pump.simulator.accounts import AccountTable
from mt4pump.simulator.back_office import BackOffice, SimulatedNews
from mt4pump.simulator.context import Context
from mt4pump.simulator.market import (
    MOVES,
    NAME_BYTES,
    SPREADS,
    WALK_SYMBOLS,
    Instrument,
    Market,
    Specification,
    pack_symbol_info,
    specification_of,
)
from mt4pump.simulator.options import SimulatorOptions
from mt4pump.simulator.order_book import OrderBook
from mt4pump.simulator.tick_files import TickFiles
from mt4pump.simulator.tick_formats import Tick
from mt4pump.simulator.traders import OrderExecution, Traders

QUOTES_PER_ACTION = (10, 20)
REPLAY_ACCOUNTS = 5
UP, DOWN, NONE = (int(direction) for direction in SymbolDirection)

PutQuote = Callable[[bytes], None]


class SimulatedBroker:
    """Everything that a Manager session can see. Not safe for threads: its users hold the `FairLock`.

    ``context.emit`` receives events in the order of the changes; ``send_bidask`` is called before an event that follows
    quotes, so that they are received first. ``replayed`` are the symbols of tick files: nobody trades them; None: those
    of the random walk.
    """

    def __init__(self, options: SimulatorOptions, replayed: Iterable[Specification] | None = None) -> None:
        random = Random(options.seed)  # noqa: S311 - random numbers that repeat are wanted
        start_s = time.time() if options.start_s is None else options.start_s
        self.context = Context(start_s, options.server_utc_offset_s, random, lambda *_: None, options.encoding)
        self.send_bidask: Callable[[], None] = lambda: None
        is_walk = replayed is None
        self.market = Market(replayed or WALK_SYMBOLS, random if is_walk else None, options.encoding)
        self.accounts = AccountTable(self.context)
        for _ in range(options.accounts if is_walk else min(options.accounts, REPLAY_ACCOUNTS)):
            self.accounts.open()
        self.book = OrderBook(self.context, self.market, self.accounts)
        self.execution = OrderExecution(self.book)
        self.traders = Traders(self.book, self.execution)
        self.news = SimulatedNews(self.context)
        self.back_office = BackOffice(self.context, self.market, self.accounts)
        if is_walk:
            self.traders.populate()
        self.accounts.store_levels()
        self.quotes = 0
        self._quotes_until_action = QUOTES_PER_ACTION[0]
        self.tables: dict[str, Callable[[], bytes]] = {
            "symbols": self.market.table,
            "groups": self.accounts.group_table,
            "users": self.accounts.records.table,
            "online": self.back_office.online.table,
            "trades": self.book.records.table,
            "margins": self.accounts.margins,
            "requests": self.back_office.requests,
            "plugins": self.back_office.plugins,
            "news": self.news.table,
        }
        office, news = self.back_office, self.news
        chances_per_action: dict[Callable[[], None], float] = {
            office.change_online: 0.05,
            office.advance_requests: 0.03,
            news.publish: 0.01,
            office.change_accounts: 0.004,
            news.send_mail: 0.003,
            news.publish_new: 0.003,
            office.change_symbol: 0.003,
            office.change_group: 0.001,
            office.change_plugin: 0.001,
        }
        self._rare_actions = tuple(chances_per_action)
        self._rare_chances = tuple(accumulate(chances_per_action.values()))

    def walk(self, count: int, origin_s: float, step_s: float, put: PutQuote | None) -> None:
        """Make ``count`` quotes and the actions between them.

        Quote number n happens at ``origin_s + n * step_s``, however the numbers are split into calls. Each goes to
        ``put`` as SymbolInfo bytes; None: nobody wants them, but prices and orders change all the same.
        """
        context, instruments = self.context, self.market.instruments
        random, offset_s, total = context.random.random, context.server_utc_offset_s, len(instruments)
        until_action = self._quotes_until_action
        for number in range(self.quotes, self.quotes + count):
            chance = random() * total
            index = int(chance)
            instrument = instruments[index]
            old = instrument.bid
            drift = int((instrument.base - old) * instrument.pull)
            instrument.bid = bid = old + instrument.moves[int((chance - index) * MOVES)] + drift
            spread = instrument.spreads[int(random() * SPREADS)] if len(instrument.spreads) > 1 else 1
            instrument.ask = ask = bid + spread
            if bid > instrument.high:
                instrument.high = bid
            elif bid < instrument.low:
                instrument.low = bid
            if put:
                scale = instrument.scale
                put(
                    pack_symbol_info(
                        *instrument.fixed, spread, 0, UP if bid > old else DOWN if bid < old else NONE, 1,
                        int(origin_s + number * step_s) + offset_s, bid / scale, ask / scale,
                        instrument.high / scale, instrument.low / scale, 0.0, 0,
                    )
                )  # fmt: skip
            until_action -= 1
            is_quiet = instrument.bid_low < bid < instrument.bid_high and instrument.ask_low < ask < instrument.ask_high
            if not (is_quiet and until_action):
                context.now_s = origin_s + number * step_s
                self.send_bidask()
                if not is_quiet:
                    self.execution.execute_reached(instrument)
                if not until_action:
                    self._act()
                    until_action = context.random.randrange(*QUOTES_PER_ACTION)
        self._quotes_until_action = until_action
        self.quotes += count

    def _act(self) -> None:
        self.execution.step()
        self.traders.act()
        if self.context.random.random() < self._rare_chances[-1]:
            (action,) = self.context.random.choices(self._rare_actions, cum_weights=self._rare_chances)
            action()


QUOTES_PER_CALL = 256
CHUNK = 256
"""Quotes made at once: between two chunks, readers get the lock and faults are checked."""
UNPACED_STEP_S = 0.001
"""Simulated time per quote when there is no rate."""
MAX_LAG_S = 1.0

log = logging.getLogger(__name__)


class QuoteSchedule:
    """Maps positions of a schedule (seconds) to a clock that the caller reads (seconds).

    The first position asked for after the start or a `pause` is due at once. Later ones are counted from there, so
    small delays are caught up. More than `MAX_LAG_S` behind, the schedule slips; ``slips`` counts how often.
    """

    def __init__(self) -> None:
        self._zero_s: float | None = None
        self.slips = 0

    def wait_s(self, position_s: float, now_s: float) -> float:
        """Return seconds until ``position_s`` is due; 0 when it is."""
        if self._zero_s is None:
            self._zero_s = now_s - position_s
        late_s = now_s - self._zero_s - position_s
        if late_s > MAX_LAG_S:
            self._zero_s += late_s
            self.slips += 1
            return 0.0
        return max(0.0, -late_s)

    def position_s(self, now_s: float) -> float:
        """Return the position that is due at ``now_s``; 0 before the first `wait_s`."""
        return 0.0 if self._zero_s is None else now_s - self._zero_s

    def pause(self) -> None:
        """Forget the deadlines: the next position is due at once, whenever it is asked for."""
        self._zero_s = None


class QuoteQueue:
    """First in, first out, of SymbolInfo bytes; ``wake`` is called when the feed waits and there is room again.

    ``unread`` counts quotes that nobody read: their symbol was not selected, or the session had ended.
    """

    def __init__(self, limit: int, wake: Callable[[], None]) -> None:
        self.limit = limit
        self.unread = 0
        self._quotes: deque[bytes] = deque()
        self._wake = wake
        self._feed_waits = False
        self.put = self._quotes.append

    def __len__(self) -> int:
        return len(self._quotes)

    def has_room(self, quotes: int) -> bool:
        """Return whether ``quotes`` more fit in; if not, ``wake`` is called once half of the queue is read."""
        fits = len(self._quotes) + quotes <= self.limit
        self._feed_waits = not fits
        return fits

    def read(self, selected: Collection[bytes]) -> bytes:
        """Return up to `QUOTES_PER_CALL` records of ``selected`` symbols (raw names), empty when there is none left."""
        found: list[bytes] = []
        pop = self._quotes.popleft
        try:
            for _ in range(self.limit):
                quote = pop()
                if quote[:NAME_BYTES] in selected:
                    found.append(quote)
                    if len(found) == QUOTES_PER_CALL:
                        break
                else:
                    self.unread += 1
        except IndexError:
            pass  # the queue is empty
        if self._feed_waits and len(self._quotes) <= self.limit // 2:
            self._feed_waits = False
            self._wake()
        return b"".join(found)

    def clear(self) -> None:
        """Drop all quotes."""
        self.unread += len(self._quotes)
        self._quotes.clear()


class WalkFeed:
    """The random walk at ``rate`` quotes per second; ``awaited`` and ``exhausted`` as in `ReplayFeed`, never set."""

    def __init__(self, broker: SimulatedBroker, options: SimulatorOptions) -> None:
        self.schedule = QuoteSchedule()
        self.exhausted = False
        self.awaited = b""
        self._broker = broker
        self._rate = options.rate
        self._start_s = options.start_s
        self._begun_s: float | None = None
        self._step_s = 0.0
        if self._rate:
            self._step_s = UNPACED_STEP_S if math.isinf(self._rate) else 1 / self._rate

    def elapsed_s(self, now_s: float) -> float:
        """Return simulated time since the first call: counted in quotes when the run can be repeated, else by clock."""
        if self._begun_s is None:
            self._begun_s = now_s
        if self._start_s is None or not self._rate:
            return now_s - self._begun_s
        made_s = self._broker.quotes * self._step_s
        return made_s if math.isinf(self._rate) else min(made_s, self.schedule.position_s(now_s))

    def wait_s(self, now_s: float) -> float:
        """Return seconds until the next quote is due; infinite when there is none."""
        if not self._rate:
            return math.inf
        return 0.0 if math.isinf(self._rate) else self.schedule.wait_s(self._broker.quotes / self._rate, now_s)

    def advance(self, now_s: float, until_s: float, put: PutQuote | None) -> int:
        """Make the quotes that are due, `CHUNK` at most, and what the traders do; return how many."""
        if self._start_s is None:
            self._broker.context.now_s = time.time()  # also for events without quotes: a burst in an idle market
        elif not self._rate:
            self._broker.context.now_s = self._start_s + self.elapsed_s(now_s)
        if self.wait_s(now_s) > 0:
            return 0
        count = CHUNK
        if not math.isinf(self._rate):
            due = int(self.schedule.position_s(now_s) * self._rate)
            count = max(1, min(CHUNK, due - self._broker.quotes + 1))
        if self._start_s is None:
            self._broker.walk(count, time.time(), 0.0, put)
        else:
            if math.isfinite(until_s):
                count = max(1, min(count, math.ceil(until_s / self._step_s) - self._broker.quotes))
            self._broker.walk(count, self._start_s, self._step_s, put)
        return count


class ReplayFeed:
    """Recorded ticks at ``speed`` times their own speed.

    ``exhausted``: no quote will come any more. ``awaited``: raw name of a symbol that first appeared now and should be
    selected before the next quote; mostly empty.
    """

    def __init__(self, broker: SimulatedBroker, files: TickFiles, options: SimulatorOptions) -> None:
        self.schedule = QuoteSchedule()
        self.exhausted = False
        self.awaited = b""
        self._broker = broker
        self._speed = options.speed
        self._instruments = {instrument.name: instrument for instrument in broker.market.instruments}
        self._ticks = iter(files)
        self._next: Tick | None = next(self._ticks, None)
        self._zero_ms = self._next[0] if self._next else 0
        self._furthest_s = 0.0
        self._ended_s: float | None = None
        self._days: dict[str, int] = {}

    def elapsed_s(self, now_s: float) -> float:
        """Return the ticks' own time since the first."""
        if self._ended_s is not None:
            return self._furthest_s + now_s - self._ended_s
        if math.isinf(self._speed):
            return self._position_s()
        return min(self._position_s(), self.schedule.position_s(now_s) * self._speed)

    def wait_s(self, now_s: float) -> float:
        """Return seconds until the next tick is due; infinite after the last."""
        if self._next is None:
            return math.inf
        return 0.0 if math.isinf(self._speed) else self.schedule.wait_s(self._position_s() / self._speed, now_s)

    def advance(self, now_s: float, until_s: float, put: PutQuote | None) -> int:
        """Replay the ticks that are due, `CHUNK` at most and up to a new symbol; return how many."""
        count = 0
        while count < CHUNK and self._next and self._position_s() < until_s and not self.wait_s(now_s):
            instrument = self._instrument(self._next)
            if self.awaited:
                break
            self._quote(instrument, self._next, put)
            count += 1
            self._next = next(self._ticks, None)
        if self._next is None and self._ended_s is None:
            self._ended_s = now_s
            self.exhausted = True
        return count

    def _position_s(self) -> float:
        """Return the next tick's time since the first; it never decreases, whatever the files contain."""
        if self._next:
            self._furthest_s = max(self._furthest_s, (self._next[0] - self._zero_ms) / 1000)
        return self._furthest_s

    def _instrument(self, tick: Tick) -> Instrument:
        """Return the instrument of a tick, which may be new or have more decimals than before."""
        _, _, symbol, _, _, digits = tick
        instrument, market, emit = self._instruments.get(symbol), self._broker.market, self._broker.context.emit
        if instrument is None:
            self._instruments[symbol] = instrument = market.add(specification_of(symbol, digits))
            log.warning("tick files: symbol %s first appears after the rows that were searched for symbols", symbol)
            emit(PumpCode.UPDATE_SYMBOLS, Transaction.ADD, instrument.con_symbol)
            self.awaited = instrument.raw_name
        elif digits > instrument.spec.digits:
            instrument.grow_digits(digits)
            log.warning("tick files: prices of %s now have %d decimals", symbol, digits)
            emit(PumpCode.UPDATE_SYMBOLS, Transaction.UPDATE, market.describe(instrument))
        return instrument

    def _quote(self, instrument: Instrument, tick: Tick, put: PutQuote | None) -> None:
        time_ms, _, _, bid, ask, _ = tick
        context, scale = self._broker.context, instrument.scale
        context.now_s = time_ms / 1000
        server_time_s = context.server_time_s
        direction = instrument.set_prices(round(bid * scale), round(ask * scale))
        if self._days.get(instrument.name) != server_time_s // 86_400:
            self._days[instrument.name] = server_time_s // 86_400
            instrument.start_day()
        if put:
            put(instrument.info(direction, server_time_s))
