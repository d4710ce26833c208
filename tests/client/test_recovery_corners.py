"""Recovery where two things go wrong at once; each case was found by the seeded simulation."""

from __future__ import annotations

import pytest

from mt4pump.client.ordering import StreamOptions
from mt4pump.client.position import Position
from tests.client.desk import Desk
from tests.client.ledger import Ledger


def reconnect(desk: Desk) -> None:
    desk.stream.set_disconnected()
    desk.stream.set_connected(desk.now_s)


def test_what_was_lost_behind_a_held_event_comes_before_the_next_epoch_also_if_the_journal_opened_late() -> None:
    desk = Desk("trade.*").live()
    desk.ledger.restart(opened=False)
    reconnect(desk)
    desk.live_items()
    desk.ledger.opened = True
    desk.take(desk.ledger.event("trade.1"))  # held: no heartbeat has named the journal
    desk.ledger.event("trade.1")  # lost with the connection
    desk.ledger.restart(opened=False)
    reconnect(desk)
    desk.take(desk.ledger.beat())
    desk.ledger.opened = True
    desk.answering = False
    desk.take(desk.ledger.beat())
    desk.take(desk.ledger.event("trade.1"))
    desk.answering = True
    desk.pump()
    assert desk.offsets() == [1, 2, 3]
    assert desk.notices("lost") == []


def test_last_numbers_of_all_topics_are_not_replaced_by_those_of_quotes_before_they_were_compared() -> None:
    desk = Desk().live()
    desk.take(desk.ledger.event("trade.1"), desk.ledger.beat())
    desk.answering = False
    desk.ledger.stored = False
    desk.ledger.event("trade.1")  # neither stored nor received
    desk.ledger.stored = True
    for _ in range(2):
        desk.ledger.turned_away += 1
        desk.take(desk.ledger.beat())
    desk.answering = True
    desk.pump()
    desk.take(desk.ledger.beat())
    assert desk.notices("lost") == [("lost", "trade.1", 1)]


@pytest.mark.parametrize("is_known", [False, True], ids=["while it resumes", "after it gave up"])
def test_after_a_restart_every_number_is_known_also_if_the_query_fails_again(*, is_known: bool) -> None:
    desk = Desk("trade.*", resume=None if is_known else Position("log-1", 0))
    desk.answering = False
    desk.take(desk.ledger.beat())
    if is_known:
        desk.refuse("timeout")
    desk.ledger.restart()
    desk.take(desk.ledger.beat())
    desk.wait(60)
    desk.take(desk.ledger.beat())
    desk.refuse("forbidden")
    assert desk.stream.recovery.has_given_up
    desk.ledger.event("trade.1")
    desk.take(desk.ledger.event("trade.1"))
    assert desk.notices("lost") == [("lost", "trade.1", 1)]


def test_a_position_is_not_compared_with_the_journal_of_a_run_whose_heartbeat_is_still_to_be_read() -> None:
    desk = Desk("trade.*", resume=Position("log-1", 0))
    desk.answering = False
    desk.take(desk.ledger.beat())
    desk.ledger.restart(log="log-2")
    desk.ledger.event("trade.1")
    desk.answer()
    desk.collect()
    assert desk.notices("not_whole") == []
    desk.answering = True
    desk.now_s += 1
    desk.live_items()
    assert desk.offsets() == [1]
    assert len(desk.notices("not_whole")) == 1


def full(ledger: Ledger | None = None) -> Desk:
    return Desk("trade.*", ledger=ledger, options=StreamOptions(hold_limit=2, heal_timeout_s=1e9))


def test_a_reader_with_a_full_buffer_learns_of_another_journal_from_the_reply() -> None:
    desk = full().live()
    desk.answering = False
    desk.ledger.event("trade.1")
    desk.take(desk.ledger.event("trade.1"), desk.ledger.event("trade.1"))
    assert desk.stream.is_full
    desk.ledger.restart(log="log-2")
    desk.ledger.event("trade.2")
    desk.answering = True
    for _ in range(3):
        desk.wait(5)
    assert not desk.stream.is_full
    desk.live_items()
    assert desk.events_of("trade.2") == [("trade.2", 1)]
    assert len(desk.notices("not_whole")) == 1


def test_a_reader_with_a_full_buffer_learns_that_the_journal_was_opened_from_the_reply() -> None:
    desk = full().live()
    desk.ledger.restart(opened=False)
    reconnect(desk)
    desk.live_items()
    desk.ledger.opened = True
    desk.take(desk.ledger.event("trade.1"), desk.ledger.event("trade.1"))
    desk.wait(1)
    assert not desk.stream.is_full
    assert desk.offsets() == [1, 2]
    assert desk.notices("lost", "query_failed") == []


def test_a_full_buffer_is_let_through_where_nothing_says_from_where_to_ask() -> None:
    ledger = Ledger()
    ledger.restart(opened=False)
    desk = full(ledger)
    desk.live_items()
    ledger.opened = True
    desk.take(ledger.event("trade.1"), ledger.event("trade.1"))
    assert not desk.stream.is_full
    desk.wait(5)
    desk.live_items()
    assert desk.offsets() == [1, 2]
    assert desk.stream.ordering.confirmed == 2
