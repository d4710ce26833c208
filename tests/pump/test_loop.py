"""The pump thread from inbox to a subscriber, with everything real but the Manager."""

from __future__ import annotations

import logging
import time
from itertools import pairwise
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import zmq

from mt4pump.journal import Journal, JournalOptions
from mt4pump.mt4.codes import PumpCode
from mt4pump.mt4.layout import USER_RECORD
from mt4pump.pump.heartbeat import AGREEMENTS
from mt4pump.pump.session import Command, ManagerSession, SessionStatus
from mt4pump.pump.snapshot import SnapshotRequest, StateSnapshot
from tests.bus import LIMIT_S, until
from tests.fake_manager import FakeManager, failed, lost
from tests.pump.works import BIDASK, EPOCH, START, STOP, TRADES, Works, held_in_a_read, quote, trade

HEARTBEAT_KEYS = {
    *("state", "since", "server", "version", "protocol", "uptime_s", "counts", "dropped", "inbox", "reconnects"),
    *("last_callback_ts", "last_quote_ts", "subscriptions", "server_utc_offset_s", "rss_bytes"),
    *("epoch", "seq", "ts"),
}


def test_a_heartbeat_has_every_key_and_says_how_things_are(works: Works) -> None:
    works.attach()
    works.manager.quotes.append(quote())
    works.inbox.notify(BIDASK, 0, b"")
    works.next("quote.EURUSD")
    body = works.publish(lambda body: body["counts"].get("quote"))
    assert body.keys() >= HEARTBEAT_KEYS
    assert (body["state"], body["server"], body["since"], body["reconnects"]) == ("pumping", "one:443", 5, 2)
    assert body["counts"]["quote"] == body["counts"]["session"] == 1
    assert body["last_quote_ts"] == body["last_callback_ts"] > 10**18
    assert (body["subscriptions"], body["dropped"], body["epoch"]) == (1, 0, EPOCH)
    assert body["rss_bytes"] > 10**6
    assert body["source"] == {"pinned_threads": 1}
    assert body["server_utc_offset_s"] is None
    assert body["uptime_s"] >= 0


def test_heartbeats_go_on_in_silence_and_are_numbered_without_a_gap(works: Works) -> None:
    works.begin()
    numbers = [works.publish()["seq"] for _ in range(5)]
    assert all(after == before + 1 for before, after in pairwise(numbers))
    until(lambda: works.anchored >= 3, "the clock was anchored")


def test_its_turns_are_counted_also_while_nothing_comes(works: Works) -> None:
    works.begin()
    turns = works.pump.iterations
    until(lambda: works.pump.iterations > turns + 1, "the pump turned")


def test_the_last_heartbeat_says_stopping_and_nothing_follows_it(works: Works) -> None:
    works.attach()
    works.finish()
    last = works.next("heartbeat", lambda message: message.body["state"] == "stopping")
    assert last.body["counts"]["session"] == 1
    assert not works.socket.poll(50)


def test_what_was_told_before_the_end_is_published_before_it(works: Works) -> None:
    works.attach()
    for order in range(700):  # more than one wake-up takes
        works.inbox.notify(TRADES, 0, trade(order))
    works.finish()
    works.publish(lambda body: body["state"] == "stopping")
    assert len([message for message in works.heard if message.topic == "trade.100"]) == 700


def test_every_change_of_state_is_a_heartbeat_at_once(own: zmq.Context[zmq.Socket[bytes]]) -> None:
    works = Works(own, heartbeat_interval_s=LIMIT_S * 100)
    works.begin()
    works.status = SessionStatus("lost", 9, "one:443", "STOP_PUMPING", 3)
    works.inbox.put_command(Command.STATE_CHANGED, None)
    body = works.publish(lambda body: body["state"] == "lost")
    assert (body["reason"], body["reconnects"]) == ("STOP_PUMPING", 3)
    works.finish()


def test_a_flood_of_records_holds_up_neither_the_heartbeat_nor_the_numbers(works: Works) -> None:
    works.attach()
    for order in range(900):
        works.inbox.notify(TRADES, 0, trade(order))
    works.next("trade.100", lambda message: message.body["order"] == 899)
    numbers = [message.body["seq"] for message in works.heard if message.topic == "trade.100"]
    assert numbers == list(range(1, 901))


