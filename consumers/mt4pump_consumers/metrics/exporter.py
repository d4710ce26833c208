"""The exporter: a thread reads the stream, a collector gathers all metrics at each scrape, HTTP serves them."""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from ssl import SSLContext
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mt4pump import __version__
from mt4pump.client import ClientError, ClientKeys, Event, Notice, Query, Status, Subscriber
from mt4pump.client.event import KIND_NAMES
from mt4pump.client.liveness import PUMPING
from mt4pump.process.program import ConsumerSettings, Shutdown, StartError
from mt4pump_consumers.feed_thread import FeedThread
from mt4pump_consumers.health import metrics_server
from mt4pump_consumers.http_server import MetricsServer, tls_context
from mt4pump_consumers.metrics import heartbeat
from mt4pump_consumers.metrics.settings import MetricsSettings
from mt4pump_consumers.metrics.stream import StreamCounters, SymbolMetrics

HEARTBEAT = "heartbeat"
JOIN_S = 5.0
TIMEOUT_S = 2.0
QUERY_RETRY_S, REFRESH_S = 30.0, 600.0
"""Time to the next query after one that failed, and after one that was answered: a setting may change."""
LEAST_TOLERANCE_S = 0.001
CHECK_S = 1.0

log = logging.getLogger(__name__)


def subscriber(settings: MetricsSettings, keys: ClientKeys | None) -> Subscriber:
    """Return a new subscriber; raises ClientError for addresses and keys that cannot work."""
    named: dict[str, Any] = {} if settings.query_endpoint is None else {"query_endpoint": settings.query_endpoint}
    topics = (*settings.topics, HEARTBEAT) if settings.stream else (HEARTBEAT,)
    return Subscriber(
        settings.endpoint,
        topics=topics,
        keys=keys,
        silence_s=settings.silence_s,
        snapshot=bool(settings.symbols),  # only the last quote of a symbol is of use here
        heal=settings.stream,
        notices=True,
        **named,
    )


def count(items: Iterable[Event | Notice], counters: StreamCounters, symbols: SymbolMetrics | None) -> None:
    """Count what comes, until it ends."""
    for item in items:
        if isinstance(item, Notice):
            counters.count_notice(item)
            continue
        counters.count_event(item, time.time_ns())
        if symbols is not None:
            symbols.count(item)


class DurableKindsQuery:
    """Queries which kinds the daemon's journal stores: a heartbeat does not show that of a kind without events.

    `update` is for one thread, `of` for any.
    """

    def __init__(self, settings: ConsumerSettings) -> None:
        self._settings = settings
        self._asked_epoch = 0
        self._due_s = 0.0
        self._found: tuple[int, Mapping[str, bool]] = (0, {})

    def of(self, epoch: int) -> Mapping[str, bool]:
        """Return for each kind whether the journal stores it in this run of the daemon; empty: not known."""
        found_epoch, kinds = self._found
        return kinds if found_epoch == epoch else {}

    def update(self, status: Status) -> None:
        """Query the daemon if it is time; takes at most `TIMEOUT_S`."""
        now_s = time.monotonic()
        if not status.alive or (status.epoch == self._asked_epoch and now_s < self._due_s):
            return
        self._asked_epoch, self._due_s = status.epoch, now_s + QUERY_RETRY_S
        try:
            keys = ClientKeys.load(self._settings.keys) if self._settings.keys else None
            with Query(self._settings.query_address, keys, TIMEOUT_S) as query:
                described = query.describe()
        except (ClientError, ValueError) as error:  # an endpoint without a port has no query address
            log.debug("the kinds that the journal stores are not known: %s", error)
            return
        kinds = described.get("kinds")
        if isinstance(kinds, Mapping):
            self._found = described["epoch"], {kind: _is_durable(kinds[kind]) for kind in KIND_NAMES if kind in kinds}
            self._due_s = now_s + REFRESH_S


