"""What the simulation found: each of these scripts lost an event, handed one over twice, or never came to an end."""

from __future__ import annotations

from mt4pump.client.ordering import StreamOptions
from tests.client.desk import Desk
from tests.client.ledger import Ledger


def test_what_is_lost_before_the_journal_is_named_comes_out_of_the_journal() -> None:
    ledger = Ledger()
    ledger.opened = False
    desk = Desk(ledger=ledger).live()
    ledger.opened = True
    ledger.event("trade.1")  # lost, and nothing comes after it
    desk.take(ledger.beat(journal={"unstored": 0, "stored": 1}))
    assert desk.offsets() == [1]
    assert desk.stream.ordering.confirmed == 1
    assert not desk.notices("lost", "not_whole")


def test_an_event_behind_a_gap_waits_while_the_journal_is_not_named_yet() -> None:
    ledger = Ledger()
    ledger.opened = False
    desk = Desk(ledger=ledger).live()
    ledger.opened = True
    ledger.event("trade.1")
    desk.take(ledger.event("trade.1"))
    desk.take(ledger.beat(journal={"unstored": 0, "stored": 2}))
    assert desk.offsets() == [1, 2]
    assert not desk.notices("lost")


def test_what_an_earlier_run_stored_before_the_journal_was_named_is_reported() -> None:
    ledger = Ledger()
    ledger.opened = False
    desk = Desk(ledger=ledger).live()
    ledger.opened = True
    ledger.event("trade.1")
    ledger.restart()
    desk.take(ledger.beat(journal={"unstored": 0, "stored": 0}))
    assert desk.notices("not_whole")


def test_a_gap_right_after_the_join_is_healed_though_the_last_heartbeat_named_no_journal() -> None:
    ledger = Ledger()
    ledger.opened = False
    desk = Desk(ledger=ledger)
    desk.answering = False
    desk.take(ledger.beat())
    ledger.opened = True
    desk.answering = True
    desk.pump()
    assert desk.stream.ordering.based
    ledger.event("trade.1")
    desk.take(ledger.event("trade.1"))
    assert desk.offsets() == [1, 2]
    assert not desk.notices("lost")


def test_a_full_buffer_does_not_keep_the_new_epoch_from_being_read() -> None:
    desk = Desk(options=StreamOptions(hold_limit=2, heal_timeout_s=1e9))
    desk.answering = False
    desk.take(desk.ledger.beat())
    desk.answer()  # describe: from here on events wait for the snapshot
    desk.take(desk.ledger.event("trade.1"), desk.ledger.event("trade.1"))
    assert desk.stream.is_full
    desk.ledger.restart()
    desk.answer()
    assert not desk.stream.is_full
    desk.answering = True
    for _ in range(4):
        desk.take(desk.ledger.beat())
        desk.wait(10)
    assert desk.stream.ordering.based


def test_an_event_that_was_replayed_while_it_waited_does_not_come_again_when_the_journal_is_replaced() -> None:
    desk = Desk().live()
    desk.answering = False
    desk.stream.set_disconnected()
    desk.take(desk.ledger.event("trade.1"))  # it waits
    desk.stream.set_connected(desk.now_s)
    desk.take(desk.ledger.beat())
    reply = desk.replied()
    desk.stream.set_disconnected()  # so the gate stays closed when the reply comes
    desk.hand_in(reply)
    desk.collect()
    assert desk.offsets() == [1]
    assert desk.stream.ordering.held
    desk.stream.set_connected(desk.now_s)
    desk.ledger.restart(log="log-2")
    desk.answering = True
    for _ in range(4):
        desk.take(desk.ledger.beat())
        desk.wait(1)
    assert desk.offsets() == [1]
    assert not desk.stream.ordering.held
