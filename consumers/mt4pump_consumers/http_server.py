"""HTTP for machines: ``/metrics``, ``/healthz``, and a line at ``/`` for browsers. Slow clients block nobody.

`SpareDescriptors` is what a server does while the process has no file descriptor left; the gateway's has it, too.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from http.client import LineTooLong
from io import BufferedReader, RawIOBase
from pathlib import Path
from threading import BoundedSemaphore, Lock, Thread
from typing import Any, BinaryIO
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer
from prometheus_client.registry import CollectorRegistry

log = logging.getLogger(__name__)

NONE_LEFT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""What accept() raises then."""
NONE_LEFT_LOG_INTERVAL_S = 10.0
RETRY_S = 0.1
"""Pause of a server's own thread when not even a spare one is left."""
SPARE = 8


class SpareDescriptors:
    """Descriptors that are held for the time when none is left: with one a waiting connection is accepted and closed.

    Otherwise it would wait for ever, and the listening socket stay readable: the server's loop would do nothing but
    try again. ``count`` is how often none was left. There are several, as another thread may take one in between.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self.count = 0
        self._now_s, self._log_at_s = now_s, 0.0
        self._spare: list[int] = []
        self._hold()

    def _hold(self) -> None:
        with suppress(OSError):
            while len(self._spare) < SPARE:
                self._spare.append(os.open(os.devnull, os.O_RDONLY))

    def release(self) -> None:
        """Give the descriptors back to the process."""
        while self._spare:
            os.close(self._spare.pop())

    def close_waiting(self, listening: int) -> bool:
        """Count and log that none is left, and close one connection that waits at the socket ``listening``.

        Return False when other threads have taken all spare descriptors: the connection goes on waiting.
        """
        self.count += 1
        self._report()
        self._hold()
        if self._spare:
            os.close(self._spare.pop())
        listener = socket.socket(fileno=listening)
        try:
            listener.accept()[0].close()
        except OSError:
            return False
        finally:
            listener.detach()
            self._hold()
        return True

    def _report(self) -> None:
        now_s = self._now_s()
        if now_s >= self._log_at_s:
            self._log_at_s = now_s + NONE_LEFT_LOG_INTERVAL_S
            text = "no file descriptor is left: new connections are closed, %d so far; raise LimitNOFILE or ulimit -n"
            log.warning(text, self.count)


REQUESTS_LIMIT = 16
REQUEST_TIMEOUT_S = 10.0
SLOW_ANSWER_S = 2.0
"""So long may a client take its answer before it may have to give way."""
END_WAIT_S = 5.0
"""Longest wait for the thread of a request that was ended; it ends at once, on a busy machine a little later."""
WAKE_S = 0.25
"""How late, at most, a thread that waits for bytes finds that its request was ended."""
HEAD_LIMIT_BYTES = 131_072
SINGLE = ("Host", "Origin", "Authorization", "Content-Length", "Transfer-Encoding", "Content-Type")
"""Headers that a request has once."""
JOIN_S = 5.0
PAGE = b"mt4pump metrics for Prometheus are at /metrics\n"
MISSING = b"there is nothing here; metrics are at /metrics\n"
PLAIN = [("Content-Type", "text/plain; charset=utf-8")]

Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], Any]


class EndingReader(RawIOBase):
    """Reads from a connection until its request is ended.

    It wakes every `WAKE_S` to see that: on Windows, shutdown() does not wake a thread that waits for bytes.
    """

    def __init__(self, connection: socket.socket, is_ended: Callable[[socket.socket], bool]) -> None:
        self._connection, self._is_ended = connection, is_ended

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what is there, or wait for it; return 0 at the end."""
        self._connection.settimeout(WAKE_S)
        try:
            while not self._is_ended(self._connection):
                with suppress(TimeoutError):
                    return self._connection.recv_into(buffer)
            return 0
        finally:
            self._connection.settimeout(HttpHandler.timeout)


