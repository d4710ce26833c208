"""How much work one client, or one owner of a token, may cause: budgets that refill, and turns that are fair.

A unit of work is one comparison of a pattern with a topic, well under a microsecond. Who has spent its budget waits and
is not read from meanwhile; nothing is lost, and nobody else waits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

OWNERS_LIMIT = 10_000
"""Owners whose budgets are remembered; those whose budgets are full again are forgotten first."""
SLICE_S = 0.25
"""How often who waits for its budget looks whether its connection is still there."""
BURST_S = 6.0
"""So many seconds' worth of work may be done at once."""
SHARES = 2.0
"""All owners together may do the work of so many: what is left of the processor is for what is live."""
HOLD_LIMIT_S = 0.1
"""Longest time that one piece of work keeps the turn from the others."""


class Budget:
    """Units that come back at ``per_s``, up to ``most``."""

    __slots__ = ("_at_s", "_left", "_most", "_per_s")

    def __init__(self, per_s: float, most: float) -> None:
        self._per_s, self._most = per_s, max(1.0, most)
        self._left, self._at_s = self._most, 0.0

    def _refill(self, now_s: float) -> None:
        self._left = min(self._most, self._left + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s

    def allows(self, now_s: float, units: float = 1.0) -> bool:
        """Take ``units`` if they are there; return whether they were."""
        self._refill(now_s)
        if self._left < units:
            return False
        self._left -= units
        return True

    def spend(self, now_s: float, units: float) -> float:
        """Take ``units`` in any case; return the seconds until what is owed has come back."""
        self._refill(now_s)
        self._left -= units
        return max(0.0, -self._left / self._per_s)

    def is_full(self, now_s: float) -> bool:
        """Return whether nothing is missing: a new budget would be the same."""
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
    async def turn(self, owner: str) -> AsyncIterator[None]:
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


class Worker(Protocol):
    """Who causes work: see `Session`."""

    @property
    def owner(self) -> str:
        """Return who answers for it."""

    @property
    def is_open(self) -> bool:
        """Return whether anything can still be sent."""


class Work:
    """The budgets of all owners. ``waits`` counts how often one had to wait for its budget."""

    def __init__(self, per_s: float) -> None:
        self._budgets = Budgets(per_s, per_s * BURST_S)
        self._all = Budget(per_s * SHARES, per_s * SHARES)
        self._most_at_once = per_s * SHARES * HOLD_LIMIT_S
        self._turns = ReadingSlots(1)
        self.waits = 0

    def allows(self, owner: str, units: float) -> bool:
        """Take ``units`` of ``owner`` if they are there; return whether they were."""
        now_s = asyncio.get_running_loop().time()
        return self._budgets.of(owner, now_s).allows(now_s, units)

    async def spend(self, worker: Worker, units: float) -> None:
        """Take ``units``; return when they are paid and it is the worker's turn. One at a time, so others are heard."""
        now_s = asyncio.get_running_loop().time()
        wait_s = self._budgets.of(worker.owner, now_s).spend(now_s, units)
        self.waits += wait_s > 0
        while wait_s > 0 and worker.is_open:
            await asyncio.sleep(min(SLICE_S, wait_s))
            wait_s -= SLICE_S
        async with self._turns.turn(worker.owner):
            now_s = asyncio.get_running_loop().time()
            await asyncio.sleep(self._all.spend(now_s, min(units, self._most_at_once)))
