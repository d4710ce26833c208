"""The JetStream stream: made if missing, asked how far it is, and published into.

Many messages are on their way at a time, each on the condition that the one before is the stream's last. nats-py's own
``publish_async`` is not used: where the server refuses a message, its future never ends.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import Any, NamedTuple

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig, StreamInfo
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

from mt4pump.client import Event
from mt4pump_consumers.nats_bridge.connection import FAULTS, PENDING_LIMIT_BYTES, ServerConnection
from mt4pump_consumers.nats_bridge.message import MSG_ID, JetStreamRetry, LogPosition, Message, log_position_of
from mt4pump_consumers.nats_bridge.settings import NatsSettings

API_TIMEOUT_S = 5
SEARCH_LIMIT = 100
"""Messages read, from the last one backwards, for one of ours."""
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


EXPECTED_STREAM, EXPECTED_SEQUENCE = "Nats-Expected-Stream", "Nats-Expected-Last-Sequence"
WRONG_SEQUENCE = 10071
"""JetStream's error code for: the stream's last message is another one."""
BAD_REQUEST = 400
NO_ROOM = frozenset({10_077, 10_122, 10_123, 10_023, 10_047})
"""JetStream's error codes for: the stream has all the messages, or bytes, that it may; no resources."""


class PublishQueue:
    """Belongs to one connection. After the first failure it takes nothing more: what is stored must be looked up.

    ``limit`` messages are on their way at most; without any acknowledgement for ``ack_timeout_s`` it fails. ``stored``
    counts those that the stream has.
    """

    def __init__(
        self, connection: ServerConnection, stream: str, last_seq: int, limit: int, ack_timeout_s: float
    ) -> None:
        self.stored = 0
        self._connection = connection
        self._stream = stream
        self._seq = last_seq
        self._limit = limit
        self._ack_timeout_s = ack_timeout_s
        self._inbox = connection.client.new_inbox()
        self._waiting: dict[str, Message] = {}
        self._acknowledged = asyncio.Event()
        self._retry: JetStreamRetry | None = None
        self._subscription: Subscription | None = None

    async def open(self) -> None:
        """Listen for acknowledgements; raises JetStreamRetry."""
        self._connection.on_lost(self._on_lost)
        try:
            self._subscription = await self._connection.client.subscribe(f"{self._inbox}.*", cb=self._on_ack)
        except FAULTS as error:  # the connection's end is reported by `ServerConnection`
            raise JetStreamRetry(
                f"JetStream's acknowledgements cannot be subscribed to: {error}", is_quiet=True
            ) from error

    async def close(self) -> None:
        """Listen no more."""
        if self._subscription is not None:
            with suppress(*FAULTS):
                await self._subscription.unsubscribe()

    async def put(self, message: Message) -> None:
        """Publish; wait while too many are on their way. Raises JetStreamRetry, and then forgets the message."""
        while len(self._waiting) >= self._limit:
            await self._wait()
        self._check()
        reply = f"{self._inbox}.{self._seq + 1}"
        condition = {EXPECTED_STREAM: self._stream, EXPECTED_SEQUENCE: str(self._seq)}
        self._seq += 1
        self._waiting[reply] = message
        client = self._connection.client
        # A server that takes nothing more lets this wait: bounded like a missing acknowledgement. As long as little is
        # pending, nats-py does not wait, and a timer per event would only cost CPU.
        may_wait = client.pending_data_size + len(message.payload) > PENDING_LIMIT_BYTES
        try:
            async with asyncio.timeout(self._ack_timeout_s) if may_wait else nullcontext():
                await client.publish(
                    message.subject, message.payload, reply=reply, headers={**message.headers, **condition}
                )
        except FAULTS as error:
            del self._waiting[reply]
            raise JetStreamRetry(f"{message.subject} could not be published: {error}") from error

    async def wait_for_acks(self) -> None:
        """Return when everything is acknowledged; raises JetStreamRetry."""
        while self._waiting:
            await self._wait()
        self._check()

    def unacknowledged(self) -> list[Event]:
        """Return the events without an offset that may not be stored, in order."""
        return [message.unstored for message in self._waiting.values() if message.unstored is not None]

    def _on_lost(self) -> None:
        self.fail(JetStreamRetry("the connection to NATS is over", is_quiet=True))

    def fail(self, retry: JetStreamRetry) -> None:
        """Make all waiting calls fail; the first failure counts."""
        self._retry = self._retry or retry
        self._acknowledged.set()

    async def _wait(self) -> None:
        self._check()
        self._acknowledged.clear()
        try:
            async with asyncio.timeout(self._ack_timeout_s):
                await self._acknowledged.wait()
        except TimeoutError:
            text = f"JetStream acknowledged none of {len(self._waiting)} events within {self._ack_timeout_s:g} s"
            raise JetStreamRetry(text) from None
        self._check()

    def _check(self) -> None:
        if self._retry is not None:
            raise self._retry

    async def _on_ack(self, ack: Msg) -> None:
        message = self._waiting.get(ack.subject)
        if message is None:
            return
        reply: dict[str, object] = {}
        with suppress(ValueError):
            reply = json.loads(ack.data)
        if "seq" in reply and "error" not in reply:
            del self._waiting[ack.subject]
            self.stored += 1
        retry = _fault_in(reply, message)
        if retry is not None:
            self.fail(retry)
        self._acknowledged.set()


def _is_for_lack_of_room(error: dict[str, object]) -> bool:
    """Whether JetStream refuses whatever comes: it is full, or not all there; that passes."""
    return error.get("err_code") in NO_ROOM or error.get("code") != BAD_REQUEST


def _fault_in(reply: dict[str, object], message: Message) -> JetStreamRetry | None:
    error = reply.get("error")
    if isinstance(error, dict):
        if error.get("err_code") == WRONG_SEQUENCE:
            return JetStreamRetry(f"the stream moved meanwhile ({error.get('description')})", is_quiet=True)
        text = f"JetStream refused {message.subject}: {error.get('description') or error}"
        return JetStreamRetry(text, refused_id="" if _is_for_lack_of_room(error) else message.headers[MSG_ID])
    if "seq" not in reply:
        return JetStreamRetry(f"no stream takes {message.subject}: was it deleted?")
    if reply.get("duplicate"):  # then the sequence numbers that were counted on are wrong from here on
        return JetStreamRetry(f"{message.headers[MSG_ID]} was in the stream already", is_quiet=True)
    return None
