"""``/metrics`` and ``/healthz`` of a consumer, on a loopback port of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from mt4pump.process.program import StartError
from mt4pump_consumers.http_server import MetricsServer

HOST = "127.0.0.1"

log = logging.getLogger(__name__)


class CountsCollector(Collector):
    """Shows ``counts()`` as ``PREFIX_NAME_total``, those named in ``gauges`` as ``PREFIX_NAME``, and ``PREFIX_up``.

    ``fault`` returns what ``/healthz`` reports, empty for none. It and ``counts`` are called on the server's thread:
    they may only read.
    """

    def __init__(
        self,
        prefix: str,
        counts: Callable[[], Mapping[str, float]],
        fault: Callable[[], str],
        gauges: Collection[str] = (),
    ) -> None:
        self._prefix, self._counts, self.fault, self._gauges = prefix, counts, fault, gauges

    def describe(self) -> Iterator[Metric]:
        """Yield no names: counters may appear later."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield every counter."""
        yield GaugeMetricFamily(f"{self._prefix}_up", "1 while /healthz answers 200, else 0.", not self.fault())
        for name, value in sorted(self._counts().items()):
            make = GaugeMetricFamily if name in self._gauges else CounterMetricFamily
            yield make(f"{self._prefix}_{name}", f"Counter {name} of the program: see consumers/README.md.", value)


@contextmanager
def health_endpoint(port: int | None, collector: CountsCollector) -> Iterator[None]:
    """Serve ``/metrics`` and ``/healthz`` on ``port`` of this machine alone, None: not at all. Raises StartError."""
    if port is None:
        yield
        return
    registry = CollectorRegistry()
    registry.register(collector)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    try:
        server = MetricsServer(registry, HOST, port, health=collector.fault)
    except OSError as error:
        text = f"health-port {port} of {HOST} cannot be served on ({error}); choose another with --health-port"
        raise StartError(text) from error
    server.start()
    log.info("own metrics are served on %s, health on /healthz there", server.address)
    try:
        yield
    finally:
        server.stop()
