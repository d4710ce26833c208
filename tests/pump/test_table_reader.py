"""A large table is read beside the events: what records touched meanwhile is newer than the array."""

from __future__ import annotations

from threading import Event

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from mt4pump.errors import ConnectionLost
from mt4pump.mt4.codes import PumpCode, ReturnCode, Transaction
from mt4pump.mt4.decode import Decoder
from mt4pump.mt4.layout import ONLINE_RECORD
from mt4pump.mt4.manager import Manager
from mt4pump.pump.session import Command
from mt4pump.pump.table_diff import Table
from mt4pump.pump.table_reader import TableReader
from tests.bus import LIMIT_S, until
from tests.fake_manager import FakeManager
from tests.pump.running import RunningPump, trade

ROWS = st.dictionaries(st.integers(1, 6), st.integers(0, 3))
RECORDS = st.lists(st.tuples(st.integers(1, 6), st.sampled_from((0, 1, 2)), st.integers(0, 3)), max_size=8)


def online(login: int, value: int) -> bytes:
    return ONLINE_RECORD.pack({"login": login, "counter": value})


def array_of(rows: dict[int, int]) -> bytes:
    return b"".join(online(*row) for row in rows.items())


@given(known=ROWS, read=ROWS, records=RECORDS)
def test_a_key_that_a_record_touched_during_the_read_keeps_the_record_s_state(
    known: dict[int, int], read: dict[int, int], records: list[tuple[int, int, int]]
) -> None:
    table, expected = Table(Decoder(ONLINE_RECORD), "login"), dict(read)
    list(table.compare(array_of(known)))
    with table.reading() as begun:
        for login, action, value in records:
            row = online(login, value)
            assert list(table.settle(row)) == []
            table.apply(action, row)
            if action == Transaction.DELETE:
                expected.pop(login, None)
            else:
                expected[login] = value
    events = list(table.compare(array_of(read), begun))
    assert {login for login, _ in table.rows()} == expected.keys()
    changed = {event.fields["login"] for event in events if event is not None}
    assert not changed & {login for login, _, _ in records}
    assert changed == {
        login
        for login in (known.keys() | read.keys()) - {login for login, _, _ in records}
        if known.get(login) != read.get(login)
    }


def test_events_go_on_while_a_large_table_is_read(own: zmq.Context[zmq.Socket[bytes]]) -> None:
    running = RunningPump(own)
    running.manager.tables["trades"] = trade(1) + trade(2)
    reader = TableReader(lambda: running.inbox.put_command(Command.TABLE_READ, None))
    running.dispatcher.current._reader = reader
    reader.start()
    running.attach()
    until(lambda: len(running.dispatcher.trades.orders.open) == 2, "the baseline is read")
    let_go = running.manager.holds["table trades"] = Event()
    running.manager.entered["table trades"].clear()
    running.manager.tables["trades"] = trade(2) + trade(3) + trade(4)
    running.inbox.notify(PumpCode.UPDATE_TRADES, 0, b"")
    assert running.manager.entered["table trades"].wait(LIMIT_S)
    running.inbox.notify(PumpCode.UPDATE_TRADES, Transaction.DELETE, trade(3, close_time=5))
    assert running.next("trade.100").body["change"] == "closed"
    assert not reader.is_idle
    let_go.set()
    changes: dict[int, str] = {}
    while changes.keys() != {1, 4}:
        body = running.next("trade.100").body
        changes[body["order"]] = body["change"]
    assert changes == {1: "closed", 4: "opened"}
    assert running.dispatcher.trades.orders.open.keys() == {2, 4}
    reader.stop()
    running.finish()
    reader.join(LIMIT_S)
    assert not reader.is_alive()


def test_the_fault_of_a_read_is_raised_on_the_thread_that_asked() -> None:
    class Gone(FakeManager):
        def table(self, name: str) -> bytes:
            raise ConnectionLost(name, ReturnCode.RET_NO_CONNECT, "RET_NO_CONNECT", "gone")

    manager: Manager = Gone()
    woken = Event()
    reader = TableReader(woken.set)
    reader.start()
    pending = reader.request(manager, "trades")
    assert woken.wait(LIMIT_S)
    with pytest.raises(ConnectionLost):
        pending.array()
    reader.stop()
    reader.join(LIMIT_S)
