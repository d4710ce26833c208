"""Margin arithmetic, against figures worked out by hand."""

from __future__ import annotations

import pytest

from mt4pump.mt4.codes import MarginLevelType, TradeCommand
from mt4pump.mt4.layout import MARGIN_LEVEL, USER_RECORD
from mt4pump.mt4.record import Decoder
from mt4pump.simulator.broker import SimulatedBroker
from mt4pump.simulator.market import WALK_SYMBOLS
from mt4pump.simulator.options import SimulatorOptions
from mt4pump.simulator.orders import Levels, Order, SimulatedAccount, SimulatedGroup, position_margin, profit_at

GROUP = SimulatedGroup("demo", "USD", 100, 0.0, margin_call=100, margin_stopout=50)


def test_a_currency_pair_needs_its_contract_in_base_currency_over_leverage() -> None:
    assert position_margin(100, 100_000, 1.0, 1.09, 100) == pytest.approx(1090)


def test_a_contract_for_difference_needs_its_price_over_leverage() -> None:
    assert position_margin(50, 100, 2_000.0, 1.0, 200) == pytest.approx(500)


def test_profit_is_rounded_to_cents() -> None:
    assert profit_at(0.00123, 79, 100_000, 1.0) == 97.17
    assert profit_at(-0.5, 100, 100_000, 0.0066123) == -330.62  # half a cent goes to the even one


def account_of(balance: float, *volumes: int) -> SimulatedAccount:
    """Return an account with positions in EURUSD at 1.1 dollars; those with a negative volume are sales."""
    broker = SimulatedBroker(SimulatorOptions(start_s=1.7e9), WALK_SYMBOLS)
    account = SimulatedAccount(1, GROUP, 100, balance, balance, is_gambler=False, credit=50.0)
    eurusd = broker.market.by_raw_name[b"EURUSD".ljust(12, b"\0")]
    eurusd.set_prices(110_000, 110_000)
    for volume in volumes:
        cmd = TradeCommand.OP_BUY if volume > 0 else TradeCommand.OP_SELL
        broker.book.open(Order(account, eurusd, cmd, abs(volume)))
    return account


def test_levels_of_an_account_without_positions() -> None:
    now = account_of(1000.0).levels()
    assert now == (1050.0, 0, 0.0, 1050.0, 0.0)
    assert now.level_type(GROUP) == MarginLevelType.MARGINLEVEL_OK


def test_levels_count_only_the_larger_side_of_a_symbol() -> None:
    now = account_of(950.0, 100, -50, -20).levels()
    assert (now.equity, now.volume, now.margin, now.margin_free) == (1000.0, 170, 1100.0, -100.0)
    assert now.margin_level == pytest.approx(90.909, abs=0.001)


@pytest.mark.parametrize(
    ("equity", "kind"),
    [
        (1000.0, MarginLevelType.MARGINLEVEL_OK),
        (999.0, MarginLevelType.MARGINLEVEL_MARGINCALL),
        (500.0, MarginLevelType.MARGINLEVEL_MARGINCALL),
        (499.0, MarginLevelType.MARGINLEVEL_STOPOUT),
        (-10.0, MarginLevelType.MARGINLEVEL_STOPOUT),
    ],
)
def test_the_limits_of_the_group_decide_the_level(equity: float, kind: MarginLevelType) -> None:
    assert Levels(equity, 100, 1000.0, equity - 1000.0, equity / 10).level_type(GROUP) == kind


def test_the_margins_table_agrees_with_the_positions_and_prices_of_the_market() -> None:
    broker = SimulatedBroker(SimulatorOptions(start_s=1.7e9), WALK_SYMBOLS)
    account = next(account for account in broker.accounts.all if account.group.currency == "USD")
    account.leverage = 100
    eurusd = broker.market.by_raw_name[b"EURUSD".ljust(12, b"\0")]
    eurusd.set_prices(108_000, 108_010)
    broker.book.open(Order(account, eurusd, 0, 100))
    eurusd.set_prices(107_900, 107_912)
    (row,) = Decoder(MARGIN_LEVEL).many(broker.accounts.margins())
    commission = -account.group.commission
    assert row["login"] == account.login
    assert row["volume"] == 100
    assert row["margin"] == 1080.0  # 100 000 EUR at 1.08000 when it was opened, over 100
    assert row["equity"] == pytest.approx(account.balance - 110.0 + commission)  # ask 1.08010, now bid 1.07900
    assert row["margin_free"] == pytest.approx(row["equity"] - 1080.0)
    assert row["margin_level"] == pytest.approx(row["equity"] / 10.8)


def test_the_balance_of_a_margin_row_has_the_credit_in_it_and_the_users_has_not() -> None:
    broker = SimulatedBroker(SimulatorOptions(start_s=1.7e9), WALK_SYMBOLS)
    account = broker.accounts.all[0]
    balance = account.balance
    broker.book.operate(account, TradeCommand.OP_CREDIT, 500.25, "Credit in")
    broker.book.open(Order(account, broker.market.instruments[0], 0, 1))
    (row,) = Decoder(MARGIN_LEVEL).many(broker.accounts.margins())
    assert row["balance"] == balance + 500.25
    user = next(
        user for user in Decoder(USER_RECORD).many(broker.accounts.records.table()) if user["login"] == account.login
    )
    assert (user["balance"], user["credit"]) == (balance, 500.25)
