"""The JetStream stream: made if missing, and asked how far it is."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig, StreamInfo
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

from mt4pump_consumers.nats_bridge.connection import FAULTS
from mt4pump_consumers.nats_bridge.journal import JetStreamRetry
from mt4pump_consumers.nats_bridge.message import LogPosition, log_position_of
from mt4pump_consumers.nats_bridge.settings import NatsSettings

API_TIMEOUT_S = 5
SEARCH_LIMIT = 100
"""Messages looked at, from the last one backwards, for one of ours."""
NEW_MAX_AGE_S, NEW_WINDOW_S = 7 * 86_400.0, 120.0
NS = 1_000_000_000

log = logging.getLogger(__name__)


class StreamPosition(NamedTuple):
    """How far the stream is.

    ``last_seq`` is JetStream's number of its last message ever. ``log_position`` is None if it is empty; ``is_new``:
    nothing was ever in it. ``max_age_s`` 0: for ever. ``max_msg_size`` 0: no limit of the stream's own.
    """

    last_seq: int
    log_position: LogPosition | None
    is_new: bool
    max_age_s: float
    window_s: float
    max_msg_size: int = 0


class JetStream:
    """One stream by its settings; every method raises JetStreamRetry."""

    def __init__(self, client: Client, settings: NatsSettings) -> None:
        self._stream: JetStreamContext = client.jetstream(timeout=API_TIMEOUT_S)
        self._settings = settings
        self._name = settings.stream

    async def ready(self, subjects: Iterable[str]) -> StreamPosition:
        """Make the stream, or have it listen to ``subjects`` and have the limits that are set; return how far it is."""
        try:
            info = await self._prepare(list(subjects))
            log_position = await self._log_position(info.state.last_seq) if info.state.messages else None
        except ServiceUnavailableError as error:
            raise JetStreamRetry("NATS is there, JetStream is not: is it on (nats-server -js)?") from error
        except APIError as error:
            text = f"JetStream refuses the stream {self._name}: {error.description or error}"
            raise JetStreamRetry(text) from error
        except FAULTS as error:
            raise JetStreamRetry(f"JetStream does not answer: {error}") from error
        age_s, window_s = info.config.max_age or 0.0, info.config.duplicate_window or NEW_WINDOW_S
        max_msg_size = max(info.config.max_msg_size or 0, 0)
        return StreamPosition(
            info.state.last_seq, log_position, info.state.last_seq == 0, age_s, window_s, max_msg_size
        )

    async def _prepare(self, subjects: list[str]) -> StreamInfo:
        try:
            info = await self._stream.stream_info(self._name)
        except NotFoundError:
            log.info("making the stream %s for %s", self._name, ", ".join(subjects))
            return await self._stream.add_stream(self._new(subjects))
        wanted = replace(info.config, subjects=subjects, **self._given())
        if wanted.subjects != info.config.subjects or any(
            getattr(wanted, name) != getattr(info.config, name) for name in self._given()
        ):
            log.info("changing the stream %s: subjects %s, limits %s", self._name, ", ".join(subjects), self._given())
            return await self._stream.update_stream(wanted)
        return info

    def _given(self) -> dict[str, Any]:
        """Return the limits that the settings name."""
        settings = self._settings
        named = {
            "num_replicas": settings.stream_replicas,
            "max_age": settings.stream_max_age_s,
            "max_bytes": settings.stream_max_bytes,
            "max_msgs": settings.stream_max_events,
            "duplicate_window": settings.stream_window_s,
        }
        return {name: value for name, value in named.items() if value is not None}

    def _new(self, subjects: list[str]) -> StreamConfig:
        max_age_s = self._given().get("max_age", NEW_MAX_AGE_S)
        # JetStream refuses a window that is longer than what it keeps.
        window_s = min(NEW_WINDOW_S, max_age_s) if max_age_s else NEW_WINDOW_S
        new: dict[str, Any] = {"num_replicas": 1, "max_age": max_age_s, "duplicate_window": window_s}
        return StreamConfig(
            name=self._name,
            description="durable events of mt4pump; written by mt4pump-nats alone",
            subjects=subjects,
            retention=RetentionPolicy.LIMITS,
            discard=DiscardPolicy.OLD,
            storage=StorageType(self._settings.stream_storage),
            **{**new, **self._given()},
        )

    async def _log_position(self, last_seq: int) -> LogPosition:
        """Return the position that our last message names."""
        for seq in range(last_seq, max(0, last_seq - SEARCH_LIMIT), -1):
            try:
                message = await self._stream.get_msg(self._name, seq)
            except NotFoundError:  # deleted by hand
                continue
            log_position = log_position_of(message.headers)
            if log_position is not None:
                return log_position
        text = (
            f"the last {SEARCH_LIMIT} messages of the stream {self._name} are not ours: give the bridge its own stream"
        )
        raise JetStreamRetry(text)
