"""A client's connection: limits on what it may send, TLS by files, and the request that it begins with.

`GatewayConnection` is the library's, with limits where frames are decoded: one read may hold tens of thousands of
frames, and the library answers each ping. `UpgradeHandler` checks headers, origin and token of the first request.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, NoReturn

from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.exceptions import InvalidMessage, ProtocolError
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import SEND_EOF, State

from mt4pump_consumers.gateway.client_writer import ClientWriter
from mt4pump_consumers.gateway.http import TrustedProxies, Web, fault_in, group_of, plain
from mt4pump_consumers.gateway.limits import (
    AUTH_UNITS,
    PROXY_HEADERS,
    Budget,
    ConnectionLimiter,
    CountedConnection,
    LimitedLog,
    Origins,
    Work,
)
from mt4pump_consumers.gateway.protocol import CLOSE_FLOOD
from mt4pump_consumers.gateway.settings import GatewaySettings
from mt4pump_consumers.gateway.tokens import BUSY, Grant, TokenError, Verifier, verify

CONTROL = frozenset({Opcode.PING, Opcode.PONG, Opcode.CONT})
CONTROL_BURST = 100.0
"""Pings, pongs and parts of messages that may come at once."""
FRAMES_LIMIT = 256
"""Most frames in one read from the network; the rate of messages closes a connection long before that."""
READ_LIMIT_BYTES, READ_LIMIT_MESSAGES = 262_144, 4
"""Most bytes of messages in one read, decompressed: what a read may have, and so many of the longest messages."""
HEAD_LIMIT_BYTES = 32_768
"""Most bytes of a request with its headers; the library would keep a megabyte for each connection."""
HEAD_END = b"\r\n\r\n"
ENDING_S, ENDING_READ_BYTES = 5.0, 1024 * 1024
"""Time for a client to take the close frame and to end the connection, and how much is read of it, unparsed, meanwhile.

