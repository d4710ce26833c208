"""What this reader of the stream sees: events, delays, losses, quotes per symbol; pure.

One thread counts, others read at the same time. Each number is replaced in one step, so a scrape sees every one of
them as it was at some moment, though not all at the same; a lock per event would cost more than the rest together.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from mt4pump.client import Event, Notice, Quote, Trade
from mt4pump.client.event import KIND_NAMES, NOTICE_KINDS
from mt4pump.client.events import CHANGES
from mt4pump.process.values import SymbolFilter
from mt4pump_consumers.metrics.heartbeat import OTHER, PING

NS = 1_000_000_000
LATENCY_BUCKETS_S = (
    *(0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
KINDS_LIMIT = 64
"""Kinds beside pings that are counted apart; the rest together."""


class KindCounters:
    """Numbers of one kind; ``last_ts`` in ns since 1970."""

    __slots__ = ("buckets", "events", "last_ts", "lost", "sum_ns")

    def __init__(self) -> None:
        self.events = self.lost = self.last_ts = self.sum_ns = 0
        self.buckets = [0] * (len(LATENCY_BUCKETS_S) + 1)


class StreamCounters:
    """Takes events and notices. ``tolerance_s``: how far a coarse clock may be behind without being wrong."""

    def __init__(self, tolerance_s: float = 0.001) -> None:
        self._tolerance_ns = int(tolerance_s * NS)
        self._bounds_ns = [int(bound * NS) for bound in LATENCY_BUCKETS_S]
        self._kinds = {kind: KindCounters() for kind in (*KIND_NAMES, PING)}
        self._changes: Counter[str] = Counter(dict.fromkeys(CHANGES, 0))
        self._notices: Counter[str] = Counter(dict.fromkeys(NOTICE_KINDS, 0))
        self._healed = self._ahead = 0
        self.lagging = False

    def count_event(self, event: Event, now_ns: int) -> None:
        """Count an event that was read at ``now_ns``, ns since 1970. Delays are measured of live events alone."""
        if event.snapshot:
            return
        numbers = self._kinds.get(event.kind) or self._numbers(event.kind)
        numbers.events += 1
        ts = event.ts
        numbers.last_ts = max(numbers.last_ts, ts)
        if event.healed:
            self._healed += 1
        else:
            self._time(numbers, now_ns - ts)
        if isinstance(event, Trade):
            change = event.change
            self._changes[change if change in self._changes else OTHER] += 1  # type: ignore[index]

    def _time(self, numbers: KindCounters, delay_ns: int) -> None:
        if delay_ns < 0:
            if delay_ns < -self._tolerance_ns:
                self._ahead += 1
            delay_ns = 0
        numbers.sum_ns += delay_ns
        numbers.buckets[bisect_left(self._bounds_ns, delay_ns)] += 1

    def count_notice(self, notice: Notice) -> None:
        """Count what the client says of the stream."""
        kind = notice.kind
        self._notices[kind if kind in self._notices else OTHER] += 1
        if kind == "lost":
            kind = PING if notice.topic == PING else notice.topic.partition(".")[0]
            self._numbers(kind or OTHER).lost += notice.count
        elif kind in {"lagging", "caught_up"}:
            self.lagging = kind == "lagging"

    def _numbers(self, kind: str) -> KindCounters:
        """Return the numbers of a kind that may be new; a bound, as it comes from outside."""
        if kind not in self._kinds and len(self._kinds) > KINDS_LIMIT:
            kind = OTHER
        numbers = self._kinds.get(kind)
        if numbers is None:
            numbers = self._kinds[kind] = KindCounters()
        return numbers

    def families(self, *, alive: bool = True) -> Iterator[Metric]:
        """Yield the metrics; ``alive``: heartbeats arrive, so that lagging means something."""
        kinds = list(self._kinds.items())
        events = {kind: numbers.events for kind, numbers in kinds if kind != PING}
        yield labelled("mt4pump_reader_events_total", "Events read, live or from the journal.", "kind", events)
        lost = {kind: numbers.lost for kind, numbers in kinds if kind != "heartbeat"}
        yield labelled("mt4pump_reader_lost_events_total", "Events that are lost for this reader.", "kind", lost)
        text = "Events that were missing and came from the journal."
        yield CounterMetricFamily("mt4pump_reader_healed_events_total", text, self._healed)
        text = "Events whose callback lies in the future of this machine's clock; their latency counts as 0."
        yield CounterMetricFamily("mt4pump_reader_future_events_total", text, self._ahead)
        yield self._latency(kinds)
        last = {kind: numbers.last_ts / NS for kind, numbers in kinds if numbers.last_ts}
        text = "When the last event read happened."
        yield labelled("mt4pump_reader_last_event_timestamp_seconds", text, "kind", last)
        text = "Trade events read, by what happened to the order."
        yield labelled("mt4pump_reader_trades_total", text, "change", dict(self._changes))
        text = "Notices of the client library about the stream."
        yield labelled("mt4pump_reader_notices_total", text, "notice", dict(self._notices))
        text = "1 while this reader is too slow for the stream."
        yield GaugeMetricFamily("mt4pump_reader_lagging", text, self.lagging and alive)

    def _latency(self, kinds: list[tuple[str, KindCounters]]) -> Metric:
        text = "Time from the Manager API's callback to this reader, of live events; by the clocks of both machines."
        family = HistogramMetricFamily("mt4pump_reader_event_latency_seconds", text, labels=["kind"])
        for kind, numbers in kinds:
            counts, total, rows = list(numbers.buckets), 0, []
            for bound, count in zip((*LATENCY_BUCKETS_S, float("inf")), counts, strict=True):
                total += count
                rows.append(("+Inf" if bound == float("inf") else str(bound), total))
            if total:
                family.add_metric([kind], rows, numbers.sum_ns / NS)
        return family


def labelled(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    """Return a metric with one label; its kind follows from its name."""
    make = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
    family = make(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


KNOWN_LIMIT = 100_000
"""Symbols whose match is remembered."""


class SymbolCounters:
    """Numbers of one symbol; ``spread`` in points, None where the prices give none."""

    __slots__ = ("last_ts", "quotes", "spread")

    def __init__(self) -> None:
        self.quotes = self.last_ts = 0
        self.spread: int | None = None


class SymbolMetrics:
    """Counts the quotes of symbols that ``patterns`` select, at most ``limit`` of them. One thread counts.

    A symbol is forgotten when the server deletes it, and all are when the daemon starts anew: it may have other ones.
    """

    def __init__(self, patterns: Sequence[str], limit: int) -> None:
        self._filter, self._limit = SymbolFilter(patterns), limit
        self._known: dict[str, SymbolCounters | None] = {}
        self._shown: dict[str, SymbolCounters] = {}
        self._epoch = 0
        self.beyond_limit = 0

    def count(self, event: Event) -> None:
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
        numbers = self._known[symbol] if symbol in self._known else self._add(symbol)
        if numbers is None:
            return
        if not quote.snapshot:
            numbers.quotes += 1
        numbers.last_ts = max(numbers.last_ts, quote.ts)
        numbers.spread = quote.spread

    def _add(self, symbol: str) -> SymbolCounters | None:
        wanted = self._filter.selects(symbol)
        numbers = None
        if wanted and len(self._shown) < self._limit:
            numbers = self._shown[symbol] = SymbolCounters()
        elif wanted:
            self.beyond_limit += 1
        if len(self._known) < KNOWN_LIMIT:
            self._known[symbol] = numbers
        return numbers

    def unselected(self) -> list[str]:
        """Return the symbols that quotes came of if none of them gets series, else nothing; for any thread."""
        return [] if self._shown else list(self._known)

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
            "mt4pump_symbol_left_out",
            "Symbols without series of their own, as there are too many.",
            self.beyond_limit,
        )
