"""How much clients may cause: budgets that refill, fair slots, counted connections, a log of bounded rate.

A unit of work is one comparison of a pattern with a topic, well under a microsecond. A client whose budget is spent
waits and is not read from meanwhile; nothing is lost, and nobody else waits.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from mt4pump.process.values import is_loopback
from mt4pump_consumers.gateway.http import group_of
from mt4pump_consumers.gateway.settings import GatewaySettings

LINES = 20
INTERVAL_S = 10.0


class LimitedLog:
    """At most `LINES` lines of one text in `INTERVAL_S`; how many were left out is said with the next one."""

    def __init__(self, log: logging.Logger, now_s: Callable[[], float] = time.monotonic) -> None:
        self._log, self._now_s = log, now_s
        self._counts: dict[str, int] = {}
        self._until_s: dict[str, float] = {}

    def write(self, level: int, text: str, *values: object) -> None:
        """Log one line; ``text`` is a constant, text from outside belongs into ``values``."""
        now_s = self._now_s()
        count = self._counts.get(text, 0)
        if now_s >= self._until_s.get(text, 0.0):
            if count > LINES:
                self._log.log(level, "lines like the next one that were left out: %d", count - LINES)
            self._until_s[text], count = now_s + INTERVAL_S, 0
        self._counts[text] = count + 1
        if count < LINES:
            self._log.log(level, text, *values)


OWNERS_LIMIT = 10_000
"""Owners whose budgets are remembered; those whose budgets are full again are forgotten first."""
SLICE_S = 0.25
"""How often who waits for its budget looks whether its connection is still there."""
AUTH_UNITS = 2_000
"""Work of checking a token; that of other requests is in `requests`."""
WORK_BURST_S = 6.0
"""So many seconds' worth of work may be done at once."""
SHARES = 2.0
"""All owners together may do the work of so many: what is left of the processor is for what is live."""
HOLD_LIMIT_S = 0.1
"""Longest time that one piece of work keeps the slot from the others."""


