"""The exporter's settings."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from mt4pump_consumers.frame import ConsumerSettings, settings_config

SYMBOLS_LIMIT_MAX = 5_000
LOCAL_NAMES = frozenset({"localhost", "ip6-localhost"})


class MetricsSettings(ConsumerSettings):
    """Settings of the Prometheus exporter."""

    model_config = settings_config("metrics")

    host: str = Field("127.0.0.1", description="address to serve on")
    port: int = Field(9564, ge=0, le=65535, description="port to serve on; 0: any free one, named in the log")
    tls_certificate: Path | None = Field(None, description="PEM file with the certificate chain: serve https")
    tls_key: Path | None = Field(None, description="PEM file with its private key")
    allow_plaintext: bool = Field(
        default=False, description="serve other machines without TLS, as in a network that is closed off"
    )
    stream: bool = Field(
        default=True, description="read the events, too; without it the heartbeat alone: no latency and no gaps"
    )
    topics: tuple[str, ...] = Field(("*",), min_length=1, description="events to read, as trade.* or quote.EURUSD")
    symbols: tuple[str, ...] = Field(
        (), description="symbols that get series of their own, as EURUSD or GBP*; by default none do"
    )
    symbols_limit: int = Field(
        200, ge=1, le=SYMBOLS_LIMIT_MAX, description="most symbols with series of their own; others are only counted"
    )
    silence_s: float = Field(5.0, gt=0, le=300, description="without a heartbeat for so long the daemon is down")

    @model_validator(mode="after")
    def agree(self) -> Self:
        """Refuse what would be unsafe, or would show nothing."""
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls-certificate and tls-key go together: give both, or none")
        if not is_loopback(self.host) and self.tls_certificate is None and not self.allow_plaintext:
            raise ValueError(f"host {self.host} is open to other machines: give tls-certificate, or allow-plaintext")
        if self.symbols and not self.stream:
            raise ValueError("symbols come from the events: leave symbols out, or stream on")
        return self


def is_loopback(host: str) -> bool:
    """Return whether nobody but this machine can reach ``host``."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host in LOCAL_NAMES
