"""Puts the exporter together: stream → tally → collector → HTTP."""

from __future__ import annotations

import logging
import time
from ssl import SSLContext
from typing import Any

from prometheus_client import PlatformCollector, ProcessCollector
from prometheus_client.registry import CollectorRegistry

from mt4pump.client import ClientError, ClientKeys, Subscriber
from mt4pump.process.program import Shutdown, StartError
from mt4pump_consumers.metrics.collector import MetricsCollector
from mt4pump_consumers.metrics.feed import MetricsFeed
from mt4pump_consumers.metrics.server import MetricsServer, tls_context
from mt4pump_consumers.metrics.settings import MetricsSettings
from mt4pump_consumers.metrics.symbols import Symbols
from mt4pump_consumers.metrics.tally import Tally

LEAST_TOLERANCE_S = 0.001
HEARTBEAT = "heartbeat"
WATCH_S = 1.0

log = logging.getLogger(__name__)


def main(settings: MetricsSettings, ending: Shutdown) -> int:
    """Serve metrics until asked to end."""
    tally = Tally(max(LEAST_TOLERANCE_S, time.get_clock_info("time").resolution))
    symbols = Symbols(settings.symbols, settings.symbols_limit) if settings.symbols else None
    feed = _feed(settings, tally, symbols)
    try:
        server = _server(settings, feed, tally, symbols)
    except BaseException:
        feed.stop()
        raise
    try:
        server.start()
        feed.start()
        log.info("metrics are served on %s, from mt4pump on %s", server.address, settings.endpoint)
        while not ending.wait(WATCH_S):
            if not (feed.is_alive() and server.is_alive()):
                raise RuntimeError("the thread that reads, or the one that serves, is gone")
        log.info("stopping")
    finally:
        server.stop()
        feed.stop()
    log.info("stopped")
    return 0


def _feed(settings: MetricsSettings, tally: Tally, symbols: Symbols | None) -> MetricsFeed:
    try:
        keys = ClientKeys.load(settings.keys) if settings.keys else None
        feed = MetricsFeed(lambda: subscriber(settings, keys), tally, symbols)
    except ClientError as error:
        raise StartError(str(error)) from error
    try:
        feed.open()
    except Exception as error:
        feed.stop()
        raise StartError(f"{settings.endpoint} cannot be read from: {error}") from error
    return feed


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


def _server(settings: MetricsSettings, feed: MetricsFeed, tally: Tally, symbols: Symbols | None) -> MetricsServer:
    registry, context = CollectorRegistry(), _tls(settings)
    try:
        server = MetricsServer(registry, settings.host, settings.port, context)
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        raise StartError(f"metrics cannot be served on {where}: {error}; is another exporter running there?") from error
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    registry.register(MetricsCollector(feed, tally, symbols, lambda: (server.rejected, server.ended)))
    return server


def _tls(settings: MetricsSettings) -> SSLContext | None:
    certificate, key = settings.tls_certificate, settings.tls_key
    if certificate is None or key is None:
        return None
    try:
        return tls_context(certificate, key)
    except OSError as error:
        raise StartError(f"tls-certificate {certificate} and tls-key {key} cannot be used: {error}") from error
