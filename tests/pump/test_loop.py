"""The pump thread from inbox to a subscriber, with everything real but the Manager.

Private access: the publishing of one heartbeat, because the test takes the place of the thread, and the socket,
because nothing else shows that it was closed.
"""

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
from mt4pump.pump import loop
from mt4pump.pump.heartbeat import AGREEMENTS
from mt4pump.pump.loop import READS_AFTER_HEARTBEAT
from mt4pump.pump.session import Command, ManagerSession, SessionStatus
from mt4pump.pump.snapshot import SnapshotRequest, StateSnapshot
from tests.bus import LIMIT_S, until
from tests.fake_manager import FakeManager, failed, lost
from tests.pump.running import BIDASK, EPOCH, START, STOP, TRADES, RunningPump, held_in_a_read, quote, trade

HEARTBEAT_KEYS = {
    *("state", "since", "server", "version", "protocol", "uptime_s", "counts", "dropped", "inbox", "reconnects"),
    *("last_callback_ts", "last_quote_ts", "subscriptions", "server_utc_offset_s", "rss_bytes"),
    *("epoch", "seq", "ts"),
}


def test_a_heartbeat_has_every_key_and_says_how_things_are(running: RunningPump) -> None:
    running.attach()
    running.manager.quotes.append(quote())
    running.inbox.notify(BIDASK, 0, b"")
    running.next("quote.EURUSD")
    body = running.next_heartbeat(lambda body: body["counts"].get("quote"))
    assert body.keys() >= HEARTBEAT_KEYS
    assert (body["state"], body["server"], body["since"], body["reconnects"]) == ("pumping", "one:443", 5, 2)
    assert body["counts"]["quote"] == body["counts"]["session"] == 1
    assert body["last_quote_ts"] == body["last_callback_ts"] > 10**18
    assert (body["subscriptions"], body["dropped"], body["epoch"]) == (1, 0, EPOCH)
    assert body["rss_bytes"] > 10**6
    assert body["source"] == {"pinned_threads": 1}
    assert body["server_utc_offset_s"] is None
    assert body["uptime_s"] >= 0


def test_a_long_quiet_delays_no_heartbeat_and_no_record(running: RunningPump, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "QUIET_AFTER_S", 0.0)
    monkeypatch.setattr(loop, "QUIET_WAIT_S", 10 * LIMIT_S)
    running.attach()
    for _ in range(3):
        running.next("heartbeat")
    running.manager.quotes.append(quote())
    running.inbox.notify(BIDASK, 0, b"")
    assert running.next("quote.EURUSD")


def test_heartbeats_go_on_in_silence_and_are_numbered_without_a_gap(running: RunningPump) -> None:
    running.begin()
    numbers = [running.next_heartbeat()["seq"] for _ in range(5)]
    assert all(after == before + 1 for before, after in pairwise(numbers))
    until(lambda: running.anchored >= 3, "the clock was anchored")


def test_its_iterations_are_counted_also_while_nothing_comes(running: RunningPump) -> None:
    running.begin()
    before = running.pump.iterations
    until(lambda: running.pump.iterations > before + 1, "more iterations")


def test_the_last_heartbeat_says_stopping_and_nothing_follows_it(running: RunningPump) -> None:
    running.attach()
    running.finish()
    last = running.next("heartbeat", lambda message: message.body["state"] == "stopping")
    assert last.body["counts"]["session"] == 1
    assert not running.socket.poll(50)


def test_what_was_published_before_the_end_is_published_before_it(running: RunningPump) -> None:
    running.attach()
    for order in range(700):  # more than one wake-up takes
        running.inbox.notify(TRADES, 0, trade(order))
    running.finish()
    running.next_heartbeat(lambda body: body["state"] == "stopping")
    assert len([message for message in running.received if message.topic == "trade.100"]) == 700


