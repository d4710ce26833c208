"""All orders: how one begins, changes and ends.

Each change is made in the table first, then sent as UPDATE_TRADES; an end that moves money is followed by UPDATE_USERS.
"""

from __future__ import annotations

from dataclasses import replace
from heapq import heapify, heappop, heappush

from mt4pump.mt4.codes import ActivationType, PumpCode, TradeCommand, TradeReason, TradeState, Transaction
from mt4pump.mt4.layout import TRADE_RECORD
from mt4pump.simulator.accounts import AccountTable
from mt4pump.simulator.context import Context, RecordArray
from mt4pump.simulator.market import Instrument, Market
from mt4pump.simulator.orders import Order, SimulatedAccount

FIRST_TICKET = 50_000_001
LAST_TICKET = 2**31 - 2
OUTDATED_LIMIT = 1024
"""So few trigger prices of an instrument, or expirations, are never searched for those of changed or closed orders."""
ADD, DELETE, UPDATE = Transaction.ADD, Transaction.DELETE, Transaction.UPDATE

BID_FALLS, BID_RISES, ASK_FALLS, ASK_RISES = range(4)
SIGNS = (-1, 1, -1, 1)
SL, TP, PENDING = ActivationType.ACTIVATION_SL, ActivationType.ACTIVATION_TP, ActivationType.ACTIVATION_PENDING
TRIGGERS = {
    TradeCommand.OP_BUY: ((BID_FALLS, "sl", SL), (BID_RISES, "tp", TP)),
    TradeCommand.OP_SELL: ((ASK_RISES, "sl", SL), (ASK_FALLS, "tp", TP)),
    TradeCommand.OP_BUY_LIMIT: ((ASK_FALLS, "open_price", PENDING),),
    TradeCommand.OP_BUY_STOP: ((ASK_RISES, "open_price", PENDING),),
    TradeCommand.OP_SELL_LIMIT: ((BID_RISES, "open_price", PENDING),),
    TradeCommand.OP_SELL_STOP: ((BID_FALLS, "open_price", PENDING),),
}
"""Which price of an order is compared with which price of the market, and what happens when it is reached."""


def activation_due(order: Order) -> ActivationType:
    """Return what happens to an order at the current price."""
    prices = order.instrument.signed_prices()
    for side, name, activation in TRIGGERS[TradeCommand(order.cmd)]:
        price = getattr(order, name)
        if price and SIGNS[side] * price <= prices[side]:
            return activation
    return ActivationType.ACTIVATION_NONE


def add_triggers(order: Order) -> None:
    """Add each price that the order waits for to the heaps of its instrument."""
    for side, name, _ in TRIGGERS[TradeCommand(order.cmd)]:
        if price := getattr(order, name):
            heappush(order.instrument.triggers[side], (SIGNS[side] * price, order.order))
    order.instrument.update_bounds()


