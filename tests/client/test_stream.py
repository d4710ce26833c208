"""The pure core: what is missing is healed or told, and a join, a restart and another journal cost nothing."""

from __future__ import annotations

import msgpack
import pytest

from mt4pump.client.events import Quote
from mt4pump.client.ordering import StreamOptions
from mt4pump.client.position import Position
from mt4pump.client.recovery import RETRY_S
from tests.client.desk import Desk
from tests.client.ledger import Ledger


def test_a_gap_of_a_durable_topic_is_filled_from_the_journal_before_the_next_event() -> None:
    desk = Desk().live()
    first, _lost, third = (desk.ledger.event("trade.1") for _ in range(3))
    desk.take(first, third)
    assert desk.events() == [("trade.1", 1), ("trade.1", 2), ("trade.1", 3)]
    assert desk.notices() == [("gap", "trade.1", 1), ("healed", "", 2)]


def test_each_time_events_came_out_of_the_journal_their_number_is_told() -> None:
    desk = Desk().live()
    for _ in range(2):
        desk.ledger.event("trade.1")
        desk.take(desk.ledger.event("trade.1"))
    assert desk.notices("healed") == [("healed", "", 2)] * 2


def test_events_wait_while_the_journal_is_asked_and_quotes_do_not() -> None:
    desk = Desk().live()
    desk.answering = False
    desk.ledger.event("trade.1")
    desk.take(desk.ledger.event("trade.1"), desk.ledger.event("trade.2"), desk.ledger.event("quote.EURUSD"))
    assert desk.events() == [("quote.EURUSD", 1)]
    desk.answering = True
    desk.pump()
    assert desk.events("trade") == [("trade.1", 1), ("trade.1", 2), ("trade.2", 1)]


def test_a_lost_tail_is_found_by_a_heartbeat_after_another_subscriber_was_slow() -> None:
    desk = Desk().live()
    desk.ledger.event("trade.1")
    desk.ledger.turned_away += 1
    desk.take(desk.ledger.beat())
    assert desk.events() == [("trade.1", 1)]


def test_a_lost_tail_is_found_when_a_heartbeat_is_lost_with_it() -> None:
    desk = Desk().live()
    desk.ledger.event("trade.1")
    desk.ledger.beat()
    desk.take(desk.ledger.beat())
    assert desk.events() == [("trade.1", 1)]


def test_a_clean_heartbeat_confirms_without_asking() -> None:
    desk = Desk().live()
    asked = desk.stream.recovery.number
    desk.take(desk.ledger.event("trade.1"), desk.ledger.beat())
    assert desk.stream.ordering.confirmed == 1
    assert desk.stream.recovery.number == asked
    assert desk.tracker.position(with_current=True) == Position("log-1", 1, {})


def test_lost_quotes_are_told_with_their_number() -> None:
    desk = Desk().live()
    quotes = [desk.ledger.event("quote.EURUSD") for _ in range(5)]
    desk.take(quotes[0], quotes[3], quotes[4])
    assert desk.notices() == [("lost", "quote.EURUSD", 2)]


def test_quotes_lost_before_the_first_one_that_came_are_told() -> None:
    desk = Desk().live()
    desk.ledger.event("quote.EURUSD")
    desk.take(desk.ledger.event("quote.EURUSD"))
    assert desk.notices() == [("lost", "quote.EURUSD", 1)]


def test_a_lost_tail_of_quotes_is_told_and_the_cache_is_refreshed() -> None:
    desk = Desk().live()
    desk.take(desk.ledger.event("quote.EURUSD", bid=1.0))
    desk.ledger.event("quote.EURUSD", bid=2.0)
    desk.ledger.turned_away += 1
    desk.take(desk.ledger.beat())
    assert desk.notices("lost") == []  # it might still be on its way
    desk.take(desk.ledger.beat())
    assert desk.notices("lost") == [("lost", "quote.EURUSD", 1)]
    assert desk.stream.ordering.quotes["EURUSD"].bid == 2.0
    desk.take(desk.ledger.event("quote.EURUSD", bid=3.0))
    assert desk.stream.counts["lost"] == 1


@pytest.mark.parametrize("code", ["timeout", "busy"])
def test_a_look_for_lost_quotes_that_failed_is_taken_again_though_all_heartbeats_are_clean(code: str) -> None:
    desk = Desk().live()
    desk.take(desk.ledger.event("quote.EURUSD"))
    desk.ledger.event("quote.EURUSD")
    desk.ledger.turned_away += 1
    desk.answering = False
    desk.take(desk.ledger.beat())
    desk.refuse(code)
    desk.answering = True
    desk.wait(RETRY_S)
    desk.take(desk.ledger.beat())
    desk.take(desk.ledger.beat())
    assert desk.notices("lost") == [("lost", "quote.EURUSD", 1)]
    asked = desk.stream.recovery.number
    desk.take(desk.ledger.beat())
    assert desk.stream.recovery.number == asked


