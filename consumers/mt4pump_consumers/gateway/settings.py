"""The gateway's settings."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator

from mt4pump_consumers.frame import ConsumerSettings, settings_config

LOCAL_NAMES = frozenset({"localhost", "ip6-localhost"})


def is_loopback(host: str) -> bool:
    """Return whether nobody but this machine can reach, or come from, ``host``."""
    try:
        return ipaddress.ip_address(host.partition("%")[0].removeprefix("::ffff:")).is_loopback
    except ValueError:
        return host in LOCAL_NAMES


class GatewaySettings(ConsumerSettings):
    """Settings of the WebSocket gateway."""

    model_config = settings_config("gateway")

    host: str = Field("127.0.0.1", description="address to serve on")
    port: int = Field(8765, ge=0, le=65535, description="port to serve on; 0: any free one, named in the log")
    tls_certificate: Path | None = Field(None, description="PEM file with the certificate chain: serve wss and https")
    tls_key: Path | None = Field(None, description="PEM file with its private key")
    allow_plaintext: bool = Field(
        default=False, description="serve other machines without TLS, as behind a proxy that has it"
    )
    origins: tuple[str, ...] = Field((), description="web pages that may connect, as https://desk.example.com")
    trusted_proxies: tuple[str, ...] = Field(
        (),
        description="addresses or networks of reverse proxies whose X-Forwarded-For is believed, as 127.0.0.1 or "
        "10.0.0.0/8; the limits per address are those of their clients then",
    )

    anonymous: bool = Field(
        default=False, description="let everybody on this machine in without a token (loopback only)"
    )
    anonymous_topics: tuple[str, ...] = Field(("quote.*",), description="topics for those without a token")
    tokens: Path | None = Field(None, description="TOML file of hashed tokens; re-read when it changes")
    jwt_secret: SecretStr | None = Field(None, description="secret that JSON Web Tokens are signed with (HS256)")
    jwt_public_key: Path | None = Field(None, description="PEM file of the public key to check JSON Web Tokens with")
    jwt_claim: str = Field("topics", min_length=1, description="claim that lists the topics")
    jwt_audience: str | None = Field(None, description="audience that a JSON Web Token must name")
    jwt_issuer: str | None = Field(None, description="issuer that a JSON Web Token must name")
    jwt_leeway_s: float = Field(
        30.0, ge=0, le=600, description="so far may iat and nbf of a JSON Web Token be ahead of this clock"
    )

    topics: tuple[str, ...] = Field(("*",), description="what to read from mt4pump at all")
    silence_s: float = Field(5.0, gt=0, le=300, description="without a heartbeat for so long the daemon is silent")
    quotes_per_s: float = Field(10.0, ge=0, le=1000, description="most quotes per symbol and client; 0: every one")
    batch_window_s: float = Field(0.0, ge=0, le=5, description="gather messages so long into one array; 0: no batches")
    compression: bool = Field(default=True, description="offer permessage-deflate")

    connections: int = Field(2000, ge=1, description="most connections in all")
    connections_per_address: int = Field(50, ge=1, description="most connections from one address (IPv6: from one /64)")
    connections_per_token: int = Field(100, ge=1, description="most connections with one token, or one sub of a JWT")
    new_connections_per_s: float = Field(
        100.0, gt=0, description="most new connections a second from one address, after a burst of 5 seconds' worth"
    )
    messages_per_s: float = Field(20.0, gt=0, description="most messages from one client")
    subscriptions: int = Field(1000, ge=1, description="most names and patterns that one client may subscribe to")
    patterns: int = Field(50, ge=1, description="most patterns among them: each is compared with every topic there is")
    control_frames_per_s: float = Field(
        10.0, gt=0, description="most pings, pongs and parts of messages a second from one client, after a burst of 100"
    )
    work_per_s: float = Field(
        500_000.0,
        ge=1000,
        description="most work a second for one token, or one address without: comparisons of a pattern with a topic; "
        "a burst of 6 seconds' worth is free, then its requests wait",
    )
    message_bytes: int = Field(65_536, ge=1024, description="longest message from a client")
    authenticate_s: float = Field(10.0, gt=0, description="time to send a token")
    queue: int = Field(5000, ge=10, description="most messages that may wait for a slow client")
    slow_s: float = Field(20.0, gt=0, description="longest time that a client may not read")
    write_buffer_bytes: int = Field(
        65_536, ge=4096, description="bytes under way to a client before its quotes conflate"
    )
    resume_events: int = Field(100_000, ge=1, description="most stored events that one resume sends")

    @field_validator("trusted_proxies")
    @classmethod
    def are_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse what is no network."""
        for network in networks:
            try:
                ipaddress.ip_network(network, strict=False)
            except ValueError:
                raise ValueError(f"{network} is no address or network; write it as 127.0.0.1 or 10.0.0.0/8") from None
        return networks

    @model_validator(mode="after")
    def agree(self) -> Self:
        """Refuse what would be unsafe, or would let nobody in."""
        local = is_loopback(self.host)
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls-certificate and tls-key go together: give both, or none")
        if not local and self.tls_certificate is None and not self.allow_plaintext:
            raise ValueError(f"host {self.host} is open to other machines: give tls-certificate, or allow-plaintext")
        if self.anonymous and not local:
            raise ValueError(f"anonymous is for this machine alone, and host {self.host} is open to others; use tokens")
        if not self.anonymous and self.tokens is None and self.jwt_secret is None and self.jwt_public_key is None:
            raise ValueError("nobody could log in: give tokens, jwt-secret or jwt-public-key, or set anonymous")
        if self.jwt_secret is not None and self.jwt_public_key is not None:
            raise ValueError("give jwt-secret or jwt-public-key, not both")
        return self
