"""Publishes into a JetStream stream, many at a time, each on the condition that the one before is the stream's last.

nats-py's own ``publish_async`` is not used: where the server refuses a message, its future never ends.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from mt4pump.client import Event
from mt4pump_consumers.nats_bridge.connection import FAULTS, ServerConnection
from mt4pump_consumers.nats_bridge.journal import JetStreamRetry
from mt4pump_consumers.nats_bridge.message import MSG_ID, Message

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
        try:
            # A server that takes nothing more lets this wait: bounded like a missing acknowledgement.
            async with asyncio.timeout(self._ack_timeout_s):
                await self._connection.client.publish(
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
