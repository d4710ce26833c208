"""`Subscriber` on real sockets, against a scripted daemon.

Private access: the runner and what waits to be handed over, because `close` must come while items wait, and to ask
for one takes it.
"""

from __future__ import annotations

import itertools
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest

from mt4pump.client import AsyncSubscriber, ClientError, Notice, Position, Query, Quote, Subscriber, Trade
from mt4pump.client.position import PositionFile
from tests.client.daemon_model import DaemonModel
from tests.client.fake_daemon import LIMIT_S, FakeDaemon
from tests.client.reading import anything, live, next_item, subscriber, until


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with FakeDaemon() as running:
        yield running


def trades(count: int) -> list[str]:
    return [f"trade.{number % 3}" for number in range(count)]


def test_events_come_typed_and_in_order(daemon: FakeDaemon) -> None:
    with subscriber(daemon) as sub:
        live(sub)
        daemon.publish("quote.EURUSD", bid=1.1, ask=1.2, spread=10)
        daemon.publish("trade.1001", order=7, login=1001, change="opened")
        quote = next_item(sub, anything)
        assert isinstance(quote, Quote)
        assert (quote.symbol, quote.bid, quote.ask, quote.spread, quote.offset) == ("EURUSD", 1.1, 1.2, 10, None)
        trade = next_item(sub, anything)
        assert isinstance(trade, Trade)
        assert (trade.topic, trade.key, trade.kind, trade.order, trade.change) == (
            "trade.1001",
            "1001",
            "trade",
            7,
            "opened",
        )
        assert (trade.offset, trade.seq, trade.synthetic, trade.healed, trade.snapshot) == (1, 1, False, False, False)
        assert trade.magic is None
        assert sub.quotes["EURUSD"] is quote


def test_last_values_come_first_and_the_stream_joins_without_overlap(daemon: FakeDaemon) -> None:
    daemon.publish("quote.EURUSD", bid=1.0)
    daemon.publish("quote.EURUSD", bid=2.0)
    with subscriber(daemon) as sub:
        assert not sub.is_joined
        first = next_item(sub, anything)
        assert (first.snapshot, first.bid, first.seq) == (True, 2.0, 2)
        daemon.publish("quote.EURUSD", bid=3.0)
        second = next_item(sub, anything)
        assert (second.snapshot, second.bid, second.seq) == (False, 3.0, 3)
        assert sub.is_joined
        assert sub.counts["lost"] == 0


def test_lost_trades_are_healed_and_lost_quotes_are_reported(daemon: FakeDaemon) -> None:
    with subscriber(daemon, notices=True) as sub:
        live(sub)
        daemon.lose("trade.1", "trade.1", "quote.EURUSD")
        daemon.publish("trade.1", "quote.EURUSD")
        items = until(sub, lambda: sub.counts["healed"] >= 2 and sub.counts["lost"] >= 1)
        items += until(sub, lambda: sub.position is not None and sub.position.confirmed == 3)
        events = [item for item in items if isinstance(item, Trade)]
        assert [event.seq for event in events] == [1, 2, 3]
        lost = [(item.topic, item.count) for item in items if isinstance(item, Notice) and item.kind == "lost"]
        assert lost == [("quote.EURUSD", 1)]


def test_a_loss_after_which_nothing_comes_is_found(daemon: FakeDaemon) -> None:
    with subscriber(daemon) as sub:
        live(sub)
        daemon.lose("trade.1", "trade.2")
        found = {next_item(sub, lambda item: isinstance(item, Trade)).topic for _ in range(2)}
        assert found == {"trade.1", "trade.2"}


def test_a_broken_connection_loses_no_trade(daemon: FakeDaemon) -> None:
    with subscriber(daemon) as sub:
        live(sub)
        daemon.publish(*trades(5))
        daemon.disconnect()
        daemon.publish(*trades(50))
        seen: list[int] = []
        while len(seen) < 55:
            seen.append(next_item(sub, lambda item: isinstance(item, Trade)).offset)
        assert sorted(seen) == list(range(1, 56))
        assert sub.counts["reconnects"] >= 1