class OrderBook:
    """All open and pending orders, by ticket; ``by_instrument`` has the same per symbol, ``records`` their bytes."""

    def __init__(self, context: Context, market: Market, accounts: AccountTable) -> None:
        self.context = context
        self.market = market
        self.accounts = accounts
        self._next_ticket = FIRST_TICKET
        self._expirations: list[tuple[int, int]] = []
        self._expirations_limit = OUTDATED_LIMIT
        self._trigger_limits: dict[str, int] = {}
        self.orders: dict[int, Order] = {}
        self.by_instrument: dict[str, dict[int, Order]] = {}
        self.records = RecordArray(TRADE_RECORD)

    def open(self, order: Order) -> None:
        """Open a position at the market."""
        order.open_price = order.instrument.ask if order.is_buy else order.instrument.bid
        order.fix_terms()
        self._add(order, self._new_ticket(), self.context.server_time_s)

    def place(self, order: Order) -> None:
        """Place a pending order."""
        self._add(order, self._new_ticket(), self.context.server_time_s)
        if order.expiration:
            self._add_expiration(order)

    def modify(self, order: Order, *, sl: int, tp: int, price: int | None = None) -> None:
        """Change stop loss and take profit (points, 0: none), and the price of a pending order."""
        order.sl, order.tp = sl, tp
        if price is not None:
            order.open_price = price
        order.close_price = order.exit_price()
        self._add_triggers(order)
        self._send(UPDATE, order)

    def charge_swap(self, order: Order, amount: float) -> None:
        """Add a night's swap to a position."""
        order.storage = round(order.storage + amount, 2)
        self._send(UPDATE, order)

    def activate(self, order: Order) -> None:
        """Turn a pending order whose price was reached into a position."""
        order.cmd = TradeCommand.OP_BUY if order.is_buy else TradeCommand.OP_SELL
        order.open_time = self.context.server_time_s
        order.expiration = 0
        order.activation = ActivationType.ACTIVATION_NONE
        order.close_price = order.exit_price()
        order.fix_terms()
        self.accounts.update_level(order.account)
        self._add_triggers(order)
        self._send(UPDATE, order)

    def set_activation(self, order: Order, activation: ActivationType) -> None:
        """Set ``activation`` in the table; the event ACTIVATION carries no record, as in the API."""
        order.activation = activation
        self.records.update(order.order, activation=activation)
        if activation == ActivationType.ACTIVATION_NONE:
            self._add_triggers(order)
        self.context.emit(PumpCode.UPDATE_ACTIVATION, 0, b"")

    def close(self, order: Order, price: int | None = None, *, volume: int = 0, note: str = "") -> Order | None:
        """Close a position at ``price`` (points; None: the market's), or only ``volume`` of it.

        After a partial close the closed part keeps the ticket; the rest is a new order, which is returned.
        """
        rest = order.volume - volume if volume else 0
        successor = self._new_ticket() if rest else 0
        order.state = TradeState.TS_CLOSED_PART if rest else TradeState.TS_CLOSED_NORMAL
        if rest:
            self._reduce(order, volume)
            note = f"to #{successor}"
        self._settle(order, order.exit_price() if price is None else price, note)
        return self._open_rest(order, successor, rest) if rest else None

    def close_by(self, order: Order, opposite: Order) -> Order | None:
        """Close a position with one in the other direction; the rest of the larger is a new order (returned)."""
        larger = order if order.volume > opposite.volume else opposite
        rest = abs(order.volume - opposite.volume)
        if rest:
            self._reduce(larger, larger.volume - rest)
        order.state = opposite.state = TradeState.TS_CLOSED_BY
        self._settle(order, opposite.open_price, f"close hedge by #{opposite.order}")
        # The first carries the whole result: the second closes where it was opened.
        self._settle(opposite, opposite.open_price, f"close hedge by #{order.order}")
        return self._open_rest(larger, self._new_ticket(), rest) if rest else None

    def cancel(self, order: Order, *, note: str = "", as_update: bool = False) -> None:
        """Delete a pending order: as DELETE, or as UPDATE of a record with login 0; real servers do both."""
        self._remove(order)
        order.state = TradeState.TS_DELETED
        order.comment = note or order.comment
        now = self.context.server_time_s
        if as_update:
            self.context.emit(PumpCode.UPDATE_TRADES, UPDATE, order.pack(now, login=0))
        else:
            order.close_time, order.close_price = now, order.exit_price()
            self._send(DELETE, order)

    def cancel_expired(self) -> None:
        """Delete the pending orders that have expired."""
        now = self.context.server_time_s
        while self._expirations and self._expirations[0][0] <= now:
            order = self._expiring(*heappop(self._expirations))
            if order:
                self.cancel(order, note="[expiration]")

    def operate(self, account: SimulatedAccount, cmd: int, amount: float, comment: str) -> None:
        """Pay in or out (OP_BALANCE) or give and withdraw credit (OP_CREDIT).

        Sent as ADD: no source shows the action of such records, and they are never in the table of open orders.
        """
        now = self.context.server_time_s
        record = TRADE_RECORD.pack(
            {
                "order": self._new_ticket(), "login": account.login, "cmd": cmd, "open_time": now, "close_time": now,
                "profit": amount, "comment": comment, "reason": TradeReason.TR_REASON_DEALER, "timestamp": now,
            }
        )  # fmt: skip
        self.context.emit(PumpCode.UPDATE_TRADES, ADD, record)
        self.accounts.pay(account, **{"credit" if cmd == TradeCommand.OP_CREDIT else "balance": amount})

    def triggered(self, instrument: Instrument) -> list[tuple[Order, ActivationType]]:
        """Return the orders of ``instrument`` whose price was reached; each once, until its triggers are set again."""
        tickets = set()
        for heap, price in zip(instrument.triggers, instrument.signed_prices(), strict=True):
            while heap and heap[0][0] <= price:
                tickets.add(heappop(heap)[1])
        instrument.update_bounds()
        due = []
        for ticket in sorted(tickets):
            order = self.orders.get(ticket)
            if order is None or order.activation or order.instrument is not instrument:
                continue  # it is closed, or a dealer handles it already
            if activation := activation_due(order):
                due.append((order, activation))
        return due

    def execute(self, order: Order, activation: ActivationType) -> None:
        """Activate or close an order whose price was reached."""
        if activation == PENDING:
            self.activate(order)
            return
        price, note = (order.sl, "[sl]") if activation == SL else (order.tp, "[tp]")
        order.activation = ActivationType.ACTIVATION_NONE
        self.close(order, price, note=order.comment + note)

    def _new_ticket(self) -> int:
        ticket = self._next_ticket
        while ticket in self.orders:  # possible once the numbers have wrapped around
            ticket += 1
        self._next_ticket = FIRST_TICKET if ticket >= LAST_TICKET else ticket + 1
        return ticket

    def _add(self, order: Order, ticket: int, open_time: int) -> None:
        order.order, order.open_time = ticket, open_time
        order.close_price = order.exit_price()
        self.orders[order.order] = order
        order.account.orders[order.order] = order
        self.by_instrument.setdefault(order.instrument.name, {})[order.order] = order
        if order.is_position:
            self.accounts.update_level(order.account)
        self._add_triggers(order)
        self._send(ADD, order)

    def _remove(self, order: Order) -> None:
        del self.orders[order.order]
        del order.account.orders[order.order]
        del self.by_instrument[order.instrument.name][order.order]
        self.records.discard(order.order)

    def _settle(self, order: Order, price: int, note: str) -> None:
        self._remove(order)
        order.close_price, order.close_time = price, self.context.server_time_s
        order.profit = order.profit_from(price)
        order.comment = note or order.comment
        self._send(DELETE, order)
        self.accounts.pay(order.account, balance=order.profit + order.storage + order.commission)

    def _open_rest(self, closed: Order, ticket: int, volume: int) -> Order:
        rest = replace(
            closed, volume=volume, state=TradeState.TS_OPEN_REMAND, comment=f"from #{closed.order}",
            close_time=0, expiration=0, activation=ActivationType.ACTIVATION_NONE, storage=0.0, profit=0.0,
        )  # fmt: skip
        rest.fix_commission()
        self._add(rest, ticket, closed.open_time)
        return rest

    @staticmethod
    def _reduce(order: Order, volume: int) -> None:
        """Leave ``order`` only ``volume`` and the commission on that: the order of the rest is charged its own."""
        order.commission = round(order.commission * volume / order.volume, 2)
        order.volume = volume

    def _send(self, action: int, order: Order) -> None:
        record = order.pack(self.context.server_time_s)
        if action != DELETE:
            self.records[order.order] = record
        self.context.emit(PumpCode.UPDATE_TRADES, action, record)

    def _add_expiration(self, order: Order) -> None:
        """Schedule an expiration; entries of orders that ended otherwise are removed when the heap has doubled."""
        if len(self._expirations) >= self._expirations_limit:
            self._expirations = [entry for entry in self._expirations if self._expiring(*entry)]
            heapify(self._expirations)
            self._expirations_limit = max(OUTDATED_LIMIT, 2 * len(self._expirations))
        heappush(self._expirations, (order.expiration, order.order))

    def _expiring(self, expiration: int, ticket: int) -> Order | None:
        """Return the order of an entry, if it is still pending with that expiration."""
        order = self.orders.get(ticket)
        return order if order and not order.is_position and order.expiration == expiration else None

    def _add_triggers(self, order: Order) -> None:
        """Add the order's triggers; rebuild those of its instrument when most of them are outdated."""
        add_triggers(order)
        instrument = order.instrument
        if sum(map(len, instrument.triggers)) > self._trigger_limits.get(instrument.name, OUTDATED_LIMIT):
            instrument.clear_triggers()
            for other in self.by_instrument[instrument.name].values():
                if not other.activation:
                    add_triggers(other)
            self._trigger_limits[instrument.name] = 2 * sum(map(len, instrument.triggers)) + OUTDATED_LIMIT
