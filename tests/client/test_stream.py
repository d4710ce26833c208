"""The pure core: what is missing is recovered or reported, and a join, a restart and another journal cost nothing."""

from __future__ import annotations

import msgpack
import pytest

from mt4pump.client.ordering import StreamOptions
from mt4pump.client.position import Position
from mt4pump.client.recovery import RETRY_S
from tests.client.daemon_model import DaemonModel, daemon_with
from tests.client.harness import Harness


def test_a_gap_of_a_durable_topic_is_filled_from_the_journal_before_the_next_event() -> None:
    harness = Harness().live()
    first, _lost, third = (harness.model.event("trade.1") for _ in range(3))
    harness.receive(first, third)
    assert harness.events() == [("trade.1", 1), ("trade.1", 2), ("trade.1", 3)]
    assert harness.notices() == [("gap", "trade.1", 1), ("healed", "", 2)]


def test_each_time_events_came_out_of_the_journal_their_number_is_reported() -> None:
    harness = Harness().live()
    for _ in range(2):
        harness.model.event("trade.1")
        harness.receive(harness.model.event("trade.1"))
    assert harness.notices("healed") == [("healed", "", 2)] * 2


def test_events_wait_while_the_journal_is_asked_and_quotes_do_not() -> None:
    harness = Harness().live()
    harness.answering = False
    harness.model.event("trade.1")
    harness.receive(harness.model.event("trade.1"), harness.model.event("trade.2"), harness.model.event("quote.EURUSD"))
    assert harness.events() == [("quote.EURUSD", 1)]
    harness.answering = True
    harness.answer_all()
    assert harness.events("trade") == [("trade.1", 1), ("trade.1", 2), ("trade.2", 1)]


@pytest.mark.parametrize("shown_by", ["another slow subscriber", "a lost heartbeat"])
def test_a_loss_after_which_nothing_comes_is_found_by_the_next_heartbeat(shown_by: str) -> None:
    harness = Harness().live()
    harness.model.event("trade.1")
    if shown_by == "a lost heartbeat":
        harness.model.heartbeat()
    else:
        harness.model.dropped += 1
    harness.receive(harness.model.heartbeat())
    assert harness.events() == [("trade.1", 1)]


def test_a_clean_heartbeat_confirms_without_asking() -> None:
    harness = Harness().live()
    asked = harness.stream.recovery.number
    harness.receive(harness.model.event("trade.1"), harness.model.heartbeat())
    assert harness.stream.ordering.confirmed == 1
    assert harness.stream.recovery.number == asked
    assert harness.tracker.position(with_current=True) == Position("log-1", 1, {})


@pytest.mark.parametrize(("received", "lost"), [([1, 4, 5], 2), ([2], 1)])
def test_lost_quotes_are_reported_with_their_number_also_before_the_first(received: list[int], lost: int) -> None:
    harness = Harness().live()
    quotes = [harness.model.event("quote.EURUSD") for _ in range(max(received))]
    harness.receive(*(quotes[number - 1] for number in received))
    assert harness.notices() == [("lost", "quote.EURUSD", lost)]


def test_quotes_lost_after_the_last_one_that_came_are_reported_and_the_cache_is_refreshed() -> None:
    harness = Harness().live()
    harness.receive(harness.model.event("quote.EURUSD", bid=1.0))
    harness.model.event("quote.EURUSD", bid=2.0)
    harness.model.dropped += 1
    harness.receive(harness.model.heartbeat())
    assert harness.notices("lost") == []  # it might still be on its way
    harness.receive(harness.model.heartbeat())
    assert harness.notices("lost") == [("lost", "quote.EURUSD", 1)]
    assert harness.stream.ordering.quotes["EURUSD"].bid == 2.0
    harness.receive(harness.model.event("quote.EURUSD", bid=3.0))
    assert harness.stream.counts["lost"] == 1


