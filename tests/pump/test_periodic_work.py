"""The periodic work of the pump thread: permissions, memory, lost records; and its end.

Private access: steps of the pump's loop, because the test takes the place of its thread, and two parts of it that
must fail.
"""

from __future__ import annotations

import errno
import logging
import time
from threading import Event

import psutil
import pytest
import zmq

from mt4pump.mt4.codes import PumpCode, Transaction
from mt4pump.pump import loop as pump_module
from mt4pump.pump.session import Command
from mt4pump.security import authenticator, zap
from tests.bus import LIMIT_S
from tests.pump.running import START, TRADES, RunningPump, held_in_a_read, trade

REVOKED_WITHIN_S = 2
"""What the guide and `mt4pump keygen` promise."""


# Its own pace, and its faults


def test_permissions_are_checked_long_before_a_rare_heartbeat(
    own: zmq.Context[zmq.Socket[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading subscriptions checks them: `tests.security.test_matrix`."""
    running = RunningPump(own, heartbeat_interval_s=60)
    running.begin()
    read, checked = running.publisher.read_subscriptions, Event()

    def check() -> bool:
        checked.set()
        return read()

    monkeypatch.setattr(running.publisher, "read_subscriptions", check)
    assert checked.wait(LIMIT_S)
    running.finish()


def test_a_revoked_client_is_out_within_what_is_promised() -> None:
    """The time until the folder is read, at the latest, and until the pump reads subscriptions."""
    latest_s = authenticator.CHECK_INTERVAL_S + zap.QUIET_MS / 1000 + pump_module.QUIET_WAIT_S
    assert latest_s < REVOKED_WITHIN_S / 2


def test_periodic_work_that_fails_is_counted_and_the_rest_of_it_continues(running: RunningPump) -> None:
    running.pump._anchor_clock = None  # type: ignore[assignment]  # noqa: SLF001
    running.attach()
    running.inbox.refused += 1
    body = running.next_heartbeat(lambda body: body["errors"].get("inbox_full"))
    assert body["errors"]["internal_error"] > 0


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "Too many open files"), psutil.AccessDenied()])
def test_a_heartbeat_without_a_descriptor_left_has_the_memory_of_before(
    running: RunningPump, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail() -> None:
        raise error

    running.begin()
    monkeypatch.setattr(running.heartbeat._process, "memory_info", fail)  # noqa: SLF001
    body = running.next_heartbeat(lambda body: body["errors"].get("rss_unknown", 0) > 1)
    assert body["rss_bytes"] > 10**6


# Records that did not fit


def live(running: RunningPump) -> None:
    """Have a session run; the pump's thread does not: the test takes its iterations."""
    running.inbox.put_command(Command.ATTACH, running.session)
    running.inbox.notify(START, 0, b"")
    running.pump._wake_up()  # noqa: SLF001


def reads(running: RunningPump) -> int:
    return running.manager.calls.count("table trades")


def run_periodic(running: RunningPump) -> None:
    running.pump._run_periodic(time.monotonic())  # noqa: SLF001


def take(running: RunningPump, count: int) -> None:
    for _ in range(count):
        record = running.inbox.get()
        assert record is not None
        running.pump._handle_item(*record)  # noqa: SLF001


@pytest.mark.parametrize("limit", [1, 2, 8])
def test_an_order_whose_close_was_refused_while_its_opening_waited_does_not_stay_open(
    own: zmq.Context[zmq.Socket[bytes]], limit: int
) -> None:
    running = RunningPump(own, limit=limit)
    live(running)
    for order in range(1, limit):
        running.inbox.notify(TRADES, Transaction.DELETE, trade(order, close_time=5))
    running.inbox.notify(TRADES, Transaction.ADD, trade(99))
    running.inbox.notify(TRADES, Transaction.DELETE, trade(99, close_time=5))
    assert running.inbox.refused == 1
    take(running, limit - 1)
    run_periodic(running)
    assert 99 not in running.dispatcher.trades.orders.open
    take(running, len(running.inbox))
    assert running.dispatcher.trades.orders.open == {}
    assert running.writer.counts["trade"] == limit + 1  # the close is published, as inferred
    running.begin()
    running.finish()


def test_records_lost_before_the_reread_came_ask_for_another_one(own: zmq.Context[zmq.Socket[bytes]]) -> None:
    running = RunningPump(own)
    live(running)
    before = reads(running)
    running.inbox.refused += 1
    run_periodic(running)
    running.inbox.refused += 1
    take(running, 1)
    assert reads(running) == before
    run_periodic(running)
    take(running, 1)
    assert reads(running) == before + 1
    run_periodic(running)
    assert len(running.inbox) == 0
    running.begin()
    running.finish()


# The end


def test_a_stop_without_time_publishes_the_end_and_counts_what_it_leaves_unpublished(
    running: RunningPump, caplog: pytest.LogCaptureFixture
) -> None:
    running.attach()
    let_go = held_in_a_read(running)
    for order in range(900):
        running.inbox.notify(TRADES, 0, trade(order))
    running.inbox.notify(PumpCode.UPDATE_TRADES, 0, b"")  # a doorbell is no record
    running.inbox.put_command(Command.DETACH, (running.session, "stopped by us"))
    running.pump.finish(0.0)
    let_go.set()
    running.pump.join(LIMIT_S)
    last = running.next_heartbeat(lambda body: body["state"] == "stopping")
    events = [message.topic for message in running.received].count("trade.100")
    assert 0 < events < 900
    assert last["dropped"] == 900 - events
    assert last["inbox"]["refused"] == 0
    assert [message.body["reason"] for message in running.received if message.topic == "session.stop"] == [
        "stopped by us"
    ]
    assert running.pump.is_shut_down
    assert f"no time is left for {900 - events} records that still wait: dropped" in caplog.messages


def test_a_stop_with_time_publishes_all_that_waits(running: RunningPump, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    running.attach()
    for order in range(900):
        running.inbox.notify(TRADES, 0, trade(order))
    running.pump.finish(LIMIT_S)
    running.pump.join(LIMIT_S)
    assert running.next_heartbeat(lambda body: body["state"] == "stopping")["dropped"] == 0
    assert [message.topic for message in running.received].count("trade.100") == 900
    assert caplog.messages == []
