"""Last values: kept row by row, gone when they end, taken anew from a snapshot."""

from __future__ import annotations

from mt4pump_consumers.gateway.last_values import LastValues

from mt4pump.client import Event
from tests.consumers.gateway.stream_made import event, snapshot, trade


def orders(last: LastValues, topic: str = "trade.7") -> list[object]:
    return [row.body["order"] for row in last.rows(topic)]


def kept(*events: Event, since_limit: int = 100) -> LastValues:
    last = LastValues(since_limit=since_limit)
    for one in events:
        last.keep(one)
    return last


def test_an_order_goes_when_it_ends_and_money_is_no_order() -> None:
    last = kept(
        trade(1, 1), trade(2, 2), trade(3, 3, "balance"), event("activation.7", 1, order=1), trade(1, 4, "closed")
    )
    assert orders(last) == [2]
    assert "activation.7" not in last


def test_a_late_record_of_an_order_that_has_ended_does_not_open_it() -> None:
    last = kept(trade(1, 1), trade(1, 2, "closed"), event("activation.7", 1, order=1))
    last.keep(trade(1, 3, "modified", ended=True))
    assert (orders(last), last.topics()) == ([], [])


def test_rows_beyond_the_limit_are_counted_and_not_kept() -> None:
    last = LastValues(rows_limit=1)
    last.keep(trade(1, 1))
    last.keep(trade(2, 2))
    assert (orders(last), last.unkept, len(last)) == ([1], 1, 1)


def test_what_a_cut_does_not_hold_has_ended_quotes_aside() -> None:
    last = kept(event("quote.EURUSD", 9, bid=1.1), trade(1, 1), trade(2, 2), trade(5, 1, login=8))
    last.await_snapshot()
    assert last.renew(snapshot(("trade.7", 2), trade_7=3))
    assert orders(last) == [2]
    assert last.topics() == ["quote.EURUSD", "trade.7"]
    assert len(last) == 2


def test_what_is_in_the_cut_and_comes_late_brings_nothing_back() -> None:
    last = kept()
    last.await_snapshot()
    last.renew(snapshot(("trade.7", 2), trade_7=3, trade_8=4))
    for late in (trade(1, 1), trade(9, 4, login=8), trade(4, 900, epoch=0)):
        last.keep(late)
    assert orders(last) == [2]
    assert "trade.8" not in last
    last.keep(trade(6, 4))
    last.keep(trade(7, 1, epoch=2))
    assert orders(last) == [2, 6, 7]


def test_what_comes_between_the_question_and_the_cut_counts_as_far_as_it_is_newer() -> None:
    last = kept(trade(1, 1))
    last.await_snapshot()
    for one in (trade(2, 2), trade(1, 3, "closed"), trade(3, 4), trade(2, 5, "closed")):
        last.keep(one)
    assert last.renew(snapshot(("trade.7", 1), ("trade.7", 2), trade_7=2))
    assert orders(last) == [3]


def test_without_a_cut_or_with_too_much_meanwhile_all_stays_as_it_is() -> None:
    last = kept(trade(1, 1), since_limit=1)
    last.await_snapshot()
    assert not last.renew(None)
    last.await_snapshot()
    for seq in (2, 3, 4):
        last.keep(trade(seq, seq))
    assert not last.renew(snapshot(trade_7=1))
    assert orders(last) == [1, 2, 3, 4]


def test_a_quote_of_a_cut_counts_only_if_it_is_newer() -> None:
    last = kept(event("quote.EURUSD", 9), event("quote.GBPUSD", 2))
    last.await_snapshot()
    found = snapshot(quote_EURUSD=8, quote_GBPUSD=3, quote_USDJPY=1)
    found.events.extend([event("quote.EURUSD", 8), event("quote.GBPUSD", 3), event("quote.USDJPY", 1)])
    last.renew(found)
    assert [row.seq for topic in last.topics() for row in last.rows(topic)] == [9, 3, 1]


def test_a_quote_of_a_run_before_is_replaced_whichever_epoch_is_larger() -> None:
    for before in (1, 3):  # a later run has a smaller one after a folder was deleted and a clock set right
        last = kept(event("quote.EURUSD", 9, epoch=before))
        last.await_snapshot()
        found = snapshot(epoch=2, quote_EURUSD=1)
        found.events.append(event("quote.EURUSD", 1, epoch=2))
        last.renew(found)
        assert [(row.epoch, row.seq) for row in last.rows("quote.EURUSD")] == [(2, 1)]


def test_the_first_event_of_a_topic_that_the_cut_does_not_know_is_news() -> None:
    last = kept()
    last.await_snapshot()
    last.renew(snapshot(("trade.7", 2), trade_7=3))
    last.keep(trade(8, 1, login=8))
    assert orders(last, "trade.8") == [8]


def test_of_the_session_the_last_start_or_stop_is_the_value() -> None:
    last = kept(event("session.start", 1), event("session.stop", 1), event("session.ping", 1))
    assert (last.topics(), len(last)) == (["session.stop"], 1)
    last.keep(event("session.start", 2))
    assert (last.topics(), len(last)) == (["session.start"], 1)
