"""The server: the same run again, the broker between sessions, every fault, and an end within bounds."""

from __future__ import annotations

import logging
import math
from threading import Event

import pytest

from mt4pump.errors import ConnectionLost
from mt4pump.mt4.codes import PumpCode, TradeCommand, Transaction
from mt4pump.simulator.options import SimulatorOptions, parse_fault
from mt4pump.simulator.server import INJECTED_LIMIT, Simulator

from .reader import LIMIT_S, RawEvent, Reader, decode_trade, pump, running, wait_for

decode_trades = decode_trade.many


def read_run(quotes: int, **options: object) -> Reader:
    with running(accounts=100, **options) as simulator:
        reader = Reader(simulator)
        reader.read_until(lambda: reader.quote_count() >= quotes)
    return reader


def assert_same_so_far(one: Reader, two: Reader) -> None:
    """Compare two runs as far as both were read; both have been read for long enough to mean something."""
    quotes = min(len(one.quotes), len(two.quotes))
    events = min(len(one.repeatable()), len(two.repeatable()))
    assert quotes > 0
    assert events > 10
    assert one.quotes[:quotes] == two.quotes[:quotes]
    assert one.repeatable()[:events] == two.repeatable()[:events]


def test_a_run_can_be_repeated_whatever_the_reader_does() -> None:
    assert_same_so_far(read_run(20_000, rate=math.inf), read_run(20_000, rate=math.inf, quote_buffer=1024))


def test_a_paced_run_is_the_flat_out_run_in_slow_motion() -> None:
    # 1000 quotes a second are 1 ms of simulated time each, as flat out.
    assert_same_so_far(read_run(600, rate=1000), read_run(600, rate=math.inf))


def open_orders(reader: Reader) -> dict[int, dict[str, object]]:
    """Return the open orders that the reader knows of, by ticket, without ``activation``."""
    rows = {row["order"]: row for row in decode_trades(reader.at_start["trades"])}
    for _, action, data in reader.trades():
        fields = decode_trade(data)
        if fields["cmd"] >= TradeCommand.OP_BALANCE:
            continue
        if action == Transaction.DELETE or not fields["login"]:
            del rows[fields["order"]]
        else:
            rows[fields["order"]] = fields
    return {order: {**fields, "activation": 0} for order, fields in rows.items()}


def table_orders(simulator: Simulator) -> dict[int, dict[str, object]]:
    """Return the open orders of the broker, by ticket."""
    return {
        ticket: {**decode_trade(simulator.broker.book.records[ticket]), "activation": 0}
        for ticket in simulator.broker.book.orders
    }


def test_the_events_of_a_session_turn_its_first_table_into_the_last() -> None:
    with running(rate=math.inf) as simulator:
        reader = Reader(simulator)
        reader.read_until(lambda: len(reader.trades()) > 2000)
        simulator.stop()
        assert open_orders(reader) == table_orders(simulator)
        assert simulator.callbacks.events_sent == len([code for code in reader.codes() if code not in {5, 15}])


def test_the_market_continues_while_no_session_pumps() -> None:
    with running(rate=math.inf) as simulator:
        reader = Reader(simulator)
        reader.read_until(lambda: len(reader.trades()) > 50)
        reader.manager.close()
        known = open_orders(reader)
        unseen = simulator.callbacks.events_unseen
        reader.read_until(lambda: simulator.callbacks.events_unseen > unseen + 20)
        assert simulator.ticks_unseen
        later = Reader(simulator)
        later.read_until(later.trades)
        found = {row["order"] for row in decode_trades(later.at_start["trades"])}
        assert found - known.keys()
        assert known.keys() - found


def test_a_drop_stops_the_session_and_lets_a_new_one_in_at_once() -> None:
    with running(rate=math.inf) as simulator:
        reader = Reader(simulator)
        reader.read_until(lambda: reader.quote_count() > 100)
        simulator.inject("drop")
        reader.read_until(lambda: PumpCode.STOP_PUMPING in reader.codes())
        assert reader.codes()[-1] == PumpCode.STOP_PUMPING
        assert not reader.manager.is_connected()
        again = Reader(simulator)
        again.read_until(lambda: again.quote_count() > 100)


