"""Quotes per symbol, for the symbols that the settings name; pure.

A series per symbol and metric is what Prometheus pays for, so it is only on demand and has a limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from mt4pump.client import Event, Quote

NS = 1_000_000_000
KNOWN_LIMIT = 100_000
"""Symbols whose match is remembered."""


class SymbolTally:
    """Numbers of one symbol; ``spread`` in points, None where the prices give none."""

    __slots__ = ("last_ts", "quotes", "spread")

    def __init__(self) -> None:
        self.quotes = self.last_ts = 0
        self.spread: int | None = None


class Symbols:
    """Counts the quotes of symbols that match ``patterns``, at most ``limit`` of them. One thread counts.

    A symbol is forgotten when the server deletes it, and all are when the daemon starts anew: it may have other ones.
    """

    def __init__(self, patterns: Sequence[str], limit: int) -> None:
        self._patterns, self._limit = patterns, limit
        self._known: dict[str, SymbolTally | None] = {}
        self._shown: dict[str, SymbolTally] = {}
        self._epoch = 0
        self.beyond_limit = 0

    def take(self, event: Event) -> None:
        """Count a quote, and forget what is gone; last values from the start count as last, not as new."""
        if event.epoch > self._epoch or (event.kind == "heartbeat" and event.epoch != self._epoch):
            self._epoch = event.epoch
            self._known, self._shown, self.beyond_limit = {}, {}, 0
        if isinstance(event, Quote):
            self._count(event)
        elif event.kind == "symbol" and event.body.get("action") == "delete":
            self._known.pop(event.key, None)
            self._shown.pop(event.key, None)

    def _count(self, quote: Quote) -> None:
        if quote.epoch < self._epoch:
            return
        symbol = quote.key
        numbers = self._known[symbol] if symbol in self._known else self._meet(symbol)
        if numbers is None:
            return
        if not quote.snapshot:
            numbers.quotes += 1
        numbers.last_ts = max(numbers.last_ts, quote.ts)
        numbers.spread = quote.spread

    def _meet(self, symbol: str) -> SymbolTally | None:
        wanted = any(fnmatchcase(symbol, pattern) for pattern in self._patterns)
        numbers = None
        if wanted and len(self._shown) < self._limit:
            numbers = self._shown[symbol] = SymbolTally()
        elif wanted:
            self.beyond_limit += 1
        if len(self._known) < KNOWN_LIMIT:
            self._known[symbol] = numbers
        return numbers

    def families(self, *, live: bool) -> Iterator[Metric]:
        """Yield the metrics; spreads only while prices are ``live``: without a session nobody knows them."""
        quotes = CounterMetricFamily("mt4pump_symbol_quotes_total", "Quotes read, by symbol.", labels=["symbol"])
        last = GaugeMetricFamily(
            "mt4pump_symbol_last_quote_timestamp_seconds", "When the symbol's last quote came.", labels=["symbol"]
        )
        spread = GaugeMetricFamily("mt4pump_symbol_spread_points", "Last spread, in points.", labels=["symbol"])
        for symbol, numbers in list(self._shown.items()):
            quotes.add_metric([symbol], numbers.quotes)
            last.add_metric([symbol], numbers.last_ts / NS)
            if live and numbers.spread is not None:
                spread.add_metric([symbol], numbers.spread)
        yield from (quotes, last, spread)
        yield GaugeMetricFamily(
            "mt4pump_symbol_left_out", "Symbols without series of their own, as there are too many.", self.beyond_limit
        )