def _is_durable(kind: object) -> bool:
    return isinstance(kind, Mapping) and bool(kind.get("durable"))


UNSELECTED_S = 60.0
"""Time for which quotes come before it is said that the setting selects none of their symbols."""
EXAMPLES = 3


class SelectionCheck:
    """Warns once that the setting ``symbols`` selects none of the symbols that quotes come of."""

    def __init__(self, symbols: SymbolMetrics | None) -> None:
        self._symbols = symbols
        self._since_s: float | None = None

    def update(self, now_s: float) -> None:
        """Look at the symbols so far; ``now_s`` is of a clock that nobody sets."""
        unselected = self._symbols.unselected() if self._symbols is not None else []
        if not unselected:
            self._since_s = None
        elif self._since_s is None:
            self._since_s = now_s
        elif now_s - self._since_s >= UNSELECTED_S:
            text = (
                "the setting symbols selects none of the %d symbols with quotes, as %s: no symbol has series of its own"
            )
            log.warning(text, len(unselected), " ".join(sorted(unselected)[:EXAMPLES]))
            self._symbols = None


COUNTS = {
    "gaps": ("mt4pump_reader_gaps_total", "Places where events were missing, healed or not."),
    "duplicates": ("mt4pump_reader_duplicates_total", "Events that came twice and were dropped."),
    "decode_errors": ("mt4pump_reader_decode_errors_total", "Messages that were not of this protocol."),
    "reconnects": ("mt4pump_reader_reconnects_total", "Connections to the daemon after the first."),
    "query_failures": ("mt4pump_reader_query_failures_total", "Queries to the daemon that failed."),
}
"""Counters of the client library by the name that they have there."""


class MetricsCollector(Collector):
    """Shows the daemon's metrics only while its heartbeat arrives: old values would look like present ones.

    The moments of its last heartbeat, callback and quote stay, as their age is what is asked for then.
    """

    def __init__(
        self,
        source: FeedThread,
        counters: StreamCounters,
        symbols: SymbolMetrics | None,
        requests: Callable[[], tuple[int, int]] = lambda: (0, 0),
        stored_kinds: Callable[[int], Mapping[str, bool]] = lambda _: {},
        *,
        old_logs_deleted: Callable[[], int] = lambda: 0,
    ) -> None:
        self._source, self._counters, self._symbols, self._requests = source, counters, symbols, requests
        self._stored_kinds, self._old_logs_deleted = stored_kinds, old_logs_deleted

    def describe(self) -> Iterator[Metric]:
        """Yield every metric; their names are what the registry needs."""
        yield from self._families()

    def collect(self) -> Iterator[Metric]:
        """Yield every metric that has a value."""
        yield from (family for family in self._families() if family.samples)

    def _families(self) -> Iterator[Metric]:
        status = self._source.status
        alive = status.alive
        yield GaugeMetricFamily("mt4pump_up", "1 while the daemon's heartbeat arrives, else 0.", alive)
        yield from heartbeat.families(status.body if alive else heartbeat.moments(status.body))
        text = (
            "1 for a kind that the daemon's journal stores, else 0; missing while the query endpoint does not answer."
        )
        stored = self._stored_kinds(status.epoch) if alive else {}
        family = GaugeMetricFamily("mt4pump_journal_kind_stored", text, labels=["kind"])
        for kind, is_stored in stored.items():
            family.add_metric([kind], is_stored)
        yield family
        yield from self._counters.families(alive=alive)
        for key, (name, text) in COUNTS.items():
            yield CounterMetricFamily(name, text, self._source.subscriber.counts.get(key, 0))
        if self._symbols is not None:
            yield from self._symbols.families(live=alive and status.state == PUMPING)
        yield from self._own()

    def _own(self) -> Iterator[Metric]:
        text = "Always 1; its labels are the versions of this program and of Python."
        build = GaugeMetricFamily("mt4pump_exporter_build_info", text, labels=["version", "python"])
        build.add_metric([__version__, platform.python_version()], 1)
        yield build
        yield CounterMetricFamily(
            "mt4pump_exporter_feed_restarts_total",
            "Times that reading was begun anew after an error.",
            self._source.restarts,
        )
        rejected, ended = self._requests()
        text = "HTTP requests turned away, as too many were open or no file descriptor was left."
        yield CounterMetricFamily("mt4pump_exporter_rejected_requests_total", text, rejected)
        text = "HTTP requests ended before their answer was taken, as they were slow."
        yield CounterMetricFamily("mt4pump_exporter_slow_requests_total", text, ended)
        text = "Rotated logs of this service that were deleted."
        yield CounterMetricFamily("mt4pump_exporter_old_logs_deleted_total", text, self._old_logs_deleted())


