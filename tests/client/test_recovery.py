"""When the query endpoint is silent, refuses, or comes late: nothing waits for ever, and every loss is reported."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mt4pump.client.event import Event
from mt4pump.client.ordering import StreamOptions
from mt4pump.client.position import Position
from tests.client.daemon_model import daemon_with
from tests.client.harness import Harness


def half_seconds(harness: Harness, count: int, *, refused: str, code: str) -> None:
    """Let time pass, with a heartbeat and a quote each half second; the op ``refused`` fails with ``code``."""
    harness.answering = False
    for _ in range(count):
        harness.now_s += 0.49
        harness.receive(harness.model.heartbeat(), harness.model.event("quote.EURUSD"))
        while (ask := harness.ask()) is not None:
            if ask.op == refused:
                harness.refuse(code)
            else:
                harness.answer()
        harness.collect()


def test_events_that_could_not_be_stored_and_come_after_the_next_run_are_not_reported_as_lost() -> None:
    harness = Harness().live()
    harness.answering = False
    harness.receive(harness.model.event("trade.1"))
    harness.model.restart()
    harness.model.stored = False
    first, second = harness.model.event("trade.1"), harness.model.event("trade.1")
    harness.receive(first, second, second)  # wait; the journal knows nothing of them
    harness.model.restart()
    harness.model.stored = True
    harness.model.event("trade.1")
    harness.answering = True
    harness.wait(1)
    assert harness.events("trade.1") == [("trade.1", seq) for seq in (1, 1, 1, 2)]
    assert harness.offsets() == [1, 2]
    assert harness.notices("lost") == []


def test_what_is_not_stored_and_of_an_older_run_than_the_snapshot_does_not_come_after_it() -> None:
    model = daemon_with("trade.1")
    model.stored = False
    model.event("session.ping")
    model.page_limit = 2
    harness = Harness("*", model=model, resume=Position("log-1", 0))
    harness.answering = False
    harness.receive(model.heartbeat())
    harness.answer_until("snapshot")
    harness.answer()  # its first page, which knows the ping
    assert harness.ask().fields["cursor"]
    harness.receive(model.event("session.ping"))
    model.restart()
    harness.receive(model.heartbeat())
    harness.answering = True
    harness.wait(1)
    harness.receive(model.event("session.ping"))
    harness.receive(model.heartbeat())
    assert harness.events("session.") == [("session.ping", 1)]
    assert harness.offsets() == [1]
    assert harness.stream.counts["before_join"] == 1


@pytest.mark.parametrize("is_asked_already", [False, True])
def test_what_a_run_of_the_daemon_lost_at_its_end_comes_before_the_next_run(*, is_asked_already: bool) -> None:
    harness = Harness().live()
    harness.answering = False
    harness.receive(harness.model.event("trade.1"))
    harness.model.restart()
    harness.receive(harness.model.event("trade.1"))  # waits, and the journal is asked for all up to it
    harness.model.event("trade.1")
    harness.model.restart()
    if not is_asked_already:
        harness.refuse("journal_error")
    harness.receive(harness.model.event("quote.A"))  # the next run shows itself before anything of it has to wait
    harness.receive(harness.model.event("trade.1"))
    harness.answering = True
    harness.wait(1)
    assert harness.events("trade.1") == [("trade.1", seq) for seq in (1, 1, 2, 1)]
    assert harness.offsets() == [1, 2, 3, 4]
    assert harness.notices("lost") == []


@pytest.mark.parametrize("code", ["journal_error", "internal_error", "timeout"])
@pytest.mark.parametrize(("position", "refused"), [(Position("log-1", 2), "replay"), (None, "snapshot")])
def test_a_join_of_which_one_step_fails_for_good_is_given_up_after_its_time(
    position: Position | None, refused: str, code: str
) -> None:
    harness = Harness(model=daemon_with(*["trade.1"] * 5), resume=position, options=StreamOptions(heal_timeout_s=30))
    half_seconds(harness, 200, refused=refused, code=code)
    assert harness.stream.recovery.steps.joined
    assert harness.stream.counts["before_join"] <= 65
    assert len(harness.events()) >= 135  # quotes flow, also while the join is tried again
    assert not harness.stream.ordering.held
    assert len(harness.notices("query_failed")) == 1
    assert harness.stream.counts["query_failures"] < 12  # each try waits longer than the one before


def test_pages_that_came_count_as_an_answer() -> None:
    harness = Harness(
        model=daemon_with(*["trade.1"] * 40), resume=Position("log-1", 0), options=StreamOptions(heal_timeout_s=3)
    )
    harness.model.page_limit = 1
    harness.answering = False
    harness.receive(harness.model.heartbeat())
    for _ in range(30):  # a page, and a failure in the next one: much longer than 3 s on the whole
        harness.answer_until("replay")
        harness.answer()
        harness.refuse("journal_error")
        harness.wait(0.6)
    assert harness.offsets() == list(range(1, 31))
    assert not harness.stream.recovery.steps.joined
    assert harness.notices("not_whole") == []


def test_topics_added_in_vain_hold_nothing_up_after_their_time() -> None:
    harness = Harness("quote.*", options=StreamOptions(heal_timeout_s=5)).live()
    harness.stream.add_topics(["trade.*"])
    half_seconds(harness, 100, refused="snapshot", code="journal_error")
    assert len(harness.events("quote")) == 100
    assert not harness.stream.ordering.held


def test_an_endpoint_that_went_silent_holds_up_nothing_when_a_late_join_is_tried() -> None:
    harness = Harness()
    harness.answering = False
    harness.receive(harness.model.heartbeat())
    harness.refuse("timeout")
    harness.wait(60)
    harness.receive(harness.model.heartbeat())
    assert harness.ask().op == "describe"  # and no answer yet
    harness.receive(harness.model.event("quote.EURUSD"))
    assert harness.events() == [("quote.EURUSD", 1)]


def test_a_reader_that_starts_long_before_the_daemon_resumes_in_order() -> None:
    harness = Harness("trade.*", model=daemon_with(*["trade.1"] * 10, *["trade.2"] * 3), resume=Position("log-1", 5))
    for _ in range(3):
        harness.wait(31)
    harness.model.restart()
    harness.stream.set_connected(harness.now_s)
    harness.receive(harness.model.event("trade.1"))  # before the first heartbeat
    harness.go_live()
    assert harness.offsets() == list(range(6, 15))
    assert harness.stream.counts["lost"] == 0
    assert harness.notices("query_failed", "not_whole") == []


def test_what_came_after_giving_up_waits_for_the_late_join_when_the_daemon_comes_back() -> None:
    harness = Harness("trade.*", model=daemon_with(*["trade.1"] * 10), resume=Position("log-1", 5))
    harness.answering = False
    harness.receive(harness.model.heartbeat())
    harness.refuse("forbidden")
    assert harness.stream.recovery.steps.joined
    harness.model.restart()
    harness.reconnect()
    harness.answering = True
    harness.receive(harness.model.event("trade.1"))
    harness.go_live()
    assert harness.offsets() == list(range(6, 12))


def test_what_a_late_join_finds_passed_is_reported_as_lost() -> None:
    harness = Harness("trade.*", model=daemon_with(*["trade.1"] * 10, *["trade.2"] * 3), resume=Position("log-1", 5))
    harness.answering = False
    harness.receive(harness.model.heartbeat())
    harness.refuse("forbidden")
    harness.receive(harness.model.event("trade.1"))
    harness.answering = True
    harness.wait(60)
    harness.go_live()
    assert harness.offsets() == [14, 11, 12, 13]
    assert harness.notices("lost") == [("lost", "trade.1", 5)]


def test_a_late_join_takes_up_what_the_position_had_ahead() -> None:
    harness = Harness(
        "trade.*", model=daemon_with("trade.1", "trade.2", "trade.1"), resume=Position("log-1", 1, {"trade.1": 3})
    )
    harness.answering = False
    harness.receive(harness.model.heartbeat())
    harness.refuse("forbidden")
    harness.answering = True
    harness.wait(60)
    harness.go_live()
    assert harness.offsets() == [2]
    assert harness.stream.counts["lost"] == 0


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_late_join_confirms_nothing_that_is_still_on_its_way(*, is_lost: bool) -> None:
    harness = Harness("trade.*")
    harness.answering = False
    harness.receive(harness.model.heartbeat())
    harness.refuse("timeout")  # goes live without its snapshot
    harness.receive(harness.model.event("trade.1"))
    harness.wait(60)
    harness.receive(harness.model.heartbeat())
    late = [harness.model.event("trade.1"), harness.model.event("trade.1")]  # before the snapshot, and not read yet
    harness.answering = True
    harness.answer_all()
    assert harness.stream.ordering.has_snapshot
    assert harness.tracker.position(with_current=True) == Position("log-1", 1, {})
    harness.receive(*late[is_lost:])
    assert harness.offsets() == [1, 2, 3]
    assert harness.stream.counts["lost"] == 0
    harness.live()
    assert harness.tracker.position(with_current=True) == Position("log-1", 3, {})


@pytest.mark.parametrize("how", ["the join is repeated", "the endpoint is given up"])
def test_where_a_journal_lost_its_end_what_a_position_had_ahead_is_forgotten_for_good(how: str) -> None:
    """Offsets are used again: what comes under them is new."""
    model = daemon_with(*["trade.7"] * 3)
    harness = Harness(
        model=model, resume=Position("log-1", 10, {"trade.7": 12}), options=StreamOptions(heal_timeout_s=3)
    )
    harness.answering = False
    harness.receive(model.heartbeat())
    if how == "the join is repeated":
        harness.answer()  # describe; the next step fails, and all begins anew
        harness.refuse()
        harness.answering = True
        harness.wait(5.0)
    else:
        for _ in range(8):
            harness.receive(model.heartbeat())
            if harness.ask() is not None:
                harness.refuse()
            harness.wait(1.0)
    assert harness.stream.recovery.steps.joined
    before = len(harness.offsets())
    harness.receive(model.event("trade.7"), model.event("trade.7"))
    assert harness.offsets()[before:] == [4, 5]


def test_what_is_stored_between_two_tries_of_a_join_is_new_where_the_journal_had_lost_its_end() -> None:
    model = daemon_with(*["trade.7"] * 3)
    harness = Harness(model=model, resume=Position("log-1", 10, {"trade.7": 12}))
    harness.answering = False
    harness.receive(model.heartbeat())
    harness.answer()  # describe; the next step fails, and all begins anew
    harness.refuse()
    model.event("trade.7")
    harness.answering = True
    harness.wait(5.0)
    assert harness.offsets() == [4]


def test_after_a_resume_all_is_handed_over_that_comes_while_the_snapshot_is_on_its_way_and_later() -> None:
    harness = Harness(model=daemon_with("trade.1"), resume=Position("log-1", 0))
    harness.answering = False
    harness.receive(harness.model.heartbeat())
    harness.answer_until("snapshot")
    reply = harness.make_reply()
    harness.receive(harness.model.event("quote.EURUSD"), harness.model.event("trade.2"))
    harness.deliver_reply(reply)
    harness.answering = True
    harness.receive(harness.model.event("quote.GBPUSD"), harness.model.heartbeat())
    assert harness.events() == [("trade.1", 1), ("quote.EURUSD", 1), ("trade.2", 1), ("quote.GBPUSD", 1)]
    assert harness.notices("lost") == []


def test_every_failure_is_counted_and_reported_once() -> None:
    harness = Harness().live()
    harness.answering = False
    harness.model.event("trade.1")
    harness.receive(harness.model.event("trade.1"))
    for _ in range(3):
        harness.refuse("busy")
        harness.wait(5.0)
    assert harness.stream.counts["query_failures"] == 3
    assert harness.notices("query_failed") == [("query_failed", "", 0)]


@pytest.mark.parametrize("options", [StreamOptions(heal=False), StreamOptions(query=False, snapshot=False)], ids=str)
def test_without_recovery_the_position_follows_clean_heartbeats(options: StreamOptions) -> None:
    harness = Harness(model=daemon_with("trade.1"), options=options)
    for number in range(20):
        harness.receive(harness.model.event(f"news.{number}"), harness.model.heartbeat())
    assert harness.stream.ordering.confirmed == harness.model.last_offset
    harness.model.dropped += 1
    harness.receive(harness.model.event("trade.1"), harness.model.heartbeat())
    assert harness.stream.ordering.confirmed == harness.model.last_offset - 1
    harness.receive(harness.model.heartbeat())
    assert harness.stream.ordering.confirmed == harness.model.last_offset


def test_a_journal_that_opens_late_costs_a_running_reader_nothing() -> None:
    harness = Harness("trade.*").live()
    harness.receive(harness.model.event("trade.1"), harness.model.heartbeat())
    for topic in ("trade.1", "trade.2", "trade.3"):
        harness.model.event(topic)  # published, and lost when the daemon died
    harness.model.restart(opened=False)
    harness.reconnect()
    harness.go_live()
    assert harness.tracker.position(with_current=True) == Position("log-1", 1, {})
    harness.receive(harness.model.event("trade.1"))
    assert harness.events()[-1] == ("trade.1", 1)  # not stored: it waits for nothing
    harness.model.opened = True
    harness.receive(harness.model.event("trade.1"))  # stored, and the heartbeat before it was lost
    assert harness.offsets() == [1]
    harness.go_live()
    assert harness.offsets() == [1, 2, 3, 4, 5]
    assert harness.stream.counts["lost"] == 0
    assert harness.tracker.position(with_current=True) == Position("log-1", 5, {})


def test_a_position_is_kept_until_a_journal_that_opens_late_can_be_asked() -> None:
    model = daemon_with(*["trade.1"] * 10)
    model.restart(opened=False)
    harness = Harness("trade.*", model=model, resume=Position("log-1", 5, {"trade.1": 7}))
    harness.go_live()
    assert not harness.tracker.is_known  # nothing goes over the stored position
    assert harness.notices("not_whole") == []
    model.opened = True
    harness.go_live()
    assert harness.offsets() == [8, 9, 10]
    assert harness.tracker.position(with_current=True) == Position("log-1", 10, {})


def test_a_resume_does_not_wait_for_ever_for_a_journal_to_open() -> None:
    model = daemon_with(*["trade.1"] * 10)
    model.restart(opened=False)
    harness = Harness("*", model=model, resume=Position("log-1", 5), options=StreamOptions(heal_timeout_s=10))
    for _ in range(30):
        harness.wait(0.5)
        harness.receive(model.heartbeat())
    harness.receive(model.event("quote.EURUSD"), model.event("trade.1"))
    assert harness.events() == [("quote.EURUSD", 1), ("trade.1", 1)]
    model.opened = True
    harness.receive(model.event("trade.1"))
    harness.go_live()
    assert harness.offsets() == list(range(6, 12))
    assert harness.stream.counts["lost"] == 0


def test_a_plain_reader_does_not_wait_for_a_journal_to_open_and_has_a_position_afterwards() -> None:
    model = daemon_with(*["trade.1"] * 3)
    model.restart(opened=False)
    harness = Harness("trade.*", model=model)
    harness.go_live()
    harness.receive(model.event("trade.1"))
    assert harness.events() == [("trade.1", 1)]
    assert not harness.tracker.is_known
    model.opened = True
    harness.go_live()
    harness.receive(model.event("trade.1"), model.heartbeat())
    assert harness.offsets() == [4]
    assert harness.tracker.position(with_current=True) == Position("log-1", 4, {})


STEPS = (
    "trade.1",
    "trade.2",
    "heartbeat",
    "restart",
    "late",
    "open",
    "reconnect",
    "answer",
    "forbidden",
    "journal_error",
)


def play(harness: Harness, step: str, *, lost: bool) -> None:
    if step in {"restart", "late"}:
        harness.model.restart(opened=step == "restart")
    elif step == "open":
        harness.model.opened = True
    elif step == "reconnect":
        harness.reconnect()
    elif step == "answer":
        if harness.ask() is not None:
            harness.answer()
            harness.collect()
    elif step in {"forbidden", "journal_error"}:
        if harness.ask() is not None:
            harness.refuse(step)
    else:
        message = harness.model.heartbeat() if step == "heartbeat" else harness.model.event(step)
        if not lost:
            harness.receive(message)
        elif step != "heartbeat":
            harness.model.dropped += 1


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(STEPS), st.booleans()), max_size=50), st.integers(1, 4), st.integers(0, 3))
def test_also_after_giving_up_each_stored_event_of_a_position_comes_once_or_is_reported(
    script: list[tuple[str, bool]], page: int, confirmed: int
) -> None:
    harness = Harness(
        "trade.*", model=daemon_with("trade.1", "trade.2", "trade.1"), resume=Position("log-1", confirmed)
    )
    harness.model.page_limit = page
    harness.answering = False
    for step, lost in script:
        play(harness, step, lost=lost)
    harness.answering = harness.model.opened = True
    for _ in range(6):
        harness.wait(31)
        harness.model.dropped += 1
        harness.receive(harness.model.heartbeat())
    wanted = [(body["offset"], topic) for topic, body in harness.model.published if body.get("offset", 0) > confirmed]
    came = harness.offsets()
    assert len(came) == len(set(came)), "none twice"
    reported = Counter[str]()
    for _, topic, count in harness.notices("lost"):
        reported[topic] += count
    for topic in ("trade.1", "trade.2"):
        mine = [
            item.offset for item in harness.items if isinstance(item, Event) and item.topic == topic and item.offset
        ]
        assert mine == sorted(mine), f"{topic} in order"
        missing = [offset for offset, of in wanted if of == topic and offset not in came]
        assert len(missing) <= reported[topic], f"{topic}: {missing} never came, {reported[topic]} reported"
        sent = [body for of, body in harness.model.published if of == topic and body.get("offset", 99_999) > confirmed]
        assert len(harness.events_of(topic)) + reported[topic] <= len(sent), f"{topic}: reported more than was lost"
    assert harness.stream.ordering.confirmed == harness.model.last_offset
