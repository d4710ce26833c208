"""Plain HTTP: headers, addresses behind proxies, the page and its files."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from collections.abc import Callable, Iterable
from http import HTTPStatus
from importlib.resources import files
from typing import Any

from websockets.datastructures import Headers
from websockets.http11 import Request, Response

SINGLE = (
    *("Host", "Origin", "Authorization", "Upgrade", "If-None-Match", "Content-Length"),
    *("Sec-WebSocket-Key", "Sec-WebSocket-Version"),
)
"""Headers that a request has once: with two of them, two programs on its way may believe different ones."""
FORWARDED_FOR = "X-Forwarded-For"
HOPS_LIMIT = 32
"""Most addresses of ``X-Forwarded-For`` that are read, from the right."""
HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]+)(:[0-9]{0,5})?")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def fault_in(request: Request) -> str:
    """Return what is wrong with the headers of ``request``, empty when nothing is."""
    headers = request.headers
    for name in SINGLE:
        if len(headers.get_all(name)) > 1:
            return f"more than one {name} header"
    host = headers.get("Host")
    if host is None:
        return "no Host header" if request.protocol == "HTTP/1.1" else ""
    return "" if HOST.fullmatch(host) else "Host header is not a name or an address"


class TrustedProxies:
    """The networks whose ``X-Forwarded-For`` is believed; none by default, as any client can write that header."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = [ipaddress.ip_network(network, strict=False) for network in networks]

    def trust(self, address: str) -> bool:
        """Return whether ``address`` is a proxy of ours."""
        known = parsed(address)
        return known is not None and self._trust(known)

    def _trust(self, address: Address) -> bool:
        return any(address in network for network in self._networks if network.version == address.version)

    def client(self, peer: str, headers: Headers) -> str:
        """Return the address that the request came from, as far as it is known: the rightmost that is no proxy of ours.

        Addresses to the left of it were written by the client or an unknown program. A hop that is no
        address ends the search at the proxy that wrote it.
        """
        if not self.trust(peer):
            return peer
        hops = ",".join(headers.get_all(FORWARDED_FOR)).rsplit(",", HOPS_LIMIT)[-HOPS_LIMIT:]
        for hop in reversed(hops):
            address = parsed(hop)
            if address is None:
                return peer
            peer = str(address)
            if not self._trust(address):
                return peer
        return peer


def parsed(text: str) -> Address | None:
    """Return the address in ``text``, which may have a port; None where there is none."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def group_of(address: str) -> str:
    """Return what limits per address count by: an IPv4 address, or the /64 that one IPv6 host has to itself."""
    known = parsed(address)
    if isinstance(known, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((known, 64), strict=False))
    return address if known is None else str(known)


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

    def __init__(self, health: Callable[[], tuple[bool, dict[str, Any]]]) -> None:
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