class LimitedReader:
    """Reads lines up to `HEAD_LIMIT_BYTES` of them; the library alone would take 6 MB of headers."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._left = file, HEAD_LIMIT_BYTES

    def readline(self, limit: int = -1) -> bytes:
        """Return the next line; raises LineTooLong, which the library answers."""
        line = self._file.readline(limit)
        self._left -= len(line)
        if self._left < 0:
            raise LineTooLong("header")
        return line

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class HttpHandler(WSGIRequestHandler):
    """One request. A connection that sends nothing is closed. Requests are not logged: one comes every few seconds."""

    timeout = REQUEST_TIMEOUT_S
    server: Server

    def setup(self) -> None:
        """Limit what is read, and how long."""
        super().setup()
        self.rfile.close()
        reader = BufferedReader(EndingReader(self.connection, self.server.is_ended))
        self.rfile = LimitedReader(reader)  # type: ignore[assignment]

    def parse_request(self) -> bool:
        """Read the request; return False when it was refused."""
        if not super().parse_request():
            return False
        if fault := fault_in(self.headers, self.request_version):
            self.send_error(HTTPStatus.BAD_REQUEST, fault)
            return False
        self.server.set_complete(self.connection)
        return True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's own name
        """Log at the lowest level."""
        log.debug(format, *args)


def fault_in(headers: Message, version: str) -> str:
    """Return what is wrong with the headers of a request, empty when nothing is."""
    for name in SINGLE:
        if len(headers.get_all(name, [])) > 1:
            return f"more than one {name} header"
    if headers.defects or any("\n" in str(value) for value in headers.values()):
        return "headers that cannot be read"
    return "no Host header" if version == "HTTP/1.1" and "Host" not in headers else ""


@dataclass(slots=True)
class OpenRequest:
    """A request that is being answered: since when, since when it is whole, and when it was ended (0: neither)."""

    since_s: float
    complete_s: float = 0.0
    ended_s: float = 0.0

    def is_slow(self, now_s: float) -> bool:
        """Return whether it may give way."""
        return not self.ended_s and (not self.complete_s or now_s - self.complete_s > SLOW_ANSWER_S)


class Server(ThreadingWSGIServer):
    """A thread per request, and no more than `REQUESTS_LIMIT` of them: the slowest gives way to one that comes then.

    A request has `REQUEST_TIMEOUT_S` from its connection to the end of its answer, however it is spread. ``ended``
    counts those that took longer or gave way, ``rejected`` those that came when nobody was slow, or when no file
    descriptor was left.
    """

    rejected = ended = 0
    is_closed = False
    allow_reuse_address = sys.platform != "win32"  # there it would let two servers share a port, unseen
    request_queue_size = 64  # the library's 5 makes a burst of clients wait for the network's retries

    def __init__(self, *args: Any, **named: Any) -> None:
        self._free = BoundedSemaphore(REQUESTS_LIMIT)
        self._lock = Lock()
        self._open: dict[socket.socket, OpenRequest] = {}
        self._spare = SpareDescriptors()
        super().__init__(*args, **named)

    def get_request(self) -> Any:
        """Accept a connection; the library ignores OSError and would try again at once while no descriptor is left."""
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in NONE_LEFT:
                self.rejected += 1
                time.sleep(0 if self._spare.close_waiting(self.socket.fileno()) else RETRY_S)
            raise

    def server_close(self) -> None:
        """Close the listening socket, and have open requests end."""
        self.is_closed = True
        super().server_close()
        self._spare.release()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Hand the request to a thread of its own, if there is one left, or one whose request gives way."""
        if not (
            self._free.acquire(blocking=False) or self._free.acquire(timeout=END_WAIT_S if self._end_slowest() else 0)
        ):
            self.rejected += 1
            self.shutdown_request(request)
            return
        with self._lock:
            self._open[request] = OpenRequest(time.monotonic())
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._forget(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one request."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._forget(request)

    def _forget(self, request: socket.socket) -> None:
        with self._lock:
            del self._open[request]
            self._free.release()

    def is_ended(self, request: socket.socket) -> bool:
        """Return whether the request was ended."""
        with self._lock:
            return self.is_closed or self._open[request].ended_s > 0

    def set_complete(self, request: socket.socket) -> None:
        """Note that the whole request is there."""
        with self._lock:
            self._open[request].complete_s = time.monotonic()

    def _end_slowest(self) -> bool:
        """End the oldest request that is not whole yet, or whose answer is not taken.

        Return whether a place is about to be free, by that or because a request was ended a moment ago.
        """
        with self._lock:
            now_s = time.monotonic()
            slow = [connection for connection, one in self._open.items() if one.is_slow(now_s)]
            if slow:
                self._end(
                    min(
                        slow,
                        key=lambda connection: (self._open[connection].complete_s > 0, self._open[connection].since_s),
                    )
                )
            return any(one.ended_s and now_s - one.ended_s < END_WAIT_S for one in self._open.values())

    def service_actions(self) -> None:
        """End the requests that took too long; the library calls this twice a second, and after each request."""
        with self._lock:
            latest_s = time.monotonic() - HttpHandler.timeout
            for connection in [
                connection for connection, one in self._open.items() if one.since_s < latest_s and not one.ended_s
            ]:
                self._end(connection)

    def _end(self, connection: socket.socket) -> None:
        """Wake the thread that waits for this client: what it reads ends (see `EndingReader`), what it writes fails."""
        self._open[connection].ended_s = time.monotonic()
        self.ended += 1
        with suppress(OSError):  # the client is gone, and the thread finds that out
            socket.socket.shutdown(connection, socket.SHUT_RDWR)  # not TLS's own: that one belongs to the thread

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the library's own names
        """Log why a request ended early: it timed out, its client went away, its TLS made no sense."""
        log.debug("a request of %s ended early: %r", client_address, sys.exception())


class MetricsServer:
    """Serves ``registry``, and ``/healthz`` if ``health`` is given, at ``address``. Binds at once: raises OSError."""

    def __init__(
        self,
        registry: CollectorRegistry,
        host: str,
        port: int,
        context: ssl.SSLContext | None = None,
        health: Callable[[], str] | None = None,
    ) -> None:
        family = _family(host, port)
        server_class: type[Server] = type("Server", (Server,), {"address_family": family})
        self._server: Server = make_server(host, port, application(registry, health), server_class, HttpHandler)
        if context is not None:
            # The handshake is left to the request's thread: in accept() one silent client would stop all others.
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = Thread(target=self._server.serve_forever, name="http", daemon=True)
        shown = f"[{host}]" if ":" in host else host
        self.port = self._server.server_port
        self.address = f"{'https' if context else 'http'}://{shown}:{self.port}/metrics"

    @property
    def rejected(self) -> int:
        """Return how many requests were turned away."""
        return self._server.rejected

    @property
    def ended(self) -> int:
        """Return how many requests were ended as they were slow."""
        return self._server.ended

    def start(self) -> None:
        """Answer requests from now on."""
        self._thread.start()

    def is_alive(self) -> bool:
        """Return whether requests are answered."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End, and give the port back; may be called without a start."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join(JOIN_S)
        self._server.server_close()


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return what makes a server speak TLS; raises OSError for files that cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def application(
    registry: CollectorRegistry, health: Callable[[], str] | None = None
) -> Callable[[Environ, StartResponse], Iterable[bytes]]:
    """Return the WSGI application; ``health`` returns the fault that ``/healthz`` reports, empty for none."""
    metrics = make_wsgi_app(registry)

    def answer(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "/")
        if path == "/metrics":
            reply: Iterable[bytes] = metrics(environ, start_response)
            return reply
        if path == "/healthz" and health is not None:
            fault = health()
            start_response("503 Service Unavailable" if fault else "200 OK", list(PLAIN))
            return [f"{fault or 'ok'}\n".encode()]
        start_response("200 OK" if path == "/" else "404 Not Found", list(PLAIN))
        return [PAGE if path == "/" else MISSING]

    return answer


def _family(host: str, port: int) -> socket.AddressFamily:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
