"""The HTTP side: ``/metrics``, and a line at ``/`` for those who come with a browser."""

from __future__ import annotations

import logging
import socket
import ssl
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import BoundedSemaphore, Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer
from prometheus_client.registry import CollectorRegistry

REQUESTS_LIMIT = 16
REQUEST_TIMEOUT_S = 10.0
JOIN_S = 5.0
PAGE = b"mt4pump metrics for Prometheus are at /metrics\n"
MISSING = b"there is nothing here; metrics are at /metrics\n"
PLAIN = [("Content-Type", "text/plain; charset=utf-8")]

log = logging.getLogger(__name__)

Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], Any]


class Handler(WSGIRequestHandler):
    """One request. Who sends nothing is hung up on; requests are not logged, as there is one every few seconds."""

    timeout = REQUEST_TIMEOUT_S

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's own name
        """Log at the lowest level."""
        log.debug(format, *args)


class Server(ThreadingWSGIServer):
    """A thread per request, and no more than `REQUESTS_LIMIT` of them: who comes then is hung up on, and counted."""

    rejected = 0
    allow_reuse_address = sys.platform != "win32"  # there it would let two servers share a port, unseen
    request_queue_size = 64  # the library's 5 makes a burst of clients wait for the network's retries

    def __init__(self, *args: Any, **named: Any) -> None:
        self._free = BoundedSemaphore(REQUESTS_LIMIT)
        super().__init__(*args, **named)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Hand the request to a thread of its own, if there is one left."""
        if not self._free.acquire(blocking=False):
            self.rejected += 1
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one request."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the library's own names
        """Log why a request ended early: it timed out, its client went away, its TLS made no sense."""
        log.debug("a request of %s ended early: %r", client_address, sys.exception())


class MetricsServer:
    """Serves ``registry``; ``address`` is where. Binds at once: raises OSError."""

    def __init__(
        self, registry: CollectorRegistry, host: str, port: int, context: ssl.SSLContext | None = None
    ) -> None:
        family = _family(host, port)
        server_class: type[Server] = type("Server", (Server,), {"address_family": family})
        self._server: Server = make_server(host, port, application(registry), server_class, Handler)
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


def application(registry: CollectorRegistry) -> Callable[[Environ, StartResponse], Iterable[bytes]]:
    """Return the WSGI application."""
    metrics = make_wsgi_app(registry)

    def answer(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "/")
        if path == "/metrics":
            reply: Iterable[bytes] = metrics(environ, start_response)
            return reply
        start_response("200 OK" if path == "/" else "404 Not Found", list(PLAIN))
        return [PAGE if path == "/" else MISSING]

    return answer


def _family(host: str, port: int) -> socket.AddressFamily:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