def test_quotes_beyond_one_drain_follow_without_another_doorbell(works: Works) -> None:
    works.attach()
    works.manager.quotes.extend(quote() for _ in range(5_000))
    works.inbox.notify(BIDASK, 0, b"")
    works.next("quote.EURUSD", lambda message: message.body["seq"] == 5_000)
    assert [message.body["seq"] for message in works.heard if message.topic == "quote.EURUSD"] == list(range(1, 5_001))


def test_a_trade_behind_a_flood_of_quotes_does_not_wait_for_all_of_them(works: Works) -> None:
    works.attach()
    works.manager.quotes.extend(quote() for _ in range(20_000))
    both_wait = works.manager.holds["updated_quotes"] = Event()
    works.inbox.notify(BIDASK, 0, b"")
    works.inbox.notify(TRADES, 0, trade(1))
    both_wait.set()
    works.next("quote.EURUSD", lambda message: message.body["seq"] == 20_000)
    topics = [message.topic for message in works.heard]
    assert topics.index("trade.100") < len(topics) / 2


def test_a_new_subscriber_gets_quotes_of_a_symbol_that_nobody_wanted_before(
    own: zmq.Context[zmq.Socket[bytes]],
) -> None:
    works = Works(own)
    works.socket.setsockopt(zmq.UNSUBSCRIBE, b"")
    for prefix in (b"session.", b"heartbeat"):
        works.socket.setsockopt(zmq.SUBSCRIBE, prefix)
    works.attach()
    works.manager.quotes.append(quote())
    works.inbox.notify(BIDASK, 0, b"")
    works.publish(lambda body: body["counts"].get("quote") == 1)
    works.socket.setsockopt(zmq.SUBSCRIBE, b"quote.EUR")
    works.publish(lambda body: body["subscriptions"] == 3)
    works.manager.quotes.append(quote())
    works.inbox.notify(BIDASK, 0, b"")
    assert works.next("quote.EURUSD").body["seq"] == 2  # the unheard one counts
    works.finish()