def test_a_flood_of_subscriptions_does_not_delay_the_end(running: RunningPump, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []

    def read_some() -> bool:
        reads.append(1)
        running.publisher.has_more = True
        return False

    with monkeypatch.context() as patch:
        patch.setattr(running.publisher, "read_subscriptions", read_some)
        running.pump._publish_heartbeat()  # noqa: SLF001
        assert len(reads) == READS_AFTER_HEARTBEAT
        running.pump.finish(LIMIT_S)
        running.pump._publish_heartbeat()  # noqa: SLF001
        assert len(reads) == READS_AFTER_HEARTBEAT + 1
    running.pump.run()  # on this thread: it was never started


def test_every_change_of_state_is_a_heartbeat_at_once(own: zmq.Context[zmq.Socket[bytes]]) -> None:
    running = RunningPump(own, heartbeat_interval_s=LIMIT_S * 100)
    running.begin()
    running.status = SessionStatus("lost", 9, "one:443", "STOP_PUMPING", 3)
    running.inbox.put_command(Command.STATE_CHANGED, None)
    body = running.next_heartbeat(lambda body: body["state"] == "lost")
    assert (body["reason"], body["reconnects"]) == ("STOP_PUMPING", 3)
    running.finish()


def test_a_flood_of_records_holds_up_neither_the_heartbeat_nor_the_numbers(running: RunningPump) -> None:
    running.attach()
    for order in range(900):
        running.inbox.notify(TRADES, 0, trade(order))
    running.next("trade.100", lambda message: message.body["order"] == 899)
    numbers = [message.body["seq"] for message in running.received if message.topic == "trade.100"]
    assert numbers == list(range(1, 901))


def test_quotes_beyond_one_drain_follow_without_another_doorbell(running: RunningPump) -> None:
    running.attach()
    running.manager.quotes.extend(quote() for _ in range(5_000))
    running.inbox.notify(BIDASK, 0, b"")
    running.next("quote.EURUSD", lambda message: message.body["seq"] == 5_000)
    assert [message.body["seq"] for message in running.received if message.topic == "quote.EURUSD"] == list(
        range(1, 5_001)
    )


def test_a_trade_behind_a_flood_of_quotes_does_not_wait_for_all_of_them(running: RunningPump) -> None:
    running.attach()
    running.manager.quotes.extend(quote() for _ in range(20_000))
    both_wait = running.manager.holds["updated_quotes"] = Event()
    running.inbox.notify(BIDASK, 0, b"")
    running.inbox.notify(TRADES, 0, trade(1))
    both_wait.set()
    running.next("quote.EURUSD", lambda message: message.body["seq"] == 20_000)
    topics = [message.topic for message in running.received]
    assert topics.index("trade.100") < len(topics) / 2


def test_a_new_subscriber_gets_quotes_of_a_symbol_that_nobody_wanted_before(
    own: zmq.Context[zmq.Socket[bytes]],
) -> None:
    running = RunningPump(own)
    running.socket.setsockopt(zmq.UNSUBSCRIBE, b"")
    for prefix in (b"session.", b"heartbeat"):
        running.socket.setsockopt(zmq.SUBSCRIBE, prefix)
    running.attach()
    running.manager.quotes.append(quote())
    running.inbox.notify(BIDASK, 0, b"")
    running.next_heartbeat(lambda body: body["counts"].get("quote") == 1)
    running.socket.setsockopt(zmq.SUBSCRIBE, b"quote.EUR")
    running.next_heartbeat(lambda body: body["subscriptions"] == 3)
    running.manager.quotes.append(quote())
    running.inbox.notify(BIDASK, 0, b"")
    assert running.next("quote.EURUSD").body["seq"] == 2  # the one that nobody received counts
    running.finish()


def test_after_a_heartbeat_all_subscriptions_are_known_that_came_before_it(
    running: RunningPump, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who receives his first heartbeat takes it for proof that his other subscriptions work, too."""
    lots = [True, True, False]

    def look() -> bool:
        running.publisher.has_more = lots.pop(0)
        return False

    monkeypatch.setattr(running.publisher, "read_subscriptions", look)
    running.pump._publish_heartbeat()  # noqa: SLF001
    assert lots == []
    monkeypatch.undo()
    running.begin()


def test_the_servers_distance_from_utc_is_learnt_from_quotes(running: RunningPump) -> None:
    running.attach()
    for second in range(AGREEMENTS + 2):
        now_s = running.inbox.now_ns() // 10**9
        running.manager.quotes.append(quote(lasttime=now_s + 7200 + second))
        running.inbox.notify(BIDASK, 0, b"")
        running.next("quote.EURUSD")
        running.next_heartbeat()  # comes after the drain: the next quote is seen by itself
    assert running.next_heartbeat(lambda body: body["server_utc_offset_s"] is not None)["server_utc_offset_s"] == 7200


# What does not fit


def test_records_that_did_not_fit_are_counted_and_published_after_a_reread(running: RunningPump) -> None:
    running.attach()
    count = running.limit + 50
    running.manager.tables["trades"] = b"".join(trade(order) for order in range(count))
    let_go = held_in_a_read(running)
    for order in range(count):
        running.inbox.notify(TRADES, 0, trade(order))
    let_go.set()
    last = running.next("trade.100", lambda message: message.body["order"] == count - 1)
    assert last.body["synthetic"] is True
    body = running.next_heartbeat(lambda body: body["errors"].get("inbox_full"))
    assert (body["dropped"], body["inbox"]["refused"]) == (50, 50)
    orders = [message.body["order"] for message in running.received if message.topic == "trade.100"]
    assert sorted(orders) == list(range(count))


def test_an_overflow_before_start_publishes_no_order_as_closed(running: RunningPump) -> None:
    running.manager.tables["trades"] = trade(1)
    running.attach()
    running.inbox.put_command(Command.DETACH, (running.session, "lost"))
    second = FakeManager()  # its tables are still empty
    running.inbox.put_command(Command.ATTACH, ManagerSession(second, "two:443", 7))
    running.inbox.refused += 1  # as the initial fill of a big server may have it
    running.next_heartbeat(lambda body: body["dropped"] == 1)
    running.next_heartbeat()
    running.next_heartbeat()
    assert [message for message in running.received if message.topic.startswith("trade.")] == []


def test_rows_of_every_table_that_come_before_start_are_counted_as_skipped(running: RunningPump) -> None:
    running.begin()
    running.inbox.put_command(Command.ATTACH, running.session)
    running.inbox.notify(PumpCode.UPDATE_USERS, 0, USER_RECORD.pack({"login": 100}))
    running.inbox.notify(TRADES, 0, trade(1))
    running.inbox.notify(START, 0, b"")
    running.next("session.start")
    assert running.next_heartbeat()["skipped"]["before_start"] == 2


# Faults


@pytest.mark.parametrize(("error", "name"), [(failed("SymbolInfoUpdated"), "read_error"), (lost(), "session_gone")])
def test_a_drain_that_fails_is_counted_by_what_it_was_and_the_next_one_goes_on(
    running: RunningPump, error: Exception, name: str
) -> None:
    running.attach()
    running.manager.quotes.append(quote())
    running.manager.failures["updated_quotes"].append(error)
    running.inbox.notify(BIDASK, 0, b"")
    assert running.next_heartbeat(lambda body: body["errors"])["errors"] == {name: 1}
    running.inbox.notify(BIDASK, 0, b"")
    running.next("quote.EURUSD")


def test_a_read_that_fails_is_counted_in_the_heartbeat(running: RunningPump) -> None:
    running.attach()
    running.manager.failures["table trades"].append(failed())
    running.inbox.notify(TRADES, 0, b"")
    assert running.next_heartbeat(lambda body: body["errors"])["errors"] == {"read_error": 1}


def test_a_bad_record_is_counted_and_the_next_one_is_published(running: RunningPump) -> None:
    running.attach()
    running.inbox.notify(TRADES, 0, b"short")
    running.inbox.notify(TRADES, 0, trade(5))
    assert running.next("trade.100").body["order"] == 5
    assert running.next_heartbeat(lambda body: body["errors"])["errors"] == {"bad_record": 1}


def test_an_error_of_our_own_costs_one_record_is_counted_and_logged_with_its_traceback(
    running: RunningPump, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    running.attach()
    apply, once = running.dispatcher.trades.orders.apply, [ZeroDivisionError("a bug")]

    def fail_once(action: int, fields: Any) -> Any:
        if once:
            raise once.pop()
        return apply(action, fields)

    monkeypatch.setattr(running.dispatcher.trades.orders, "apply", fail_once)
    running.inbox.notify(TRADES, 0, trade(1))
    running.inbox.notify(TRADES, 0, trade(2))
    assert running.next("trade.100").body["order"] == 2
    assert running.next_heartbeat(lambda body: body["errors"])["errors"] == {"internal_error": 1}
    (line,) = [record for record in caplog.records if "a bug" in record.getMessage()]
    assert line.exc_info is not None
    assert line.exc_info[0] is ZeroDivisionError


@pytest.mark.parametrize("code", [-1, -4, -(2**31)])
def test_a_negative_code_from_the_api_is_no_command(running: RunningPump, code: int) -> None:
    running.attach()
    running.inbox.notify(code, 0, b"")
    running.inbox.notify(TRADES, 0, trade(5))
    assert running.next("trade.100").body["order"] == 5
    assert running.pump.is_alive()
    assert running.next_heartbeat(lambda body: body["errors"])["errors"] == {"unknown_code": 1}


def test_a_stop_storm_is_one_stop(running: RunningPump) -> None:
    running.attach()
    for _ in range(500):
        running.inbox.notify(STOP, 0, b"")
    running.inbox.put_command(Command.DETACH, (running.session, "lost"))
    running.next_heartbeat(lambda body: not body["inbox"]["waiting"] and body["counts"].get("session", 0) > 1)
    running.next_heartbeat()
    assert [message.topic for message in running.received if message.topic == "session.stop"] == ["session.stop"]


def test_a_crash_of_the_thread_is_kept_logged_and_closes_the_socket(
    own: zmq.Context[zmq.Socket[bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    running = RunningPump(own)
    running.writer.flush = None  # type: ignore[assignment, method-assign]
    running.pump.start()
    running.pump.join(LIMIT_S)
    assert isinstance(running.pump.crash, TypeError)
    assert running.publisher._socket.closed  # noqa: SLF001
    assert "the pump thread crashed" in caplog.messages


# The log


def test_the_summary_is_one_line_with_what_was_published_since_the_last(
    own: zmq.Context[zmq.Socket[bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    running = RunningPump(own, log_summary_interval_s=0.02)
    running.attach()
    running.inbox.notify(TRADES, 0, trade(5))
    running.next("trade.100")

    def summaries() -> list[str]:
        return [text for text in caplog.messages if text.startswith("published in 0.02 s: ")]

    until(lambda: any("trade=1" in text for text in summaries()), "a summary with the trade")
    events = len(summaries())
    until(lambda: len(summaries()) > events + 1, "a summary of silence")
    assert "nothing; inbox waiting=0 refused=0" in summaries()[-1]
    assert "".join(summaries()).count("trade=1") == 1
    running.finish()


def test_no_line_is_logged_per_event(running: RunningPump, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    running.attach()
    for order in range(500):
        running.inbox.notify(TRADES, 0, trade(order))
    running.next("trade.100", lambda message: message.body["order"] == 499)
    assert len(caplog.messages) < 5


# Snapshots and reconciling


def snapshot_of(running: RunningPump, *prefixes: bytes) -> StateSnapshot:
    request = SnapshotRequest(prefixes)
    running.inbox.put_command(Command.SNAPSHOT, request)
    made = request.wait(LIMIT_S)
    assert made is not None
    return made


def test_a_snapshot_holds_all_that_was_taken_before_it_and_its_numbers(running: RunningPump) -> None:
    running.attach()
    running.manager.quotes.extend([quote(bid=1.1), quote(bid=1.15), quote("GBPUSD")])
    running.inbox.notify(BIDASK, 0, b"")
    for order in (1, 2):
        running.inbox.notify(TRADES, 0, trade(order))
    running.inbox.notify(TRADES, 1, trade(1, login=100))  # ended again
    state = snapshot_of(running)
    rows = {(row.topic, dict(row.packed).get("order")) for row in state.rows}  # type: ignore[arg-type]
    assert rows == {(b"quote.EURUSD", None), (b"quote.GBPUSD", None), (b"trade.100", 2), (b"session.start", None)}
    assert {topic: seq for topic, seq in state.seqs.items() if topic != b"heartbeat"} == {
        b"quote.EURUSD": 2,
        b"quote.GBPUSD": 1,
        b"trade.100": 3,
        b"session.start": 1,
    }
    assert (state.epoch, state.log, state.offset) == (EPOCH, None, 0)


def test_the_numbers_of_a_snapshot_stay_when_more_events_come(running: RunningPump) -> None:
    running.attach()
    running.inbox.notify(TRADES, 0, trade(1))
    snapshot = snapshot_of(running)
    running.inbox.notify(TRADES, 0, trade(2))
    assert (snapshot.seqs[b"trade.100"], snapshot_of(running).seqs[b"trade.100"]) == (1, 2)


def test_a_snapshot_of_one_kind_leaves_the_others_out(running: RunningPump) -> None:
    running.attach()
    running.manager.quotes.append(quote())
    running.inbox.notify(BIDASK, 0, b"")
    running.inbox.notify(TRADES, 0, trade(1))
    state = snapshot_of(running, b"trade.1")
    assert ([row.topic for row in state.rows], set(state.seqs)) == ([b"trade.100"], {b"trade.100"})


def test_tables_are_compared_now_and_then_without_being_published(own: zmq.Context[zmq.Socket[bytes]]) -> None:
    running = RunningPump(own, reconcile_interval_s=0.02)
    running.attach()
    running.next_heartbeat()  # comes after the tables were read at START
    running.manager.tables["trades"] = trade(5)
    assert running.next("trade.100").body["synthetic"] is True
    running.finish()


def test_a_durable_event_is_in_the_journal_and_the_heartbeat_says_how_far_it_is(
    own: zmq.Context[zmq.Socket[bytes]], tmp_path: Path
) -> None:
    path = tmp_path / "journal.sqlite3"
    running = RunningPump(own, journal=Journal(path, JournalOptions(), time.time_ns))
    running.attach()
    running.inbox.notify(TRADES, 0, trade(1))
    assert running.next("trade.100").body["offset"] == 2  # after session.start
    body = running.next_heartbeat(lambda body: body["offset"] == 2)
    assert (body["durable"], body["offsets"]) == (True, {"session": 1, "trade": 2})
    assert body["log"]
    running.finish()
    again = Journal(path, JournalOptions(), time.time_ns)
    assert (again.last_offset, set(again.open_orders())) == (2, {1})
    again.close()
