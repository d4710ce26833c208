"""The bridge's settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from mt4pump_consumers.frame import ConsumerSettings, settings_config

PREFIX = re.compile(r"[^\s.*>$%][^\s.*>%]*(\.[^\s.*>%]+)*")
STREAM_NAME = re.compile(r"[A-Za-z0-9_-]+")


class NatsSettings(ConsumerSettings):
    """Settings of the NATS bridge. Those of the stream that are None leave an existing stream as it is."""

    model_config = settings_config("nats")

    topics: tuple[str, ...] = Field(("*",), min_length=1, description="what to republish, as trade.* or quote.EURUSD")
    subject_prefix: str = Field("", description="put before every subject, as broker1: broker1.quote.EURUSD")

    servers: tuple[str, ...] = Field(
        ("nats://127.0.0.1:4222",), min_length=1, description="NATS servers of one cluster, tried in turn"
    )
    user: str | None = Field(None, description="name to log in to NATS with")
    password: SecretStr | None = Field(None, description="its password")
    token: SecretStr | None = Field(None, description="token to log in to NATS with")
    credentials: Path | None = Field(None, description="credentials file (.creds) to log in to NATS with")
    tls_ca: Path | None = Field(None, description="PEM file of the authority that signed the servers' certificates")
    tls_certificate: Path | None = Field(None, description="PEM file with our own certificate")
    tls_key: Path | None = Field(None, description="PEM file with its private key")

    stream: str = Field("MT4PUMP", description="JetStream stream for durable events; made if there is none")
    stream_storage: Literal["file", "memory"] = Field("file", description="where a new stream is kept")
    stream_replicas: int | None = Field(None, ge=1, le=5, description="servers that each hold the stream; 1 if new")
    stream_max_age_s: float | None = Field(None, ge=0, description="keep events so long; 0: for ever; 7 days if new")
    stream_max_bytes: int | None = Field(None, ge=-1, description="most bytes to keep; -1: no limit, as if new")
    stream_max_events: int | None = Field(None, ge=-1, description="most events to keep; -1: no limit, as if new")
    stream_window_s: float | None = Field(
        None, ge=1, description="how long JetStream itself refuses an event id that it knows; 120 s if new"
    )
    start: Literal["first", "now"] = Field(
        "first", description="where a new stream starts: with all that the journal has, or with what comes from now on"
    )

    publish_limit: int = Field(256, ge=1, le=100_000, description="events on their way to JetStream at one time")
    queue_limit: int = Field(10_000, ge=1, description="live events that may wait; more are read from the journal")
    ack_timeout_s: float = Field(5.0, gt=0, le=300, description="JetStream must acknowledge an event within this time")
    retry_s: float = Field(30.0, ge=0.1, le=3600, description="longest wait between two attempts of anything")
    report_interval_s: float = Field(60.0, ge=0, description="log the counters so often; 0: never")

    @field_validator("servers")
    @classmethod
    def _are_servers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_server(text.strip()) for text in value)

    @field_validator("subject_prefix")
    @classmethod
    def _is_prefix(cls, value: str) -> str:
        if value and not PREFIX.fullmatch(value):
            raise ValueError("give words with dots between them, without spaces, * > % and a $ at the start")
        return value

    @field_validator("stream")
    @classmethod
    def _is_stream_name(cls, value: str) -> str:
        if not STREAM_NAME.fullmatch(value):
            raise ValueError("a stream's name has letters, digits, - and _ only")
        return value

    @model_validator(mode="after")
    def agree(self) -> Self:
        """Refuse half a login and half a certificate."""
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password go together: give both, or none")
        if sum(way is not None for way in (self.user, self.token, self.credentials)) > 1:
            raise ValueError("log in in one way: user and password, token, or credentials")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls-certificate and tls-key go together: give both, or none")
        return self


def _server(text: str) -> str:
    """Return the URL of a server; addresses are logged, so no secret may be in one."""
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