def test_after_a_heartbeat_all_subscriptions_are_known_that_came_before_it(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who hears his first heartbeat takes it for proof that his other subscriptions work, too."""
    lots = [True, True, False]

    def look() -> bool:
        works.publisher.has_more = lots.pop(0)
        return False

    monkeypatch.setattr(works.publisher, "read_subscriptions", look)
    works.pump._publish_heartbeat()
    assert lots == []
    monkeypatch.undo()
    works.begin()


def test_the_servers_distance_from_utc_is_learnt_from_quotes(works: Works) -> None:
    works.attach()
    for second in range(AGREEMENTS + 2):
        now_s = works.inbox.now_ns() // 10**9
        works.manager.quotes.append(quote(lasttime=now_s + 7200 + second))
        works.inbox.notify(BIDASK, 0, b"")
        works.next("quote.EURUSD")
        works.publish()  # comes after the drain: the next quote is seen by itself
    assert works.publish(lambda body: body["server_utc_offset_s"] is not None)["server_utc_offset_s"] == 7200


# What does not fit


def test_records_that_did_not_fit_are_counted_told_and_healed_by_a_reread(works: Works) -> None:
    works.attach()
    count = works.limit + 50
    works.manager.tables["trades"] = b"".join(trade(order) for order in range(count))
    let_go = held_in_a_read(works)
    for order in range(count):
        works.inbox.notify(TRADES, 0, trade(order))
    let_go.set()
    last = works.next("trade.100", lambda message: message.body["order"] == count - 1)
    assert last.body["synthetic"] is True
    body = works.publish(lambda body: body["errors"].get("inbox_full"))
    assert (body["dropped"], body["inbox"]["refused"]) == (50, 50)
    orders = [message.body["order"] for message in works.heard if message.topic == "trade.100"]
    assert sorted(orders) == list(range(count))


def test_an_overflow_before_start_tells_nobody_that_everything_closed(works: Works) -> None:
    works.manager.tables["trades"] = trade(1)
    works.attach()
    works.inbox.put_command(Command.DETACH, (works.link, "lost"))
    second = FakeManager()  # its tables are still empty
    works.inbox.put_command(Command.ATTACH, ManagerSession(second, "two:443", 7))
    works.inbox.refused += 1  # as the initial fill of a big server may have it
    works.publish(lambda body: body["dropped"] == 1)
    works.publish()
    works.publish()
    assert [message for message in works.heard if message.topic.startswith("trade.")] == []


def test_rows_of_every_table_that_come_before_start_are_counted_as_skipped(works: Works) -> None:
    works.begin()
    works.inbox.put_command(Command.ATTACH, works.link)
    works.inbox.notify(PumpCode.UPDATE_USERS, 0, USER_RECORD.pack({"login": 100}))
    works.inbox.notify(TRADES, 0, trade(1))
    works.inbox.notify(START, 0, b"")
    works.next("session.start")
    assert works.publish()["skipped"]["before_start"] == 2


# Faults


@pytest.mark.parametrize(("error", "name"), [(failed("SymbolInfoUpdated"), "read_error"), (lost(), "session_gone")])
def test_a_drain_that_fails_is_counted_by_what_it_was_and_the_next_one_goes_on(
    works: Works, error: Exception, name: str
) -> None:
    works.attach()
    works.manager.quotes.append(quote())
    works.manager.failures["updated_quotes"].append(error)
    works.inbox.notify(BIDASK, 0, b"")
    assert works.publish(lambda body: body["errors"])["errors"] == {name: 1}
    works.inbox.notify(BIDASK, 0, b"")
    works.next("quote.EURUSD")


def test_a_read_that_fails_is_counted_in_the_heartbeat(works: Works) -> None:
    works.attach()
    works.manager.failures["table trades"].append(failed())
    works.inbox.notify(TRADES, 0, b"")
    assert works.publish(lambda body: body["errors"])["errors"] == {"read_error": 1}


def test_a_bad_record_is_counted_and_the_next_one_is_told(works: Works) -> None:
    works.attach()
    works.inbox.notify(TRADES, 0, b"short")
    works.inbox.notify(TRADES, 0, trade(5))
    assert works.next("trade.100").body["order"] == 5
    assert works.publish(lambda body: body["errors"])["errors"] == {"bad_record": 1}


def test_an_error_of_our_own_costs_one_record_and_is_counted(works: Works, monkeypatch: pytest.MonkeyPatch) -> None:
    works.attach()
    apply, once = works.dispatcher.trades.orders.apply, [ZeroDivisionError("a bug")]

    def fail_once(action: int, fields: Any) -> Any:
        if once:
            raise once.pop()
        return apply(action, fields)

    monkeypatch.setattr(works.dispatcher.trades.orders, "apply", fail_once)
    works.inbox.notify(TRADES, 0, trade(1))
    works.inbox.notify(TRADES, 0, trade(2))
    assert works.next("trade.100").body["order"] == 2
    assert works.publish(lambda body: body["errors"])["errors"] == {"internal_error": 1}


def test_an_unknown_code_is_passed_on(works: Works) -> None:
    works.attach()
    works.inbox.notify(42, 3, b"")
    assert works.next("unknown.42").body["action"] == 3


@pytest.mark.parametrize("code", [-1, -4, -(2**31)])
def test_a_negative_code_from_the_api_is_no_word_of_the_daemons(works: Works, code: int) -> None:
    works.attach()
    works.inbox.notify(code, 0, b"")
    works.inbox.notify(TRADES, 0, trade(5))
    assert works.next("trade.100").body["order"] == 5
    assert works.pump.is_alive()
    assert works.publish(lambda body: body["errors"])["errors"] == {"unknown_code": 1}


def test_a_stop_storm_is_one_stop(works: Works) -> None:
    works.attach()
    for _ in range(500):
        works.inbox.notify(STOP, 0, b"")
    works.inbox.put_command(Command.DETACH, (works.link, "lost"))
    works.publish(lambda body: not body["inbox"]["waiting"] and body["counts"].get("session", 0) > 1)
    works.publish()
    assert [message.topic for message in works.heard if message.topic == "session.stop"] == ["session.stop"]


def test_a_crash_of_the_thread_is_kept_logged_and_closes_the_socket(
    own: zmq.Context[zmq.Socket[bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    works = Works(own)
    works.writer.flush = None  # type: ignore[assignment, method-assign]
    works.pump.start()
    works.pump.join(LIMIT_S)
    assert isinstance(works.pump.crash, TypeError)
    assert works.publisher._socket.closed
    assert "the pump thread crashed" in caplog.messages


# The log


def test_the_summary_is_one_line_with_what_was_published_since_the_last(
    own: zmq.Context[zmq.Socket[bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    works = Works(own, log_summary_interval_s=0.02)
    works.attach()
    works.inbox.notify(TRADES, 0, trade(5))
    works.next("trade.100")

    def summaries() -> list[str]:
        return [text for text in caplog.messages if text.startswith("published in 0.02 s: ")]

    until(lambda: any("trade=1" in text for text in summaries()), "a summary with the trade")
    told = len(summaries())
    until(lambda: len(summaries()) > told + 1, "a summary of silence")
    assert "nothing; inbox waiting=0 refused=0" in summaries()[-1]
    assert "".join(summaries()).count("trade=1") == 1
    works.finish()


def test_no_line_is_logged_per_event(works: Works, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    works.attach()
    for order in range(500):
        works.inbox.notify(TRADES, 0, trade(order))
    works.next("trade.100", lambda message: message.body["order"] == 499)
    assert len(caplog.messages) < 5


# Cuts and reconciling


def cut_of(works: Works, *prefixes: bytes) -> StateSnapshot:
    request = SnapshotRequest(prefixes)
    works.inbox.put_command(Command.SNAPSHOT, request)
    made = request.wait(LIMIT_S)
    assert made is not None
    return made


def test_a_cut_holds_all_that_was_taken_before_it_and_its_numbers(works: Works) -> None:
    works.attach()
    works.manager.quotes.extend([quote(bid=1.1), quote(bid=1.15), quote("GBPUSD")])
    works.inbox.notify(BIDASK, 0, b"")
    for order in (1, 2):
        works.inbox.notify(TRADES, 0, trade(order))
    works.inbox.notify(TRADES, 1, trade(1, login=100))  # ended again
    cut = cut_of(works)
    rows = {(row.topic, dict(row.packed).get("order")) for row in cut.rows}  # type: ignore[arg-type]
    assert rows == {(b"quote.EURUSD", None), (b"quote.GBPUSD", None), (b"trade.100", 2), (b"session.start", None)}
    assert {topic: seq for topic, seq in cut.seqs.items() if topic != b"heartbeat"} == {
        b"quote.EURUSD": 2,
        b"quote.GBPUSD": 1,
        b"trade.100": 3,
        b"session.start": 1,
    }
    assert (cut.epoch, cut.log, cut.offset) == (EPOCH, None, 0)


def test_the_numbers_of_a_snapshot_stay_when_more_events_come(works: Works) -> None:
    works.attach()
    works.inbox.notify(TRADES, 0, trade(1))
    snapshot = cut_of(works)
    works.inbox.notify(TRADES, 0, trade(2))
    assert (snapshot.seqs[b"trade.100"], cut_of(works).seqs[b"trade.100"]) == (1, 2)


def test_a_cut_of_one_kind_leaves_the_others_out(works: Works) -> None:
    works.attach()
    works.manager.quotes.append(quote())
    works.inbox.notify(BIDASK, 0, b"")
    works.inbox.notify(TRADES, 0, trade(1))
    cut = cut_of(works, b"trade.1")
    assert ([row.topic for row in cut.rows], set(cut.seqs)) == ([b"trade.100"], {b"trade.100"})


def test_tables_are_compared_now_and_then_without_being_told(own: zmq.Context[zmq.Socket[bytes]]) -> None:
    works = Works(own, reconcile_interval_s=0.02)
    works.attach()
    works.publish()  # comes after the tables were read at START
    works.manager.tables["trades"] = trade(5)
    assert works.next("trade.100").body["synthetic"] is True
    works.finish()


def test_a_durable_event_is_in_the_journal_and_the_heartbeat_says_how_far_it_is(
    own: zmq.Context[zmq.Socket[bytes]], tmp_path: Path
) -> None:
    path = tmp_path / "journal.sqlite3"
    works = Works(own, journal=Journal(path, JournalOptions(), time.time_ns))
    works.attach()
    works.inbox.notify(TRADES, 0, trade(1))
    assert works.next("trade.100").body["offset"] == 2  # after session.start
    body = works.publish(lambda body: body["offset"] == 2)
    assert (body["durable"], body["offsets"]) == (True, {"session": 1, "trade": 2})
    assert body["log"]
    works.finish()
    again = Journal(path, JournalOptions(), time.time_ns)
    assert (again.last_offset, set(again.open_orders())) == (2, {1})
    again.close()
