"""The order book of all accounts: every way in which an order begins, changes and ends.

Each change is made in the table first, then told by UPDATE_TRADES; an end that moves money is followed by UPDATE_USERS.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import chain

from mt4pump.mt4.codes import Activation, PumpCode, TradeCommand, TradeReason, TradeState, Transaction
from mt4pump.simulator.accounts import AccountTable
from mt4pump.simulator.context import Context
from mt4pump.simulator.market import Instrument, Market
from mt4pump.simulator.orders import Order, SimulatedAccount
from mt4pump.simulator.triggers import entries, passed, reached, tighten, watch

FIRST_TICKET = 50_000_001
LAST_TICKET = 2**31 - 2
ACTIVATED_AS = {
    TradeCommand.OP_BUY_LIMIT: TradeCommand.OP_BUY,
    TradeCommand.OP_BUY_STOP: TradeCommand.OP_BUY,
    TradeCommand.OP_SELL_LIMIT: TradeCommand.OP_SELL,
    TradeCommand.OP_SELL_STOP: TradeCommand.OP_SELL,
}
ENTRIES_KEPT = 1024
"""So few wake-up prices of one instrument are not worth looking through for those out of date."""
EXPIRATIONS_KEPT = 1024
"""So few are not worth looking through for those of orders that are gone."""
ADD, DELETE, UPDATE = Transaction.ADD, Transaction.DELETE, Transaction.UPDATE


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a trader writes on an order. Prices in points, 0: none; ``price`` for pending orders only."""

    cmd: int
    volume: int
    price: int = 0
    sl: int = 0
    tp: int = 0
    expiration: int = 0
    magic: int = 0
    reason: TradeReason = TradeReason.TR_REASON_CLIENT
    comment: str = ""


