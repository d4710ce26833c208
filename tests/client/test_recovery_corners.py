"""Recovery where two things go wrong at once; each case was found by the seeded simulation."""

from __future__ import annotations

import pytest

from mt4pump.client.ordering import StreamOptions
from mt4pump.client.position import Position
from tests.client.daemon_model import DaemonModel
from tests.client.harness import Harness


def reconnect(harness: Harness) -> None:
    harness.stream.set_disconnected()
    harness.stream.set_connected(harness.now_s)


def test_what_was_lost_behind_a_held_event_comes_before_the_next_epoch_also_if_the_journal_opened_late() -> None:
    harness = Harness("trade.*").live()
    harness.model.restart(opened=False)
    reconnect(harness)
    harness.go_live()
    harness.model.opened = True
    harness.receive(harness.model.event("trade.1"))  # held: no heartbeat has named the journal
    harness.model.event("trade.1")  # lost with the connection
    harness.model.restart(opened=False)
    reconnect(harness)
    harness.receive(harness.model.heartbeat())
    harness.model.opened = True
    harness.answering = False
    harness.receive(harness.model.heartbeat())
    harness.receive(harness.model.event("trade.1"))
    harness.answering = True
    harness.answer_all()
    assert harness.offsets() == [1, 2, 3]
    assert harness.notices("lost") == []


def test_last_numbers_of_all_topics_are_not_replaced_by_those_of_quotes_before_they_were_compared() -> None:
    harness = Harness().live()
    harness.receive(harness.model.event("trade.1"), harness.model.heartbeat())
    harness.answering = False
    harness.model.stored = False
    harness.model.event("trade.1")  # neither stored nor received
    harness.model.stored = True
    for _ in range(2):
        harness.model.dropped += 1
        harness.receive(harness.model.heartbeat())
    harness.answering = True
    harness.answer_all()
    harness.receive(harness.model.heartbeat())
    assert harness.notices("lost") == [("lost", "trade.1", 1)]


@pytest.mark.parametrize("is_known", [False, True], ids=["while it resumes", "after it gave up"])
def test_after_a_restart_every_number_is_known_also_if_the_query_fails_again(*, is_known: bool) -> None:
    harness = Harness("trade.*", resume=None if is_known else Position("log-1", 0))
    harness.answering = False
    harness.receive(harness.model.heartbeat())
    if is_known:
        harness.refuse("timeout")
    harness.model.restart()
    harness.receive(harness.model.heartbeat())
    harness.wait(60)
    harness.receive(harness.model.heartbeat())
    harness.refuse("forbidden")
    assert harness.stream.recovery.has_given_up
    harness.model.event("trade.1")
    harness.receive(harness.model.event("trade.1"))
    assert harness.notices("lost") == [("lost", "trade.1", 1)]


def test_a_position_is_not_compared_with_the_journal_of_a_run_whose_heartbeat_is_still_to_be_read() -> None:
    harness = Harness("trade.*", resume=Position("log-1", 0))
    harness.answering = False
    harness.receive(harness.model.heartbeat())
    harness.model.restart(log="log-2")
    harness.model.event("trade.1")
    harness.answer()
    harness.collect()
    assert harness.notices("not_whole") == []
    harness.answering = True
    harness.now_s += 1
    harness.go_live()
    assert harness.offsets() == [1]
    assert len(harness.notices("not_whole")) == 1


def full(model: DaemonModel | None = None) -> Harness:
    return Harness("trade.*", model=model, options=StreamOptions(hold_limit=2, heal_timeout_s=1e9))


def test_a_reader_with_a_full_buffer_learns_of_another_journal_from_the_reply() -> None:
    harness = full().live()
    harness.answering = False
    harness.model.event("trade.1")
    harness.receive(harness.model.event("trade.1"), harness.model.event("trade.1"))
    assert harness.stream.is_full
    harness.model.restart(log="log-2")
    harness.model.event("trade.2")
    harness.answering = True
    for _ in range(3):
        harness.wait(5)
    assert not harness.stream.is_full
    harness.go_live()
    assert harness.events_of("trade.2") == [("trade.2", 1)]
    assert len(harness.notices("not_whole")) == 1


def test_a_reader_with_a_full_buffer_learns_that_the_journal_was_opened_from_the_reply() -> None:
    harness = full().live()
    harness.model.restart(opened=False)
    reconnect(harness)
    harness.go_live()
    harness.model.opened = True
    harness.receive(harness.model.event("trade.1"), harness.model.event("trade.1"))
    harness.wait(1)
    assert not harness.stream.is_full
    assert harness.offsets() == [1, 2]
    assert harness.notices("lost", "query_failed") == []


def test_a_full_buffer_is_let_through_where_nothing_says_from_where_to_ask() -> None:
    model = DaemonModel()
    model.restart(opened=False)
    harness = full(model)
    harness.go_live()
    model.opened = True
    harness.receive(model.event("trade.1"), model.event("trade.1"))
    assert not harness.stream.is_full
    harness.wait(5)
    harness.go_live()
    assert harness.offsets() == [1, 2]
    assert harness.stream.ordering.confirmed == 2


def test_heartbeats_of_the_run_before_do_not_bring_back_its_journal_after_a_reply_of_the_next_run() -> None:
    harness = full().live()
    model = harness.model
    harness.answering = False
    model.event("trade.1")
    harness.receive(model.event("trade.1"), model.event("trade.1"))
    waiting = [model.event("trade.1"), model.heartbeat(), model.heartbeat()]  # in the socket, which is not read
    model.restart(log="log-2")
    model.event("trade.1")
    harness.answering = True
    harness.wait(5)
    assert harness.notices("lost", "not_whole") == [("lost", "trade.1", 1)]
    harness.receive(*waiting)
    harness.wait(60)
    harness.go_live()
    assert harness.events() == [("trade.1", 2), ("trade.1", 3), ("trade.1", 4), ("trade.1", 1)]
    assert len(harness.notices("not_whole")) == 1


def test_events_of_a_journal_that_is_gone_come_before_those_of_the_next_one() -> None:
    harness = Harness("trade.*").live()
    harness.answering = False
    harness.model.event("trade.1")
    harness.receive(harness.model.event("trade.1"), harness.model.event("trade.1"))
    harness.model.restart(log="log-2")
    harness.model.event("trade.1")
    harness.receive(harness.model.heartbeat())
    harness.answering = True
    harness.wait(60)
    harness.go_live()
    assert harness.events() == [("trade.1", 2), ("trade.1", 3), ("trade.1", 1)]
    assert harness.notices("lost") == [("lost", "trade.1", 1)]


def test_held_events_of_another_journal_hide_none_of_the_journal_that_a_position_goes_on_in() -> None:
    harness = Harness("trade.*", resume=Position("log-1", 0))
    model = harness.model
    for _ in range(3):
        model.event("trade.2")
    harness.answering = False
    harness.receive(model.heartbeat())
    harness.stream.recovery.steps.discard = False
    harness.receive(model.event("trade.1"))
    assert len(harness.stream.ordering.held) == 1
    model.restart(log="log-2")
    model.event("trade.1")
    harness.receive(model.heartbeat())
    harness.answering = True
    harness.wait(60)
    harness.receive(model.event("trade.1"))
    harness.go_live()
    assert harness.events_of("trade.1") == [("trade.1", 1), ("trade.1", 2)]
