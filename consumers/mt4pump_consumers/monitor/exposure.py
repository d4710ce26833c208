"""Who holds how much of what: the open orders as the daemon told them, and their sums; pure."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from mt4pump.client import Trade
from mt4pump_consumers.monitor.execution import CLOSED_STATES, DELETED_STATE, POSITIONS, SIDES, Execution, execution_of

MONEY = frozenset({SIDES.index("balance"), SIDES.index("credit")})
ENDED_LIMIT = 20_000
"""Ended orders that are remembered, so that an older change that comes late does not revive them."""
BUY = 0

Key = TypeVar("Key", str, int)


class Held(NamedTuple):
    """One open order; ``volume`` in hundredths of a lot."""

    login: int
    symbol: str
    cmd: int
    volume: int


@dataclass(slots=True)
class Sums:
    """Sums over the orders of a symbol or an account; volumes in hundredths of a lot. ``pending`` counts orders."""

    positions: int = 0
    pending: int = 0
    buy: int = 0
    sell: int = 0

    @property
    def net(self) -> int:
        """Return bought minus sold."""
        return self.buy - self.sell

    @property
    def gross(self) -> int:
        """Return bought and sold together."""
        return self.buy + self.sell

    def add(self, held: Held, sign: int) -> None:
        """Count an order in (``sign`` 1) or out (-1)."""
        if held.cmd not in POSITIONS:
            self.pending += sign
            return
        self.positions += sign
        if held.cmd == BUY:
            self.buy += sign * held.volume
        else:
            self.sell += sign * held.volume

    @property
    def is_empty(self) -> bool:
        """Return whether nothing is left to count."""
        return not (self.positions or self.pending)


class AccountExposure:
    """``orders`` by ticket, sums by ``symbols`` and by ``accounts``."""

    def __init__(self) -> None:
        self.orders: dict[int, Held] = {}
        self.symbols: dict[str, Sums] = {}
        self.accounts: dict[int, Sums] = {}
        self._ended: OrderedDict[int, int] = OrderedDict()

    def clear(self) -> None:
        """Forget all: a snapshot follows."""
        self.orders.clear()
        self.symbols.clear()
        self.accounts.clear()
        self._ended.clear()

    def row(self, event: Trade) -> None:
        """Take one open order of a snapshot."""
        self._put(execution_of(event))

    def take(self, done: Execution) -> None:
        """Take a change of an order."""
        if done.cmd in MONEY:
            return
        over = done.close_time > 0 or done.state in CLOSED_STATES or done.state == DELETED_STATE
        if done.change in {"closed", "cancelled", "deleted"} or over:
            self._drop(done.order)
            self._ended[done.order] = done.timestamp
            if len(self._ended) > ENDED_LIMIT:
                self._ended.popitem(last=False)
        elif done.change != "modified" or done.timestamp > self._ended.get(done.order, -1):
            self._ended.pop(done.order, None)
            self._put(done)

    def _put(self, done: Execution) -> None:
        self._drop(done.order)
        held = self.orders[done.order] = Held(done.login, done.symbol, done.cmd, done.volume)
        self.symbols.setdefault(held.symbol, Sums()).add(held, 1)
        self.accounts.setdefault(held.login, Sums()).add(held, 1)

    def _drop(self, order: int) -> None:
        held = self.orders.pop(order, None)
        if held is None:
            return
        _take_out(self.symbols, held.symbol, held)
        _take_out(self.accounts, held.login, held)


def _take_out(sums: dict[Key, Sums], key: Key, held: Held) -> None:
    sums[key].add(held, -1)
    if sums[key].is_empty:
        del sums[key]
