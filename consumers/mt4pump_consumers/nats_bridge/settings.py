"""The bridge's settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from mt4pump.process.program import ConsumerSettings
from mt4pump.process.settings import Disagreement, both_or_none, setting
from mt4pump.process.values import PathValue, Port, Seconds

PREFIX = re.compile(r"[^\s.*>$%][^\s.*>%]*(\.[^\s.*>%]+)*")
STREAM_NAME = re.compile(r"[A-Za-z0-9_-]+")
EVENTS, SERVER, STREAM, LIMITS, HEALTH = "Events", "NATS servers", "JetStream stream", "Limits", "Health"


def server_url(text: str) -> str:
    """Return the URL of a server; addresses are logged, so no secret may be in one."""
    text = text.strip()
    url = text if "://" in text else f"nats://{text}"
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in {"nats", "tls"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable or any(character.isspace() for character in url):
        raise ValueError("write a server as nats://host:4222, or tls://host:4222")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a login does not belong into the address, which is logged: give user and password, or token")
    return url


def checked_prefix(text: str) -> str:
    """Check the words that begin every subject; empty: none."""
    if text and not PREFIX.fullmatch(text):
        raise ValueError("give words with dots between them, without spaces, * > % and a $ at the start")
    return text


def checked_stream(text: str) -> str:
    """Check the name of a stream."""
    if not STREAM_NAME.fullmatch(text):
        raise ValueError("a stream's name has letters, digits, - and _ only")
    return text


class NatsSettings(ConsumerSettings):
    """Settings of the NATS bridge. Those of the stream that are None leave an existing stream as it is."""

    program = help_command = "mt4pump-nats"

    topics: tuple[str, ...] = setting(
        EVENTS, "what to republish, as trade.* or quote.EURUSD", ("*",), min_length=1, metavar="TOPIC"
    )
    subject_prefix: Annotated[str, AfterValidator(checked_prefix)] = setting(
        EVENTS, "put before every subject, as broker1: broker1.quote.EURUSD", ""
    )

    servers: tuple[Annotated[str, AfterValidator(server_url)], ...] = setting(
        SERVER, "NATS servers of one cluster, tried in turn", ("nats://127.0.0.1:4222",), min_length=1, metavar="URL"
    )
    user: str | None = setting(SERVER, "name to log in to NATS with")
    password: SecretStr | None = setting(SERVER, "its password")
    token: SecretStr | None = setting(SERVER, "token to log in to NATS with")
    credentials: PathValue | None = setting(SERVER, "credentials file (.creds) to log in to NATS with")
    tls_ca: PathValue | None = setting(SERVER, "PEM file of the authority that signed the servers' certificates")
    tls_certificate: PathValue | None = setting(SERVER, "PEM file with our own certificate")
    tls_key: PathValue | None = setting(SERVER, "PEM file with its private key")

    stream: Annotated[str, AfterValidator(checked_stream)] = setting(
        STREAM, "JetStream stream for durable events; made if there is none", "MT4PUMP"
    )
    stream_storage: Literal["file", "memory"] = setting(STREAM, "where a new stream is kept", "file")
    stream_replicas: Annotated[int, Field(ge=1, le=5)] | None = setting(
        STREAM, "servers that each hold the stream; 1 if new"
    )
    stream_max_age_s: Annotated[Seconds, Field(ge=0)] | None = setting(
        STREAM, "keep events so long; 0: for ever; 7 days if new"
    )
    stream_max_bytes: Annotated[int, Field(ge=-1)] | None = setting(
        STREAM, "most bytes to keep; -1: no limit, as if new", metavar="N"
    )
    stream_max_events: Annotated[int, Field(ge=-1)] | None = setting(
        STREAM, "most events to keep; -1: no limit, as if new"
    )
    stream_window_s: Annotated[Seconds, Field(ge=1)] | None = setting(
        STREAM, "how long JetStream itself refuses an event id that it knows; 120 s if new"
    )
    start: Literal["first", "now"] = setting(
        STREAM, "where a new stream starts: with all that the journal has, or with what comes from now on", "first"
    )

    health_port: Port | None = setting(
        HEALTH, "port of 127.0.0.1 for /metrics and /healthz of the program itself; 0: any free one, named in the log"
    )
    publish_limit: int = setting(LIMITS, "events on their way to JetStream at one time", 256, ge=1, le=100_000)
    queue_limit: int = setting(LIMITS, "live events that may wait; more are read from the journal", 10_000, ge=1)
    ack_timeout_s: Annotated[Seconds, Field(gt=0, le=300)] = setting(
        LIMITS, "JetStream must acknowledge an event within this time", 5.0
    )
    retry_s: Annotated[Seconds, Field(ge=0.1, le=3600)] = setting(
        LIMITS, "longest wait between two attempts of anything", 30.0
    )
    report_interval_s: Annotated[Seconds, Field(ge=0)] = setting(LIMITS, "log the counters so often; 0: never", 60.0)

    def disagreements(self) -> Iterator[Disagreement]:
        """Yield half a login, half a certificate, and two logins."""
        yield from both_or_none(self, "user", "password")
        yield from both_or_none(self, "tls_certificate", "tls_key")
        ways = [name for name in ("user", "token", "credentials") if getattr(self, name) is not None]
        if len(ways) > 1:
            yield Disagreement(tuple(ways), "log in in one way: user and password, token, or credentials")
