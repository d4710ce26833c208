"""How many connections there may be, from where, how fast they come, and which web pages may bring them; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from mt4pump.process.values import is_loopback
from mt4pump_consumers.gateway.budget import Budgets
from mt4pump_consumers.gateway.headers import group_of

SLACK = 64
"""Connections beyond the limit that are still answered, to say that there is no room."""
BURST_S = 5.0
"""So many seconds' worth of connections may come from one address at once."""
DELAY_LIMIT_S = 5.0
"""Longest time that a new connection waits because others of its address came too fast; one more is ended."""
PROXY_HEADERS = ("Forwarded", "X-Forwarded-For", "X-Real-IP")


class Arrival(Protocol):
    """One connection; ``group`` is what it counts for among those of its address, empty while a proxy has not said."""

    group: str

    def abort(self) -> None:
        """End the connection at once."""


class GateLimits(NamedTuple):
    """Most connections in all, from one address, with one token, and new ones a second from one address."""

    connections: int
    per_address: int
    per_token: int
    new_per_s: float


class ConnectionLimiter:
    """Counts connections. Where there is no room, the oldest one that has not logged in gives way to a new one.

    ``refused`` counts those for which there was no room, ``foreign`` those from other web pages, ``gave_way`` those
    that were ended for newer ones, ``too_fast`` those that had to wait, ``flooded`` those that sent too
    much, ``malformed`` requests that are none.
    """

    def __init__(self, limits: GateLimits, now_s: Callable[[], float]) -> None:
        self._limits, self._now_s = limits, now_s
        self._by_address: Counter[str] = Counter()
        self._by_owner: Counter[str] = Counter()
        self._strangers: dict[Arrival, None] = {}
        self._rates = Budgets(limits.new_per_s, limits.new_per_s * BURST_S)
        self.count = 0
        self.refused = self.foreign = self.gave_way = self.too_fast = self.flooded = self.malformed = 0

    def arrived(self, arrival: Arrival) -> float | None:
        """Count a connection; return the seconds to wait before it is read, None when it is to be ended."""
        self.count += 1
        self._strangers[arrival] = None
        if self.count > self._limits.connections:
            self._make_room(arrival, "")
        delay_s = self._enter(arrival)
        return delay_s if self.count <= self._limits.connections + SLACK else None

    def moved(self, arrival: Arrival, address: str) -> bool:
        """Count a connection for ``address``, as its proxy says; return False when it is to be ended."""
        self._leave_address(arrival)
        arrival.group = group_of(address)
        return self._enter(arrival) is not None

    def _enter(self, arrival: Arrival) -> float | None:
        group, now_s = arrival.group, self._now_s()
        if not group:
            return 0.0
        self._by_address[group] += 1
        delay_s = self._rates.of(group, now_s).spend(now_s, 1)
        self.too_fast += delay_s > 0
        if self._by_address[group] > self._limits.per_address:
            self._make_room(arrival, group)
        fits = self._by_address[group] <= self._limits.per_address + SLACK
        fits = fits and delay_s <= DELAY_LIMIT_S
        self.refused += not fits
        return delay_s if fits else None

    def _make_room(self, newcomer: Arrival, group: str) -> None:
        """End the oldest connection that has not logged in, of ``group`` if it is not empty."""
        for stranger in self._strangers:
            if stranger is not newcomer and (not group or stranger.group == group):
                del self._strangers[stranger]
                self.gave_way += 1
                stranger.abort()
                return

    def admitted(self, arrival: Arrival, owner: str, before: str = "") -> bool:
        """Count a connection that logged in for ``owner``, no more for ``before``; return whether there is room."""
        if owner != before:
            if owner and self._by_owner[owner] >= self._limits.per_token:
                self.refused += 1
                return False
            self._count_owner(before, -1)
            self._count_owner(owner, 1)
        self._strangers.pop(arrival, None)
        return True

    def _count_owner(self, owner: str, change: int) -> None:
        if owner:
            self._by_owner[owner] += change
            if self._by_owner[owner] <= 0:
                del self._by_owner[owner]

    def left(self, arrival: Arrival, owner: str) -> None:
        """Count out one that is gone."""
        self.count -= 1
        self._strangers.pop(arrival, None)
        self._leave_address(arrival)
        self._count_owner(owner, -1)

    def _leave_address(self, arrival: Arrival) -> None:
        group = arrival.group
        if group:
            self._by_address[group] -= 1
            if not self._by_address[group]:
                del self._by_address[group]

    def refusal(self, arrival: Arrival) -> str:
        """Return why one more client cannot be served, empty when it can."""
        text = ""
        if self.count > self._limits.connections:
            text = "too many connections; try again later"
        elif arrival.group and self._by_address[arrival.group] > self._limits.per_address:
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