def test_a_drop_with_an_amount_keeps_the_server_away_for_as_long() -> None:
    with running(rate=0, accounts=5) as simulator:
        simulator.inject("drop", 3600)
        wait_for(lambda: simulator.faults_done)
        with pytest.raises(ConnectionLost, match="away for another"):
            simulator.manager().connect("anything")
        simulator.inject("drop", 0)
        wait_for(lambda: simulator.faults_done >= 2)
        simulator.manager().connect("anything")


def test_a_scheduled_drop_comes_at_the_same_place_in_every_run() -> None:
    def run() -> Reader:
        with running(rate=math.inf, faults=(parse_fault("drop@2"),)) as simulator:
            reader = Reader(simulator)
            reader.read_until(lambda: PumpCode.STOP_PUMPING in reader.codes())
            assert simulator.ticks_sent == 2000
        return reader

    assert run().repeatable() == run().repeatable()


def test_a_mute_session_receives_nothing_until_there_is_a_new_one() -> None:
    with running(rate=math.inf, ping_interval_s=0.02) as simulator:
        reader = Reader(simulator)
        reader.read_until(lambda: reader.quote_count() > 100)
        simulator.inject("mute")
        reader.read_until(lambda: simulator.faults_done == 1)
        count = len(reader.events)
        reader.read_until(lambda: simulator.callbacks.events_unseen > 20)
        assert len(reader.events) == count
        assert reader.manager.is_connected()
        reader.manager.close()
        assert len(reader.events) == count
        again = Reader(simulator)
        again.read_until(lambda: again.trades() and PumpCode.PING in again.codes())


def test_skipped_trade_events_are_missing_though_the_tables_are_the_same() -> None:
    def read_trades(*faults: str) -> list[RawEvent]:
        with running(rate=math.inf, faults=tuple(map(parse_fault, faults))) as simulator:
            reader = Reader(simulator)
            reader.read_until(lambda: len(reader.trades()) > 300)
            assert simulator.callbacks.events_skipped == (5 if faults else 0)
            return reader.trades()[:300]

    whole, holed = read_trades(), read_trades("skip@0.5:5")
    hole = next(number for number in range(300) if whole[number] != holed[number])
    assert hole > 0
    assert holed[hole:-5] == whole[hole + 5 :]


def test_null_events_carry_no_record() -> None:
    with running(rate=math.inf, faults=(parse_fault("null@0.5:3"),)) as simulator:
        reader = Reader(simulator)
        reader.read_until(lambda: simulator.callbacks.events_nulled > 6)
        nulls = [event for event in reader.repeatable() if event[0] == PumpCode.UPDATE_TRADES and not event[2]]
        assert nulls == [(PumpCode.UPDATE_TRADES, 0, b"")] * 3


@pytest.mark.parametrize("accounts", [2, 200])
def test_a_burst_closes_500_positions_in_a_row(accounts: int) -> None:
    with running(rate=0, accounts=accounts) as simulator:
        reader = Reader(simulator)
        reader.read_until(reader.codes)
        simulator.inject("burst")
        reader.read_until(lambda: len([event for event in reader.trades() if event[1] == Transaction.DELETE]) == 500)
        trades = reader.trades()
        assert [action for _, action, _ in trades[-500:]] == [Transaction.DELETE] * 500
        simulator.stop()
        assert open_orders(reader) == table_orders(simulator)


def test_a_fault_that_makes_no_sense_is_not_injected() -> None:
    simulator = Simulator(SimulatorOptions(accounts=1))
    with pytest.raises(ValueError, match="did you mean 'burst'"):
        simulator.inject("brust")


def test_injected_faults_are_bounded_and_counted() -> None:
    simulator = Simulator(SimulatorOptions(accounts=1))
    for _ in range(INJECTED_LIMIT + 3):
        simulator.inject("skip")
    assert simulator.faults_refused == 3


