"""The last ticks and one-minute bars of each symbol, for charts; pure.

They are of the quotes that the gateway has received since it started, also of those that conflation then replaced.
"""

from __future__ import annotations

import math
from array import array

from mt4pump.client import Event
from mt4pump_consumers.gateway.protocol import Json

SYMBOLS_LIMIT = 2_000
"""Symbols kept; quotes of others are counted and have no history."""
TICKS, BARS = 300, 240
"""Ticks and bars kept of each symbol; up to a quarter more until the oldest are removed in one go."""
MINUTE_S = 60
TICK, BAR = 3, 5
"""Numbers of a tick (time, bid, ask) and of a bar (time, open, high, low, close)."""
SPARE = 1.25
SET_BACK_S = 5.0
"""A quote that is so much older than the last one: the daemon's clock was ahead, and would end the history."""


class SymbolHistory:
    """Ticks and bars of one symbol, one after the other in arrays: 17 KB for all."""

    __slots__ = ("bars", "ticks")

    def __init__(self) -> None:
        self.ticks, self.bars = array("d"), array("d")

    def add(self, time_s: float, bid: float, ask: float) -> None:
        """Add a quote, unless it is not newer than the last one; after a clock was set back all begins anew."""
        ticks, bars = self.ticks, self.bars
        if ticks and time_s <= ticks[-TICK]:
            if time_s > ticks[-TICK] - SET_BACK_S:
                return
            del ticks[:], bars[:]
        ticks.extend((time_s, bid, ask))
        if len(ticks) > SPARE * TICKS * TICK:
            del ticks[: -TICKS * TICK]
        minute_s = time_s - time_s % MINUTE_S
        if not bars or bars[-BAR] != minute_s:
            bars.extend((minute_s, bid, bid, bid, bid))
            if len(bars) > SPARE * BARS * BAR:
                del bars[: -BARS * BAR]
            return
        bars[-3], bars[-2], bars[-1] = max(bars[-3], bid), min(bars[-2], bid), bid


class PriceHistory:
    """``unkept`` counts quotes of symbols beyond the limit."""

    def __init__(self, symbols_limit: int = SYMBOLS_LIMIT) -> None:
        self.unkept = 0
        self._symbols_limit = symbols_limit
        self._symbols: dict[str, SymbolHistory] = {}

    def keep(self, quote: Event) -> None:
        """Add a quote to its symbol's history."""
        bid, ask = quote.body.get("bid", math.nan), quote.body.get("ask", math.nan)
        history = self._symbols.get(quote.key)
        if history is None:
            if len(self._symbols) >= self._symbols_limit:
                self.unkept += 1
                return
            history = self._symbols[quote.key] = SymbolHistory()
        if isinstance(bid, float | int) and isinstance(ask, float | int) and math.isfinite(bid) and math.isfinite(ask):
            history.add(quote.ts / 1e9, bid, ask)

    def of(self, symbol: str) -> Json:
        """Return the message that a client gets; without ticks and bars if none are known."""
        history = self._symbols.get(symbol) or SymbolHistory()
        ticks = [[round(time_s, 3), bid, ask] for time_s, bid, ask in _rows(history.ticks, TICK, TICKS)]
        return {"type": "history", "symbol": symbol, "ticks": ticks, "bars": _rows(history.bars, BAR, BARS)}


def _rows(numbers: array[float], width: int, limit: int) -> list[list[float]]:
    kept = numbers[-limit * width :]
    return [list(kept[start : start + width]) for start in range(0, len(kept), width)]
