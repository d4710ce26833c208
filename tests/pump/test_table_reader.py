"""Quotes go on while a large table is read; records wait for it, in their order."""

from __future__ import annotations

import gc
import weakref
from threading import Event, get_ident

import pytest

from mt4pump.errors import ConnectionLost
from mt4pump.mt4.codes import PumpCode, Transaction
from mt4pump.pump.session import Command, ReadThread
from tests.bus import LIMIT_S, until
from tests.fake_manager import FakeManager, failed, lost
from tests.pump.running import BIDASK, TRADES, RunningPump, held_in_a_read, quote, trade


def test_quotes_are_published_while_a_large_table_is_read_and_records_after_it(running: RunningPump) -> None:
    running.manager.reads_beside_quotes = True
    running.attach()
    let_go = held_in_a_read(running)
    running.inbox.notify(TRADES, Transaction.ADD, trade(1))
    for bid in (1.1, 1.2, 1.3):
        running.manager.quotes.append(quote(bid=bid))
        running.inbox.notify(BIDASK, 0, b"")
        assert running.next("quote.EURUSD").body["bid"] == bid
    running.inbox.notify(TRADES, Transaction.ADD, trade(2))
    assert not any(message.topic == "trade.100" for message in running.received)
    let_go.set()
    assert [running.next("trade.100").body["order"] for _ in range(2)] == [1, 2]
    assert running.manager.threads["table users"][-1] != running.pump.ident


def test_a_large_table_is_read_on_the_pump_thread_where_reads_must_not_overlap(running: RunningPump) -> None:
    running.attach()
    running.inbox.notify(PumpCode.UPDATE_USERS, 0, b"")
    running.next_heartbeat()
    until(lambda: running.manager.calls.count("table users") > 1, "the table is read")
    assert set(running.manager.threads["table users"]) == {running.pump.ident}
    assert get_ident() not in running.manager.threads["table users"]


def test_a_fault_of_the_read_is_counted_and_costs_that_read_only(running: RunningPump) -> None:
    running.manager.reads_beside_quotes = True
    running.attach()
    running.manager.failures["table users"].append(failed("UsersGet"))
    running.inbox.notify(PumpCode.UPDATE_USERS, 0, b"")
    running.next_heartbeat(lambda body: body["errors"].get("read_error") == 1)
    running.inbox.notify(TRADES, Transaction.ADD, trade(1))
    assert running.next("trade.100").body["change"] == "opened"


def test_a_session_that_ends_while_its_table_is_read_ends_after_the_read(running: RunningPump) -> None:
    running.manager.reads_beside_quotes = True
    running.attach()
    let_go = held_in_a_read(running)
    running.inbox.notify(TRADES, Transaction.ADD, trade(1))
    running.inbox.put_command(Command.DETACH, (running.session, "link lost"))
    running.manager.quotes.append(quote())
    running.inbox.notify(BIDASK, 0, b"")
    running.next("quote.EURUSD")
    let_go.set()
    running.next("session.stop")
    topics = [message.topic for message in running.received]
    assert topics.index("trade.100") < topics.index("session.stop")


def test_the_pump_that_waits_for_a_read_makes_no_progress_for_the_hang_detector(running: RunningPump) -> None:
    running.manager.reads_beside_quotes = True
    running.attach()
    let_go = held_in_a_read(running)
    iterations = running.pump.iterations
    running.manager.quotes.append(quote())
    running.inbox.notify(BIDASK, 0, b"")
    running.next("quote.EURUSD")
    assert running.pump.iterations == iterations
    let_go.set()
    until(lambda: running.pump.iterations > iterations, "the pump goes on", LIMIT_S)


def test_what_came_before_a_large_table_is_published_before_its_read_ends(running: RunningPump) -> None:
    running.manager.reads_beside_quotes = True
    running.attach()
    running.manager.entered["table trades"].clear()
    first = held_in_a_read(running)
    running.manager.holds["table trades"] = second = Event()
    running.inbox.notify(TRADES, Transaction.ADD, trade(1))
    running.inbox.notify(TRADES, 0, b"")
    first.set()
    assert running.manager.entered["table trades"].wait(LIMIT_S)
    assert running.next("trade.100").body["order"] == 1
    second.set()


def test_where_no_thread_can_be_started_the_table_is_read_all_the_same(
    running: RunningPump, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: ReadThread) -> None:
        raise RuntimeError("can't start new thread")

    running.manager.reads_beside_quotes = True
    monkeypatch.setattr(ReadThread, "start", refuse)
    running.attach()
    assert running.manager.threads["table users"][-1] == running.pump.ident
    assert running.dispatcher.tables.has_baseline


def test_a_read_that_failed_keeps_nothing_of_its_table() -> None:
    class Lost(FakeManager):
        def table(self, name: str) -> bytes:
            array = Large(super().table(name))
            kept.append(weakref.ref(array))
            raise lost(name)

    class Large(bytearray):
        pass

    kept: list[weakref.ref[Large]] = []
    gc.disable()
    try:
        read = ReadThread(Lost(), "users")
        with pytest.raises(ConnectionLost):
            read.array(list)
        del read
        assert kept[0]() is None
    finally:
        gc.enable()
