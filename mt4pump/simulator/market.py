"""Symbols with their present prices, counted in whole points so that every price has exactly its digits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from random import Random

from mt4pump.manager_api.codes import SymbolDirection
from mt4pump.manager_api.layout import CON_SYMBOL, SYMBOL_INFO
from mt4pump.simulator.symbols import USD_PER, Specification, con_symbol

NAME_BYTES = 12
MOVES, SPREADS = 1024, 64
STEP = 3e-5
"""Standard deviation of one quote's move, as part of the price."""
SMALLEST_STEP = 0.4
"""The same in points, for symbols whose point is large."""
FREE_RANGE = 0.02
"""Part of its first price by which a price wanders freely; beyond, it is pulled back, and stays plausible for weeks."""
NEVER_LOW, NEVER_HIGH = -(1 << 62), 1 << 62
WIDEST_SPREAD = 2**31 - 1
"""What the record's field holds; with 8 decimals that is a spread of 21.47, which a tick file may well exceed."""

Wakes = list[tuple[int, int]]
"""A heap of prices at which an order wakes up, with its ticket."""

pack_symbol_info = SYMBOL_INFO.struct.pack


class Instrument:
    """One symbol: prices in points, steps of its walk, and the prices at which an order of the book wakes up.

    An order wakes up when bid falls to ``bid_low`` or rises to ``bid_high``, or ask to ``ask_low`` or ``ask_high``. The
    bounds may be tighter than needed, never wider. ``bid_lows`` and the like are heaps of all such prices with their
    tickets, low ones negative, so that the first is the one that comes first (see `triggers`).
    """

    __slots__ = (
        "ask", "ask_high", "ask_highs", "ask_low", "ask_lows", "base", "bid", "bid_high", "bid_highs", "bid_low",
        "bid_lows", "con_symbol", "digits", "fixed", "high",
        "low", "moves", "name", "position", "pull", "raw_name", "scale", "spec", "spreads",
    )  # fmt: skip

    def __init__(self, spec: Specification, position: int, random: Random | None) -> None:
        self.spec = spec
        self.name = spec.symbol
        self.raw_name = spec.symbol.encode("ascii").ljust(NAME_BYTES, b"\0")
        self.position = position
        self.digits = spec.digits
        self.scale = spec.scale
        self.base = self.bid = self.high = self.low = round(spec.price * spec.scale)
        self.ask = self.bid + spec.spread
        self.pull = 1 / (self.base * FREE_RANGE)  # a whole point per quote begins where the free range ends
        self.moves: tuple[int, ...] = (0,)
        self.spreads: tuple[int, ...] = (spec.spread,)
        if random:
            step = max(SMALLEST_STEP, self.base * STEP)
            ups = [round(random.gauss(0, step)) for _ in range(MOVES // 2)]
            self.moves = (*ups, *(-move for move in ups))  # sums to zero: no trend but chance
            self.spreads = tuple(spec.spread + int(random.random() ** 3 * spec.spread * 0.5) for _ in range(SPREADS))
        self.con_symbol: bytes = b""
        self.bid_lows: Wakes
        self.bid_highs: Wakes
        self.ask_lows: Wakes
        self.ask_highs: Wakes
        self._fix()
        self.forget_bounds()

    def _fix(self) -> None:
        self.fixed = (self.raw_name, self.digits, self.position, 1, self.spec.security, 1 / self.scale)

    def forget_bounds(self) -> None:
        """Let no price wake anybody."""
        self.bid_low = self.ask_low = NEVER_LOW
        self.bid_high = self.ask_high = NEVER_HIGH
        self.bid_lows, self.bid_highs, self.ask_lows, self.ask_highs = [], [], [], []

    def grow_digits(self, digits: int) -> None:
        """Go on with more decimals than before; prices keep their value."""
        factor = 10 ** (digits - self.digits)
        self.digits = digits
        self.scale *= factor
        self.spec = replace(self.spec, digits=digits)
        self.base, self.bid, self.ask = self.base * factor, self.bid * factor, self.ask * factor
        self.high, self.low = self.high * factor, self.low * factor
        self._fix()

    def take(self, bid: int, ask: int) -> int:
        """Set the prices (points) and return the direction."""
        before, self.bid, self.ask = self.bid, bid, ask
        self.high = max(self.high, bid)
        self.low = min(self.low, bid)
        if bid > before:
            return SymbolDirection.SDIR_UP
        return SymbolDirection.SDIR_DOWN if bid < before else SymbolDirection.SDIR_NONE

    def start_day(self) -> None:
        """Begin the day's high and low anew."""
        self.high = self.low = self.bid

    def info(self, direction: int, server_time_s: int) -> bytes:
        """Return the SymbolInfo record of the present prices; only its spread is limited, to `WIDEST_SPREAD`."""
        scale = self.scale
        spread = max(-WIDEST_SPREAD, min(WIDEST_SPREAD, self.ask - self.bid))
        return pack_symbol_info(
            *self.fixed, spread, 0, direction, 1, server_time_s,
            self.bid / scale, self.ask / scale, self.high / scale, self.low / scale, 0.0, 0,
        )  # fmt: skip


class Market:
    """All instruments, and what currencies are worth at their prices."""

    def __init__(self, specs: Iterable[Specification], random: Random | None, encoding: str) -> None:
        self._encoding = encoding
        self.instruments: list[Instrument] = []
        self.by_raw_name: dict[bytes, Instrument] = {}
        self._priced_by: dict[str, tuple[Instrument, bool]] = {}
        for spec in specs:
            self.add(spec, random)

    def add(self, spec: Specification, random: Random | None = None) -> Instrument:
        """Take up a symbol and return it."""
        instrument = Instrument(spec, len(self.instruments), random)
        self.instruments.append(instrument)
        self.by_raw_name[instrument.raw_name] = instrument
        if spec.is_currency_pair and spec.quote == "USD":
            self._priced_by[spec.base] = (instrument, False)
        elif spec.is_currency_pair and spec.base == "USD":
            self._priced_by[spec.quote] = (instrument, True)
        self.describe(instrument)
        return instrument

    def describe(self, instrument: Instrument, **changed: float) -> bytes:
        """Return the symbol's ConSymbol record, written anew with ``changed`` fields."""
        spec = instrument.spec
        fields = con_symbol(spec, instrument.position, USD_PER.get(spec.quote, 1.0))
        instrument.con_symbol = CON_SYMBOL.pack({**fields, **changed}, self._encoding)
        return instrument.con_symbol

    def usd_per(self, currency: str) -> float:
        """Return US dollars per unit of ``currency``."""
        if currency == "USD":
            return 1.0
        usual = USD_PER.get(currency, 1.0)
        if currency not in self._priced_by:
            return usual
        instrument, inverse = self._priced_by[currency]
        price = instrument.bid / instrument.scale
        if price <= 0:  # a tick file may say so
            return usual
        return 1 / price if inverse else price

    def rate(self, of: str, into: str) -> float:
        """Return units of currency ``into`` per unit of currency ``of``."""
        return 1.0 if of == into else self.usd_per(of) / self.usd_per(into)

    def table(self) -> bytes:
        """Return the ConSymbol array."""
        return b"".join(instrument.con_symbol for instrument in self.instruments)
