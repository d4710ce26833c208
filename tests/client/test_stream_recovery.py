"""What the simulation found: each of these scripts lost an event, handed one over twice, or never came to an end."""

from __future__ import annotations

from mt4pump.client.ordering import StreamOptions
from tests.client.daemon_model import DaemonModel
from tests.client.harness import Harness


def test_what_is_lost_before_the_journal_is_named_comes_out_of_the_journal() -> None:
    model = DaemonModel()
    model.opened = False
    harness = Harness(model=model).live()
    model.opened = True
    model.event("trade.1")  # lost, and nothing comes after it
    harness.receive(model.heartbeat(journal={"unstored": 0, "stored": 1}))
    assert harness.offsets() == [1]
    assert harness.stream.ordering.confirmed == 1
    assert not harness.notices("lost", "not_whole")


def test_an_event_behind_a_gap_waits_while_the_journal_is_not_named_yet() -> None:
    model = DaemonModel()
    model.opened = False
    harness = Harness(model=model).live()
    model.opened = True
    model.event("trade.1")
    harness.receive(model.event("trade.1"))
    harness.receive(model.heartbeat(journal={"unstored": 0, "stored": 2}))
    assert harness.offsets() == [1, 2]
    assert not harness.notices("lost")


def test_what_an_earlier_run_stored_before_the_journal_was_named_is_reported() -> None:
    model = DaemonModel()
    model.opened = False
    harness = Harness(model=model).live()
    model.opened = True
    model.event("trade.1")
    model.restart()
    harness.receive(model.heartbeat(journal={"unstored": 0, "stored": 0}))
    assert harness.notices("not_whole")


def test_a_gap_right_after_the_join_is_healed_though_the_last_heartbeat_named_no_journal() -> None:
    model = DaemonModel()
    model.opened = False
    harness = Harness(model=model)
    harness.answering = False
    harness.receive(model.heartbeat())
    model.opened = True
    harness.answering = True
    harness.answer_all()
    assert harness.stream.ordering.has_snapshot
    model.event("trade.1")
    harness.receive(model.event("trade.1"))
    assert harness.offsets() == [1, 2]
    assert not harness.notices("lost")


def test_a_full_buffer_does_not_keep_the_new_epoch_from_being_read() -> None:
    harness = Harness(options=StreamOptions(hold_limit=2, heal_timeout_s=1e9))
    harness.answering = False
    harness.receive(harness.model.heartbeat())
    harness.answer()  # describe: from here on events wait for the snapshot
    harness.receive(harness.model.event("trade.1"), harness.model.event("trade.1"))
    assert harness.stream.is_full
    harness.model.restart()
    harness.answer()
    assert not harness.stream.is_full
    harness.answering = True
    for _ in range(4):
        harness.receive(harness.model.heartbeat())
        harness.wait(10)
    assert harness.stream.ordering.has_snapshot


def test_an_event_that_was_replayed_while_it_waited_does_not_come_again_when_the_journal_is_replaced() -> None:
    harness = Harness().live()
    harness.answering = False
    harness.stream.set_disconnected()
    harness.receive(harness.model.event("trade.1"))  # it waits
    harness.stream.set_connected(harness.now_s)
    harness.receive(harness.model.heartbeat())
    reply = harness.make_reply()
    harness.stream.set_disconnected()  # so the gate stays closed when the reply comes
    harness.deliver_reply(reply)
    harness.collect()
    assert harness.offsets() == [1]
    assert harness.stream.ordering.held
    harness.stream.set_connected(harness.now_s)
    harness.model.restart(log="log-2")
    harness.answering = True
    for _ in range(4):
        harness.receive(harness.model.heartbeat())
        harness.wait(1)
    assert harness.offsets() == [1]
    assert not harness.stream.ordering.held