A client that is blocked in sending takes no close frame, and unread data would have the system discard it."""

WEBSOCKET_PATHS = frozenset({"/", "/ws"})

log = logging.getLogger(__name__)
limited = LimitedLog(log)


class GatewayConnection(ServerConnection):
    """``writer`` is set once the WebSocket is open; ``is_full``: its transport accepts no more at the moment.

    ``address`` is the client's; ``counted`` is what the limits know of it.
    """

    def __init__(
        self,
        *arguments: Any,
        limiter: ConnectionLimiter,
        proxies: TrustedProxies,
        settings: GatewaySettings,
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        self.writer: ClientWriter | None = None
        self.is_full = False
        self.grant: Grant | None = None
        self.is_proxied = False
        self.address = ""
        self.counted = CountedConnection(self.abort)
        self._limiter, self._proxies, self._settings = limiter, proxies, settings
        self._is_counted = self._was_refused = self._is_flooding = False
        per_s = settings.control_frames_per_s
        self._control = Budget(per_s, max(CONTROL_BURST, per_s))
        self._head_bytes = self._read_frames = self._read_bytes = self._ending_bytes = 0
        self._ending: asyncio.TimerHandle | None = None
        self._head_tail = b""
        self._receive_frame = self.protocol.recv_frame
        self.protocol.recv_frame = self._check_frame  # type: ignore[method-assign]  # no hook

    @property
    def name(self) -> str:
        """Return the client's name in the log."""
        peer = self.remote_address
        where = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else str(peer)
        return f"{self.address} by {where}" if self.is_proxied and self.address else where

    @property
    def address_owner(self) -> str:
        """Return who answers for the work of a client without a token: its address."""
        return f"address {self.counted.group or self.address}"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection; one too many is closed at once."""
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if peer else ""
        self.counted.group = "" if self._proxies.trust(self.address) else group_of(self.address)
        link = transport.get_extra_info("socket")
        if link is not None:
            # By default the system buffers megabytes of old quotes before it reports that the client does not read.
            link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._settings.write_buffer_bytes)
        self._is_counted = True
        delay_s = self._limiter.arrived(self.counted)
        if delay_s is None:
            limited.write(logging.WARNING, "%s: a connection was refused: %s", self.name, "too many; see the limits")
            self.abort()
        elif delay_s:
            self.transport.pause_reading()
            self.loop.call_later(delay_s, self.transport.resume_reading)

    def arrived_by(self, headers: Headers) -> bool:
        """Set the client's address from the headers of a trusted proxy; return False when there are too many."""
        client = self._proxies.client(self.address, headers)
        if client == self.address:
            return True
        self.address = client
        return self._limiter.moved(self.counted, client)

    def enter(self, owner: str) -> bool:
        """Count the connection for the owner of its token; return whether the limit allows it."""
        return self._limiter.admitted(self.counted, owner)

    def abort(self) -> None:
        """End the connection at once."""
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove it from the counts."""
        self.transport.abort = _do_nothing  # type: ignore[method-assign]  # the library calls it now, and asyncio fails
        super().connection_lost(exc)
        if self._ending is not None:
            self._ending.cancel()  # else it keeps the connection with its buffers
        self._report_closing()
        if self._is_counted:
            self._limiter.left(self.counted)
            self._is_counted = False
        self._cut_references()

    def _cut_references(self) -> None:
        """Have it freed at once: the garbage collector would find it, with the buffers of a flood, only much later."""
        self.writer, self.counted.end = None, _do_nothing
        del self.protocol.recv_frame
        for each in (self.connection_exc, self.protocol.parser_exc, self.protocol.handshake_exc):
            error: BaseException | None = each
            while error is not None:
                error.__traceback__, error = None, error.__context__

    def data_received(self, data: bytes) -> None:
        """Handle received data, up to the limits of one read."""
        if self.protocol.state is State.CONNECTING and not self.protocol.eof_sent and self._is_early(data):
            self._refuse(HTTPStatus.BAD_REQUEST, "data was sent before the request was answered")
            return
        if self._ending is not None:
            self._ending_bytes += len(data)
            if self._ending_bytes > ENDING_READ_BYTES:
                self.transport.pause_reading()
        self._read_frames = self._read_bytes = 0
        super().data_received(data)
        if self.request is None:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_LIMIT_BYTES:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "request has too many headers")

    def _is_early(self, data: bytes) -> bool:
        """Return whether ``data`` holds more than the request; the library would fail at a frame before its answer."""
        window = self._head_tail + data
        end = window.find(HEAD_END)
        self._head_tail = window[1 - len(HEAD_END) :]
        return self.request is not None or (0 <= end < len(window) - len(HEAD_END))

    def _check_frame(self, frame: Frame) -> None:
        """Pass a frame to the library, unless it came after the gateway's close frame, or the client sends too many.

        Raises ProtocolError in the last case: the library parses nothing more of the client.
        """
        self._read_frames += 1
        self._read_bytes += len(frame.data)
        if frame.opcode is Opcode.CLOSE:
            self._receive_frame(frame)
        elif (frame.opcode in CONTROL or not frame.fin) and not self._control.allows(self.loop.time()):
            self._close_flood("too many pings, pongs or parts of messages")
        elif self._read_frames > FRAMES_LIMIT:
            self._close_flood("too many messages at once")
        elif self._read_bytes > READ_LIMIT_BYTES + READ_LIMIT_MESSAGES * self._settings.message_bytes:
            self._close_flood("too many bytes at once, after decompression")
        elif self.protocol.state is State.OPEN:
            self._receive_frame(frame)

    def _close_flood(self, reason: str) -> NoReturn:
        """Close with a code that says why. Raises ProtocolError."""
        self._is_flooding = True
        if self.protocol.state is State.OPEN:  # else a close frame was sent before
            self._limiter.flooded += 1
            limited.write(logging.WARNING, "%s: closed with %d: %s", self.name, CLOSE_FLOOD, reason)
        self.protocol.fail(CLOSE_FLOOD, reason)
        raise ProtocolError(reason)

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        """Answer a request that the library could not read, and close."""
        if not self._was_refused and not self.transport.is_closing():
            self._was_refused = True
            self._limiter.malformed += 1
            self.transport.write(plain(status, text).serialize())
        self.transport.close()

    def send_data(self) -> None:
        """Send the protocol's data; nothing follows a close frame or its answer.

        From then on a client that does not end the connection, or sends more, is disconnected soon.
        """
        if self.request is None and isinstance(self.protocol.handshake_exc, InvalidMessage):
            self._refuse(HTTPStatus.BAD_REQUEST, "this is no HTTP request that can be read")
        is_open = self.protocol.state is not State.CONNECTING
        if self._is_flooding and SEND_EOF in self.protocol.writes and not self.transport.can_write_eof():
            self.protocol.writes.remove(SEND_EOF)  # with TLS it closes at once: what the client has not read is lost
        super().send_data()
        if is_open and self.protocol.eof_sent and self._ending is None:
            self._ending = self.loop.call_later(ENDING_S, self.abort)
            if self.close_deadline is None:  # the library's is sooner, and its next ping would abort by it
                self.close_deadline = self.loop.time() + ENDING_S
        self._report_closing()

    def _report_closing(self) -> None:
        if self.writer is not None and self.protocol.state is not State.OPEN:
            self.writer.on_closing()

    def pause_writing(self) -> None:
        """Report to the session that the transport is full."""
        super().pause_writing()
        self.is_full = True
        if self.writer is not None:
            self.writer.on_full()

    def resume_writing(self) -> None:
        """Report to the session that the transport accepts data again."""
        super().resume_writing()
        self.is_full = False
        if self.writer is not None:
            self.writer.on_writable()


def _do_nothing() -> None:
    pass


def connection_factory(limiter: ConnectionLimiter, proxies: TrustedProxies, settings: GatewaySettings) -> Any:
    """Return what makes connections for `websockets.serve`, which asks for a class but only calls it."""

    def make(*arguments: Any, **options: Any) -> GatewayConnection:
        return GatewayConnection(*arguments, limiter=limiter, proxies=proxies, settings=settings, **options)

    return make


class Tls:
    """The certificate; new connections get the new one when its files change.

    The server keeps ``context``, which gives each connection the context of the last files that were a pair. Files are
    never loaded into a context in use: they may change between a check and the load, and would take its key from it.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = (certificate, key)
        self._seen = self._stamp()
        self._trouble = ""
        self.context = self._newest = self._load()
        self.context.sni_callback = self._choose  # called for clients that name no server, too

    def _choose(self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._newest

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(*self._files)
        return context

    def _stamp(self) -> list[int]:
        return [file.stat().st_mtime_ns for file in self._files]

    def reload(self) -> None:
        """Take over changed files; files that are no pair leave the old ones in use."""
        try:
            stamp = self._stamp()
            if stamp != self._seen:
                self._newest = self._load()
                self._seen = stamp  # only now: files that could not be read for a moment are read again
                log.info("certificate %s was read again", self._files[0])
            self._trouble = ""
        except OSError as error:  # ssl.SSLError is one
            if self._trouble != str(error):
                log.warning("certificate %s cannot be used (%s); the one before stays", self._files[0], error)
            self._trouble = str(error)


class UpgradeHandler:
    """Answers the first request of each connection: a file of the page, a refusal, or None, which lets it in."""

    def __init__(
        self, limiter: ConnectionLimiter, origins: Origins, web: Web, verifiers: Sequence[Verifier], work: Work
    ) -> None:
        self._limiter, self._origins, self._web = limiter, origins, web
        self._verifiers, self._work = verifiers, work

    def answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """Return the response that ends the connection, None to open the WebSocket."""
        assert isinstance(connection, GatewayConnection)  # noqa: S101 - `connection_factory` makes no others
        if fault := fault_in(request):
            self._limiter.malformed += 1
            return plain(HTTPStatus.BAD_REQUEST, fault)
        connection.is_proxied = any(name in request.headers for name in PROXY_HEADERS)
        if not connection.arrived_by(request.headers):
            return _no_room(connection, "too many connections from your address; try again later")
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return self._web.answer(request)
        return self._refusal(connection, request) or self._log_in(connection, request.headers.get("Authorization", ""))

    def _refusal(self, connection: GatewayConnection, request: Request) -> Response | None:
        """Return why the WebSocket cannot be opened, None when it can."""
        if request.path.partition("?")[0] not in WEBSOCKET_PATHS:
            return plain(HTTPStatus.NOT_FOUND, "WebSockets are served on / and /ws")
        if not self._origins.allow(request.headers.get("Origin"), request.headers.get("Host")):
            self._limiter.foreign += 1
            text = "%s: a page of origin %.200r was refused: it is not one of the setting origins"
            limited.write(logging.WARNING, text, connection.name, request.headers.get("Origin"))
            return plain(HTTPStatus.FORBIDDEN, "this page may not connect; see the setting origins")
        if refusal := self._limiter.refusal(connection.counted):
            return _no_room(connection, refusal)
        return None

    def _log_in(self, connection: GatewayConnection, authorization: str) -> Response | None:
        """Check the token that came with the request, if one did; return the refusal."""
        scheme, _, bearer = authorization.partition(" ")
        if not scheme:
            return None
        if not self._work.allows(connection.address_owner, AUTH_UNITS):
            return plain(HTTPStatus.TOO_MANY_REQUESTS, "too many logins from your address; try again later")
        try:
            grant = verify(self._verifiers, bearer.strip() if scheme.lower() == "bearer" else "", time.time())
        except TokenError as error:
            limited.write(logging.WARNING, "%s: a token was refused: %s", connection.name, error.reason)
            return plain(HTTPStatus.UNAUTHORIZED, str(error))
        if not connection.enter(grant.owner):
            return plain(HTTPStatus.TOO_MANY_REQUESTS, BUSY)
        connection.grant = grant
        return None


def _no_room(connection: GatewayConnection, refusal: str) -> Response:
    """Log that there are too many connections; return the response."""
    limited.write(logging.WARNING, "%s: a connection was refused: %s", connection.name, refusal)
    return plain(HTTPStatus.SERVICE_UNAVAILABLE, refusal)