def test_what_the_journal_has_not_is_told_as_lost() -> None:
    desk = Desk().live()
    for _ in range(3):
        desk.ledger.event("trade.1")
    desk.ledger.delete_up_to(2)
    desk.take(desk.ledger.event("trade.1"))
    assert desk.events() == [("trade.1", 3), ("trade.1", 4)]
    assert desk.notices("lost", "not_whole") == [("not_whole", "", 0), ("lost", "trade.1", 2)]


def test_events_that_could_not_be_stored_are_told_as_lost_and_nothing_hangs() -> None:
    desk = Desk().live()
    desk.ledger.stored = False
    desk.ledger.event("trade.1")
    desk.take(desk.ledger.event("trade.1"), desk.ledger.event("trade.1"))
    assert desk.events() == [("trade.1", 2), ("trade.1", 3)]
    assert desk.notices("lost") == [("lost", "trade.1", 1)]


def test_the_end_of_the_old_epoch_comes_before_the_new_one() -> None:
    desk = Desk().live()
    desk.ledger.event("trade.1")
    desk.ledger.restart()
    desk.take(desk.ledger.event("trade.1"), desk.ledger.beat())
    assert desk.offsets() == [1, 2]
    assert ("restarted", "", 0) in desk.notices()


def test_a_new_journal_is_told_and_replayed_from_its_start() -> None:
    desk = Desk().live()
    desk.take(desk.ledger.event("trade.1"), desk.ledger.beat())
    desk.ledger.restart(log="log-2")
    desk.ledger.event("trade.2")
    desk.take(desk.ledger.beat())
    assert desk.notices("not_whole") == [("not_whole", "", 0)]
    assert desk.events() == [("trade.1", 1), ("trade.2", 1)]
    assert desk.tracker.position(with_current=True) == Position("log-2", 1, {})


def test_without_an_answer_events_wait_a_while_and_then_the_loss_is_told() -> None:
    desk = Desk(options=StreamOptions(heal_timeout_s=2)).live()
    desk.answering = False
    desk.ledger.event("trade.1")
    desk.take(desk.ledger.event("trade.1"))
    for _ in range(10):
        if desk.ask() is not None:
            desk.refuse()
        desk.wait(0.5)
    assert desk.events() == [("trade.1", 2)]
    assert desk.notices("query_failed", "lost") == [("query_failed", "", 0), ("lost", "trade.1", 1)]


def test_after_giving_up_the_journal_is_asked_again_when_it_answers() -> None:
    desk = Desk(options=StreamOptions(heal_timeout_s=1)).live()
    desk.answering = False
    desk.ledger.event("trade.1")
    desk.take(desk.ledger.event("trade.1"))
    desk.refuse("forbidden")
    desk.answering = True
    desk.wait(60)
    desk.take(desk.ledger.beat())
    desk.ledger.event("trade.1")
    desk.take(desk.ledger.event("trade.1"))
    assert desk.events() == [("trade.1", 2), ("trade.1", 3), ("trade.1", 4)]


def test_a_start_without_an_answer_goes_live_and_gets_its_snapshot_later() -> None:
    desk = Desk()
    desk.answering = False
    desk.ledger.event("quote.EURUSD", bid=1.0)
    desk.take(desk.ledger.beat())
    desk.take(desk.ledger.event("trade.1"))
    assert desk.events() == []
    desk.refuse("timeout")
    assert desk.events() == [("trade.1", 1)]
    desk.answering = True
    desk.wait(60)
    desk.take(desk.ledger.beat())
    assert desk.stream.ordering.quotes["EURUSD"].snapshot
    assert desk.stream.ordering.based


def test_a_join_hands_over_no_event_that_its_snapshot_contains() -> None:
    desk = Desk()
    desk.answering = False
    desk.take(desk.ledger.event("quote.EURUSD", bid=1.0), desk.ledger.beat())
    desk.answer()  # describe
    desk.take(desk.ledger.event("quote.EURUSD", bid=2.0), desk.ledger.event("trade.1"))
    desk.answer()  # the cut
    desk.take(desk.ledger.event("quote.EURUSD", bid=3.0), desk.ledger.event("trade.1"))
    desk.answering = True
    desk.pump()
    desk.take(desk.ledger.beat())
    quotes = [(item.bid, item.snapshot) for item in desk.items if isinstance(item, Quote)]
    assert quotes == [(2.0, True), (3.0, False)]
    assert desk.offsets() == [2]