@pytest.mark.parametrize("code", ["timeout", "busy"])
def test_a_search_for_lost_quotes_that_failed_is_repeated_though_all_heartbeats_are_clean(code: str) -> None:
    harness = Harness().live()
    harness.receive(harness.model.event("quote.EURUSD"))
    harness.model.event("quote.EURUSD")
    harness.model.dropped += 1
    harness.answering = False
    harness.receive(harness.model.heartbeat())
    harness.refuse(code)
    harness.answering = True
    harness.wait(RETRY_S)
    harness.receive(harness.model.heartbeat())
    harness.receive(harness.model.heartbeat())
    assert harness.notices("lost") == [("lost", "quote.EURUSD", 1)]
    asked = harness.stream.recovery.number
    harness.receive(harness.model.heartbeat())
    assert harness.stream.recovery.number == asked


def test_what_the_journal_has_not_is_reported_as_lost() -> None:
    harness = Harness().live()
    for _ in range(3):
        harness.model.event("trade.1")
    harness.model.delete_up_to(2)
    harness.receive(harness.model.event("trade.1"))
    assert harness.events() == [("trade.1", 3), ("trade.1", 4)]
    assert harness.notices("lost", "not_whole") == [("not_whole", "", 0), ("lost", "trade.1", 2)]


def test_events_that_could_not_be_stored_are_reported_as_lost_and_nothing_hangs() -> None:
    harness = Harness().live()
    harness.model.stored = False
    harness.model.event("trade.1")
    harness.receive(harness.model.event("trade.1"), harness.model.event("trade.1"))
    assert harness.events() == [("trade.1", 2), ("trade.1", 3)]
    assert harness.notices("lost") == [("lost", "trade.1", 1)]


def test_the_end_of_the_old_epoch_comes_before_the_new_one() -> None:
    harness = Harness().live()
    harness.model.event("trade.1")
    harness.model.restart()
    harness.receive(harness.model.event("trade.1"), harness.model.heartbeat())
    assert harness.offsets() == [1, 2]
    assert ("restarted", "", 0) in harness.notices()


def test_a_new_journal_is_reported_and_replayed_from_its_start() -> None:
    harness = Harness().live()
    harness.receive(harness.model.event("trade.1"), harness.model.heartbeat())
    harness.model.restart(log="log-2")
    harness.model.event("trade.2")
    harness.receive(harness.model.heartbeat())
    assert harness.notices("not_whole") == [("not_whole", "", 0)]
    assert harness.events() == [("trade.1", 1), ("trade.2", 1)]
    assert harness.tracker.position(with_current=True) == Position("log-2", 1, {})


def test_without_an_answer_events_wait_a_while_and_then_the_loss_is_reported() -> None:
    harness = Harness(options=StreamOptions(heal_timeout_s=2)).live()
    harness.answering = False
    harness.model.event("trade.1")
    harness.receive(harness.model.event("trade.1"))
    for _ in range(10):
        if harness.ask() is not None:
            harness.refuse()
        harness.wait(0.5)
    assert harness.events() == [("trade.1", 2)]
    assert harness.notices("query_failed", "lost") == [("query_failed", "", 0), ("lost", "trade.1", 1)]


def test_after_giving_up_the_journal_is_asked_again_when_it_answers() -> None:
    harness = Harness(options=StreamOptions(heal_timeout_s=1)).live()
    harness.answering = False
    harness.model.event("trade.1")
    harness.receive(harness.model.event("trade.1"))
    harness.refuse("forbidden")
    harness.answering = True
    harness.wait(60)
    harness.receive(harness.model.heartbeat())
    harness.model.event("trade.1")
    harness.receive(harness.model.event("trade.1"))
    assert harness.events() == [("trade.1", 2), ("trade.1", 3), ("trade.1", 4)]


def test_a_start_without_an_answer_goes_live_and_gets_its_snapshot_later() -> None:
    harness = Harness()
    harness.answering = False
    harness.model.event("quote.EURUSD", bid=1.0)
    harness.receive(harness.model.heartbeat())
    harness.receive(harness.model.event("trade.1"))
    assert harness.events() == []
    harness.refuse("timeout")
    assert harness.events() == [("trade.1", 1)]
    harness.answering = True
    harness.wait(60)
    harness.receive(harness.model.heartbeat())
    assert harness.stream.ordering.quotes["EURUSD"].snapshot
    assert harness.stream.ordering.has_snapshot


