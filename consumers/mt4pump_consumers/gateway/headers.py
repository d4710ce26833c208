"""What a request's headers must look like, and whose address counts behind a proxy; pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from websockets.datastructures import Headers
from websockets.http11 import Request

SINGLE = (
    *("Host", "Origin", "Authorization", "Upgrade", "If-None-Match", "Content-Length"),
    *("Sec-WebSocket-Key", "Sec-WebSocket-Version"),
)
"""Headers that a request has once: with two of them, two programs on its way may believe different ones."""
FORWARDED_FOR = "X-Forwarded-For"
HOPS_LIMIT = 32
"""Most addresses of ``X-Forwarded-For`` that are looked at, from the right."""
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

        What stands to the left of it was written by the client, or by somebody whom we do not know. A hop that is no
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
