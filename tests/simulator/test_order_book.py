"""Each way in which an order begins, changes and ends sends the right records and leaves the right table.

Private access: the expirations, because that their number is bounded shows only in memory, and the next ticket,
because two thousand million orders would come before the wrap.
"""

from __future__ import annotations

from typing import Any

import pytest

from mt4pump.mt4.codes import ActivationType, PumpCode, TradeCommand, TradeState, Transaction
from mt4pump.simulator.broker import SimulatedBroker
from mt4pump.simulator.market import WALK_SYMBOLS, Instrument
from mt4pump.simulator.options import SimulatorOptions
from mt4pump.simulator.order_book import OUTDATED_LIMIT, activation_due
from mt4pump.simulator.orders import Order, SimulatedAccount

from .reader import START_S, collected, decode_trade

ADD, DELETE, UPDATE = Transaction.ADD, Transaction.DELETE, Transaction.UPDATE
BUY, SELL = TradeCommand.OP_BUY, TradeCommand.OP_SELL


class QuietMarket:
    """A broker without traders, one of its accounts, EURUSD at 1.08000 / 1.08010, and the events sent."""

    def __init__(self) -> None:
        self.broker = SimulatedBroker(SimulatorOptions(start_s=START_S), WALK_SYMBOLS)
        self.book = self.broker.book
        self.account: SimulatedAccount = next(a for a in self.broker.accounts.all if a.group.currency == "USD")
        self.eurusd: Instrument = self.broker.market.by_raw_name[b"EURUSD".ljust(12, b"\0")]
        self.eurusd.set_prices(108_000, 108_010)
        self.events = collected(self.broker)

    def open(self, cmd: int, volume: int = 100, **terms: Any) -> Order:
        order = Order(self.account, self.eurusd, cmd, volume, **terms)
        self.book.open(order)
        return order

    def place(self, cmd: int, price: int, **terms: Any) -> Order:
        order = Order(self.account, self.eurusd, cmd, 10, price, **terms)
        self.book.place(order)
        return order

    def trades(self) -> list[tuple[int, dict[str, Any]]]:
        """Return the trade records sent since the last call."""
        sent = [(a, decode_trade(data)) for code, a, data in self.events if code == PumpCode.UPDATE_TRADES]
        self.events.clear()
        return sent


@pytest.fixture
def market() -> QuietMarket:
    return QuietMarket()


def test_a_position_opens_at_ask_when_it_buys_and_at_bid_when_it_sells(market: QuietMarket) -> None:
    buy, sell = market.open(BUY, sl=107_000, tp=109_000), market.open(SELL)
    (_, first), (_, second) = market.trades()
    assert (first["order"], first["open_price"], first["sl"], first["tp"]) == (buy.order, 1.0801, 1.07, 1.09)
    assert (second["order"], second["open_price"], second["sl"], second["tp"]) == (sell.order, 1.08, 0, 0)
    assert first["open_time"] == int(START_S) + 10800
    assert market.book.records.table() == market.book.records[buy.order] + market.book.records[sell.order]


def test_a_close_sends_price_time_and_profit_and_pays_the_account(market: QuietMarket) -> None:
    order = market.open(BUY)
    balance = market.account.balance
    market.eurusd.set_prices(108_110, 108_120)
    market.trades()
    market.book.close(order)
    assert [code for code, _, _ in market.events] == [PumpCode.UPDATE_TRADES, PumpCode.UPDATE_USERS]
    ((action, fields),) = market.trades()
    assert (action, fields["state"], fields["profit"]) == (DELETE, TradeState.TS_CLOSED_NORMAL, 100.0)
    assert fields["close_price"] == 1.0811
    assert fields["close_time"]
    assert market.account.balance == pytest.approx(balance + 100.0 + fields["commission"])
    assert market.book.records.table() == b""


def test_a_partial_close_leaves_the_rest_under_a_new_ticket(market: QuietMarket) -> None:
    order = market.open(BUY, 100, sl=107_000)
    market.trades()
    rest = market.book.close(order, volume=30)
    assert rest
    (closed_action, closed), (rest_action, new) = market.trades()
    assert (closed_action, closed["state"], closed["volume"]) == (DELETE, TradeState.TS_CLOSED_PART, 30)
    assert closed["comment"] == f"to #{rest.order}"
    assert (rest_action, new["state"], new["volume"]) == (ADD, TradeState.TS_OPEN_REMAND, 70)
    assert new["comment"] == f"from #{order.order}"
    assert (new["open_price"], new["open_time"], new["sl"]) == (1.0801, closed["open_time"], 1.07)


