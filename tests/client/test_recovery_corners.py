"""Recovery where two things go wrong at once; each case was found by the seeded simulation."""

from __future__ import annotations

import pytest

from mt4pump.client.event import Notice
from mt4pump.client.ordering import StreamOptions
from mt4pump.client.position import Position
from mt4pump.client.recovery_steps import OTHER_LOG
from tests.client.daemon_model import DaemonModel, daemon_with
from tests.client.harness import Harness


def test_what_was_lost_behind_a_held_event_comes_before_the_next_epoch_also_if_the_journal_opened_late() -> None:
    harness = Harness("trade.*").live()
    harness.model.restart(opened=False)
    harness.reconnect()
    harness.go_live()
    harness.model.opened = True
    harness.receive(harness.model.event("trade.1"))  # held: no heartbeat has named the journal
    harness.model.event("trade.1")  # lost with the connection
    harness.model.restart(opened=False)
    harness.reconnect()
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


def test_values_beside_last_numbers_are_freed_once_they_are_compared() -> None:
    harness = Harness("*").live()
    for number in range(500):
        harness.receive(harness.model.event(f"quote.S{number}", bid=1.0))
    harness.model.event("quote.S0", bid=2.0)  # lost, and the daemon saw that a queue was full
    harness.model.dropped += 1
    harness.go_live()
    harness.wait(60)
    harness.go_live()
    assert len(harness.notices("lost")) == 1
    # Nothing public shows what is kept in memory.
    assert not harness.stream.recovery.steps.last_seqs._rows  # noqa: SLF001


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
    harness.reconnect()
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


def test_an_offset_that_comes_again_before_the_log_is_named_is_of_the_journal_that_the_heartbeat_names() -> None:
    harness = Harness("trade.*").live()
    model = harness.model
    harness.receive(*[model.event("trade.1") for _ in range(3)], model.heartbeat())
    model.restart(log="log-2")
    model.event("trade.2")  # lost, as the connection is new
    harness.reconnect()
    harness.receive(model.event("trade.2"))
    assert harness.offsets("trade.2") == []
    assert harness.notices("not_whole") == []
    harness.go_live()
    assert harness.offsets() == [1, 2, 3, 1, 2]
    texts = [item.text for item in harness.items if isinstance(item, Notice) and item.kind == "not_whole"]
    assert texts == [OTHER_LOG]
    assert harness.tracker.position(with_current=True) == Position("log-2", 2)


@pytest.mark.parametrize("is_event_first", [False, True], ids=["heartbeat first", "event first"])
def test_what_a_journal_that_lost_its_end_still_has_comes_in_order(*, is_event_first: bool) -> None:
    harness = Harness("trade.*").live()
    model = harness.model
    harness.receive(model.event("trade.1"), model.event("trade.2"), model.heartbeat())
    harness.answering = False
    model.event("trade.1")  # 3: lost on its way, still in the journal
    harness.receive(model.event("trade.2"), model.event("trade.1"), model.heartbeat())  # 4 is ahead, 5 waits
    assert harness.offsets() == [1, 2, 4]
    model.lose_end(3)
    again = model.event("trade.2")
    harness.reconnect()
    harness.receive(*[again] * is_event_first, model.heartbeat(journal={"unstored": 0, "stored": 1}))
    assert harness.tracker.position(with_current=True) == Position("log-1", 2, {"trade.2": 3}), (
        "up to the end of the copy"
    )
    harness.answering = True
    harness.wait(60)
    harness.go_live()
    assert harness.events() == [
        *[("trade.1", 1), ("trade.2", 1), ("trade.2", 2)],
        *[("trade.1", 2), ("trade.1", 3), ("trade.2", 1)],
    ]
    assert harness.notices("lost") == []
    assert len(harness.notices("not_whole")) == 1
    assert harness.tracker.position(with_current=True) == Position("log-1", 4)


@pytest.mark.parametrize("epoch", [None, 500], ids=["larger epoch", "smaller epoch"])
@pytest.mark.parametrize("is_removed", [False, True], ids=["kept", "removed and added again"])
def test_offsets_beyond_a_lost_end_hide_no_events_of_a_topic_that_was_ahead(
    epoch: int | None, *, is_removed: bool
) -> None:
    harness = Harness("trade.1", "trade.2").live()
    model = harness.model
    harness.receive(*(model.event("trade.2") for _ in range(3)), model.heartbeat())
    harness.answering = False
    harness.receive(*(model.event("trade.1") for _ in range(6)))  # 4 to 9 are delivered
    model.event("trade.2")  # 10 is lost, and the daemon saw that a queue was full
    model.dropped += 1
    harness.receive(model.heartbeat())
    if is_removed:
        harness.stream.remove_topics(["trade.1"])
    model.lose_end(5)
    model.epoch = epoch or model.epoch
    harness.receive(model.heartbeat())
    harness.answering = True
    harness.wait(60)
    harness.go_live()
    if is_removed:
        harness.stream.add_topics(["trade.1"])
        harness.answer_all()
        harness.go_live()
    harness.items.clear()
    harness.receive(*(model.event("trade.1") for _ in range(4)))  # offsets from 6 on, once more
    harness.go_live()
    assert harness.events() == [("trade.1", seq) for seq in (1, 2, 3, 4)]
    assert harness.stream.counts["duplicates"] == 0


