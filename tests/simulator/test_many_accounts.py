"""A simulator of more accounts than have their margin levels computed at each read, in a whole daemon."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from mt4pump.client import ClientError, Query, Snapshot
from mt4pump.mt4.codes import PumpCode
from mt4pump.mt4.layout import MARGIN_LEVEL
from mt4pump.mt4.record import Decoder
from mt4pump.simulator import traders
from mt4pump.simulator.accounts import LIVE_LEVELS_LIMIT
from mt4pump.simulator.broker import SimulatedBroker
from mt4pump.simulator.options import SimulatorOptions
from tests.bus import LIMIT_S
from tests.live import running

from .reader import collected

ACCOUNTS = LIVE_LEVELS_LIMIT + 500


def levels(broker: SimulatedBroker) -> dict[int, int]:
    return {row["login"]: row["level_type"] for row in Decoder(MARGIN_LEVEL).many(broker.tables["margins"]())}


def snapshot(query: Query) -> Snapshot:
    """Ask until the pump has compared its first reads."""
    deadline_s = time.monotonic() + LIMIT_S
    while True:
        try:
            return query.snapshot(["user.*", "trade.*"])
        except ClientError as error:
            if error.code != "busy" or time.monotonic() >= deadline_s:
                raise


def test_stored_margin_levels_are_of_accounts_with_positions_and_of_their_last_check() -> None:
    broker = SimulatedBroker(SimulatorOptions(accounts=ACCOUNTS, seed=5, start_s=1_600_000_000.0))
    assert levels(broker).keys() == {account.login for account in broker.accounts.all if account.positions}
    broker.walk(20_000, 1_600_000_000.0, 0.01, None)
    stored = levels(broker)
    assert stored.keys() == {account.login for account in broker.accounts.all if account.positions}
    account = next(account for account in broker.accounts.all if account.positions)
    broker.accounts.update_level(account)
    assert account.margin_level() in broker.tables["margins"]()


def test_every_order_has_a_trigger_for_each_price_that_it_waits_for() -> None:
    broker = SimulatedBroker(SimulatorOptions(accounts=300, seed=6, start_s=1_600_000_000.0))
    for start in range(0, 20_000, 500):
        broker.walk(500, 1_600_000_000.0 + start * 0.01, 0.01, None)
        for instrument in broker.market.instruments:
            for order in broker.book.by_instrument.get(instrument.name, {}).values():
                if order.activation:
                    continue
                prices = (order.sl, order.tp) if order.is_position else (order.open_price,)
                entries = {
                    abs(price) for heap in instrument.triggers for price, ticket in heap if ticket == order.order
                }
                assert {price for price in prices if price} <= entries


def test_a_larger_book_sends_fewer_activations_as_each_makes_the_reader_read_all_orders(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def activations() -> int:
        broker = SimulatedBroker(SimulatorOptions(accounts=300, seed=6, start_s=1_600_000_000.0))
        events = collected(broker)
        broker.walk(20_000, 1_600_000_000.0, 0.01, None)
        return [code for code, _, _ in events].count(PumpCode.UPDATE_ACTIVATION)

    usual = activations()
    monkeypatch.setattr(traders, "ORDERS_PER_STEP", 5)
    assert 0 < activations() < usual / 2


def test_a_daemon_of_many_accounts_gives_one_whole_snapshot_while_events_flow(tmp_path: Path) -> None:
    with running(tmp_path, b"session.", b"quote.", source="simulator", accounts=ACCOUNTS, rate=50) as run:
        run.topic("session.start")
        assert run.daemon.query_endpoint is not None
        with Query(run.daemon.query_endpoint, timeout_s=LIMIT_S) as query:
            found = snapshot(query)
        users = {event.topic for event in found.events if event.kind == "user"}
        assert len(users) >= ACCOUNTS
        assert {event.body["login"] for event in found.events if event.kind == "trade"}
        run.next(lambda message: message.topic.startswith("quote."))
