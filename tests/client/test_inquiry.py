"""When the query endpoint is silent, refuses, or comes late: nothing waits for ever, and every loss is told."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mt4pump.client.event import Event
from mt4pump.client.ordering import StreamOptions
from mt4pump.client.position import Position
from tests.client.desk import Desk
from tests.client.ledger import Ledger


def stored(*topics: str) -> Ledger:
    """Return a ledger in whose journal these came first."""
    ledger = Ledger()
    for topic in topics:
        ledger.event(topic)
    return ledger


def half_seconds(desk: Desk, count: int, *, refused: str, code: str) -> None:
    """Let time pass, with a heartbeat and a quote each half second; the op ``refused`` fails with ``code``."""
    desk.answering = False
    for _ in range(count):
        desk.now_s += 0.49
        desk.take(desk.ledger.beat(), desk.ledger.event("quote.EURUSD"))
        while (ask := desk.ask()) is not None:
            if ask.op == refused:
                desk.refuse(code)
            else:
                desk.answer()
        desk.collect()


def test_events_that_could_not_be_stored_and_come_after_the_next_life_are_not_told_as_lost() -> None:
    desk = Desk().live()
    desk.answering = False
    desk.take(desk.ledger.event("trade.1"))
    desk.ledger.restart()
    desk.ledger.stored = False
    first, second = desk.ledger.event("trade.1"), desk.ledger.event("trade.1")
    desk.take(first, second, second)  # wait; the journal knows nothing of them
    desk.ledger.restart()
    desk.ledger.stored = True
    desk.ledger.event("trade.1")
    desk.answering = True
    desk.wait(1)
    assert desk.events("trade.1") == [("trade.1", seq) for seq in (1, 1, 1, 2)]
    assert desk.offsets() == [1, 2]
    assert desk.notices("lost") == []


def test_what_is_not_stored_and_of_an_older_life_than_the_snapshot_does_not_come_after_it() -> None:
    ledger = stored("trade.1")
    ledger.stored = False
    ledger.event("session.ping")
    ledger.page_limit = 2
    desk = Desk("*", ledger=ledger, resume=Position("log-1", 0))
    desk.answering = False
    desk.take(ledger.beat())
    for _ in range(3):  # what is it, what was missed, and the first page of the snapshot, which knows the ping
        desk.answer()
    assert desk.ask().fields["cursor"]
    desk.take(ledger.event("session.ping"))
    ledger.restart()
    desk.take(ledger.beat())
    desk.answering = True
    desk.wait(1)
    desk.take(ledger.event("session.ping"))
    desk.take(ledger.beat())
    assert desk.events("session.") == [("session.ping", 1)]
    assert desk.offsets() == [1]
    assert desk.stream.counts["before_join"] == 1


@pytest.mark.parametrize("is_asked_already", [False, True])
def test_what_a_life_of_the_daemon_lost_at_its_end_comes_before_the_next_life(*, is_asked_already: bool) -> None:
    desk = Desk().live()
    desk.answering = False
    desk.take(desk.ledger.event("trade.1"))
    desk.ledger.restart()
    desk.take(desk.ledger.event("trade.1"))  # waits, and the journal is asked for all up to it
    desk.ledger.event("trade.1")
    desk.ledger.restart()
    if not is_asked_already:
        desk.refuse("journal_error")
    desk.take(desk.ledger.event("quote.A"))  # the next life shows itself before anything of it has to wait
    desk.take(desk.ledger.event("trade.1"))
    desk.answering = True
    desk.wait(1)
    assert desk.events("trade.1") == [("trade.1", seq) for seq in (1, 1, 2, 1)]
    assert desk.offsets() == [1, 2, 3, 4]
    assert desk.notices("lost") == []


@pytest.mark.parametrize("code", ["journal_error", "internal_error", "timeout"])
@pytest.mark.parametrize(("position", "refused"), [(Position("log-1", 2), "replay"), (None, "snapshot")])
def test_a_join_of_which_one_step_fails_for_good_is_given_up_after_its_time(
    position: Position | None, refused: str, code: str
) -> None:
    desk = Desk(ledger=stored(*["trade.1"] * 5), resume=position, options=StreamOptions(heal_timeout_s=30))
    half_seconds(desk, 200, refused=refused, code=code)
    assert desk.stream.recovery.steps.joined
    assert desk.stream.counts["before_join"] <= 65
    assert len(desk.events()) >= 135  # quotes flow, also while the join is tried again
    assert not desk.stream.ordering.held
    assert len(desk.notices("query_failed")) == 1
    assert desk.stream.counts["query_failures"] < 12  # each try waits longer than the one before


def test_pages_that_came_count_as_an_answer() -> None:
    desk = Desk(ledger=stored(*["trade.1"] * 40), resume=Position("log-1", 0), options=StreamOptions(heal_timeout_s=3))
    desk.ledger.page_limit = 1
    desk.answering = False
    desk.take(desk.ledger.beat())
    for _ in range(30):  # a page, and a failure in the next one: much longer than 3 s on the whole
        while (ask := desk.ask()) is not None and (
            ask.op != "replay" or desk.stream.ordering.confirmed == len(desk.offsets())
        ):
            desk.answer()
            desk.collect()
            if ask.op == "replay":
                break
        desk.refuse("journal_error")
        desk.wait(0.6)
    assert desk.offsets() == list(range(1, 31))
    assert not desk.stream.recovery.steps.joined
    assert desk.notices("not_whole") == []


def test_topics_added_in_vain_hold_nothing_up_after_their_time() -> None:
    desk = Desk("quote.*", options=StreamOptions(heal_timeout_s=5)).live()
    desk.stream.add_topics(["trade.*"])
    half_seconds(desk, 100, refused="snapshot", code="journal_error")
    assert len(desk.events("quote")) == 100
    assert not desk.stream.ordering.held


def test_an_endpoint_that_went_silent_holds_up_nothing_when_a_late_join_is_tried() -> None:
    desk = Desk()
    desk.answering = False
    desk.take(desk.ledger.beat())
    desk.refuse("timeout")
    desk.wait(60)
    desk.take(desk.ledger.beat())
    assert desk.ask().op == "describe"  # and no answer yet
    desk.take(desk.ledger.event("quote.EURUSD"))
    assert desk.events() == [("quote.EURUSD", 1)]


def test_a_reader_that_starts_long_before_the_daemon_resumes_in_order() -> None:
    desk = Desk("trade.*", ledger=stored(*["trade.1"] * 10, *["trade.2"] * 3), resume=Position("log-1", 5))
    for _ in range(3):
        desk.wait(31)
    desk.ledger.restart()
    desk.stream.set_connected(desk.now_s)
    desk.take(desk.ledger.event("trade.1"))  # before the first heartbeat
    desk.live_items()
    assert desk.offsets() == list(range(6, 15))
    assert desk.stream.counts["lost"] == 0
    assert desk.notices("query_failed", "not_whole") == []


def test_what_came_after_giving_up_waits_for_the_late_join_when_the_daemon_comes_back() -> None:
    desk = Desk("trade.*", ledger=stored(*["trade.1"] * 10), resume=Position("log-1", 5))
    desk.answering = False
    desk.take(desk.ledger.beat())
    desk.refuse("forbidden")
    assert desk.stream.recovery.steps.joined
    desk.ledger.restart()
    desk.stream.set_disconnected()
    desk.stream.set_connected(desk.now_s)
    desk.answering = True
    desk.take(desk.ledger.event("trade.1"))
    desk.live_items()
    assert desk.offsets() == list(range(6, 12))


def test_what_a_late_join_finds_overtaken_is_told_as_lost() -> None:
    desk = Desk("trade.*", ledger=stored(*["trade.1"] * 10, *["trade.2"] * 3), resume=Position("log-1", 5))
    desk.answering = False
    desk.take(desk.ledger.beat())
    desk.refuse("forbidden")
    desk.take(desk.ledger.event("trade.1"))
    desk.answering = True
    desk.wait(60)
    desk.live_items()
    assert desk.offsets() == [14, 11, 12, 13]
    assert desk.notices("lost") == [("lost", "trade.1", 5)]


def test_a_late_join_takes_up_what_the_position_had_ahead() -> None:
    desk = Desk("trade.*", ledger=stored("trade.1", "trade.2", "trade.1"), resume=Position("log-1", 1, {"trade.1": 3}))
    desk.answering = False
    desk.take(desk.ledger.beat())
    desk.refuse("forbidden")
    desk.answering = True
    desk.wait(60)
    desk.live_items()
    assert desk.offsets() == [2]
    assert desk.stream.counts["lost"] == 0


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_late_join_confirms_nothing_that_is_still_on_its_way(*, is_lost: bool) -> None:
    desk = Desk("trade.*")
    desk.answering = False
    desk.take(desk.ledger.beat())
    desk.refuse("timeout")  # goes live without its snapshot
    desk.take(desk.ledger.event("trade.1"))
    desk.wait(60)
    desk.take(desk.ledger.beat())
    late = [desk.ledger.event("trade.1"), desk.ledger.event("trade.1")]  # before the snapshot, and not read yet
    desk.answering = True
    desk.pump()
    assert desk.stream.ordering.based
    assert desk.tracker.position(with_current=True) == Position("log-1", 1, {})
    desk.take(*late[is_lost:])
    assert desk.offsets() == [1, 2, 3]
    assert desk.stream.counts["lost"] == 0
    desk.live()
    assert desk.tracker.position(with_current=True) == Position("log-1", 3, {})


@pytest.mark.parametrize("how", ["the join is repeated", "the endpoint is given up"])
def test_where_a_journal_lost_its_end_what_a_position_had_ahead_is_forgotten_for_good(how: str) -> None:
    """Offsets are used again: what comes under them is new."""
    ledger = stored(*["trade.7"] * 3)
    desk = Desk(ledger=ledger, resume=Position("log-1", 10, {"trade.7": 12}), options=StreamOptions(heal_timeout_s=3))
    desk.answering = False
    desk.take(ledger.beat())
    if how == "the join is repeated":
        desk.answer()  # describe; the next step fails, and all begins anew
        desk.refuse()
        desk.answering = True
        desk.wait(5.0)
    else:
        for _ in range(8):
            desk.take(ledger.beat())
            if desk.ask() is not None:
                desk.refuse()
            desk.wait(1.0)
    assert desk.stream.recovery.steps.joined
    before = len(desk.offsets())
    desk.take(ledger.event("trade.7"), ledger.event("trade.7"))
    assert desk.offsets()[before:] == [4, 5]


def test_what_is_stored_between_two_tries_of_a_join_is_new_where_the_journal_had_lost_its_end() -> None:
    ledger = stored(*["trade.7"] * 3)
    desk = Desk(ledger=ledger, resume=Position("log-1", 10, {"trade.7": 12}))
    desk.answering = False
    desk.take(ledger.beat())
    desk.answer()  # describe; the next step fails, and all begins anew
    desk.refuse()
    ledger.event("trade.7")
    desk.answering = True
    desk.wait(5.0)
    assert desk.offsets() == [4]


def test_after_a_resume_all_is_handed_over_that_comes_while_the_cut_is_on_its_way_and_later() -> None:
    desk = Desk(ledger=stored("trade.1"), resume=Position("log-1", 0))
    desk.answering = False
    desk.take(desk.ledger.beat())
    while desk.ask().op != "snapshot":
        desk.answer()
    cut = desk.replied()
    desk.take(desk.ledger.event("quote.EURUSD"), desk.ledger.event("trade.2"))
    desk.hand_in(cut)
    desk.answering = True
    desk.take(desk.ledger.event("quote.GBPUSD"), desk.ledger.beat())
    assert desk.events() == [("trade.1", 1), ("quote.EURUSD", 1), ("trade.2", 1), ("quote.GBPUSD", 1)]
    assert desk.notices("lost") == []


def test_every_failure_is_counted_and_told_once() -> None:
    desk = Desk().live()
    desk.answering = False
    desk.ledger.event("trade.1")
    desk.take(desk.ledger.event("trade.1"))
    for _ in range(3):
        desk.refuse("busy")
        desk.wait(5.0)
    assert desk.stream.counts["query_failures"] == 3
    assert desk.notices("query_failed") == [("query_failed", "", 0)]


@pytest.mark.parametrize("options", [StreamOptions(heal=False), StreamOptions(query=False, snapshot=False)], ids=str)
def test_without_healing_the_position_follows_clean_heartbeats(options: StreamOptions) -> None:
    desk = Desk(ledger=stored("trade.1"), options=options)
    for number in range(20):
        desk.take(desk.ledger.event(f"news.{number}"), desk.ledger.beat())
    assert desk.stream.ordering.confirmed == desk.ledger.last_offset
    desk.ledger.turned_away += 1
    desk.take(desk.ledger.event("trade.1"), desk.ledger.beat())
    assert desk.stream.ordering.confirmed == desk.ledger.last_offset - 1
    desk.take(desk.ledger.beat())
    assert desk.stream.ordering.confirmed == desk.ledger.last_offset


def test_a_journal_that_opens_late_costs_a_running_reader_nothing() -> None:
    desk = Desk("trade.*").live()
    desk.take(desk.ledger.event("trade.1"), desk.ledger.beat())
    for topic in ("trade.1", "trade.2", "trade.3"):
        desk.ledger.event(topic)  # published, and lost when the daemon died
    desk.ledger.restart(opened=False)
    desk.stream.set_disconnected()
    desk.stream.set_connected(desk.now_s)
    desk.live_items()
    assert desk.tracker.position(with_current=True) == Position("log-1", 1, {})
    desk.take(desk.ledger.event("trade.1"))
    assert desk.events()[-1] == ("trade.1", 1)  # not stored: it waits for nothing
    desk.ledger.opened = True
    desk.take(desk.ledger.event("trade.1"))  # stored, and the heartbeat before it was lost
    assert desk.offsets() == [1]
    desk.live_items()
    assert desk.offsets() == [1, 2, 3, 4, 5]
    assert desk.stream.counts["lost"] == 0
    assert desk.tracker.position(with_current=True) == Position("log-1", 5, {})


def test_a_position_is_kept_until_a_journal_that_opens_late_can_be_asked() -> None:
    ledger = stored(*["trade.1"] * 10)
    ledger.restart(opened=False)
    desk = Desk("trade.*", ledger=ledger, resume=Position("log-1", 5, {"trade.1": 7}))
    desk.live_items()
    assert not desk.tracker.is_known  # nothing goes over the stored position
    assert desk.notices("not_whole") == []
    ledger.opened = True
    desk.live_items()
    assert desk.offsets() == [8, 9, 10]
    assert desk.tracker.position(with_current=True) == Position("log-1", 10, {})


def test_a_resume_does_not_wait_for_ever_for_a_journal_to_open() -> None:
    ledger = stored(*["trade.1"] * 10)
    ledger.restart(opened=False)
    desk = Desk("*", ledger=ledger, resume=Position("log-1", 5), options=StreamOptions(heal_timeout_s=10))
    for _ in range(30):
        desk.wait(0.5)
        desk.take(ledger.beat())
    desk.take(ledger.event("quote.EURUSD"), ledger.event("trade.1"))
    assert desk.events() == [("quote.EURUSD", 1), ("trade.1", 1)]
    ledger.opened = True
    desk.take(ledger.event("trade.1"))
    desk.live_items()
    assert desk.offsets() == list(range(6, 12))
    assert desk.stream.counts["lost"] == 0


def test_a_plain_reader_does_not_wait_for_a_journal_to_open_and_has_a_position_afterwards() -> None:
    ledger = stored(*["trade.1"] * 3)
    ledger.restart(opened=False)
    desk = Desk("trade.*", ledger=ledger)
    desk.live_items()
    desk.take(ledger.event("trade.1"))
    assert desk.events() == [("trade.1", 1)]
    assert not desk.tracker.is_known
    ledger.opened = True
    desk.live_items()
    desk.take(ledger.event("trade.1"), ledger.beat())
    assert desk.offsets() == [4]
    assert desk.tracker.position(with_current=True) == Position("log-1", 4, {})


STEPS = ("trade.1", "trade.2", "beat", "restart", "late", "open", "reconnect", "answer", "forbidden", "journal_error")


def play(desk: Desk, step: str, *, lost: bool) -> None:
    if step in {"restart", "late"}:
        desk.ledger.restart(opened=step == "restart")
    elif step == "open":
        desk.ledger.opened = True
    elif step == "reconnect":
        desk.stream.set_disconnected()
        desk.stream.set_connected(desk.now_s)
    elif step == "answer":
        if desk.ask() is not None:
            desk.answer()
            desk.collect()
    elif step in {"forbidden", "journal_error"}:
        if desk.ask() is not None:
            desk.refuse(step)
    else:
        message = desk.ledger.beat() if step == "beat" else desk.ledger.event(step)
        if not lost:
            desk.take(message)
        elif step != "beat":
            desk.ledger.turned_away += 1


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(STEPS), st.booleans()), max_size=50), st.integers(1, 4), st.integers(0, 3))
def test_also_after_giving_up_each_stored_event_of_a_position_comes_once_or_is_told(
    script: list[tuple[str, bool]], page: int, confirmed: int
) -> None:
    desk = Desk("trade.*", ledger=stored("trade.1", "trade.2", "trade.1"), resume=Position("log-1", confirmed))
    desk.ledger.page_limit = page
    desk.answering = False
    for step, lost in script:
        play(desk, step, lost=lost)
    desk.answering = desk.ledger.opened = True
    for _ in range(6):
        desk.wait(31)
        desk.ledger.turned_away += 1
        desk.take(desk.ledger.beat())
    wanted = [(body["offset"], topic) for topic, body in desk.ledger.published if body.get("offset", 0) > confirmed]
    came = desk.offsets()
    assert len(came) == len(set(came)), "none twice"
    told = Counter[str]()
    for _, topic, count in desk.notices("lost"):
        told[topic] += count
    for topic in ("trade.1", "trade.2"):
        mine = [item.offset for item in desk.items if isinstance(item, Event) and item.topic == topic and item.offset]
        assert mine == sorted(mine), f"{topic} in order"
        missing = [offset for offset, of in wanted if of == topic and offset not in came]
        assert len(missing) <= told[topic], f"{topic}: {missing} never came, {told[topic]} told"
        sent = [body for of, body in desk.ledger.published if of == topic and body.get("offset", 99_999) > confirmed]
        assert len(desk.events_of(topic)) + told[topic] <= len(sent), f"{topic}: told more than was lost"
    assert desk.stream.ordering.confirmed == desk.ledger.last_offset
