"""The session that the desks read from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mt4pump.errors import ConnectionLost
from mt4pump.mt4.codes import PumpCode
from mt4pump.mt4.layout import (
    CON_GROUP,
    CON_PLUGIN,
    CON_SYMBOL,
    MARGIN_LEVEL,
    ONLINE_RECORD,
    REQUEST_INFO,
    TRADE_RECORD,
    USER_RECORD,
)
from mt4pump.pump.session import CONFIRM_AFTER_S, CONFIRM_IN_SILENCE_S, CurrentSession, ManagerSession, rows
from tests.bus import Message
from tests.fake_manager import FakeManager
from tests.pump.stand import Stand, seen, stand


def test_without_a_session_a_read_says_so() -> None:
    with pytest.raises(ConnectionLost, match="no session to read from"):
        CurrentSession().manager  # noqa: B018 - the read is what raises


def test_a_read_goes_to_the_session_of_the_moment() -> None:
    reader = CurrentSession()
    for manager in (FakeManager(), FakeManager()):
        reader.session = ManagerSession(manager, "one:443", 7)
        assert reader.manager is manager


def test_no_order_is_told_as_closed_for_the_empty_table_of_a_lost_link() -> None:
    with stand(b"trade.") as desk:
        desk.manager.tables["trades"] = TRADE_RECORD.pack({"order": 1, "login": 100, "symbol": "EURUSD"})
        desk.start()
        desk.manager.tables["trades"] = b""
        desk.manager.connected = False
        assert desk.take(PumpCode.UPDATE_TRADES) == []
        assert desk.fault_counters.counts["session_gone"] == 1
        desk.manager.connected = True
        assert seen(desk.take(PumpCode.UPDATE_TRADES), "order", "change") == [("trade.100", 1, "closed")]


# A table that is suddenly empty

TABLES = {
    PumpCode.UPDATE_TRADES: ("trades", TRADE_RECORD.pack({"order": 1, "login": 100, "symbol": "EURUSD"})),
    PumpCode.UPDATE_USERS: ("users", USER_RECORD.pack({"login": 100, "group": "demo"})),
    PumpCode.UPDATE_ONLINE: ("online", ONLINE_RECORD.pack({"login": 100, "group": "demo"})),
    PumpCode.UPDATE_GROUPS: ("groups", CON_GROUP.pack({"group": "demo"})),
    PumpCode.UPDATE_SYMBOLS: ("symbols", CON_SYMBOL.pack({"symbol": "EURUSD"})),
    PumpCode.UPDATE_REQUESTS: ("requests", REQUEST_INFO.pack({"id": 1, "login": 100})),
    PumpCode.UPDATE_PLUGINS: ("plugins", CON_PLUGIN.pack({"file": "a.dll"})),
    PumpCode.UPDATE_MARGINCALL: ("margins", MARGIN_LEVEL.pack({"login": 100, "level_type": 1})),
}


class Doubtful:
    """A stand on a Manager that empties its tables before it says that the session ends, and a clock."""

    def __init__(self, desk: Stand) -> None:
        self.desk = desk
        self.now_s = 0.0
        self.received = 1
        desk.dispatcher._current._now_s = lambda: self.now_s
        desk.manager.may_empty_tables = True

    def pass_by(self, seconds: float, callbacks: int = 0) -> list[Message]:
        """Let time pass, with callbacks or without, and look for second reads at its begin and end."""
        self.desk.dispatcher.reread_empty_tables(self.received, self.desk.ts)
        self.now_s += seconds
        self.received += callbacks
        self.desk.dispatcher.reread_empty_tables(self.received, self.desk.ts)
        return self.desk.bus.events()


@pytest.fixture(name="doubtful")
def _doubtful() -> Iterator[Doubtful]:
    with stand() as desk:
        made = Doubtful(desk)
        for name, row in TABLES.values():
            desk.manager.tables[name] = row
        desk.start()
        for code in TABLES:
            desk.take(code)
        yield made


@pytest.mark.parametrize("code", TABLES)
def test_a_suddenly_empty_table_counts_when_a_second_read_agrees(doubtful: Doubtful, code: PumpCode) -> None:
    desk, (name, _) = doubtful.desk, TABLES[code]
    desk.manager.tables[name] = b""
    assert desk.take(code) == []
    assert desk.dispatcher.skipped()["empty_tables"] == 1
    assert doubtful.pass_by(CONFIRM_AFTER_S * 0.9, callbacks=1) == []
    (message,) = doubtful.pass_by(CONFIRM_AFTER_S, callbacks=1)
    assert message.body["action"] == "delete"
    assert doubtful.pass_by(CONFIRM_IN_SILENCE_S) == []


@pytest.mark.parametrize("code", TABLES)
def test_a_table_that_a_session_emptied_at_its_end_changes_nothing(doubtful: Doubtful, code: PumpCode) -> None:
    desk, (name, _) = doubtful.desk, TABLES[code]
    desk.manager.tables[name] = b""
    assert desk.take(code) == []
    desk.take(PumpCode.STOP_PUMPING)
    assert doubtful.pass_by(3600, callbacks=9) == []
    desk.reconnect(lambda manager: manager.tables.update({name: TABLES[code][1]}))
    assert [message.topic for message in desk.take(PumpCode.START_PUMPING)] == ["session.start"]


def test_all_orders_stay_open_when_the_second_read_raises(doubtful: Doubtful) -> None:
    doubtful.desk.manager.tables["trades"] = b""
    doubtful.desk.take(PumpCode.UPDATE_TRADES)
    doubtful.desk.manager.connected = False
    assert doubtful.pass_by(3600, callbacks=1) == []
    assert doubtful.desk.fault_counters.counts["session_gone"] == 1
    assert doubtful.desk.dispatcher.trades.orders.open.keys() == {1}


def test_without_callbacks_the_second_read_waits_longer(doubtful: Doubtful) -> None:
    doubtful.desk.manager.tables["trades"] = b""
    doubtful.desk.take(PumpCode.UPDATE_TRADES)
    assert doubtful.pass_by(CONFIRM_IN_SILENCE_S * 0.9) == []
    assert len(doubtful.pass_by(CONFIRM_IN_SILENCE_S * 0.1)) == 1


def test_doorbells_in_between_neither_agree_nor_put_the_second_read_off(doubtful: Doubtful) -> None:
    desk = doubtful.desk
    desk.manager.tables["trades"] = b""
    for _ in range(5):
        assert desk.take(PumpCode.UPDATE_TRADES) == []
        assert doubtful.pass_by(CONFIRM_IN_SILENCE_S / 10) == []
    assert len(doubtful.pass_by(CONFIRM_IN_SILENCE_S)) == 1


def test_a_table_that_is_full_again_forgets_that_it_was_empty(doubtful: Doubtful) -> None:
    desk = doubtful.desk
    for array in (b"", TABLES[PumpCode.UPDATE_TRADES][1], b""):
        desk.manager.tables["trades"] = array
        assert desk.take(PumpCode.UPDATE_TRADES) == []
        doubtful.now_s += CONFIRM_AFTER_S
    assert desk.dispatcher.skipped()["empty_tables"] == 2


def test_an_empty_table_at_the_start_of_the_next_session_has_to_be_confirmed_too(doubtful: Doubtful) -> None:
    desk = doubtful.desk

    def empty(manager: FakeManager) -> None:
        manager.may_empty_tables = True
        manager.tables["trades"] = b""

    desk.reconnect(empty)
    assert [message.topic for message in desk.take(PumpCode.START_PUMPING)] == ["session.start"]
    assert seen(doubtful.pass_by(CONFIRM_AFTER_S, callbacks=1), "order", "change") == [("trade.100", 1, "closed")]


def test_an_empty_table_of_which_no_row_is_known_is_read_at_once() -> None:
    with stand() as desk:
        desk.manager.may_empty_tables = True
        desk.start()
        desk.manager.tables["trades"] = TABLES[PumpCode.UPDATE_TRADES][1]
        assert seen(desk.take(PumpCode.UPDATE_TRADES), "change") == [("trade.100", "opened")]
        assert desk.dispatcher.skipped()["empty_tables"] == 0


def test_a_new_reader_is_not_live() -> None:
    assert CurrentSession().live is False


@pytest.mark.parametrize(
    ("array", "expected"), [(b"", []), (b"ab", [b"ab"]), (b"abcd", [b"ab", b"cd"]), (b"abc", [b"ab"]), (b"a", [])]
)
def test_rows_are_whole_records_only(array: bytes, expected: list[bytes]) -> None:
    assert list(rows(array, 2)) == expected
