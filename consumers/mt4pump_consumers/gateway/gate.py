"""The door of the house: how many may come in, from where, and which web pages may bring them; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from mt4pump_consumers.gateway.settings import is_loopback

SLACK = 64
"""Connections beyond the limit that are still answered, to say that there is no room."""
PROXY_HEADERS = ("Forwarded", "X-Forwarded-For", "X-Real-IP")


class Gate:
    """Counts connections. ``refused`` counts those for which there was no room, ``foreign`` those from other pages."""

    def __init__(self, most: int, most_per_address: int) -> None:
        self._most, self._most_per_address = most, most_per_address
        self._by_address: Counter[str] = Counter()
        self.count = 0
        self.refused = self.foreign = 0

    def arrived(self, address: str) -> bool:
        """Count a connection; return False when it is to be ended without an answer."""
        self.count += 1
        self._by_address[address] += 1
        fits = self.count <= self._most + SLACK and self._by_address[address] <= self._most_per_address + SLACK
        self.refused += not fits
        return fits

    def left(self, address: str) -> None:
        """Count out one that is gone."""
        self.count -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    def refusal(self, address: str) -> str:
        """Return why one more client cannot be served, empty when it can."""
        text = ""
        if self.count > self._most:
            text = "too many connections; try again later"
        elif self._by_address[address] > self._most_per_address:
            text = "too many connections from your address; close some"
        self.refused += bool(text)
        return text


class Origins:
    """Which web pages may connect: our own on a loopback name, and those that are set.

    A page on any other name that resolves to this machine is refused, though it counts as our own for a browser: this
    is what DNS rebinding needs.
    """

    def __init__(self, given: Iterable[str]) -> None:
        self._given = frozenset(origin.rstrip("/").lower() for origin in given)

    def allow(self, origin: str | None, host: str | None) -> bool:
        """Return whether a page of ``origin`` may connect to us under the name ``host``; None: no browser."""
        if origin is None or origin.lower() in self._given:
            return True
        scheme, _, place = origin.lower().partition("://")
        if scheme not in {"http", "https"} or host is None or place != host.lower():
            return False
        return is_loopback(name_of(place))


def name_of(place: str) -> str:
    """Return the host in ``host:port``, without brackets."""
    if place.startswith("["):
        return place[1:].partition("]")[0]
    return place.partition(":")[0]