def test_a_position_is_resumed_after_what_was_handed_over_before() -> None:
    ledger = Ledger()
    for login in (1, 2, 1, 2, 1):
        ledger.event(f"trade.{login}")
    desk = Desk(ledger=ledger, resume=Position("log-1", 2, {"trade.2": 4}))
    desk.live_items()
    assert desk.offsets() == [3, 5]


def test_a_position_of_another_journal_is_told_and_everything_comes() -> None:
    ledger = Ledger()
    ledger.event("trade.1")
    desk = Desk(ledger=ledger, resume=Position("gone", 77, {"trade.1": 80}))
    desk.live_items()
    assert desk.offsets() == [1]
    assert desk.notices("not_whole") == [("not_whole", "", 0)]


def test_keys_that_may_not_ask_for_quotes_still_have_their_trades_healed() -> None:
    desk = Desk().live()
    desk.answering = False
    desk.ledger.turned_away += 1
    desk.take(desk.ledger.beat())
    desk.refuse("forbidden")  # the look for lost quotes
    desk.answering = True
    desk.ledger.event("trade.1")
    desk.take(desk.ledger.event("trade.1"))
    assert desk.events() == [("trade.1", 1), ("trade.1", 2)]
    assert desk.notices("query_failed") == []


def test_when_too_many_events_wait_no_more_are_to_be_read() -> None:
    desk = Desk(options=StreamOptions(hold_limit=3)).live()
    desk.answering = False
    desk.ledger.event("trade.1")
    for _ in range(3):
        assert not desk.stream.is_full
        desk.take(desk.ledger.event("trade.1"))
    assert desk.stream.is_full
    desk.answering = True
    desk.pump()
    assert not desk.stream.is_full
    assert [seq for _, seq in desk.events()] == [1, 2, 3, 4]


def test_a_journal_that_lost_its_end_is_told_and_the_offsets_used_again_come() -> None:
    desk = Desk().live()
    desk.take(*(desk.ledger.event("trade.1") for _ in range(4)), desk.ledger.beat())
    desk.ledger.restart()
    desk.ledger.journal, desk.ledger.last_offset = desk.ledger.journal[:2], 2
    desk.take(desk.ledger.beat())
    desk.take(desk.ledger.event("trade.1"), desk.ledger.beat())
    assert desk.offsets() == [1, 2, 3, 4, 3]
    assert desk.notices("not_whole") == [("not_whole", "", 0)]


def test_offsets_used_again_are_seen_by_the_first_event_too() -> None:
    desk = Desk().live()
    desk.take(*(desk.ledger.event("trade.1") for _ in range(4)), desk.ledger.beat())
    desk.ledger.restart()
    desk.ledger.journal, desk.ledger.last_offset = desk.ledger.journal[:2], 2
    desk.take(*(desk.ledger.event("trade.2") for _ in range(5)), desk.ledger.beat())
    assert desk.offsets() == [1, 2, 3, 4, 3, 4, 5, 6, 7]
    assert desk.notices("not_whole") == [("not_whole", "", 0)]


def test_an_event_on_the_very_offset_where_the_old_journal_ended_is_new() -> None:
    desk = Desk().live()
    desk.take(*(desk.ledger.event("trade.1") for _ in range(3)), desk.ledger.beat())
    desk.ledger.restart()
    desk.ledger.journal, desk.ledger.last_offset = desk.ledger.journal[:2], 2
    desk.take(desk.ledger.event("trade.1"), desk.ledger.beat())
    assert desk.offsets() == [1, 2, 3, 3]
    assert desk.notices("not_whole") == [("not_whole", "", 0)]


def test_a_heartbeat_from_before_the_join_is_no_journal_that_lost_its_end() -> None:
    desk = Desk()
    old = [desk.ledger.beat(), desk.ledger.event("trade.1"), desk.ledger.beat()]
    for _ in range(3):
        desk.ledger.event("trade.1")
    desk.take(old[0])
    desk.take(*old[1:], desk.ledger.beat())
    desk.take(desk.ledger.event("trade.1"), desk.ledger.beat())
    assert desk.offsets() == [5]
    assert desk.notices("not_whole", "lost", "gap") == []


def test_a_prefix_brings_no_other_topic() -> None:
    desk = Desk("trade.100").live()
    desk.take(desk.ledger.event("trade.1001"), desk.ledger.event("trade.100"))
    assert desk.events() == [("trade.100", 1)]


