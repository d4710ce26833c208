"""Symbols with their current prices, counted in whole points so that every price has exactly its digits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from mt4pump.mt4.codes import SymbolDirection
from mt4pump.mt4.layout import CON_SESSION, CON_SESSIONS, CON_SYMBOL, SYMBOL_INFO

MAJORS, CROSSES, METALS, INDICES, ENERGIES, CRYPTO = range(6)
SECURITIES = ("Forex majors", "Forex crosses", "Metals", "Indices", "Energies", "Crypto")
"""Symbol groups by their number (ConSymbol.type)."""

PROFIT_CALC_FOREX, PROFIT_CALC_CFD = 0, 1
MARGIN_CALC_FOREX, MARGIN_CALC_CFDLEVERAGE = 0, 4
TRADE_FULL, EXE_MARKET, ORDERS_GTC, WEDNESDAY = 2, 2, 1, 2
DAY_MINUTES = 1440
NAME_BYTES = 12
MOVES, SPREADS = 1024, 64
STEP = 3e-5
"""Standard deviation of one quote's move, as part of the price."""
SMALLEST_STEP = 0.4
"""The same in points, for symbols whose point is large."""
FREE_RANGE = 0.02
"""Part of its first price by which a price moves freely; beyond, it is pulled back and stays plausible for weeks."""
NEVER_LOW, NEVER_HIGH = -(1 << 62), 1 << 62
WIDEST_SPREAD = 2**31 - 1
"""What the record's field holds; with 8 decimals that is a spread of 21.47, which a tick file may well exceed."""

USD_PER = {
    "USD": 1.0, "EUR": 1.09, "GBP": 1.27, "JPY": 0.0066, "CHF": 1.13, "CAD": 0.735, "AUD": 0.66, "NZD": 0.61,
    "SEK": 0.096, "NOK": 0.094, "DKK": 0.146, "PLN": 0.25, "HKD": 0.128, "SGD": 0.745, "ZAR": 0.054, "MXN": 0.055,
}  # fmt: skip
"""US dollars per unit of a currency, where no simulated symbol has a price for it (a replay of one tick file)."""


@dataclass(frozen=True, slots=True)
class Specification:
    """The constants of a symbol: ``price`` is the first one, ``spread`` in points, swaps in points per night."""

    symbol: str
    security: int
    base: str
    quote: str
    digits: int
    price: float
    spread: int
    contract_size: float
    swap_long: float
    swap_short: float
    description: str

    @property
    def scale(self) -> int:
        """Return points per unit of price."""
        return int(10**self.digits)

    @property
    def is_currency_pair(self) -> bool:
        """Return whether margin is counted in the base currency, not from the price."""
        return self.security in {MAJORS, CROSSES}

    @property
    def margin_currency(self) -> str:
        """Return the currency in which margin is counted."""
        return self.base if self.is_currency_pair else self.quote


