"""The library's connection, which tells its session when the client stops taking and takes again."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Protocol

from websockets.asyncio.server import ServerConnection
from websockets.protocol import State

from mt4pump_consumers.gateway.tokens import Grant


class Flow(Protocol):
    """Who wants to know whether a transport is full."""

    def became_full(self) -> None:
        """Take note: nothing more should be written."""

    def became_free(self) -> None:
        """Take note: writing goes on."""

    def is_closing(self) -> None:
        """Take note: nothing may be written any more."""


class Register(Protocol):
    """Who counts connections."""

    def arrived(self, address: str) -> bool:
        """Count a connection; return whether there is room for it."""

    def left(self, address: str) -> None:
        """Count one that is gone."""


class GatewayConnection(ServerConnection):
    """``flow`` is set once the client is let in; ``is_full`` says that its transport takes no more for now."""

    def __init__(self, *arguments: Any, register: Register, send_buffer_bytes: int, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.flow: Flow | None = None
        self.is_full = False
        self.grant: Grant | None = None
        self.is_proxied = False
        self._register = register
        self._send_buffer_bytes = send_buffer_bytes
        self._address: str | None = None

    @property
    def address(self) -> str:
        """Return the client's address without the port."""
        peer = self.transport.get_extra_info("peername")
        return str(peer[0]) if peer else ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection; one too many is ended before it costs anything."""
        super().connection_made(transport)
        self._address = self.address
        link = transport.get_extra_info("socket")
        if link is not None:
            # Left to itself the system takes megabytes before it says that the client does not read: old quotes, all.
            link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._send_buffer_bytes)
        if not self._register.arrived(self._address):
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it out."""
        super().connection_lost(exc)
        self._tell_closing()
        if self._address is not None:
            self._register.left(self._address)
            self._address = None

    def send_data(self) -> None:
        """Send what the protocol has to say; a close frame, or the answer to one, is its last word and ours."""
        super().send_data()
        self._tell_closing()

    def _tell_closing(self) -> None:
        if self.flow is not None and self.protocol.state is not State.OPEN:
            self.flow.is_closing()

    def pause_writing(self) -> None:
        """Pass on that the transport is full."""
        super().pause_writing()
        self.is_full = True
        if self.flow is not None:
            self.flow.became_full()

    def resume_writing(self) -> None:
        """Pass on that there is room again."""
        super().resume_writing()
        self.is_full = False
        if self.flow is not None:
            self.flow.became_free()


def connection_factory(register: Register, send_buffer_bytes: int) -> Any:
    """Return what makes connections for `websockets.serve`, which asks for a class but only calls it."""

    def make(*arguments: Any, **options: Any) -> GatewayConnection:
        return GatewayConnection(*arguments, register=register, send_buffer_bytes=send_buffer_bytes, **options)

    return make