def test_a_restarted_daemon_loses_no_trade(daemon: FakeDaemon) -> None:
    with subscriber(daemon, notices=True) as sub:
        live(sub)
        daemon.lose("trade.1")
        daemon.restart()
        daemon.publish("trade.1", "trade.2")
        seen = [next_item(sub, lambda item: isinstance(item, Trade)).offset for _ in range(3)]
        assert seen == [1, 2, 3]
        assert sub.counts["restarts"] == 1


def test_a_lost_session_is_no_silence(daemon: FakeDaemon) -> None:
    with subscriber(daemon, notices=True, silence_s=LIMIT_S) as sub:
        live(sub)
        daemon.model.state = "lost"
        notice = next_item(sub, lambda item: isinstance(item, Notice) and item.kind in {"feed_lost", "silent"})
        assert (notice.kind, sub.status.alive, sub.status.state) == ("feed_lost", True, "lost")
        daemon.model.state = "pumping"
        next_item(sub, lambda item: isinstance(item, Notice) and item.kind == "feed_back")


def test_a_mute_daemon_is_silent_until_it_sends_again(daemon: FakeDaemon) -> None:
    with subscriber(daemon, notices=True, silence_s=0.5) as sub:
        live(sub)
        daemon.mute = True
        next_item(sub, lambda item: isinstance(item, Notice) and item.kind == "silent")
        assert not sub.status.alive
        daemon.mute = False
        next_item(sub, lambda item: isinstance(item, Notice) and item.kind == "alive")
        assert sub.status.alive


def test_a_refused_query_is_reported_and_the_stream_goes_on(daemon: FakeDaemon) -> None:
    daemon.refuse = "forbidden"
    with subscriber(daemon, notices=True) as sub:
        notice = next_item(sub, lambda item: isinstance(item, Notice) and item.kind == "query_failed")
        assert notice.code == "forbidden"
        daemon.publish("trade.1")
        assert next_item(sub, lambda item: isinstance(item, Trade)).seq == 1
        assert not sub.is_joined, "events flow, but no snapshot came"
        daemon.refuse = ""
        until(sub, lambda: sub.position is not None)


def test_without_a_query_endpoint_losses_are_reported() -> None:
    with FakeDaemon(query=False) as daemon, subscriber(daemon, notices=True) as sub:
        next_item(sub, lambda item: isinstance(item, Notice) and item.kind == "connected")
        until(sub, lambda: sub.status.epoch)
        daemon.publish("trade.1")
        next_item(sub, lambda item: isinstance(item, Trade))
        daemon.lose("trade.1")
        daemon.publish("trade.1")
        assert next_item(sub, lambda item: isinstance(item, Notice) and item.kind == "lost").count == 1


def test_topics_are_added_and_removed_while_it_runs(daemon: FakeDaemon) -> None:
    with subscriber(daemon, "trade.*") as sub:
        live(sub)
        daemon.publish("quote.EURUSD", bid=1.0)
        sub.add_topics(["quote.EURUSD"])
        assert next_item(sub, lambda item: isinstance(item, Quote)).snapshot
        daemon.publish("quote.EURUSD", bid=2.0)
        assert next_item(sub, lambda item: isinstance(item, Quote)).bid == 2.0
        sub.remove_topics(["quote.EURUSD"])
        sub.receive(0)
        daemon.publish("quote.EURUSD", "trade.1")
        assert isinstance(next_item(sub, anything), Trade)
        assert sub.counts["lost"] == 0


def test_a_receive_without_a_time_waits_also_where_nothing_comes_for_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    sub = Subscriber("tcp://127.0.0.1:5556")
    hours = itertools.count(0, 3_600)
    monkeypatch.setattr("mt4pump.client.subscriber.time", SimpleNamespace(monotonic=lambda: next(hours)))
    waits: list[float] = []

    def run_once(wait_s: float) -> None:
        waits.append(wait_s)
        if len(waits) == 5:
            sub.close()

    monkeypatch.setattr(sub._runner, "run_once", run_once)  # noqa: SLF001
    assert sub.receive() is None
    assert min(waits) > 0