WALK_SYMBOLS = (
    Specification("EURUSD", MAJORS, "EUR", "USD", 5, 1.08745, 12, 100_000, -7.1, 3.2, "Euro vs US Dollar"),
    Specification("GBPUSD", MAJORS, "GBP", "USD", 5, 1.27312, 16, 100_000, -4.8, -1.9, "Sterling vs US Dollar"),
    Specification("USDJPY", MAJORS, "USD", "JPY", 3, 151.234, 13, 100_000, 14.2, -28.3, "US Dollar vs Yen"),
    Specification("USDCHF", MAJORS, "USD", "CHF", 5, 0.88462, 15, 100_000, 7.7, -13.4, "US Dollar vs Swiss Franc"),
    Specification("USDCAD", MAJORS, "USD", "CAD", 5, 1.36071, 17, 100_000, -1.1, -5.6, "US Dollar vs Canadian Dollar"),
    Specification("AUDUSD", MAJORS, "AUD", "USD", 5, 0.65893, 13, 100_000, -3.6, 0.4, "Australian Dollar vs US Dollar"),
    Specification("NZDUSD", MAJORS, "NZD", "USD", 5, 0.60418, 18, 100_000, -2.2, -1.3, "NZ Dollar vs US Dollar"),
    Specification("EURGBP", CROSSES, "EUR", "GBP", 5, 0.85416, 14, 100_000, -6.4, 1.0, "Euro vs Sterling"),
    Specification("EURJPY", CROSSES, "EUR", "JPY", 3, 164.457, 19, 100_000, 8.8, -22.7, "Euro vs Yen"),
    Specification("GBPJPY", CROSSES, "GBP", "JPY", 3, 192.541, 26, 100_000, 15.9, -36.1, "Sterling vs Yen"),
    Specification("EURCHF", CROSSES, "EUR", "CHF", 5, 0.96198, 20, 100_000, 3.3, -9.5, "Euro vs Swiss Franc"),
    Specification("EURAUD", CROSSES, "EUR", "AUD", 5, 1.65032, 28, 100_000, -12.5, 4.1, "Euro vs Australian Dollar"),
    Specification("AUDJPY", CROSSES, "AUD", "JPY", 3, 99.652, 18, 100_000, 7.3, -17.6, "Australian Dollar vs Yen"),
    Specification("CADJPY", CROSSES, "CAD", "JPY", 3, 111.143, 21, 100_000, 8.0, -19.9, "Canadian Dollar vs Yen"),
    Specification("CHFJPY", CROSSES, "CHF", "JPY", 3, 170.958, 27, 100_000, 1.2, -14.8, "Swiss Franc vs Yen"),
    Specification("GBPCHF", CROSSES, "GBP", "CHF", 5, 1.12624, 31, 100_000, 6.6, -15.7, "Sterling vs Swiss Franc"),
    Specification("NZDJPY", CROSSES, "NZD", "JPY", 3, 91.373, 24, 100_000, 6.5, -16.2, "NZ Dollar vs Yen"),
    Specification("XAUUSD", METALS, "XAU", "USD", 2, 2341.67, 22, 100, -34.0, 17.5, "Gold vs US Dollar"),
    Specification("XAGUSD", METALS, "XAG", "USD", 3, 27.914, 24, 5_000, -3.9, 1.4, "Silver vs US Dollar"),
    Specification("US500", INDICES, "USD", "USD", 1, 5214.8, 5, 10, -98.0, 31.0, "US 500 index"),
    Specification("US30", INDICES, "USD", "USD", 0, 39127, 3, 1, -73.0, 23.0, "US Wall Street 30 index"),
    Specification("USTEC", INDICES, "USD", "USD", 1, 18253.4, 14, 10, -343.0, 110.0, "US Tech 100 index"),
    Specification("DE40", INDICES, "EUR", "EUR", 1, 18174.9, 11, 10, -310.0, 42.0, "Germany 40 index"),
    Specification("UK100", INDICES, "GBP", "GBP", 1, 7911.2, 12, 10, -142.0, 36.0, "UK 100 index"),
    Specification("JP225", INDICES, "JPY", "JPY", 0, 39582, 8, 100, -21.0, -17.0, "Japan 225 index"),
    Specification("USOIL", ENERGIES, "USD", "USD", 2, 83.17, 3, 1_000, 1.9, -6.4, "West Texas crude oil"),
    Specification("UKOIL", ENERGIES, "USD", "USD", 2, 87.42, 3, 1_000, 2.3, -6.9, "Brent crude oil"),
    Specification("NATGAS", ENERGIES, "USD", "USD", 3, 1.786, 6, 10_000, -5.2, 0.8, "Henry Hub natural gas"),
    Specification("BTCUSD", CRYPTO, "BTC", "USD", 2, 66842.51, 1650, 1, -5200.0, -1800.0, "Bitcoin vs US Dollar"),
    Specification("ETHUSD", CRYPTO, "ETH", "USD", 2, 3312.76, 210, 10, -260.0, -90.0, "Ethereum vs US Dollar"),
)  # fmt: skip
"""The symbols of the random walk, which is pulled back to these prices."""


def specification_of(symbol: str, digits: int) -> Specification:
    """Return the specification of a tick file's symbol: a known one with ``digits``, else one derived from its name."""
    for known in WALK_SYMBOLS:
        if known.symbol == symbol:
            return replace(known, digits=digits)
    if len(symbol) == 6 and symbol[:3] in USD_PER and symbol[3:] in USD_PER:
        name = f"{symbol[:3]} vs {symbol[3:]}"
        return Specification(symbol, CROSSES, symbol[:3], symbol[3:], digits, 1.0, 20, 100_000, 0.0, 0.0, name)
    return Specification(symbol, INDICES, "USD", "USD", digits, 1.0, 20, 1, 0.0, 0.0, f"{symbol} from a tick file")


