"""All metrics, gathered at each scrape."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mt4pump.client import Status
from mt4pump_consumers.metrics import mirror
from mt4pump_consumers.metrics.symbols import Symbols
from mt4pump_consumers.metrics.tally import Tally

PUMPING = "pumping"
NOBODY: Mapping[str, Any] = {}

COUNTS = {
    "gaps": ("mt4pump_reader_gaps_total", "Places where events were missing, healed or not."),
    "duplicates": ("mt4pump_reader_duplicates_total", "Events that came twice and were dropped."),
    "decode_errors": ("mt4pump_reader_decode_errors_total", "Messages that were not of this protocol."),
    "reconnects": ("mt4pump_reader_reconnects_total", "Connections to the daemon after the first."),
    "query_failures": ("mt4pump_reader_query_failures_total", "Queries to the daemon that failed."),
}
"""Counters of the client library by the name that they have there."""


class MetricSource(Protocol):
    """What reads the stream: see `Feed`."""

    restarts: int

    @property
    def status(self) -> Status | None:
        """Return the daemon as its last heartbeat showed it."""

    @property
    def counts(self) -> Mapping[str, int]:
        """Return the client library's counters."""


class MetricsCollector(Collector):
    """Shows the daemon's metrics only while it is heard: what it was before says nothing of now.

    The moments of its last heartbeat, callback and quote stay, as their age is what is asked for then.
    """

    def __init__(
        self,
        source: MetricSource,
        tally: Tally,
        symbols: Symbols | None,
        requests: Callable[[], tuple[int, int]] = lambda: (0, 0),
    ) -> None:
        self._source, self._tally, self._symbols, self._requests = source, tally, symbols, requests

    def describe(self) -> Iterator[Metric]:
        """Yield every metric; their names are what the registry needs."""
        yield from self._families(None)

    def collect(self) -> Iterator[Metric]:
        """Yield every metric that has a value."""
        yield from (family for family in self._families(self._source.status) if family.samples)

    def _families(self, status: Status | None) -> Iterator[Metric]:
        alive = status is not None and status.alive
        body = NOBODY if status is None else status.body
        yield GaugeMetricFamily("mt4pump_up", "1 while the daemon's heartbeat is heard, else 0.", alive)
        yield from mirror.families(body if alive else mirror.moments(body))
        yield from self._tally.families(alive=alive)
        for key, (name, text) in COUNTS.items():
            yield CounterMetricFamily(name, text, self._source.counts.get(key, 0))
        if self._symbols is not None:
            yield from self._symbols.families(live=alive and status is not None and status.state == PUMPING)
        yield from self._own()

    def _own(self) -> Iterator[Metric]:
        text = "Always 1; its labels are the versions of this program and of Python."
        build = GaugeMetricFamily("mt4pump_exporter_build_info", text, labels=["version", "python"])
        build.add_metric([own_version(), platform.python_version()], 1)
        yield build
        yield CounterMetricFamily(
            "mt4pump_exporter_feed_restarts_total",
            "Times that reading was begun anew after an error.",
            self._source.restarts,
        )
        rejected, ended = self._requests()
        text = "HTTP requests turned away, as too many were open."
        yield CounterMetricFamily("mt4pump_exporter_rejected_requests_total", text, rejected)
        text = "HTTP requests ended before their answer was taken, as they were slow."
        yield CounterMetricFamily("mt4pump_exporter_slow_requests_total", text, ended)


def own_version() -> str:
    """Return the version of the installed package; empty when it runs from a folder."""
    try:
        return version("mt4pump")
    except PackageNotFoundError:
        return ""
