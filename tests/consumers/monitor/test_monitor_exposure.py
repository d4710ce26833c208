"""Who holds what: sums that follow the orders."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from mt4pump_consumers.monitor.state import AccountExposure

from tests.consumers.monitor.monitor_run import execution, trade


def sums(of: AccountExposure) -> dict[str, tuple[int, int, int, int]]:
    """Return positions, pending orders, bought and sold hundredths by symbol."""
    return {name: (each.positions, each.pending, each.buy, each.sell) for name, each in of.symbols.items()}


def test_net_is_bought_minus_sold_and_gross_is_both() -> None:
    exposure = AccountExposure()
    exposure.take(execution(1, order=1, cmd=0, volume=150))
    exposure.take(execution(1, order=2, cmd=1, volume=250, login=1002))
    assert (exposure.symbols["EURUSD"].net, exposure.symbols["EURUSD"].gross) == (-100, 400)
    assert (exposure.accounts[1001].gross, exposure.accounts[1002].gross) == (150, 250)


def test_a_pending_order_counts_from_its_activation_on() -> None:
    exposure = AccountExposure()
    exposure.take(execution(1, change="placed", cmd=2))
    assert sums(exposure) == {"EURUSD": (0, 1, 0, 0)}
    exposure.take(execution(2, change="activated", cmd=0))
    assert sums(exposure) == {"EURUSD": (1, 0, 100, 0)}


def test_a_close_takes_away_all_that_the_ticket_held_and_the_rest_is_a_new_one() -> None:
    exposure = AccountExposure()
    exposure.take(execution(1, order=1, volume=100))
    exposure.take(execution(2, order=1, volume=30, change="closed", state=4, close_time=2000))
    exposure.take(execution(3, order=2, volume=70, state=1))
    assert sums(exposure) == {"EURUSD": (1, 0, 70, 0)}


def test_an_event_that_says_its_order_has_ended_opens_none() -> None:
    exposure = AccountExposure()
    exposure.take(execution(1, timestamp=1000))
    exposure.take(execution(2, change="closed", state=3, timestamp=2000))
    exposure.take(execution(3, change="modified", timestamp=2500), ended=True)
    assert sums(exposure) == {}
    exposure.take(execution(4, change="modified", timestamp=1500))  # a table lists it again
    assert sums(exposure) == {"EURUSD": (1, 0, 100, 0)}


def test_money_is_no_exposure() -> None:
    exposure = AccountExposure()
    exposure.take(execution(change="balance", cmd=6, symbol="", volume=0, profit=10.0))
    assert sums(exposure) == {}


CHANGES = st.fixed_dictionaries(
    {
        "order": st.integers(1, 5),
        "login": st.integers(1, 3),
        "symbol": st.sampled_from(["A", "B"]),
        "cmd": st.integers(0, 5),
        "volume": st.integers(1, 100),
        "change": st.sampled_from(["opened", "placed", "activated", "modified", "closed", "cancelled", "deleted"]),
    }
)


@given(st.lists(CHANGES, max_size=40))
def test_the_sums_are_those_of_the_orders_whatever_happens(changes: list[dict[str, Any]]) -> None:
    exposure, fresh = AccountExposure(), AccountExposure()
    for seq, fields in enumerate(changes, 1):
        exposure.take(execution(seq, **fields))
    for order, held in exposure.orders.items():
        fresh.row(trade(order=order, **held._asdict()))
    assert (sums(exposure), exposure.accounts) == (sums(fresh), fresh.accounts)
