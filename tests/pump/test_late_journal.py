"""A journal whose file cannot be opened at the start: what is said meanwhile, and what is told when it opens."""

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
from tests.pump.works import START, TRADES, Works, trade


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite3"


def remembered(path: Path, own: zmq.Context[zmq.Socket[bytes]], *rows: bytes) -> None:
    """Leave a journal of a life that ended with these orders open."""
    journal = open_journal(path)
    works = Works(own, journal=journal)
    works.manager.tables["trades"] = b"".join(rows)
    works.attach()
    works.publish()
    works.finish()
    works.socket.close(0)


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


def start(own: zmq.Context[zmq.Socket[bytes]], journal: Journal, *rows: bytes) -> Works:
    works = Works(own, journal=journal)
    works.manager.tables["trades"] = b"".join(rows)
    works.attach()
    return works


def opens(works: Works, clock: Clock) -> None:
    """Let time pass for the next try, and wait until the heartbeat says that the file is open."""
    clock.advance(60)
    works.publish(lambda body: body["durable"])


def test_a_journal_that_was_never_open_has_an_empty_log_and_not_none(
    own: zmq.Context[zmq.Socket[bytes]], path: Path
) -> None:
    blocked(path)
    works = Works(own, journal=open_journal(path)).begin()
    assert works.publish()["log"] == ""
    request = SnapshotRequest(())
    works.inbox.put_command(Command.SNAPSHOT, request)
    cut = request.wait(LIMIT_S)
    assert cut is not None
    assert cut.log == ""
    works.finish()


def test_without_a_journal_the_log_is_none(works: Works) -> None:
    assert works.begin().publish()["log"] is None


def test_an_order_closed_while_no_daemon_ran_is_told_when_the_journal_opens_late(
    own: zmq.Context[zmq.Socket[bytes]], path: Path
) -> None:
    remembered(path, own, trade(1), trade(2), trade(3))
    put_back, clock = blocked(path), Clock()
    works = start(own, open_journal(path, clock=clock), trade(2), trade(3, sl=1.5), trade(4))
    works.inbox.notify(TRADES, Transaction.DELETE, trade(2, close_time=5))
    assert "offset" not in works.next("trade.100").body  # told, and not stored
    put_back()
    opens(works, clock)
    works.finish()
    works.publish(lambda body: body["state"] == "stopping")
    told = [message.body for message in works.heard if message.topic == "trade.100"][1:]
    assert [(body["order"], body["change"], body["synthetic"]) for body in told] == [
        (1, "closed", True),
        (3, "modified", True),
        (4, "opened", True),
    ]
    assert all("offset" in body for body in told)
    assert orders_in(path) == {3: 1.5, 4: 0.0}


def test_a_journal_that_opens_before_the_first_session_is_read_as_at_the_start(
    own: zmq.Context[zmq.Socket[bytes]], path: Path
) -> None:
    remembered(path, own, trade(1), trade(2))
    put_back, clock = blocked(path), Clock()
    works = Works(own, journal=open_journal(path, clock=clock)).begin()
    put_back()
    opens(works, clock)
    works.manager.tables["trades"] = trade(2)
    works.inbox.put_command(Command.ATTACH, works.link)
    works.inbox.notify(START, 0, b"")
    works.finish()
    works.publish(lambda body: body["state"] == "stopping")
    told = [message.body for message in works.heard if message.topic == "trade.100"]
    assert [(body["order"], body["change"], body["synthetic"]) for body in told] == [(1, "closed", True)]
    assert orders_in(path) == {2: 0.0}


def test_a_late_journal_without_orders_of_a_last_life_makes_no_news_of_those_there_are(
    own: zmq.Context[zmq.Socket[bytes]], path: Path
) -> None:
    put_back, clock = blocked(path), Clock()
    works = start(own, open_journal(path, clock=clock), trade(1))
    put_back()
    opens(works, clock)
    works.publish()
    works.finish()
    assert [message.topic for message in works.heard if message.topic.startswith("trade.")] == []
    assert orders_in(path) == {1: 0.0}