def test_offsets_used_again_beyond_the_old_end_are_found_by_what_the_run_has_stored() -> None:
    harness = Harness("trade.*").live()
    model = harness.model
    harness.receive(model.event("trade.1"), model.event("trade.1"), model.heartbeat())
    model.lose_end(1)
    for _ in range(3):
        model.event("trade.1")
    harness.reconnect()
    harness.receive(model.heartbeat(journal={"unstored": 0, "stored": 3}))
    harness.go_live()
    assert harness.offsets() == [1, 2, 2, 3, 4]
    assert len(harness.notices("not_whole")) == 1


def test_numbers_of_a_run_before_the_first_known_one_are_no_loss() -> None:
    model = daemon_with("trade.1", "trade.2", "trade.1")
    harness = Harness("trade.*", model=model, resume=Position("log-1", 3))
    harness.answering = False
    harness.receive(model.heartbeat())
    harness.answer()
    harness.receive(model.event("trade.1"))
    model.restart()
    harness.answer()
    harness.receive(model.event("trade.1"))
    model.restart()
    harness.answering = True
    for _ in range(3):
        harness.wait(31)
        harness.receive(model.heartbeat())
    assert harness.offsets() == [4, 5]
    assert harness.notices("lost") == []


def test_losses_in_a_run_with_a_smaller_epoch_are_seen_recovered_and_reported() -> None:
    harness = Harness().live()
    harness.receive(harness.model.event("quote.EURUSD"), harness.model.event("trade.1"))
    harness.model.restart(log="log-2")  # the daemon's folder was deleted, and its clock is right again
    harness.model.epoch = 500
    harness.go_live()
    harness.items.clear()
    for topic in ("quote.EURUSD", "trade.1"):
        harness.model.event(topic)
        harness.receive(harness.model.event(topic))
        repeated = harness.model.event(topic)
        harness.receive(repeated, repeated)
    assert harness.events() == [
        *(("quote.EURUSD", number) for number in (2, 3)),
        *(("trade.1", number) for number in (1, 2, 3)),
    ]
    assert harness.notices("lost") == [("lost", "quote.EURUSD", 1)]


def begin_run_in_a_new_folder(harness: Harness) -> None:
    """Begin a run with a smaller epoch: the daemon's folder was deleted, and its clock is right again."""
    harness.model.restart(log="log-2")
    harness.model.epoch = 500


def test_what_waits_when_a_run_with_a_smaller_epoch_begins_comes_before_it_and_does_not_hide_its_losses() -> None:
    harness = Harness("trade.*").live()
    model = harness.model
    harness.receive(model.event("trade.1"), model.event("trade.1"))
    harness.answering = False
    model.event("trade.1")  # lost, and its journal with it
    harness.receive(model.event("trade.1"))
    begin_run_in_a_new_folder(harness)
    harness.receive(model.heartbeat())
    harness.answering = True
    harness.wait(60)
    harness.go_live()
    assert harness.events() == [("trade.1", number) for number in (1, 2, 4)]
    assert harness.notices("lost") == [("lost", "trade.1", 1)]
    model.event("trade.1")
    repeated = model.event("trade.1")
    harness.receive(repeated, repeated)
    model.stored = False
    model.event("trade.1")
    model.stored = True
    harness.receive(model.event("trade.1"), model.heartbeat())
    assert harness.events()[3:] == [("trade.1", number) for number in (1, 2, 4)]
    assert harness.notices("lost") == [("lost", "trade.1", 1)] * 2
    assert harness.tracker.position(with_current=True) == Position("log-2", 3)


@pytest.mark.parametrize("position", [Position("log-1", 1), Position(None, 1)], ids=["log", "any log"])
def test_a_run_with_a_smaller_epoch_that_begins_during_a_join_hides_no_loss_of_its_own(position: Position) -> None:
    harness = Harness("trade.*", model=daemon_with("trade.2"), resume=position)
    model = harness.model
    harness.answering = False
    harness.receive(model.heartbeat())
    harness.answer_until("snapshot")
    harness.receive(model.event("trade.1"), model.event("trade.1"))
    assert len(harness.stream.ordering.held) == 2
    begin_run_in_a_new_folder(harness)
    harness.receive(model.event("trade.1"), model.heartbeat())
    harness.answering = True
    harness.wait(60)
    harness.go_live()
    harness.items.clear()
    model.stored = False
    model.event("trade.1")
    model.stored = True
    harness.receive(model.event("trade.1"), model.heartbeat())
    assert harness.events() == [("trade.1", 3)]
    assert harness.notices("lost") == [("lost", "trade.1", 1)]
