"""The gateway's settings."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from mt4pump.process.program import ConsumerSettings
from mt4pump.process.settings import Disagreement, setting, tls_disagreements
from mt4pump.process.values import PathValue, Port, Seconds, byte_size, is_loopback

SERVER, LOGIN, STREAM, LIMITS = "Server", "Login", "Stream", "Limits of clients"
HEALTH = "Health"


def network(text: str) -> str:
    """Check an address or a network of proxies."""
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text} is no address or network; write it as 127.0.0.1 or 10.0.0.0/8") from None
    return text


class GatewaySettings(ConsumerSettings):
    """Settings of the WebSocket gateway."""

    program = help_command = "mt4pump-gateway"

    host: str = setting(SERVER, "address to serve on", "127.0.0.1")
    port: int = setting(SERVER, "port to serve on; 0: any free one, named in the log", 8765, ge=0, le=65535)
    tls_certificate: PathValue | None = setting(SERVER, "PEM file with the certificate chain: serve wss and https")
    tls_key: PathValue | None = setting(SERVER, "PEM file with its private key")
    allow_plaintext: bool = setting(
        SERVER, "serve other machines without TLS, as behind a proxy that has it", default=False
    )
    origins: tuple[str, ...] = setting(
        SERVER, "web pages that may connect, as https://app.example.com", (), metavar="URL"
    )
    trusted_proxies: tuple[Annotated[str, AfterValidator(network)], ...] = setting(
        SERVER,
        "addresses or networks of reverse proxies whose X-Forwarded-For is believed, as 127.0.0.1 or 10.0.0.0/8; the "
        "limits per address are those of their clients then",
        (),
    )
    health_port: Port | None = setting(
        HEALTH, "port of 127.0.0.1 for /metrics and /healthz of the program itself; 0: any free one, named in the log"
    )
    compression: bool = setting(SERVER, "offer permessage-deflate", default=True)

    anonymous: bool = setting(LOGIN, "let everybody on this machine in without a token (loopback only)", default=False)
    anonymous_topics: tuple[str, ...] = setting(
        LOGIN, "topics for those without a token", ("quote.*",), metavar="TOPIC"
    )
    tokens: PathValue | None = setting(LOGIN, "TOML file of hashed tokens; re-read when it changes")
    jwt_secret: SecretStr | None = setting(LOGIN, "secret that JSON Web Tokens are signed with (HS256)")
    jwt_public_key: PathValue | None = setting(LOGIN, "PEM file of the public key to check JSON Web Tokens with")
    jwt_claim: str = setting(LOGIN, "claim that lists the topics", "topics", min_length=1)
    jwt_audience: str | None = setting(LOGIN, "audience that a JSON Web Token must name")
    jwt_issuer: str | None = setting(LOGIN, "issuer that a JSON Web Token must name")
    jwt_leeway_s: Annotated[Seconds, Field(ge=0, le=600)] = setting(
        LOGIN, "so far may iat and nbf of a JSON Web Token be ahead of this clock", 30.0
    )
    authenticate_s: Annotated[Seconds, Field(gt=0)] = setting(LOGIN, "time to send a token", 10.0)

    topics: tuple[str, ...] = setting(STREAM, "what to read from mt4pump at all", ("*",), metavar="TOPIC")
    silence_s: Annotated[Seconds, Field(gt=0, le=300)] = setting(
        STREAM, "without a heartbeat for so long the daemon is silent", 5.0
    )
    quotes_per_s: Annotated[float, Field(ge=0, le=1000)] = setting(
        STREAM, "most quotes per symbol and client; 0: every one", 10.0
    )
    batch_window_s: Annotated[Seconds, Field(ge=0, le=5)] = setting(
        STREAM, "gather messages so long into one array; 0: no batches", 0.0
    )

    connections: int = setting(LIMITS, "most connections in all", 2000, ge=1)
    connections_per_address: int = setting(LIMITS, "most connections from one address (IPv6: from one /64)", 50, ge=1)
    connections_per_token: int = setting(LIMITS, "most connections with one token, or one sub of a JWT", 100, ge=1)
    new_connections_per_s: float = setting(
        LIMITS, "most new connections a second from one address, after a burst of 5 seconds' worth", 100.0, gt=0
    )
    messages_per_s: float = setting(LIMITS, "most messages from one client", 20.0, gt=0)
    subscriptions: int = setting(LIMITS, "most names and patterns that one client may subscribe to", 1000, ge=1)
    patterns: int = setting(LIMITS, "most patterns among them: each is compared with every topic there is", 50, ge=1)
    control_frames_per_s: float = setting(
        LIMITS, "most pings, pongs and parts of messages a second from one client, after a burst of 100", 10.0, gt=0
    )
    work_per_s: float = setting(
        LIMITS,
        "most work a second for one token, or one address without: comparisons of a pattern with a topic; a burst of "
        "6 seconds' worth is free, then its requests wait",
        500_000.0,
        ge=1000,
    )
    message_bytes: Annotated[int, Field(ge=1024), BeforeValidator(byte_size)] = setting(
        LIMITS, "longest message from a client", 65_536
    )
    queue: int = setting(LIMITS, "most messages that may wait for a slow client", 5000, ge=10)
    slow_s: Annotated[Seconds, Field(gt=0)] = setting(LIMITS, "longest time that a client may not read", 20.0)
    write_buffer_bytes: Annotated[int, Field(ge=4096), BeforeValidator(byte_size)] = setting(
        LIMITS, "bytes under way to a client before its quotes conflate", 65_536
    )
    resume_events: int = setting(LIMITS, "most stored events that one resume sends", 100_000, ge=1)

    def disagreements(self) -> Iterator[Disagreement]:
        """Yield what would be unsafe, or would let nobody in."""
        yield from tls_disagreements(self)
        if self.anonymous and not is_loopback(self.host):
            text = f"is for this machine alone, and host {self.host} is open to others; use tokens"
            yield Disagreement(("anonymous", "host"), text)
        if not self.anonymous and self.tokens is None and self.jwt_secret is None and self.jwt_public_key is None:
            text = "is off, and nobody could log in: give tokens, jwt-secret or jwt-public-key, or set anonymous"
            yield Disagreement(("anonymous", "tokens", "jwt_secret", "jwt_public_key"), text)
        if self.jwt_secret is not None and self.jwt_public_key is not None:
            yield Disagreement(("jwt_secret", "jwt_public_key"), "and jwt-public-key are both set; give one of them")
