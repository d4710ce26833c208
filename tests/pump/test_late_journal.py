"""A journal whose file cannot be opened at the start: what is published meanwhile, and when it opens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgpack
import pytest
import zmq

from mt4pump.journal import Journal
from mt4pump.mt4.codes import Transaction
from mt4pump.pump.session import Command
from mt4pump.pump.snapshot import SnapshotRequest
from tests.bus import LIMIT_S
from tests.journal.journals import Clock, open_journal
from tests.pump.running import START, TRADES, RunningPump, trade


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite3"


def journal_with_orders(path: Path, own: zmq.Context[zmq.Socket[bytes]], *rows: bytes) -> None:
    """Leave a journal of a run that ended with these orders open."""
    journal = open_journal(path)
    running = RunningPump(own, journal=journal)
    running.manager.tables["trades"] = b"".join(rows)
    running.attach()
    running.next_heartbeat()
    running.finish()
    running.socket.close(0)


def blocked(path: Path) -> Callable[[], None]:
    """Put a folder in the file's place; return what puts the file back."""
    aside = path.with_name("aside")
    if path.exists():
        path.rename(aside)
    path.mkdir()

    def put_back() -> None:
        path.rmdir()
        if aside.exists():
            aside.rename(path)

    return put_back


def orders_in(path: Path) -> dict[int, object]:
    journal = open_journal(path)
    rows = {order: msgpack.unpackb(row)["sl"] for order, row in journal.open_orders().items()}
    journal.close()
    return rows


def start(own: zmq.Context[zmq.Socket[bytes]], journal: Journal, *rows: bytes) -> RunningPump:
    running = RunningPump(own, journal=journal)
    running.manager.tables["trades"] = b"".join(rows)
    running.attach()
    return running


def opens(running: RunningPump, clock: Clock) -> None:
    """Let time pass for the next try, and wait for the heartbeat of an open file."""
    clock.advance(60)
    running.next_heartbeat(lambda body: body["durable"])


def test_a_journal_that_was_never_open_has_an_empty_log_and_not_none(
    own: zmq.Context[zmq.Socket[bytes]], path: Path
) -> None:
    blocked(path)
    running = RunningPump(own, journal=open_journal(path)).begin()
    assert running.next_heartbeat()["log"] == ""
    request = SnapshotRequest(())
    running.inbox.put_command(Command.SNAPSHOT, request)
    snapshot = request.wait(LIMIT_S)
    assert snapshot is not None
    assert snapshot.log == ""
    running.finish()


def test_without_a_journal_the_log_is_none(running: RunningPump) -> None:
    assert running.begin().next_heartbeat()["log"] is None


def test_an_order_closed_while_no_daemon_ran_is_published_when_the_journal_opens_late(
    own: zmq.Context[zmq.Socket[bytes]], path: Path
) -> None:
    journal_with_orders(path, own, trade(1), trade(2), trade(3))
    put_back, clock = blocked(path), Clock()
    running = start(own, open_journal(path, clock=clock), trade(2), trade(3, sl=1.5), trade(4))
    running.inbox.notify(TRADES, Transaction.DELETE, trade(2, close_time=5))
    assert "offset" not in running.next("trade.100").body  # published, and not stored
    put_back()
    opens(running, clock)
    running.finish()
    running.next_heartbeat(lambda body: body["state"] == "stopping")
    events = [message.body for message in running.received if message.topic == "trade.100"][1:]
    assert [(body["order"], body["change"], body["synthetic"]) for body in events] == [
        (1, "closed", True),
        (3, "modified", True),
        (4, "opened", True),
    ]
    assert all("offset" in body for body in events)
    assert orders_in(path) == {3: 1.5, 4: 0.0}


def test_a_journal_that_opens_before_the_first_session_is_read_as_at_the_start(
    own: zmq.Context[zmq.Socket[bytes]], path: Path
) -> None:
    journal_with_orders(path, own, trade(1), trade(2))
    put_back, clock = blocked(path), Clock()
    running = RunningPump(own, journal=open_journal(path, clock=clock)).begin()
    put_back()
    opens(running, clock)
    running.manager.tables["trades"] = trade(2)
    running.inbox.put_command(Command.ATTACH, running.session)
    running.inbox.notify(START, 0, b"")
    running.finish()
    running.next_heartbeat(lambda body: body["state"] == "stopping")
    events = [message.body for message in running.received if message.topic == "trade.100"]
    assert [(body["order"], body["change"], body["synthetic"]) for body in events] == [(1, "closed", True)]
    assert orders_in(path) == {2: 0.0}


def test_a_late_journal_without_orders_of_a_last_run_publishes_nothing_of_those_that_are_open(
    own: zmq.Context[zmq.Socket[bytes]], path: Path
) -> None:
    put_back, clock = blocked(path), Clock()
    running = start(own, open_journal(path, clock=clock), trade(1))
    put_back()
    opens(running, clock)
    running.next_heartbeat()
    running.finish()
    assert [message.topic for message in running.received if message.topic.startswith("trade.")] == []
    assert orders_in(path) == {1: 0.0}