class Budget:
    """Units that refill at ``per_s``, up to ``most``."""

    __slots__ = ("_at_s", "_left", "_most", "_per_s")

    def __init__(self, per_s: float, most: float) -> None:
        self._per_s, self._most = per_s, max(1.0, most)
        self._left, self._at_s = self._most, 0.0

    def _refill(self, now_s: float) -> None:
        self._left = min(self._most, self._left + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s

    def allows(self, now_s: float, units: float = 1.0) -> bool:
        """Spend ``units`` if they are available; return whether they were."""
        self._refill(now_s)
        if self._left < units:
            return False
        self._left -= units
        return True

    def spend(self, now_s: float, units: float) -> float:
        """Spend ``units`` in any case; return the seconds until the debt is refilled."""
        self._refill(now_s)
        self._left -= units
        return max(0.0, -self._left / self._per_s)

    def is_full(self, now_s: float) -> bool:
        """Return whether it is full, like a new one."""
        self._refill(now_s)
        return self._left >= self._most


class Budgets:
    """A budget for each owner, in a table of bounded size."""

    def __init__(self, per_s: float, most: float) -> None:
        self._per_s, self._most = per_s, most
        self._table: dict[str, Budget] = {}

    def of(self, owner: str, now_s: float) -> Budget:
        """Return the budget of ``owner``."""
        budget = self._table.get(owner)
        if budget is None:
            if len(self._table) >= OWNERS_LIMIT:
                self._forget(now_s)
            budget = self._table[owner] = Budget(self._per_s, self._most)
        return budget

    def _forget(self, now_s: float) -> None:
        self._table = {owner: budget for owner, budget in self._table.items() if not budget.is_full(now_s)}
        while len(self._table) >= OWNERS_LIMIT:
            del self._table[next(iter(self._table))]

    def __len__(self) -> int:
        return len(self._table)


class ReadingSlots:
    """``places`` at a time; the others wait, and owners have their turns one after the other, however many they are."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @property
    def has_waiting(self) -> bool:
        """Return whether anybody waits for a place."""
        return bool(self._waiting)

    @asynccontextmanager
    async def slot(self, owner: str) -> AsyncIterator[None]:
        """Hold a place."""
        await self._enter(owner)
        try:
            yield
        finally:
            self._leave()

    async def _enter(self, owner: str) -> None:
        if self._free and not self._waiting:
            self._free -= 1
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(place)
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled():
                self._leave()  # it had just got the place
            raise

    def _leave(self) -> None:
        while self._waiting:
            owner = next(iter(self._waiting))
            places = self._waiting.pop(owner)
            place = places.popleft()
            if places:
                self._waiting[owner] = places  # behind all others
            if not place.done():
                place.set_result(None)
                return
        self._free += 1


class Work:
    """The budgets of all owners. ``waits`` counts how often one had to wait for its budget."""

    def __init__(self, per_s: float) -> None:
        self._budgets = Budgets(per_s, per_s * WORK_BURST_S)
        self._all = Budget(per_s * SHARES, per_s * SHARES)
        self._most_at_once = per_s * SHARES * HOLD_LIMIT_S
        self._slots = ReadingSlots(1)
        self.waits = 0

    def allows(self, owner: str, units: float) -> bool:
        """Take ``units`` of ``owner`` if they are there; return whether they were."""
        now_s = asyncio.get_running_loop().time()
        return self._budgets.of(owner, now_s).allows(now_s, units)

    async def spend(self, owner: str, units: float, is_open: Callable[[], bool]) -> None:
        """Take ``units`` of ``owner``; return when they are paid and it has the slot, which is one at a time.

        ``is_open`` returns whether the client is still there; nobody waits for the budget of one that is gone.
        """
        now_s = asyncio.get_running_loop().time()
        wait_s = self._budgets.of(owner, now_s).spend(now_s, units)
        self.waits += wait_s > 0
        while wait_s > 0 and is_open():
            await asyncio.sleep(min(SLICE_S, wait_s))
            wait_s -= SLICE_S
        async with self._slots.slot(owner):
            now_s = asyncio.get_running_loop().time()
            await asyncio.sleep(self._all.spend(now_s, min(units, self._most_at_once)))


SLACK = 64
"""Connections beyond the limit that still get the answer 503."""
CONNECTION_BURST_S = 5.0
"""So many seconds' worth of connections may come from one address at once."""
DELAY_LIMIT_S = 5.0
"""Longest time that a new connection waits because others of its address came too fast; one more is ended."""
PROXY_HEADERS = ("Forwarded", "X-Forwarded-For", "X-Real-IP")


@dataclass(eq=False, slots=True)
class CountedConnection:
    """One connection as the limits count it; ``end`` ends it at once.

    ``group`` is what it counts for among those of its address, empty while a proxy has not named the client; ``owner``
    is whose token it logged in with, empty before that.
    """

    end: Callable[[], None]
    group: str = ""
    owner: str = ""


class ConnectionLimiter:
    """Counts connections. Where there is no room, the oldest one that has not logged in gives way to a new one.

    ``refused`` counts those for which there was no room, ``foreign`` those from other web pages, ``gave_way`` those
    that were ended for newer ones, ``too_fast`` those that had to wait, ``flooded`` those that sent too
    much, ``malformed`` requests that are none.
    """

    def __init__(self, settings: GatewaySettings, now_s: Callable[[], float]) -> None:
        self._settings, self._now_s = settings, now_s
        self._by_address: Counter[str] = Counter()
        self._by_owner: Counter[str] = Counter()
        self._unauthenticated: dict[CountedConnection, None] = {}
        per_s = settings.new_connections_per_s
        self._rates = Budgets(per_s, per_s * CONNECTION_BURST_S)
        self.count = 0
        self.refused = self.foreign = self.gave_way = self.too_fast = self.flooded = self.malformed = 0

    def arrived(self, connection: CountedConnection) -> float | None:
        """Count a connection; return the seconds to wait before it is read, None when it must be closed."""
        self.count += 1
        self._unauthenticated[connection] = None
        if self.count > self._settings.connections:
            self._end_oldest(connection, "")
        delay_s = self._enter(connection)
        return delay_s if self.count <= self._settings.connections + SLACK else None

    def moved(self, connection: CountedConnection, address: str) -> bool:
        """Count a connection for ``address``, which its proxy names; return False when it must be closed."""
        self._leave_address(connection)
        connection.group = group_of(address)
        return self._enter(connection) is not None

    def _enter(self, connection: CountedConnection) -> float | None:
        group, now_s = connection.group, self._now_s()
        if not group:
            return 0.0
        self._by_address[group] += 1
        delay_s = self._rates.of(group, now_s).spend(now_s, 1)
        self.too_fast += delay_s > 0
        if self._by_address[group] > self._settings.connections_per_address:
            self._end_oldest(connection, group)
        fits = self._by_address[group] <= self._settings.connections_per_address + SLACK
        fits = fits and delay_s <= DELAY_LIMIT_S
        self.refused += not fits
        return delay_s if fits else None

    def _end_oldest(self, new: CountedConnection, group: str) -> None:
        """End the oldest connection that has not logged in, of ``group`` if it is not empty."""
        for unauthenticated in self._unauthenticated:
            if unauthenticated is not new and (not group or unauthenticated.group == group):
                del self._unauthenticated[unauthenticated]
                self.gave_way += 1
                unauthenticated.end()
                return

    def admitted(self, connection: CountedConnection, owner: str) -> bool:
        """Count a connection that logged in for ``owner``, no more for the one before; return whether there is room."""
        if owner != connection.owner:
            if owner and self._by_owner[owner] >= self._settings.connections_per_token:
                self.refused += 1
                return False
            self._count_owner(connection.owner, -1)
            self._count_owner(owner, 1)
            connection.owner = owner
        self._unauthenticated.pop(connection, None)
        return True

    def _count_owner(self, owner: str, change: int) -> None:
        if owner:
            self._by_owner[owner] += change
            if self._by_owner[owner] <= 0:
                del self._by_owner[owner]

    def left(self, connection: CountedConnection) -> None:
        """Remove a closed connection from the counts."""
        self.count -= 1
        self._unauthenticated.pop(connection, None)
        self._leave_address(connection)
        self._count_owner(connection.owner, -1)

    def _leave_address(self, connection: CountedConnection) -> None:
        group = connection.group
        if group:
            self._by_address[group] -= 1
            if not self._by_address[group]:
                del self._by_address[group]

    def refusal(self, connection: CountedConnection) -> str:
        """Return why this client cannot be served, empty when it can."""
        text = ""
        if self.count > self._settings.connections:
            text = "too many connections; try again later"
        elif connection.group and self._by_address[connection.group] > self._settings.connections_per_address:
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
