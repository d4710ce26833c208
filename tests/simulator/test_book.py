"""Each way in which an order begins, changes and ends tells the right records and leaves the right table."""

from __future__ import annotations

from typing import Any

import pytest

from mt4pump.mt4.codes import Activation, PumpCode, TradeCommand, TradeState, Transaction
from mt4pump.simulator.market import WALK_SYMBOLS, Instrument
from mt4pump.simulator.options import SimulatorOptions
from mt4pump.simulator.order_book import EXPIRATIONS_KEPT, Ticket
from mt4pump.simulator.orders import Order, SimulatedAccount
from mt4pump.simulator.triggers import reached
from mt4pump.simulator.world import World

from .reader import START_S, RawEvent, decode_trade

ADD, DELETE, UPDATE = Transaction.ADD, Transaction.DELETE, Transaction.UPDATE
BUY, SELL = TradeCommand.OP_BUY, TradeCommand.OP_SELL


class Desk:
    """A quiet world with one account at hand, EURUSD at 1.08000 / 1.08010, and the events told."""

    def __init__(self) -> None:
        self.world = World(SimulatorOptions(start_s=START_S), WALK_SYMBOLS, trading=False)
        self.book = self.world.book
        self.account: SimulatedAccount = next(a for a in self.world.accounts.all if a.group.currency == "USD")
        self.eurusd: Instrument = self.world.market.by_raw_name[b"EURUSD".ljust(12, b"\0")]
        self.eurusd.take(108_000, 108_010)
        self.events: list[RawEvent] = []
        self.world.stage.emit = lambda code, action, data: self.events.append((code, action, data))

    def open(self, cmd: int, volume: int = 100, **ticket: Any) -> Order:
        return self.book.open(self.account, self.eurusd, Ticket(cmd, volume, **ticket))

    def trades(self) -> list[tuple[int, dict[str, Any]]]:
        """Return the trade records told since the last call."""
        told = [(a, decode_trade(data)) for code, a, data in self.events if code == PumpCode.UPDATE_TRADES]
        self.events.clear()
        return told


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_position_opens_at_ask_when_it_buys_and_at_bid_when_it_sells(desk: Desk) -> None:
    buy, sell = desk.open(BUY, sl=107_000, tp=109_000), desk.open(SELL)
    (_, first), (_, second) = desk.trades()
    assert (first["order"], first["open_price"], first["sl"], first["tp"]) == (buy.order, 1.0801, 1.07, 1.09)
    assert (second["order"], second["open_price"], second["sl"], second["tp"]) == (sell.order, 1.08, 0, 0)
    assert first["open_time"] == int(START_S) + 10800
    assert desk.book.table() == buy.record + sell.record


def test_a_close_tells_price_time_and_profit_and_pays_the_account(desk: Desk) -> None:
    order = desk.open(BUY)
    balance = desk.account.balance
    desk.eurusd.take(108_110, 108_120)
    desk.trades()
    desk.book.close(order)
    assert [code for code, _, _ in desk.events] == [PumpCode.UPDATE_TRADES, PumpCode.UPDATE_USERS]
    ((action, fields),) = desk.trades()
    assert (action, fields["state"], fields["profit"]) == (DELETE, TradeState.TS_CLOSED_NORMAL, 100.0)
    assert fields["close_price"] == 1.0811
    assert fields["close_time"]
    assert desk.account.balance == pytest.approx(balance + 100.0 + fields["commission"])
    assert desk.book.table() == b""


def test_a_partial_close_leaves_the_rest_under_a_new_ticket(desk: Desk) -> None:
    order = desk.open(BUY, 100, sl=107_000)
    desk.trades()
    rest = desk.book.close(order, volume=30)
    assert rest
    (closed_action, closed), (rest_action, new) = desk.trades()
    assert (closed_action, closed["state"], closed["volume"]) == (DELETE, TradeState.TS_CLOSED_PART, 30)
    assert closed["comment"] == f"to #{rest.order}"
    assert (rest_action, new["state"], new["volume"]) == (ADD, TradeState.TS_OPEN_REMAND, 70)
    assert new["comment"] == f"from #{order.order}"
    assert (new["open_price"], new["open_time"], new["sl"]) == (1.0801, closed["open_time"], 1.07)