def con_symbol(spec: Specification, position: int, usd_per_quote: float) -> dict[str, Any]:
    """Return the ConSymbol fields of ``spec``, the symbol at ``position`` of the table."""
    tick_value = spec.contract_size / spec.scale * usd_per_quote
    pair = spec.is_currency_pair
    return {
        "symbol": spec.symbol, "description": spec.description, "currency": spec.base, "type": spec.security,
        "digits": spec.digits, "trade": TRADE_FULL, "background_color": 0xFFFFFF,
        "count": position, "count_original": position, "realtime": 1, "sessions": _sessions(spec),
        "profit_mode": PROFIT_CALC_FOREX if pair else PROFIT_CALC_CFD, "filter": 5, "logging": 1,
        "exemode": EXE_MARKET, "swap_enable": 1, "swap_long": spec.swap_long, "swap_short": spec.swap_short,
        "swap_rollover3days": WEDNESDAY, "contract_size": spec.contract_size, "tick_value": tick_value,
        "tick_size": 1 / spec.scale, "gtc_pendings": ORDERS_GTC,
        "margin_mode": MARGIN_CALC_FOREX if pair else MARGIN_CALC_CFDLEVERAGE, "margin_hedged": spec.contract_size,
        "margin_divider": 1.0, "point": 1 / spec.scale, "multiply": float(spec.scale),
        "bid_tickvalue": tick_value, "ask_tickvalue": tick_value, "margin_currency": spec.margin_currency,
    }  # fmt: skip


def _sessions(spec: Specification) -> list[bytes]:
    """Return the week's sessions from Sunday; the market ignores them, because a demonstration runs on Sundays too."""
    whole_day = CON_SESSION.pack({"close_hour": 24, "close": DAY_MINUTES})
    is_open = CON_SESSIONS.pack({"quote": [whole_day], "trade": [whole_day]})
    weekend = is_open if spec.security == CRYPTO else CON_SESSIONS.pack({})
    return [weekend, *[is_open] * 5, weekend]


pack_symbol_info = SYMBOL_INFO.struct.pack