def test_the_suffix_makes_names_exact() -> None:
    with FakeDaemon(DaemonModel(suffix="|")) as daemon, subscriber(daemon, "trade.100") as sub:
        live(sub)
        daemon.publish("trade.1001", "trade.100")
        assert next_item(sub, anything).topic == "trade.100"


def test_a_position_file_resumes_after_what_was_done(daemon: FakeDaemon, tmp_path: Path) -> None:
    path = tmp_path / "position"
    with subscriber(daemon, position_file=path) as sub:
        live(sub)
        daemon.publish(*trades(5))
        for _ in range(3):
            next_item(sub, lambda item: isinstance(item, Trade))
        sub.commit()
    assert path.exists()
    daemon.publish(*trades(2))
    with subscriber(daemon, position_file=path) as sub:
        seen = [next_item(sub, lambda item: isinstance(item, Trade)).offset for _ in range(4)]
        assert seen == [4, 5, 6, 7]


def test_an_event_whose_work_failed_comes_again(daemon: FakeDaemon, tmp_path: Path) -> None:
    path = tmp_path / "position"
    sub = subscriber(daemon, position_file=path)

    def work() -> None:
        with sub:
            live(sub)
            daemon.publish("trade.1", "trade.2")
            for event in sub:
                if event.topic == "trade.2":
                    raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    with subscriber(daemon, position_file=path) as again:
        assert next_item(again, lambda item: isinstance(item, Trade)).topic == "trade.2"


def test_a_trade_that_was_worked_on_does_not_come_again_when_the_quote_after_it_fails(
    daemon: FakeDaemon, tmp_path: Path
) -> None:
    path = tmp_path / "position"
    sub = subscriber(daemon, position_file=path)

    def work() -> None:
        with sub:
            live(sub)
            daemon.publish("trade.1", "quote.EURUSD", "trade.2")
            fill(sub, 3)
            for event in sub:
                if event.topic == "quote.EURUSD":
                    raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert PositionFile(path).load() == Position("log-1", 0, {"trade.1": 1})


def test_the_position_file_is_written_while_it_runs(daemon: FakeDaemon, tmp_path: Path) -> None:
    path = tmp_path / "position"
    with subscriber(daemon, position_file=path) as sub:
        until(sub, path.exists)


def test_resuming_from_an_offset_gives_all_that_came_after_it(daemon: FakeDaemon) -> None:
    daemon.publish(*trades(10))
    with subscriber(daemon, resume_from=6, snapshot=False) as sub:
        seen = [next_item(sub, lambda item: isinstance(item, Trade)).offset for _ in range(4)]
        assert seen == [7, 8, 9, 10]


def test_a_position_file_that_is_none_is_refused(daemon: FakeDaemon, tmp_path: Path) -> None:
    path = tmp_path / "position"
    path.write_text("{}")
    with pytest.raises(ClientError, match=r"holds no position .*: delete it"):
        subscriber(daemon, position_file=path)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"topics": [""]}, "neither a name"),
        ({"lag_limit": 0}, "lag_limit is 0"),
        ({"resume_from": "x"}, "is no position"),
        ({"resume_from": 5, "query_endpoint": None}, "give query_endpoint"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ClientError, match=text):
        Subscriber("tcp://127.0.0.1:1", **options)


def test_an_address_that_zeromq_does_not_take_is_named() -> None:
    with Subscriber("pigeon://x", query_endpoint=None) as sub, pytest.raises(ClientError, match="connect to pigeon"):
        sub.receive(0)
    with pytest.raises(ClientError, match="connect to pigeon"):
        Query("pigeon://x")


def fill(sub: Subscriber, count: int) -> None:
    """Return once so many items wait to be handed over."""
    deadline_s = time.monotonic() + LIMIT_S
    while len(sub._stream.out) < count:  # noqa: SLF001
        assert time.monotonic() < deadline_s
        sub._runner.run_once(0.1)  # noqa: SLF001