def test_a_close_by_ends_both_with_one_result(market: QuietMarket) -> None:
    buy, sell = market.open(BUY), market.open(SELL)
    market.trades()
    assert market.book.close_by(buy, sell) is None
    (_, first), (_, second) = market.trades()
    assert first["state"] == second["state"] == TradeState.TS_CLOSED_BY
    assert (first["profit"], second["profit"]) == (-10.0, 0.0)
    assert (first["comment"], second["comment"]) == (f"close hedge by #{sell.order}", f"close hedge by #{buy.order}")


def test_a_close_by_of_unequal_volumes_leaves_the_rest_of_the_larger(market: QuietMarket) -> None:
    buy, sell = market.open(BUY, 100), market.open(SELL, 30)
    market.trades()
    rest = market.book.close_by(sell, buy)
    assert rest
    sent = market.trades()
    assert [(action, fields["volume"]) for action, fields in sent] == [(DELETE, 30), (DELETE, 30), (ADD, 70)]
    assert sent[-1][1]["cmd"] == BUY


@pytest.mark.parametrize("larger_first", [False, True])
def test_a_close_by_charges_the_commission_of_each_part_once(market: QuietMarket, *, larger_first: bool) -> None:
    per_lot = market.account.group.commission
    assert per_lot
    buy, sell = market.open(BUY, 100), market.open(SELL, 30)
    balance = market.account.balance
    market.trades()
    rest = market.book.close_by(*((buy, sell) if larger_first else (sell, buy)))
    assert rest
    closed = [fields for action, fields in market.trades() if action == DELETE]
    assert [fields["commission"] for fields in closed] == [pytest.approx(-0.3 * per_lot)] * 2
    assert rest.commission == pytest.approx(-0.7 * per_lot)
    paid = sum(fields["profit"] + fields["commission"] for fields in closed)
    assert market.account.balance == pytest.approx(balance + paid)


@pytest.mark.parametrize("as_update", [False, True])
def test_a_pending_order_is_deleted_either_way(market: QuietMarket, *, as_update: bool) -> None:
    order = market.place(TradeCommand.OP_BUY_LIMIT, 107_000)
    market.trades()
    market.book.cancel(order, as_update=as_update)
    ((action, fields),) = market.trades()
    assert fields["state"] == TradeState.TS_DELETED
    assert (action, fields["login"]) == ((UPDATE, 0) if as_update else (DELETE, market.account.login))
    assert market.book.records.table() == b""


def test_a_pending_order_expires(market: QuietMarket) -> None:
    expiration = market.broker.context.server_time_s + 60
    order = market.place(TradeCommand.OP_SELL_STOP, 107_000, expiration=expiration)
    market.trades()
    market.book.cancel_expired()
    assert order.order in market.book.orders
    market.broker.context.now_s += 60
    market.book.cancel_expired()
    ((action, fields),) = market.trades()
    assert (action, fields["comment"]) == (DELETE, "[expiration]")


def test_expirations_of_orders_that_ended_earlier_are_removed(market: QuietMarket) -> None:
    expiration = market.broker.context.server_time_s + 86_400

    def place(earlier_s: int = 0) -> Order:
        return market.place(TradeCommand.OP_SELL_STOP, 107_000, expiration=expiration - earlier_s)

    waiting = [place(number) for number in range(10)]
    longest = 0
    for number in range(10_000):
        order = place()
        (market.book.activate if number % 2 else market.book.cancel)(order)
        longest = max(longest, len(market.book._expirations))  # noqa: SLF001
    assert longest <= OUTDATED_LIMIT
    market.trades()
    market.broker.context.now_s += 86_400
    market.book.cancel_expired()
    expired = [fields["order"] for action, fields in market.trades() if action == DELETE]
    assert expired == [order.order for order in reversed(waiting)]