class Instrument:
    """One symbol: prices in points, the steps of its walk, and the prices that trigger an order.

    An order may be triggered when bid falls to ``bid_low`` or rises to ``bid_high``, or ask to ``ask_low`` or
    ``ask_high``. The bounds may be tighter than needed, never wider. ``triggers`` are four heaps of all such prices
    with their tickets, in that order; low prices are negative, so that the first entry is the one reached first.
    """

    __slots__ = (
        "ask", "ask_high", "ask_low", "base", "bid", "bid_high", "bid_low", "con_symbol", "fixed", "high", "low",
        "market", "moves", "name", "position", "pull", "raw_name", "scale", "spec", "spreads", "triggers",
    )  # fmt: skip

    def __init__(self, market: Market, spec: Specification, random: Random | None) -> None:
        self.market = market
        self.spec = spec
        self.name = spec.symbol
        self.raw_name = spec.symbol.encode("ascii").ljust(NAME_BYTES, b"\0")
        self.position = len(market.instruments)
        self.scale = spec.scale
        self.base = self.bid = self.high = self.low = round(spec.price * spec.scale)
        self.ask = self.bid + spec.spread
        self.pull = 1 / (self.base * FREE_RANGE)  # a whole point per quote begins where the free range ends
        self.moves: tuple[int, ...] = (0,)
        self.spreads: tuple[int, ...] = (spec.spread,)
        if random:
            step = max(SMALLEST_STEP, self.base * STEP)
            ups = [round(random.gauss(0, step)) for _ in range(MOVES // 2)]
            self.moves = (*ups, *(-move for move in ups))  # the sum is zero: no trend but chance
            self.spreads = tuple(spec.spread + int(random.random() ** 3 * spec.spread * 0.5) for _ in range(SPREADS))
        self.con_symbol: bytes = b""
        self._fix()
        self.clear_triggers()

    def _fix(self) -> None:
        self.fixed = (self.raw_name, self.spec.digits, self.position, 1, self.spec.security, 1 / self.scale)

    def clear_triggers(self) -> None:
        """Remove all trigger prices."""
        self.triggers: tuple[list[tuple[int, int]], ...] = ([], [], [], [])
        self.update_bounds()

    def update_bounds(self) -> None:
        """Set the bounds to the first entry of each heap; an outdated entry only makes them tighter."""
        bid_lows, bid_highs, ask_lows, ask_highs = self.triggers
        self.bid_low = -bid_lows[0][0] if bid_lows else NEVER_LOW
        self.bid_high = bid_highs[0][0] if bid_highs else NEVER_HIGH
        self.ask_low = -ask_lows[0][0] if ask_lows else NEVER_LOW
        self.ask_high = ask_highs[0][0] if ask_highs else NEVER_HIGH

    def signed_prices(self) -> tuple[int, int, int, int]:
        """Return the current prices as the heaps of ``triggers`` compare them."""
        return -self.bid, self.bid, -self.ask, self.ask

    def grow_digits(self, digits: int) -> None:
        """Continue with more decimals than before; prices keep their value."""
        factor = 10 ** (digits - self.spec.digits)
        self.scale *= factor
        self.spec = replace(self.spec, digits=digits)
        self.base, self.bid, self.ask = self.base * factor, self.bid * factor, self.ask * factor
        self.high, self.low = self.high * factor, self.low * factor
        self._fix()

    def set_prices(self, bid: int, ask: int) -> int:
        """Set the prices (points) and return the direction."""
        before, self.bid, self.ask = self.bid, bid, ask
        self.high = max(self.high, bid)
        self.low = min(self.low, bid)
        if bid > before:
            return SymbolDirection.SDIR_UP
        return SymbolDirection.SDIR_DOWN if bid < before else SymbolDirection.SDIR_NONE

    def start_day(self) -> None:
        """Reset the day's high and low."""
        self.high = self.low = self.bid

    def info(self, direction: int, server_time_s: int) -> bytes:
        """Return the SymbolInfo record of the current prices; only its spread is limited, to `WIDEST_SPREAD`."""
        scale = self.scale
        spread = max(-WIDEST_SPREAD, min(WIDEST_SPREAD, self.ask - self.bid))
        return pack_symbol_info(
            *self.fixed, spread, 0, direction, 1, server_time_s,
            self.bid / scale, self.ask / scale, self.high / scale, self.low / scale, 0.0, 0,
        )  # fmt: skip


class Market:
    """All instruments, and exchange rates at their prices."""

    def __init__(self, specs: Iterable[Specification], random: Random | None, encoding: str) -> None:
        self._encoding = encoding
        self.instruments: list[Instrument] = []
        self.by_raw_name: dict[bytes, Instrument] = {}
        self._usd_pairs: dict[str, tuple[Instrument, bool]] = {}
        for spec in specs:
            self.add(spec, random)

    def add(self, spec: Specification, random: Random | None = None) -> Instrument:
        """Add a symbol and return it."""
        instrument = Instrument(self, spec, random)
        self.instruments.append(instrument)
        self.by_raw_name[instrument.raw_name] = instrument
        if spec.is_currency_pair and spec.quote == "USD":
            self._usd_pairs[spec.base] = (instrument, False)
        elif spec.is_currency_pair and spec.base == "USD":
            self._usd_pairs[spec.quote] = (instrument, True)
        self.describe(instrument)
        return instrument

    def describe(self, instrument: Instrument, **changed: float) -> bytes:
        """Pack the symbol's ConSymbol record again, with ``changed`` fields, and return it."""
        spec = instrument.spec
        fields = con_symbol(spec, instrument.position, USD_PER.get(spec.quote, 1.0))
        instrument.con_symbol = CON_SYMBOL.pack({**fields, **changed}, self._encoding)
        return instrument.con_symbol

    def usd_per(self, currency: str) -> float:
        """Return US dollars per unit of ``currency``."""
        if currency == "USD":
            return 1.0
        instrument, is_inverse = self._usd_pairs.get(currency, (None, False))
        price = instrument.bid / instrument.scale if instrument else 0.0
        if price <= 0:  # no symbol has a price for it, or a tick file a negative one
            return USD_PER.get(currency, 1.0)
        return 1 / price if is_inverse else price

    def rate(self, of: str, into: str) -> float:
        """Return units of currency ``into`` per unit of currency ``of``."""
        return 1.0 if of == into else self.usd_per(of) / self.usd_per(into)

    def table(self) -> bytes:
        """Return the ConSymbol array."""
        return b"".join(instrument.con_symbol for instrument in self.instruments)
