"""The exporter's settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from mt4pump.process.program import ConsumerSettings
from mt4pump.process.settings import Disagreement, setting, tls_disagreements
from mt4pump.process.values import PathValue, Seconds

SYMBOLS_LIMIT_MAX = 5_000
SERVER, STREAM = "Server", "Stream"


class MetricsSettings(ConsumerSettings):
    """Settings of the Prometheus exporter."""

    program = help_command = "mt4pump-metrics"

    host: str = setting(SERVER, "address to serve on", "127.0.0.1")
    port: int = setting(SERVER, "port to serve on; 0: any free one, named in the log", 9564, ge=0, le=65535)
    tls_certificate: PathValue | None = setting(SERVER, "PEM file with the certificate chain: serve https")
    tls_key: PathValue | None = setting(SERVER, "PEM file with its private key")
    allow_plaintext: bool = setting(
        SERVER, "serve other machines without TLS, as in a network that is closed off", default=False
    )
    stream: bool = setting(
        STREAM, "read the events, too; without it the heartbeat alone: no latency and no gaps", default=True
    )
    topics: tuple[str, ...] = setting(
        STREAM, "events to read, as trade.* or quote.EURUSD", ("*",), min_length=1, metavar="TOPIC"
    )
    symbols: tuple[str, ...] = setting(
        STREAM,
        "symbols that get series of their own, as EURUSD or GBP*, a ! before those to leave out; by default none do",
        (),
        metavar="SYMBOL",
    )
    symbols_limit: int = setting(
        STREAM, "most symbols with series of their own; others are only counted", 200, ge=1, le=SYMBOLS_LIMIT_MAX
    )
    silence_s: Annotated[Seconds, Field(gt=0, le=300)] = setting(
        STREAM, "without a heartbeat for so long the daemon is down", 5.0
    )

    def disagreements(self) -> Iterator[Disagreement]:
        """Yield what would be unsafe, or would show nothing."""
        yield from tls_disagreements(self)
        if self.symbols and not self.stream:
            yield Disagreement(("symbols", "stream"), "come from the events: leave symbols out, or stream on")
