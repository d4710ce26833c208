"""What the pump thread looks after beside the events: permissions, memory, lost records, its end."""

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
from mt4pump.security import authenticator
from tests.bus import LIMIT_S, until
from tests.pump.works import START, TRADES, Works, held_in_a_read, trade

REVOKED_WITHIN_S = 2
"""What the guide and `mt4pump keygen` promise."""


# Its own pace, and its faults


def test_permissions_are_looked_at_long_before_a_rare_heartbeat(
    own: zmq.Context[zmq.Socket[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pump_module, "PERIODIC_INTERVAL_S", 0.01)
    asked: list[bool] = []

    def has_revocation() -> bool:
        asked.append(True)
        return len(asked) == 3

    works = Works(own, heartbeat_interval_s=60, has_revocation=has_revocation)
    put_out = Event()
    monkeypatch.setattr(works.publisher, "disconnect_revoked", put_out.set)
    works.begin()
    until(put_out.is_set, "the subscribers were put out")
    works.finish()


def test_a_revoked_client_is_out_within_what_is_promised() -> None:
    assert authenticator.CHECK_INTERVAL_S + pump_module.PERIODIC_INTERVAL_S < REVOKED_WITHIN_S


def test_housekeeping_that_fails_is_counted_and_the_rest_of_it_goes_on(works: Works) -> None:
    works.pump._anchor_clock = None  # type: ignore[assignment]
    works.attach()
    works.inbox.refused += 1
    body = works.publish(lambda body: body["errors"].get("inbox_full"))
    assert body["errors"]["internal_error"] > 0


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "Too many open files"), psutil.AccessDenied()])
def test_a_heartbeat_without_a_descriptor_left_says_the_memory_of_before(
    works: Works, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail() -> None:
        raise error

    works.begin()
    monkeypatch.setattr(works.heartbeat._process, "memory_info", fail)
    body = works.publish(lambda body: body["errors"].get("rss_unknown", 0) > 1)
    assert body["rss_bytes"] > 10**6


# Records that did not fit


def live(works: Works) -> None:
    """Have a session run; the pump's thread does not: the test takes its turns."""
    works.inbox.put_command(Command.ATTACH, works.link)
    works.inbox.notify(START, 0, b"")
    works.pump._wake_up()


def reads(works: Works) -> int:
    return works.manager.calls.count("table trades")


def keep_house(works: Works) -> None:
    works.pump._run_periodic(time.monotonic())


def take(works: Works, count: int) -> None:
    for _ in range(count):
        record = works.inbox.get_nowait()
        assert record is not None
        works.pump._handle_item(*record)


@pytest.mark.parametrize("limit", [1, 2, 8])
def test_an_order_whose_close_was_refused_while_its_opening_waited_does_not_stay_open(
    own: zmq.Context[zmq.Socket[bytes]], limit: int
) -> None:
    works = Works(own, limit=limit)
    live(works)
    for order in range(1, limit):
        works.inbox.notify(TRADES, Transaction.DELETE, trade(order, close_time=5))
    works.inbox.notify(TRADES, Transaction.ADD, trade(99))
    works.inbox.notify(TRADES, Transaction.DELETE, trade(99, close_time=5))
    assert works.inbox.refused == 1
    take(works, limit - 1)
    keep_house(works)
    assert 99 not in works.dispatcher.trades.orders.open
    take(works, len(works.inbox))
    assert works.dispatcher.trades.orders.open == {}
    assert works.writer.counts["trade"] == limit + 1  # the close is told, as inferred
    works.begin()
    works.finish()


def test_records_lost_before_the_reread_came_ask_for_another_one(own: zmq.Context[zmq.Socket[bytes]]) -> None:
    works = Works(own)
    live(works)
    before = reads(works)
    works.inbox.refused += 1
    keep_house(works)
    works.inbox.refused += 1
    take(works, 1)
    assert reads(works) == before
    keep_house(works)
    take(works, 1)
    assert reads(works) == before + 1
    keep_house(works)
    assert len(works.inbox) == 0
    works.begin()
    works.finish()


# The end


def test_a_stop_without_time_says_goodbye_and_counts_what_it_leaves_untold(
    works: Works, caplog: pytest.LogCaptureFixture
) -> None:
    works.attach()
    let_go = held_in_a_read(works)
    for order in range(900):
        works.inbox.notify(TRADES, 0, trade(order))
    works.inbox.notify(PumpCode.UPDATE_TRADES, 0, b"")  # a bell is no record
    works.inbox.put_command(Command.DETACH, (works.link, "stopped by us"))
    works.pump.finish(0.0)
    let_go.set()
    works.pump.join(LIMIT_S)
    last = works.publish(lambda body: body["state"] == "stopping")
    told = [message.topic for message in works.heard].count("trade.100")
    assert 0 < told < 900
    assert last["dropped"] == 900 - told
    assert last["inbox"]["refused"] == 0
    assert [message.body["reason"] for message in works.heard if message.topic == "session.stop"] == ["stopped by us"]
    assert works.pump.is_shut_down
    assert f"no time is left for {900 - told} records that still wait: dropped" in caplog.messages


def test_a_stop_with_time_tells_all_that_waits(works: Works, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    works.attach()
    for order in range(900):
        works.inbox.notify(TRADES, 0, trade(order))
    works.pump.finish(LIMIT_S)
    works.pump.join(LIMIT_S)
    assert works.publish(lambda body: body["state"] == "stopping")["dropped"] == 0
    assert [message.topic for message in works.heard].count("trade.100") == 900
    assert caplog.messages == []