def test_every_waiting_order_keeps_its_expiration(market: QuietMarket) -> None:
    expiration = market.broker.context.server_time_s + 60
    for _ in range(3 * OUTDATED_LIMIT):
        market.place(TradeCommand.OP_SELL_STOP, 107_000, expiration=expiration)
    market.broker.context.now_s += 60
    market.book.cancel_expired()
    assert not market.book.orders


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
    market: QuietMarket, *, cmd: int, price: int, waits_at: tuple[int, int], comes_at: tuple[int, int], becomes: int
) -> None:
    order = market.place(cmd, price)
    market.trades()
    market.eurusd.set_prices(*waits_at)
    assert market.book.triggered(market.eurusd) == []
    market.eurusd.set_prices(*comes_at)
    ((triggered, activation),) = market.book.triggered(market.eurusd)
    assert (triggered, activation) == (order, ActivationType.ACTIVATION_PENDING)
    market.book.execute(order, activation)
    ((action, fields),) = market.trades()
    assert (action, fields["cmd"], fields["open_price"]) == (UPDATE, becomes, price / 100_000)


@pytest.mark.parametrize(
    ("cmd", "stops", "price", "activation", "note"),
    [
        (BUY, {"sl": 107_900}, (107_900, 107_910), ActivationType.ACTIVATION_SL, "[sl]"),
        (BUY, {"tp": 108_100}, (108_100, 108_110), ActivationType.ACTIVATION_TP, "[tp]"),
        (SELL, {"sl": 108_100}, (108_090, 108_100), ActivationType.ACTIVATION_SL, "[sl]"),
        (SELL, {"tp": 107_900}, (107_890, 107_900), ActivationType.ACTIVATION_TP, "[tp]"),
    ],
)
def test_stop_loss_and_take_profit_close_at_their_price(
    market: QuietMarket,
    *,
    cmd: int,
    stops: dict[str, int],
    price: tuple[int, int],
    activation: ActivationType,
    note: str,
) -> None:
    order = market.open(cmd, **stops)
    market.trades()
    assert not activation_due(order)
    market.eurusd.set_prices(*price)
    bounds = market.eurusd
    bid, ask = price
    assert bid <= bounds.bid_low or bid >= bounds.bid_high or ask <= bounds.ask_low or ask >= bounds.ask_high
    ((_, due),) = market.book.triggered(market.eurusd)
    assert due == activation
    market.book.execute(order, due)
    ((action, fields),) = market.trades()
    assert (action, fields["comment"]) == (DELETE, note)
    assert fields["close_price"] == next(iter(stops.values())) / 100_000


def test_an_activation_changes_the_table_and_its_event_has_no_record(market: QuietMarket) -> None:
    order = market.open(BUY, sl=107_000)
    before = market.book.records[order.order]
    market.events.clear()
    market.book.set_activation(order, ActivationType.ACTIVATION_SL)
    assert market.events == [(PumpCode.UPDATE_ACTIVATION, 0, b"")]
    (row,) = [decode_trade(market.book.records.table())]
    assert row == {**decode_trade(before), "activation": ActivationType.ACTIVATION_SL}


@pytest.mark.parametrize(("cmd", "account_field"), [(TradeCommand.OP_BALANCE, "balance"), (6 + 1, "credit")])
def test_money_operations_are_sent_and_never_in_the_table(market: QuietMarket, cmd: int, account_field: str) -> None:
    before = getattr(market.account, account_field)
    market.book.operate(market.account, cmd, 250.5, "Deposit")
    assert [code for code, _, _ in market.events] == [PumpCode.UPDATE_TRADES, PumpCode.UPDATE_USERS]
    ((action, fields),) = market.trades()
    assert (action, fields["cmd"], fields["profit"], fields["comment"]) == (ADD, cmd, 250.5, "Deposit")
    assert getattr(market.account, account_field) == before + 250.5
    assert market.book.records.table() == b""


def test_ticket_numbers_wrap_around_without_reusing_an_open_one(market: QuietMarket) -> None:
    first = market.open(BUY)
    market.book._next_ticket = 2**31 - 2  # noqa: SLF001
    assert market.open(BUY).order == 2**31 - 2
    assert market.open(BUY).order == first.order + 1
