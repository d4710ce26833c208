"""What is written to one client: messages as frames, and what waits while the client does not read.

A WebSocket frame from a server has no mask, so its bytes are the same for everybody. Compressed ones are, too, as the
gateway negotiates ``server_no_context_takeover``. Frames go straight to the connection's transport; handshake, ping and
close stay the library's. While the transport is full nothing is written: quotes wait as the newest per symbol,
everything else in order, up to a limit. A client that goes beyond it, or does not read for too long, is closed with a
code that says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from websockets.asyncio.server import ServerConnection
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import State

from mt4pump_consumers.gateway.limits import LimitedLog
from mt4pump_consumers.gateway.protocol import CLOSE_SLOW
from mt4pump_consumers.gateway.settings import GatewaySettings

PLAIN = 0
"""Window bits of a client without permessage-deflate."""
COMPRESS_FROM_BYTES = 300
"""Shorter messages are sent as they are: without context they hardly shrink, and the client would pay for it."""
DEFLATE = {"level": 3, "memLevel": 6}


def frame(text: bytes, bits: int = PLAIN) -> bytes:
    """Return ``text`` as one frame; ``bits`` is the window size that the client negotiated."""
    whole = Frame(Opcode.TEXT, text)
    if bits == PLAIN or len(text) < COMPRESS_FROM_BYTES:
        return whole.serialize(mask=False)
    deflate = PerMessageDeflate(
        remote_no_context_takeover=True,
        local_no_context_takeover=True,
        remote_max_window_bits=15,
        local_max_window_bits=bits,
        compress_settings=DEFLATE,
    )
    return whole.serialize(mask=False, extensions=[deflate])


class Payload:
    """``text`` is the JSON; ``key`` is set where a newer payload of the same key makes this one worthless."""

    __slots__ = ("_frames", "key", "text")

    def __init__(self, text: bytes, key: str = "") -> None:
        self.text, self.key = text, key
        self._frames: dict[int, bytes] = {}

    def frame(self, bits: int) -> bytes:
        """Return the frame for clients with this window."""
        made = self._frames.get(bits)
        if made is None:
            made = self._frames[bits] = frame(self.text, bits)
        return made


def joined(payloads: Sequence[Payload], bits: int, *, batch: bool) -> bytes:
    """Return the bytes of all ``payloads``: a frame each, or one frame with an array of them."""
    if batch:
        return frame(b"[" + b",".join([payload.text for payload in payloads]) + b"]", bits)
    if len(payloads) == 1:
        return payloads[0].frame(bits)
    return b"".join([payload.frame(bits) for payload in payloads])


ABORT_S = 3.0
"""Time for a close; more than the library's own limit, which does not count while the client takes nothing."""
PART = 50
"""Messages written at once to a client that takes again: it may be full after a few."""

limited = LimitedLog(logging.getLogger(__name__))


class ClientWriter:
    """``name`` is for the log. ``write_now`` is the transport's `write` while the client takes data, else None.

    ``bits`` is the size of the window that the client negotiated. ``is_batched``: what waited is sent as one array.
    """

    def __init__(
        self,
        connection: ServerConnection,
        name: str,
        settings: GatewaySettings,
        count_conflated: Callable[[], None],
        *,
        is_full: bool,
    ) -> None:
        self.bits = window_bits(connection)
        self.is_batched = False
        self.write_now: Callable[[bytes], object] | None = None
        self._connection, self._name, self._settings = connection, name, settings
        self._count_conflated = count_conflated
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Payload] = []
        self._waiting_quotes: dict[str, Payload] = {}
        self._closing: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._is_full, self._full_since_s = is_full, 0.0
        self._set_write_now()

    def _set_write_now(self) -> None:
        """Let groups write to the transport itself while it takes data."""
        free = self.is_open and not self._is_full
        self.write_now = self._connection.transport.write if free else None

    @property
    def is_writable(self) -> bool:
        """Return whether the client reads, or is gone."""
        return self._writable.is_set()

    @property
    def is_open(self) -> bool:
        """Return whether anything can still be sent."""
        return self._closing is None and self._connection.protocol.state is State.OPEN

    def write(self, data: bytes, payloads: list[Payload]) -> None:
        """Send ``data``, or keep ``payloads`` while the client does not read."""
        if self.write_now is not None:
            self.write_now(data)
        elif self.is_open:
            self._hold(payloads)

    def _hold(self, payloads: list[Payload]) -> None:
        quotes = self._waiting_quotes
        for payload in payloads:
            if payload.key:
                if quotes.pop(payload.key, None) is not None:
                    self._count_conflated()
                quotes[payload.key] = payload
            else:
                self._waiting.append(payload)
        count = len(self._waiting) + len(quotes)
        if count > self._settings.queue:
            self.shut(CLOSE_SLOW, f"too slow: {count} messages wait")

    def on_full(self) -> None:
        """Note that the transport is full."""
        self._is_full, self.write_now = True, None
        if self.is_open:
            self._writable.clear()
            self._full_since_s = self._loop.time()

    def on_writable(self) -> None:
        """Send what waited."""
        self._is_full = False
        payloads = [*self._waiting, *self._waiting_quotes.values()]
        self._waiting, self._waiting_quotes = [], {}
        while payloads and self.is_open and not self._is_full:
            part, payloads = payloads[:PART], payloads[PART:]
            self._connection.transport.write(joined(part, self.bits, batch=self.is_batched))
        self._set_write_now()
        if self._is_full:
            self._hold(payloads)
        else:
            self._writable.set()

    def on_closing(self) -> None:
        """Note that a close frame was sent, or the connection closed: nothing may follow."""
        self.write_now = None
        self._writable.set()

    async def wait_until_writable(self) -> None:
        """Wait until the client reads, or is gone (see `is_open`)."""
        await self._writable.wait()

    def check(self, now_s: float) -> None:
        """Close the connection if it was full for too long."""
        if not self._writable.is_set() and now_s - self._full_since_s > self._settings.slow_s:
            self.shut(CLOSE_SLOW, f"too slow: nothing read for {self._settings.slow_s:g} s")

    def shut(self, code: int, reason: str) -> None:
        """Close the connection with a reason, unless it is closing; nothing is sent after it."""
        if self.is_open:
            limited.write(logging.INFO, "%s: closed with %d: %s", self._name, code, reason)
            self.write_now = None
            self._closing = self._loop.create_task(self._close(code, reason))
            self._waiting, self._waiting_quotes = [], {}
            self._writable.set()

    async def _close(self, code: int, reason: str) -> None:
        try:
            async with asyncio.timeout(ABORT_S):
                await self._connection.close(code, reason)
        except TimeoutError:
            self._connection.transport.abort()


def window_bits(connection: ServerConnection) -> int:
    """Return the size of the window that the client negotiated for what we compress; `PLAIN` for none."""
    for extension in connection.protocol.extensions:
        if isinstance(extension, PerMessageDeflate):
            return extension.local_max_window_bits
    return PLAIN