def test_an_idle_market_has_faults_too() -> None:
    with running(rate=0, accounts=5, faults=(parse_fault("drop@0.05"),)) as simulator:
        reader = Reader(simulator)
        reader.read_until(lambda: PumpCode.STOP_PUMPING in reader.codes())


def test_a_stop_is_sent_to_the_session_and_ends_the_thread() -> None:
    with running(rate=math.inf) as simulator:
        reader = Reader(simulator)
        reader.read_until(lambda: reader.quote_count() > 100)
        simulator.stop()
        assert reader.codes()[-1] == PumpCode.STOP_PUMPING
        with pytest.raises(ConnectionLost, match="the simulator stopped"):
            reader.manager.table("trades")
        simulator.stop()


def test_a_stop_inside_a_callback_does_not_wait_for_itself() -> None:
    with running(rate=0, accounts=5) as simulator:
        codes: list[int] = []

        def notify(code: int, _action: int, _data: bytes) -> None:
            codes.append(code)
            simulator.stop()

        pump(simulator.manager(), notify)
        wait_for(lambda: PumpCode.STOP_PUMPING in codes)
        assert codes == [PumpCode.START_PUMPING, PumpCode.STOP_PUMPING]


def test_a_stop_does_not_wait_for_a_reader_that_sleeps() -> None:
    with running(rate=math.inf, quote_buffer=1024) as simulator:
        reader = Reader(simulator)
        reader.manager.select_symbol(b"EURUSD")
        reader.select = False
        wait_for(lambda: simulator.room_waits)
        assert len(simulator.quote_queue) <= 1024


def test_a_market_that_waits_for_its_reader_still_pings() -> None:
    with running(rate=math.inf, quote_buffer=1024, ping_interval_s=0.02) as simulator:
        reader = Reader(simulator)
        reader.manager.select_symbol(b"EURUSD")
        wait_for(lambda: reader.codes().count(PumpCode.PING) >= 3)
        assert simulator.room_waits


def test_an_error_in_the_feed_is_logged_and_ends_the_session(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator = Simulator(SimulatorOptions(rate=math.inf, accounts=5))

    def fail(*_: object) -> int:
        msg = "broken on purpose"
        raise OSError(msg)

    monkeypatch.setattr(simulator.feed, "advance", fail)
    simulator.start()
    reader = Reader(simulator)
    with caplog.at_level(logging.ERROR):
        reader.read_until(lambda: PumpCode.STOP_PUMPING in reader.codes())
        simulator.stop()
    assert simulator.failures == 1
    assert "broken on purpose" in caplog.text


def test_what_is_logged_is_a_few_facts_and_never_an_event(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), running(rate=math.inf) as simulator:
        reader = Reader(simulator)
        reader.read_until(lambda: reader.quote_count() > 5000)
    assert 3 <= len(caplog.records) < 10
    assert "simulator started: inf quotes/s, 30 symbols, 200 accounts, seed 1" in caplog.text


def test_notify_may_read_tables_inside_the_callback() -> None:
    with running(rate=math.inf) as simulator:
        manager = simulator.manager()
        sizes: list[int] = []
        done = Event()

        def notify(code: int, _action: int, _data: bytes) -> None:
            if code == PumpCode.UPDATE_TRADES and not done.is_set():
                sizes.append(len(manager.table("trades")))
                if len(sizes) > 20:
                    done.set()

        pump(manager, notify)
        assert done.wait(LIMIT_S)


def test_events_that_follow_quotes_are_received_after_bidask() -> None:
    with running(rate=math.inf) as simulator:
        reader = Reader(simulator)
        reader.read_until(lambda: len(reader.trades()) > 20)
        events: list[RawEvent] = reader.events
        first_trade = next(number for number, event in enumerate(events) if event[0] == PumpCode.UPDATE_TRADES)
        assert PumpCode.UPDATE_BIDASK in [code for code, _, _ in events[:first_trade]]