def test_close_ends_the_iteration_though_more_has_come_already(daemon: FakeDaemon) -> None:
    with subscriber(daemon) as sub:
        live(sub)
        daemon.publish(*["trade.1"] * 5)
        fill(sub, 5)
        seen = []
        for event in sub:
            seen.append(event)
            sub.close()
        assert len(seen) == 1


def test_close_from_another_thread_ends_the_iteration(daemon: FakeDaemon) -> None:
    sub = subscriber(daemon)
    thread = Thread(target=lambda: [None for _ in sub])
    thread.start()
    sub.close()
    thread.join(LIMIT_S)
    assert not thread.is_alive()
    sub.close()
    assert sub.receive(1) is None


def test_close_from_another_thread_writes_the_position_once_more_and_without_a_fault(
    daemon: FakeDaemon, tmp_path: Path
) -> None:
    path = tmp_path / "position"
    for _ in range(4):
        sub = subscriber(daemon, position_file=path)
        thread = Thread(target=lambda sub=sub: [None for _ in sub])
        thread.start()
        deadline_s = time.monotonic() + LIMIT_S
        while sub.position is None:
            assert time.monotonic() < deadline_s
        sub.close()
        thread.join(LIMIT_S)
        assert sub.counts["position_errors"] == 0
        assert PositionFile(path).load() == sub.position


@pytest.mark.skipif(sys.platform == "win32", reason="a test cannot send Ctrl-C to one process there")
def test_ctrl_c_ends_a_loop_that_waits() -> None:
    program = (
        "from mt4pump.client import Subscriber\n"
        "with Subscriber('tcp://127.0.0.1:1', query_endpoint=None) as sub:\n"
        "    print('on', flush=True)\n"
        "    for event in sub: pass\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        try:
            _, errors = process.communicate(timeout=LIMIT_S)
        finally:
            process.kill()
    assert "KeyboardInterrupt" in errors


def test_a_handler_that_fails_is_counted_and_kept_from_the_others(
    daemon: FakeDaemon, caplog: pytest.LogCaptureFixture
) -> None:
    sub = subscriber(daemon)
    seen: list[str] = []
    kinds: list[str] = []

    @sub.on("trade.1")
    def fail(_trade: Trade) -> None:
        raise ZeroDivisionError

    @sub.on(kind="trade")
    def note(trade: Trade) -> None:
        seen.append(trade.topic)
        if len(seen) == 3:
            sub.close()

    sub.on("quote.*", lambda quote: seen.append(quote.topic))
    sub.on_notice(lambda notice: kinds.append(notice.kind))
    runner = Thread(target=sub.run)
    with caplog.at_level(logging.ERROR):
        runner.start()
        deadline_s = time.monotonic() + LIMIT_S
        while sub.position is None:
            assert time.monotonic() < deadline_s
        daemon.publish("trade.1", "quote.EURUSD", "trade.1")
        runner.join(LIMIT_S)
    assert seen == ["trade.1", "quote.EURUSD", "trade.1"]
    assert sub.counts["handler_errors"] == 2
    assert len(caplog.records) == 1
    assert "connected" in kinds


def test_a_reader_that_is_late_says_so_once(daemon: FakeDaemon) -> None:
    with subscriber(daemon, notices=True, lag_limit_s=2.0) as sub:
        live(sub)
        time.sleep(2.5)  # a slow reader; on a busy machine `live` itself may be some tenths of a second late
        notice = next_item(sub, lambda item: isinstance(item, Notice) and item.kind == "lagging")
        assert notice.value >= 2.0
        next_item(sub, lambda item: isinstance(item, Notice) and item.kind == "caught_up")


@pytest.mark.parametrize("kind", [Subscriber, AsyncSubscriber])
@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:5556", "tcp://", "tcp://host", "tcp://host:0", "://x"])
def test_an_address_that_is_none_is_refused_at_once(address: str, kind: type[Subscriber | AsyncSubscriber]) -> None:
    with pytest.raises(ClientError, match="give one as tcp:"):
        kind(address)
    with pytest.raises(ClientError, match="is no address"):
        kind("tcp://127.0.0.1:5556", query_endpoint=address)