def test_a_join_hands_over_no_event_that_its_snapshot_contains() -> None:
    harness = Harness()
    harness.answering = False
    harness.receive(harness.model.event("quote.EURUSD", bid=1.0), harness.model.heartbeat())
    harness.answer()  # describe
    harness.receive(harness.model.event("quote.EURUSD", bid=2.0), harness.model.event("trade.1"))
    harness.answer()  # the snapshot
    harness.receive(harness.model.event("quote.EURUSD", bid=3.0), harness.model.event("trade.1"))
    harness.answering = True
    harness.answer_all()
    harness.receive(harness.model.heartbeat())
    assert harness.quotes() == [(2.0, True), (3.0, False)]
    assert harness.offsets() == [2]


def test_a_position_is_resumed_after_what_was_handed_over_before() -> None:
    model = daemon_with("trade.1", "trade.2", "trade.1", "trade.2", "trade.1")
    harness = Harness(model=model, resume=Position("log-1", 2, {"trade.2": 4}))
    harness.go_live()
    assert harness.offsets() == [3, 5]


def test_a_position_of_another_journal_is_reported_and_everything_comes() -> None:
    harness = Harness(model=daemon_with("trade.1"), resume=Position("gone", 77, {"trade.1": 80}))
    harness.go_live()
    assert harness.offsets() == [1]
    assert harness.notices("not_whole") == [("not_whole", "", 0)]


def test_keys_that_may_not_ask_for_quotes_still_have_their_trades_healed() -> None:
    harness = Harness().live()
    harness.answering = False
    harness.model.dropped += 1
    harness.receive(harness.model.heartbeat())
    harness.refuse("forbidden")  # the request for lost quotes
    harness.answering = True
    harness.model.event("trade.1")
    harness.receive(harness.model.event("trade.1"))
    assert harness.events() == [("trade.1", 1), ("trade.1", 2)]
    assert harness.notices("query_failed") == []


def test_when_too_many_events_wait_no_more_are_to_be_read() -> None:
    harness = Harness(options=StreamOptions(hold_limit=3)).live()
    harness.answering = False
    harness.model.event("trade.1")
    for _ in range(3):
        assert not harness.stream.is_full
        harness.receive(harness.model.event("trade.1"))
    assert harness.stream.is_full
    harness.answering = True
    harness.answer_all()
    assert not harness.stream.is_full
    assert [seq for _, seq in harness.events()] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("stored", "is_heartbeat_first", "topics", "offsets"),
    [
        pytest.param(4, True, ["trade.1"], [3], id="a heartbeat shows it"),
        pytest.param(4, False, ["trade.2"] * 5, [3, 4, 5, 6, 7], id="the first event shows it"),
        pytest.param(3, False, ["trade.1"], [3], id="the event is on the very offset where the journal ended"),
    ],
)
def test_a_journal_that_lost_its_end_is_reported_and_the_offsets_used_again_come(
    *, stored: int, is_heartbeat_first: bool, topics: list[str], offsets: list[int]
) -> None:
    harness = Harness().live()
    harness.receive(*(harness.model.event("trade.1") for _ in range(stored)), harness.model.heartbeat())
    harness.model.lose_end(2)
    if is_heartbeat_first:
        harness.receive(harness.model.heartbeat())
    harness.receive(*map(harness.model.event, topics), harness.model.heartbeat())
    assert harness.offsets() == [*range(1, stored + 1), *offsets]
    assert harness.notices("not_whole") == [("not_whole", "", 0)]


def test_a_heartbeat_from_before_the_join_is_no_journal_that_lost_its_end() -> None:
    harness = Harness()
    old = [harness.model.heartbeat(), harness.model.event("trade.1"), harness.model.heartbeat()]
    for _ in range(3):
        harness.model.event("trade.1")
    harness.receive(old[0])
    harness.receive(*old[1:], harness.model.heartbeat())
    harness.receive(harness.model.event("trade.1"), harness.model.heartbeat())
    assert harness.offsets() == [5]
    assert harness.notices("not_whole", "lost", "gap") == []


@pytest.mark.parametrize("suffix", ["", "|"])
def test_a_prefix_brings_no_other_topic_and_the_suffix_is_learnt_and_taken_off(suffix: str) -> None:
    harness = Harness("trade.100", model=DaemonModel(suffix=suffix)).live()
    harness.receive(harness.model.event("trade.1001"), harness.model.event("trade.100"))
    assert harness.events() == [("trade.100", 1)]
    assert harness.stream.ordering.subscriptions.subscriptions() == {f"trade.100{suffix}".encode()}