def test_the_suffix_is_learnt_and_taken_off() -> None:
    desk = Desk("trade.100", ledger=Ledger(suffix="|")).live()
    desk.take(desk.ledger.event("trade.1001"), desk.ledger.event("trade.100"))
    assert desk.events() == [("trade.100", 1)]
    assert desk.stream.ordering.subscriptions.subscriptions() == {b"trade.100|"}


def test_added_topics_begin_with_their_last_values() -> None:
    desk = Desk("trade.*").live()
    desk.ledger.event("quote.EURUSD", bid=1.0)
    desk.stream.add_topics(["quote.*"])
    desk.take(desk.ledger.event("quote.EURUSD", bid=2.0))
    desk.take(desk.ledger.beat())
    desk.take(desk.ledger.event("quote.EURUSD", bid=3.0))
    quotes = [(item.bid, item.snapshot) for item in desk.items if isinstance(item, Quote)]
    assert quotes == [(2.0, True), (3.0, False)]
    assert desk.stream.counts["lost"] == 0


def test_a_topic_met_before_it_was_wanted_begins_with_its_last_value() -> None:
    desk = Desk("quote.EURUSD")
    desk.ledger.event("quote.EURUSDm", bid=1.0)  # the prefix brings it, too
    desk.live()
    desk.take(desk.ledger.event("quote.EURUSDm", bid=2.0))
    desk.stream.add_topics(["quote.EURUSDm"])
    desk.take(desk.ledger.beat())
    desk.take(desk.ledger.event("quote.EURUSDm", bid=3.0))
    assert [(item.bid, item.snapshot) for item in desk.items if isinstance(item, Quote)] == [(2.0, True), (3.0, False)]
    assert desk.stream.counts["lost"] == 0


@pytest.mark.parametrize(("topic", "lost"), [("trade.1", []), ("quote.E", [("lost", "quote.E", 1)])])
def test_to_add_a_pattern_hides_no_loss_of_a_topic_that_runs(topic: str, lost: list[tuple[str, str, int]]) -> None:
    desk = Desk(topic).live()
    desk.take(desk.ledger.event(topic))
    desk.ledger.event(topic)
    desk.stream.add_topics([f"{topic.partition('.')[0]}.*"])
    desk.take(desk.ledger.beat())
    desk.take(desk.ledger.event(topic), desk.ledger.beat())
    assert desk.notices("lost") == lost
    assert len(desk.events(topic)) + len(lost) == 3


def test_topics_that_were_added_stay_to_be_subscribed_when_others_are_removed_in_vain() -> None:
    desk = Desk("trade.*").live()
    desk.stream.changed_subscriptions()  # as the reader does when it has subscribed
    desk.stream.add_topics(["quote.EURUSD"])
    desk.stream.remove_topics(["never.asked"])
    assert desk.stream.changed_subscriptions()


def test_to_remove_one_of_two_topics_just_added_leaves_the_other_its_last_value() -> None:
    desk = Desk("trade.*").live()
    desk.ledger.event("quote.EURUSD", bid=1.0)
    desk.stream.add_topics(["quote.EURUSD", "margin.1"])
    desk.stream.remove_topics(["margin.1"])
    desk.take(desk.ledger.beat())
    assert [(item.bid, item.snapshot) for item in desk.items if isinstance(item, Quote)] == [(1.0, True)]


def test_the_last_quote_is_the_one_that_came_last() -> None:
    desk = Desk().live()
    for bid in (1.0, 2.0, 3.0):
        desk.take(desk.ledger.event("quote.EURUSD", bid=bid))
        assert desk.stream.ordering.quotes["EURUSD"].bid == bid


def test_every_message_and_every_event_handed_over_is_counted() -> None:
    desk = Desk("trade.*").live()
    before = desk.stream.counts.copy()
    desk.take(*(desk.ledger.event("trade.1") for _ in range(3)), desk.ledger.event("quote.EURUSD"))
    assert {name: desk.stream.counts[name] - before[name] for name in ("received", "delivered", "unwanted")} == {
        "received": 4,
        "delivered": 3,
        "unwanted": 1,
    }


@pytest.mark.parametrize(
    "junk",
    [b"", b"\xc1", b"\x93\x01\x02\x03", b"\x81\xa5epoch\x01", b"x" * 10, msgpack.packb({"epoch": 1, "seq": None})],
)
def test_what_is_not_of_this_protocol_is_counted(junk: bytes) -> None:
    desk = Desk().live()
    desk.take((b"trade.1", junk), desk.ledger.event("trade.1"))
    assert desk.stream.counts["decode_errors"] == 1
    assert desk.events() == [("trade.1", 1)]