def test_a_close_by_ends_both_with_one_result(desk: Desk) -> None:
    buy, sell = desk.open(BUY), desk.open(SELL)
    desk.trades()
    assert desk.book.close_by(buy, sell) is None
    (_, first), (_, second) = desk.trades()
    assert first["state"] == second["state"] == TradeState.TS_CLOSED_BY
    assert (first["profit"], second["profit"]) == (-10.0, 0.0)
    assert (first["comment"], second["comment"]) == (f"close hedge by #{sell.order}", f"close hedge by #{buy.order}")


def test_a_close_by_of_unequal_volumes_leaves_the_rest_of_the_larger(desk: Desk) -> None:
    buy, sell = desk.open(BUY, 100), desk.open(SELL, 30)
    desk.trades()
    rest = desk.book.close_by(sell, buy)
    assert rest
    told = desk.trades()
    assert [(action, fields["volume"]) for action, fields in told] == [(DELETE, 30), (DELETE, 30), (ADD, 70)]
    assert told[-1][1]["cmd"] == BUY


@pytest.mark.parametrize("larger_first", [False, True])
def test_a_close_by_charges_the_commission_of_each_part_once(desk: Desk, *, larger_first: bool) -> None:
    per_lot = desk.account.group.commission
    assert per_lot
    buy, sell = desk.open(BUY, 100), desk.open(SELL, 30)
    balance = desk.account.balance
    desk.trades()
    rest = desk.book.close_by(*((buy, sell) if larger_first else (sell, buy)))
    assert rest
    closed = [fields for action, fields in desk.trades() if action == DELETE]
    assert [fields["commission"] for fields in closed] == [pytest.approx(-0.3 * per_lot)] * 2
    assert rest.commission == pytest.approx(-0.7 * per_lot)
    paid = sum(fields["profit"] + fields["commission"] for fields in closed)
    assert desk.account.balance == pytest.approx(balance + paid)


@pytest.mark.parametrize("as_update", [False, True])
def test_a_pending_order_is_deleted_either_way(desk: Desk, *, as_update: bool) -> None:
    order = desk.book.place(desk.account, desk.eurusd, Ticket(TradeCommand.OP_BUY_LIMIT, 10, price=107_000))
    desk.trades()
    desk.book.cancel(order, as_update=as_update)
    ((action, fields),) = desk.trades()
    assert fields["state"] == TradeState.TS_DELETED
    assert (action, fields["login"]) == ((UPDATE, 0) if as_update else (DELETE, desk.account.login))
    assert desk.book.table() == b""


def test_a_pending_order_expires(desk: Desk) -> None:
    expiration = desk.world.clock.server_time_s + 60
    ticket = Ticket(TradeCommand.OP_SELL_STOP, 10, price=107_000, expiration=expiration)
    order = desk.book.place(desk.account, desk.eurusd, ticket)
    desk.trades()
    desk.book.cancel_expired()
    assert order.order in desk.book.orders
    desk.world.clock.now_s += 60
    desk.book.cancel_expired()
    ((action, fields),) = desk.trades()
    assert (action, fields["comment"]) == (DELETE, "[expiration]")


def test_orders_that_end_before_they_expire_are_not_remembered_until_then(desk: Desk) -> None:
    expiration = desk.world.clock.server_time_s + 86_400

    def place(lasts_s: int = 0) -> Order:
        ticket = Ticket(TradeCommand.OP_SELL_STOP, 10, price=107_000, expiration=expiration - lasts_s)
        return desk.book.place(desk.account, desk.eurusd, ticket)

    waiting = [place(number) for number in range(10)]
    longest = 0
    for number in range(10_000):
        order = place()
        (desk.book.activate if number % 2 else desk.book.cancel)(order)
        longest = max(longest, len(desk.book._expirations))
    assert longest <= EXPIRATIONS_KEPT
    desk.trades()
    desk.world.clock.now_s += 86_400
    desk.book.cancel_expired()
    expired = [fields["order"] for action, fields in desk.trades() if action == DELETE]
    assert expired == [order.order for order in reversed(waiting)]


def test_as_many_orders_as_wait_are_remembered(desk: Desk) -> None:
    expiration = desk.world.clock.server_time_s + 60
    ticket = Ticket(TradeCommand.OP_SELL_STOP, 10, price=107_000, expiration=expiration)
    for _ in range(3 * EXPIRATIONS_KEPT):
        desk.book.place(desk.account, desk.eurusd, ticket)
    desk.world.clock.now_s += 60
    desk.book.cancel_expired()
    assert not desk.book.orders