class OrderBook:
    """All open and pending orders, by ticket; ``by_instrument`` has the same per symbol."""

    def __init__(self, stage: Context, market: Market, accounts: AccountTable) -> None:
        self._stage = stage
        self.market = market
        self._accounts = accounts
        self._next_order = FIRST_TICKET
        self._expirations: list[tuple[int, int]] = []
        self._expirations_limit = EXPIRATIONS_KEPT
        self._entries_kept: dict[str, int] = {}
        self.orders: dict[int, Order] = {}
        self.by_instrument: dict[str, dict[int, Order]] = {}

    def table(self) -> bytes:
        """Return the TradeRecord array of all open and pending orders."""
        return b"".join(order.record for order in self.orders.values())

    def open(self, account: SimulatedAccount, instrument: Instrument, ticket: Ticket) -> Order:
        """Open a position at the market."""
        order = self._new(account, instrument, ticket)
        order.open_price = order.entry_price()
        order.fix_margin_rate()
        order.commission = self._commission(order)
        return self._begin(order)

    def place(self, account: SimulatedAccount, instrument: Instrument, ticket: Ticket) -> Order:
        """Place a pending order."""
        order = self._new(account, instrument, ticket)
        order.open_price = ticket.price
        if order.expiration:
            self._remember_expiration(order)
        return self._begin(order)

    def _remember_expiration(self, order: Order) -> None:
        """Keep when ``order`` expires. Most end otherwise: their entries are dropped each time the list has doubled."""
        if len(self._expirations) >= self._expirations_limit:
            self._expirations = [entry for entry in self._expirations if self._expiring(*entry)]
            heapify(self._expirations)
            self._expirations_limit = max(EXPIRATIONS_KEPT, 2 * len(self._expirations))
        heappush(self._expirations, (order.expiration, order.order))

    def _expiring(self, expiration: int, number: int) -> Order | None:
        """Return the order of an entry, if it still waits for its price and for that time."""
        order = self.orders.get(number)
        return order if order and order.is_pending and order.expiration == expiration else None

    def _new(self, account: SimulatedAccount, instrument: Instrument, ticket: Ticket) -> Order:
        order = Order(self._number(), account, self.market, instrument, ticket.cmd)
        order.volume, order.sl, order.tp = ticket.volume, ticket.sl, ticket.tp
        order.expiration, order.magic, order.reason = ticket.expiration, ticket.magic, ticket.reason
        order.comment = ticket.comment
        order.open_time = self._stage.clock.server_time_s
        return order

    def _number(self) -> int:
        number = self._next_order
        while number in self.orders:  # after the numbers began anew
            number += 1
        self._next_order = FIRST_TICKET if number >= LAST_TICKET else number + 1
        return number

    def _begin(self, order: Order) -> Order:
        order.close_price = order.exit_price()
        self.orders[order.order] = order
        order.account.orders[order.order] = order
        self.by_instrument.setdefault(order.traded().name, {})[order.order] = order
        self._accounts.touch_level(order.account)
        self._watch(order)
        self._tell(ADD, order)
        return order

    def modify(self, order: Order, *, sl: int, tp: int, price: int | None = None) -> None:
        """Move stop loss and take profit (points, 0: none), and the price of a pending order."""
        order.sl, order.tp = sl, tp
        if price is not None:
            order.open_price = price
        order.close_price = order.exit_price()
        self._watch(order)
        self._tell(UPDATE, order)

    def charge_swap(self, order: Order, amount: float) -> None:
        """Add a night's swap to a position."""
        order.storage = round(order.storage + amount, 2)
        self._tell(UPDATE, order)

    def activate(self, order: Order) -> None:
        """Turn a pending order into a position: its price has come."""
        order.cmd = ACTIVATED_AS[TradeCommand(order.cmd)]
        self._accounts.touch_level(order.account)
        order.open_time = self._stage.clock.server_time_s
        order.expiration = 0
        order.activation = Activation.ACTIVATION_NONE
        order.close_price = order.exit_price()
        order.fix_margin_rate()
        order.commission = self._commission(order)
        self._watch(order)
        self._tell(UPDATE, order)

    def mark(self, order: Order, activation: Activation) -> None:
        """Set ``activation`` in the table; only the bell ACTIVATION tells it, as in the API."""
        order.mark(activation)
        if activation == Activation.ACTIVATION_NONE:
            self._watch(order)
        self._stage.emit(PumpCode.UPDATE_ACTIVATION, 0, b"")

    def close(self, order: Order, price: int | None = None, *, volume: int = 0, note: str = "") -> Order | None:
        """Close a position at ``price`` (points; None: the market's), or only ``volume`` of it.

        After a partial close the closed part keeps the ticket; the rest is a new order, which is returned.
        """
        rest = order.volume - volume if volume else 0
        successor = self._number() if rest else 0
        order.state = TradeState.TS_CLOSED_PART if rest else TradeState.TS_CLOSED_NORMAL
        if rest:
            self._lessen(order, volume)
            note = f"to #{successor}"
        self._settle(order, order.exit_price() if price is None else price, note)
        return self._remand(order, successor, rest) if rest else None

    def close_by(self, order: Order, opposite: Order) -> Order | None:
        """Close a position with one in the other direction; what is left of the larger is a new order (returned)."""
        larger = order if order.volume > opposite.volume else opposite
        rest = abs(order.volume - opposite.volume)
        if rest:
            self._lessen(larger, larger.volume - rest)
        order.state = opposite.state = TradeState.TS_CLOSED_BY
        self._settle(order, opposite.open_price, f"close hedge by #{opposite.order}")
        # The first carries the whole result: the second closes where it was opened.
        self._settle(opposite, opposite.open_price, f"close hedge by #{order.order}")
        return self._remand(larger, self._number(), rest) if rest else None

    def cancel(self, order: Order, *, note: str = "", as_update: bool = False) -> None:
        """Delete a pending order: as DELETE, or as UPDATE of a record with login 0, as servers do either way."""
        self._forget(order)
        order.state = TradeState.TS_DELETED
        order.comment = note or order.comment
        now = self._stage.clock.server_time_s
        if as_update:
            self._stage.emit(PumpCode.UPDATE_TRADES, UPDATE, order.pack(now, login=0))
        else:
            order.close_time, order.close_price = now, order.exit_price()
            self._tell(DELETE, order)

    def cancel_expired(self) -> None:
        """Delete the pending orders whose time is over."""
        now = self._stage.clock.server_time_s
        while self._expirations and self._expirations[0][0] <= now:
            order = self._expiring(*heappop(self._expirations))
            if order:
                self.cancel(order, note="[expiration]")

    def operate(self, account: SimulatedAccount, cmd: int, amount: float, comment: str) -> None:
        """Pay in or out (OP_BALANCE) or give and take credit (OP_CREDIT).

        Told as ADD: no source shows the action of such records, and they never stand in the table of open orders.
        """
        order = Order(self._number(), account, self.market, None, cmd)
        order.open_time = order.close_time = self._stage.clock.server_time_s
        order.profit, order.comment, order.reason = amount, comment, TradeReason.TR_REASON_DEALER
        self._tell(ADD, order)
        is_credit = cmd == TradeCommand.OP_CREDIT
        self._accounts.pay(account, balance=0.0 if is_credit else amount, credit=amount if is_credit else 0.0)

    def woken(self, instrument: Instrument) -> list[tuple[Order, Activation]]:
        """Return the orders of ``instrument`` whose price has come; each once, until it is watched again."""
        due = []
        for ticket in sorted(passed(instrument)):
            order = self.orders.get(ticket)
            if order is None or order.activation or order.instrument is not instrument:
                continue  # it is gone, or somebody deals with it already
            activation = reached(order)
            if activation:
                due.append((order, activation))
        return due

    def _watch(self, order: Order) -> None:
        """Have the order's price wake it up; now and then drop the entries of orders that changed or ended."""
        watch(order)
        instrument = order.traded()
        if entries(instrument) > 2 * self._entries_kept.get(instrument.name, 0) + ENTRIES_KEPT:
            instrument.forget_bounds()
            for other in self.by_instrument[instrument.name].values():
                if not other.activation:
                    watch(other)
            tighten(instrument)
            self._entries_kept[instrument.name] = entries(instrument)

    def execute(self, order: Order, activation: Activation) -> None:
        """Do what the price that came asks for."""
        if activation == Activation.ACTIVATION_PENDING:
            self.activate(order)
            return
        stop_loss = activation == Activation.ACTIVATION_SL
        order.activation = Activation.ACTIVATION_NONE
        self.close(order, order.sl if stop_loss else order.tp, note=order.comment + ("[sl]" if stop_loss else "[tp]"))

    def _settle(self, order: Order, price: int, note: str) -> None:
        self._forget(order)
        order.close_price, order.close_time = price, self._stage.clock.server_time_s
        order.profit = order.profit_from(price)
        order.comment = note or order.comment
        self._tell(DELETE, order)
        self._accounts.pay(order.account, balance=order.profit + order.storage + order.commission)

    def _remand(self, closed: Order, number: int, volume: int) -> Order:
        rest = Order(number, closed.account, self.market, closed.instrument, closed.cmd)
        rest.volume, rest.open_price, rest.open_time = volume, closed.open_price, closed.open_time
        rest.sl, rest.tp, rest.magic, rest.reason = closed.sl, closed.tp, closed.magic, closed.reason
        rest.margin_rate, rest.state = closed.margin_rate, TradeState.TS_OPEN_REMAND
        rest.comment = f"from #{closed.order}"
        rest.commission = self._commission(rest)
        return self._begin(rest)

    @staticmethod
    def _lessen(order: Order, volume: int) -> None:
        """Leave ``order`` only ``volume`` and the commission on that: the order of the rest is charged its own."""
        order.commission = round(order.commission * volume / order.volume, 2)
        order.volume = volume

    def _commission(self, order: Order) -> float:
        return 0.0 - round(order.account.group.commission * order.volume / 100, 2)

    def _forget(self, order: Order) -> None:
        del self.orders[order.order]
        del order.account.orders[order.order]
        del self.by_instrument[order.traded().name][order.order]
        self._accounts.touch_level(order.account)

    def _tell(self, action: int, order: Order) -> None:
        self._stage.emit(PumpCode.UPDATE_TRADES, action, order.pack(self._stage.clock.server_time_s))

    def everything(self) -> list[Order]:
        """Return all orders, oldest ticket first within an account."""
        return list(chain.from_iterable(account.orders.values() for account in self._accounts.all))