def test_added_topics_begin_with_their_last_values() -> None:
    harness = Harness("trade.*").live()
    harness.model.event("quote.EURUSD", bid=1.0)
    harness.stream.add_topics(["quote.*"])
    harness.receive(harness.model.event("quote.EURUSD", bid=2.0))
    harness.receive(harness.model.heartbeat())
    harness.receive(harness.model.event("quote.EURUSD", bid=3.0))
    assert harness.quotes() == [(2.0, True), (3.0, False)]
    assert harness.stream.counts["lost"] == 0


def test_a_topic_met_before_it_was_wanted_begins_with_its_last_value() -> None:
    harness = Harness("quote.EURUSD")
    harness.model.event("quote.EURUSDm", bid=1.0)  # the prefix brings it, too
    harness.live()
    harness.receive(harness.model.event("quote.EURUSDm", bid=2.0))
    harness.stream.add_topics(["quote.EURUSDm"])
    harness.receive(harness.model.heartbeat())
    harness.receive(harness.model.event("quote.EURUSDm", bid=3.0))
    assert harness.quotes() == [(2.0, True), (3.0, False)]
    assert harness.stream.counts["lost"] == 0


@pytest.mark.parametrize(("topic", "lost"), [("trade.1", []), ("quote.E", [("lost", "quote.E", 1)])])
def test_to_add_a_pattern_hides_no_loss_of_a_topic_that_runs(topic: str, lost: list[tuple[str, str, int]]) -> None:
    harness = Harness(topic).live()
    harness.receive(harness.model.event(topic))
    harness.model.event(topic)
    harness.stream.add_topics([f"{topic.partition('.')[0]}.*"])
    harness.receive(harness.model.heartbeat())
    harness.receive(harness.model.event(topic), harness.model.heartbeat())
    assert harness.notices("lost") == lost
    assert len(harness.events(topic)) + len(lost) == 3


def test_topics_that_were_added_stay_to_be_subscribed_when_others_are_removed_in_vain() -> None:
    harness = Harness("trade.*").live()
    harness.stream.changed_subscriptions()  # as the reader does when it has subscribed
    harness.stream.add_topics(["quote.EURUSD"])
    harness.stream.remove_topics(["never.asked"])
    assert harness.stream.changed_subscriptions()


def test_to_remove_one_of_two_topics_just_added_leaves_the_other_its_last_value() -> None:
    harness = Harness("trade.*").live()
    harness.model.event("quote.EURUSD", bid=1.0)
    harness.stream.add_topics(["quote.EURUSD", "margin.1"])
    harness.stream.remove_topics(["margin.1"])
    harness.receive(harness.model.heartbeat())
    assert harness.quotes() == [(1.0, True)]


def test_the_last_quote_is_the_one_that_came_last() -> None:
    harness = Harness().live()
    for bid in (1.0, 2.0, 3.0):
        harness.receive(harness.model.event("quote.EURUSD", bid=bid))
        assert harness.stream.ordering.quotes["EURUSD"].bid == bid


def test_every_message_and_every_event_handed_over_is_counted() -> None:
    harness = Harness("trade.*").live()
    before = harness.stream.counts.copy()
    harness.receive(*(harness.model.event("trade.1") for _ in range(3)), harness.model.event("quote.EURUSD"))
    assert {name: harness.stream.counts[name] - before[name] for name in ("received", "delivered", "unwanted")} == {
        "received": 4,
        "delivered": 3,
        "unwanted": 1,
    }


@pytest.mark.parametrize(
    "junk",
    [b"", b"\xc1", b"\x93\x01\x02\x03", b"\x81\xa5epoch\x01", b"x" * 10, msgpack.packb({"epoch": 1, "seq": None})],
)
def test_what_is_not_of_this_protocol_is_counted(junk: bytes) -> None:
    harness = Harness().live()
    harness.receive((b"trade.1", junk), harness.model.event("trade.1"))
    assert harness.stream.counts["decode_errors"] == 1
    assert harness.events() == [("trade.1", 1)]
