"""``/metrics`` and ``/healthz`` of a consumer.

``python -m mt4pump_consumers.health PORT`` checks ``/healthz``: for containers.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from ssl import SSLContext

from prometheus_client import PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from mt4pump.process.program import StartError
from mt4pump_consumers.http_server import MetricsServer

HOST = "127.0.0.1"
CHECK_LIMIT_S = 10.0

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


def metrics_server(
    collector_for: Callable[[MetricsServer], Collector],
    fault: Callable[[], str],
    host: str,
    port: int,
    *,
    context: SSLContext | None = None,
    setting: str = "port",
) -> MetricsServer:
    """Return a bound server, not started, of the collector's metrics and those of process and Python.

    ``fault`` returns what ``/healthz`` reports. ``setting`` names the port in the text of the StartError.
    """
    registry = CollectorRegistry()
    try:
        server = MetricsServer(registry, host, port, context, fault)
    except OSError as error:
        where = f"{setting} {port} of {host} cannot be served on ({error})"
        raise StartError(f"{where}; end the program there, or choose another with --{setting}") from error
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    registry.register(collector_for(server))
    return server


@contextmanager
def health_endpoint(port: int | None, collector: CountsCollector) -> Iterator[None]:
    """Serve ``/metrics`` and ``/healthz`` on ``port`` of this machine alone, None: not at all. Raises StartError."""
    if port is None:
        yield
        return
    server = metrics_server(lambda _: collector, collector.fault, HOST, port, setting="health-port")
    server.start()
    log.info("own metrics are served on %s, health on /healthz there", server.address)
    try:
        yield
    finally:
        server.stop()


def check(port: str) -> int:
    """Return 0 while the program whose ``/healthz`` is on ``port`` of this machine is healthy, else 1."""
    try:
        with closing(HTTPConnection(HOST, int(port), timeout=CHECK_LIMIT_S)) as connection:
            connection.request("GET", "/healthz")
            answer = connection.getresponse()
            text = answer.read().decode().strip()
    except (OSError, HTTPException) as error:
        sys.stderr.write(f"/healthz on port {port} does not answer: {error}\n")
        return 1
    sys.stdout.write(f"{text}\n")
    return 0 if answer.status == HTTPStatus.OK else 1


if __name__ == "__main__":
    sys.exit(check(*sys.argv[1:2]))