@pytest.mark.parametrize(
    ("cmd", "price", "waits_at", "comes_at", "becomes"),
    [
        (TradeCommand.OP_BUY_LIMIT, 107_500, (107_491, 107_501), (107_490, 107_500), BUY),
        (TradeCommand.OP_SELL_LIMIT, 108_500, (108_499, 108_509), (108_500, 108_510), SELL),
        (TradeCommand.OP_BUY_STOP, 108_500, (108_489, 108_499), (108_490, 108_500), BUY),
        (TradeCommand.OP_SELL_STOP, 107_500, (107_501, 107_511), (107_500, 107_510), SELL),
    ],
)
def test_a_pending_order_becomes_a_position_when_its_price_comes(
    desk: Desk, *, cmd: int, price: int, waits_at: tuple[int, int], comes_at: tuple[int, int], becomes: int
) -> None:
    order = desk.book.place(desk.account, desk.eurusd, Ticket(cmd, 10, price=price))
    desk.trades()
    desk.eurusd.take(*waits_at)
    assert desk.book.woken(desk.eurusd) == []
    desk.eurusd.take(*comes_at)
    ((woken, activation),) = desk.book.woken(desk.eurusd)
    assert (woken, activation) == (order, Activation.ACTIVATION_PENDING)
    desk.book.execute(order, activation)
    ((action, fields),) = desk.trades()
    assert (action, fields["cmd"], fields["open_price"]) == (UPDATE, becomes, price / 100_000)


@pytest.mark.parametrize(
    ("cmd", "stops", "price", "activation", "note"),
    [
        (BUY, {"sl": 107_900}, (107_900, 107_910), Activation.ACTIVATION_SL, "[sl]"),
        (BUY, {"tp": 108_100}, (108_100, 108_110), Activation.ACTIVATION_TP, "[tp]"),
        (SELL, {"sl": 108_100}, (108_090, 108_100), Activation.ACTIVATION_SL, "[sl]"),
        (SELL, {"tp": 107_900}, (107_890, 107_900), Activation.ACTIVATION_TP, "[tp]"),
    ],
)
def test_stop_loss_and_take_profit_close_at_their_price(
    desk: Desk, *, cmd: int, stops: dict[str, int], price: tuple[int, int], activation: Activation, note: str
) -> None:
    order = desk.open(cmd, **stops)
    desk.trades()
    assert not reached(order)
    desk.eurusd.take(*price)
    bounds = desk.eurusd
    bid, ask = price
    assert bid <= bounds.bid_low or bid >= bounds.bid_high or ask <= bounds.ask_low or ask >= bounds.ask_high
    ((_, woken),) = desk.book.woken(desk.eurusd)
    assert woken == activation
    desk.book.execute(order, woken)
    ((action, fields),) = desk.trades()
    assert (action, fields["comment"]) == (DELETE, note)
    assert fields["close_price"] == next(iter(stops.values())) / 100_000


def test_a_mark_changes_the_table_and_only_rings(desk: Desk) -> None:
    order = desk.open(BUY, sl=107_000)
    before = order.record
    desk.events.clear()
    desk.book.mark(order, Activation.ACTIVATION_SL)
    assert desk.events == [(PumpCode.UPDATE_ACTIVATION, 0, b"")]
    (row,) = [decode_trade(desk.book.table())]
    assert row == {**decode_trade(before), "activation": Activation.ACTIVATION_SL}


@pytest.mark.parametrize(("cmd", "account_field"), [(TradeCommand.OP_BALANCE, "balance"), (6 + 1, "credit")])
def test_money_operations_are_told_and_never_stand_in_the_table(desk: Desk, cmd: int, account_field: str) -> None:
    before = getattr(desk.account, account_field)
    desk.book.operate(desk.account, cmd, 250.5, "Deposit")
    assert [code for code, _, _ in desk.events] == [PumpCode.UPDATE_TRADES, PumpCode.UPDATE_USERS]
    ((action, fields),) = desk.trades()
    assert (action, fields["cmd"], fields["profit"], fields["comment"]) == (ADD, cmd, 250.5, "Deposit")
    assert getattr(desk.account, account_field) == before + 250.5
    assert desk.book.table() == b""


def test_ticket_numbers_begin_anew_without_taking_a_live_one(desk: Desk) -> None:
    first = desk.open(BUY)
    desk.book._next_order = 2**31 - 2
    assert desk.open(BUY).order == 2**31 - 2
    assert desk.open(BUY).order == first.order + 1
