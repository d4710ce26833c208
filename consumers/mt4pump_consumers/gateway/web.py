"""The page and its files, over plain HTTP; nothing outside the folder ``page`` can be asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from http import HTTPStatus
from importlib.resources import files

from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from mt4pump_consumers.gateway.protocol import Json

PATHS = {
    "/": ("index.html", "text/html; charset=utf-8"),
    **{
        f"/{name}.js": (f"{name}.js", "text/javascript; charset=utf-8")
        for name in ("app", "board", "chart", "client", "table", "trades", "vendor/lightweight-charts")
    },
    "/app.css": ("app.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    "/favicon.ico": ("icon.svg", "image/svg+xml"),
}
HEALTH = "/health"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
SECURITY = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Web:
    """Answers requests that are no WebSocket. ``health`` gives what monitoring may know without a token."""

    def __init__(self, health: Callable[[], tuple[bool, Json]]) -> None:
        self._health = health
        folder = files("mt4pump_consumers.gateway") / "page"
        self._files = {path: ((folder / name).read_bytes(), kind) for path, (name, kind) in PATHS.items()}

    def answer(self, request: Request) -> Response:
        """Return the response to ``request``."""
        path = request.path.partition("?")[0]
        if path == HEALTH:
            fine, facts = self._health()
            status = HTTPStatus.OK if fine else HTTPStatus.SERVICE_UNAVAILABLE
            return respond(status, json.dumps(facts).encode(), "application/json", {"Cache-Control": "no-store"})
        if path not in self._files:
            return plain(HTTPStatus.NOT_FOUND, "there is nothing here")
        body, kind = self._files[path]
        tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        caching = {"Cache-Control": "no-cache", "ETag": tag}
        if request.headers.get("If-None-Match") == tag:
            return respond(HTTPStatus.NOT_MODIFIED, b"", kind, caching)
        return respond(HTTPStatus.OK, body, kind, caching)


def plain(status: HTTPStatus, text: str) -> Response:
    """Return a response with a line of text."""
    return respond(status, f"{text}\n".encode(), "text/plain; charset=utf-8", {})


def respond(status: HTTPStatus, body: bytes, kind: str, extra: dict[str, str]) -> Response:
    """Return a whole response, after which the connection ends."""
    size = {"Content-Type": kind, "Content-Length": str(len(body)), "Connection": "close"}
    return Response(status.value, status.phrase, Headers({**size, **SECURITY, **extra}), body)