def main(settings: MetricsSettings, shutdown: Shutdown) -> int:
    """Serve metrics until asked to end."""
    counters = StreamCounters(max(LEAST_TOLERANCE_S, time.get_clock_info("time").resolution))
    symbols = SymbolMetrics(settings.symbols, settings.symbols_limit) if settings.symbols else None
    feed = _feed(settings, counters, symbols)
    kinds, selection = DurableKindsQuery(settings), SelectionCheck(symbols)
    try:
        server = _server(settings, feed, counters, symbols, kinds, shutdown=shutdown)
    except BaseException:
        feed.stop()
        raise
    try:
        server.start()
        feed.start()
        log.info("metrics are served on %s, from mt4pump on %s", server.address, settings.endpoint)
        while not shutdown.wait(CHECK_S):
            if not (feed.is_alive() and server.is_alive()):
                raise RuntimeError("the thread that reads, or the one that serves, is gone")
            kinds.update(feed.status)
            selection.update(time.monotonic())
        log.info("stopping")
    finally:
        server.stop()
        feed.stop()
        if feed.is_alive():
            feed.join(JOIN_S)
    log.info("stopped")
    return 0


def _feed(settings: MetricsSettings, counters: StreamCounters, symbols: SymbolMetrics | None) -> FeedThread:
    try:
        keys = ClientKeys.load(settings.keys) if settings.keys else None
        feed = FeedThread(lambda: subscriber(settings, keys), lambda reader: count(reader, counters, symbols))
    except ClientError as error:
        raise StartError(str(error)) from error
    try:
        first = feed.subscriber.receive(0)  # opens the sockets: a wrong address is an error here, not in the thread
        count([] if first is None else [first], counters, symbols)
    except Exception as error:
        feed.stop()
        raise StartError(f"{settings.endpoint} cannot be read from: {error}") from error
    return feed


def _server(
    settings: MetricsSettings,
    feed: FeedThread,
    counters: StreamCounters,
    symbols: SymbolMetrics | None,
    kinds: DurableKindsQuery,
    *,
    shutdown: Shutdown,
) -> MetricsServer:
    def collector_for(server: MetricsServer) -> MetricsCollector:
        return MetricsCollector(
            feed,
            counters,
            symbols,
            lambda: (server.rejected, server.ended),
            kinds.of,
            old_logs_deleted=lambda: shutdown.old_logs_deleted,
        )

    return metrics_server(
        collector_for, lambda: _fault_of(feed.status), settings.host, settings.port, context=_tls(settings)
    )


def _fault_of(status: Status) -> str:
    """Return what ``/healthz`` reports, empty while heartbeats arrive."""
    return "" if status.alive else "no heartbeat of the daemon"


def _tls(settings: MetricsSettings) -> SSLContext | None:
    certificate, key = settings.tls_certificate, settings.tls_key
    if certificate is None or key is None:
        return None
    try:
        return tls_context(certificate, key)
    except OSError as error:
        raise StartError(f"tls-certificate {certificate} and tls-key {key} cannot be used: {error}") from error
