"""The session that the handlers read from, and second reads of suddenly empty tables.

Private access: the clock of the session's reads, which the harness makes without one.
"""

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
from mt4pump.pump.session import CONFIRM_AFTER_S, CONFIRM_IN_SILENCE_S, CurrentSession, ManagerSession
from tests.bus import Message
from tests.fake_manager import FakeManager
from tests.pump.harness import Harness, open_harness, seen


def test_without_a_session_a_read_says_so() -> None:
    with pytest.raises(ConnectionLost, match="no session to read from"):
        CurrentSession().manager  # noqa: B018 - the read is what raises


def test_a_read_goes_to_the_session_of_the_moment() -> None:
    reader = CurrentSession()
    for manager in (FakeManager(), FakeManager()):
        reader.attach(ManagerSession(manager, "one:443", 7))
        assert reader.manager is manager


def test_no_order_is_published_as_closed_for_the_empty_table_of_a_lost_link() -> None:
    with open_harness(b"trade.") as harness:
        harness.manager.tables["trades"] = TRADE_RECORD.pack({"order": 1, "login": 100, "symbol": "EURUSD"})
        harness.start()
        harness.manager.tables["trades"] = b""
        harness.manager.connected = False
        assert harness.events_after(PumpCode.UPDATE_TRADES) == []
        assert harness.fault_counters.counts["session_gone"] == 1
        harness.manager.connected = True
        assert seen(harness.events_after(PumpCode.UPDATE_TRADES), "order", "change") == [("trade.100", 1, "closed")]


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


class UnconfirmedTables:
    """A harness whose Manager empties its tables before it reports the end of the session, and a clock."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.now_s = 0.0
        self.received = 1
        harness.dispatcher.current._now_s = lambda: self.now_s  # noqa: SLF001
        harness.manager.may_empty_tables = True

    def pass_by(self, seconds: float, callbacks: int = 0) -> list[Message]:
        """Let time pass, with callbacks or without, and look for second reads at its begin and end."""
        self.harness.dispatcher.current.reread_empty_tables(self.received, self.harness.ts)
        self.now_s += seconds
        self.received += callbacks
        self.harness.dispatcher.current.reread_empty_tables(self.received, self.harness.ts)
        return self.harness.bus.events()


@pytest.fixture(name="unconfirmed")
def _unconfirmed() -> Iterator[UnconfirmedTables]:
    with open_harness() as harness:
        made = UnconfirmedTables(harness)
        for name, row in TABLES.values():
            harness.manager.tables[name] = row
        harness.start()
        for code in TABLES:
            harness.events_after(code)
        yield made


@pytest.mark.parametrize("code", TABLES)
def test_a_suddenly_empty_table_counts_when_a_second_read_agrees(
    unconfirmed: UnconfirmedTables, code: PumpCode
) -> None:
    harness, (name, _) = unconfirmed.harness, TABLES[code]
    harness.manager.tables[name] = b""
    assert harness.events_after(code) == []
    assert harness.dispatcher.skipped()["empty_tables"] == 1
    assert unconfirmed.pass_by(CONFIRM_AFTER_S * 0.9, callbacks=1) == []
    (message,) = unconfirmed.pass_by(CONFIRM_AFTER_S, callbacks=1)
    assert message.body["action"] == "delete"
    assert unconfirmed.pass_by(CONFIRM_IN_SILENCE_S) == []


@pytest.mark.parametrize("code", TABLES)
def test_a_table_that_a_session_emptied_at_its_end_changes_nothing(
    unconfirmed: UnconfirmedTables, code: PumpCode
) -> None:
    harness, (name, _) = unconfirmed.harness, TABLES[code]
    harness.manager.tables[name] = b""
    assert harness.events_after(code) == []
    harness.events_after(PumpCode.STOP_PUMPING)
    assert unconfirmed.pass_by(3600, callbacks=9) == []
    harness.reconnect(lambda manager: manager.tables.update({name: TABLES[code][1]}))
    assert [message.topic for message in harness.events_after(PumpCode.START_PUMPING)] == ["session.start"]


def test_all_orders_stay_open_when_the_second_read_raises(unconfirmed: UnconfirmedTables) -> None:
    unconfirmed.harness.manager.tables["trades"] = b""
    unconfirmed.harness.events_after(PumpCode.UPDATE_TRADES)
    unconfirmed.harness.manager.connected = False
    assert unconfirmed.pass_by(3600, callbacks=1) == []
    assert unconfirmed.harness.fault_counters.counts["session_gone"] == 1
    assert unconfirmed.harness.dispatcher.trades.orders.open.keys() == {1}


def test_without_callbacks_the_second_read_waits_longer(unconfirmed: UnconfirmedTables) -> None:
    unconfirmed.harness.manager.tables["trades"] = b""
    unconfirmed.harness.events_after(PumpCode.UPDATE_TRADES)
    assert unconfirmed.pass_by(CONFIRM_IN_SILENCE_S * 0.9) == []
    assert len(unconfirmed.pass_by(CONFIRM_IN_SILENCE_S * 0.1)) == 1


def test_doorbells_in_between_neither_agree_nor_put_the_second_read_off(unconfirmed: UnconfirmedTables) -> None:
    harness = unconfirmed.harness
    harness.manager.tables["trades"] = b""
    for _ in range(5):
        assert harness.events_after(PumpCode.UPDATE_TRADES) == []
        assert unconfirmed.pass_by(CONFIRM_IN_SILENCE_S / 10) == []
    assert len(unconfirmed.pass_by(CONFIRM_IN_SILENCE_S)) == 1


def test_a_table_that_is_full_again_forgets_that_it_was_empty(unconfirmed: UnconfirmedTables) -> None:
    harness = unconfirmed.harness
    for array in (b"", TABLES[PumpCode.UPDATE_TRADES][1], b""):
        harness.manager.tables["trades"] = array
        assert harness.events_after(PumpCode.UPDATE_TRADES) == []
        unconfirmed.now_s += CONFIRM_AFTER_S
    assert harness.dispatcher.skipped()["empty_tables"] == 2


def test_an_empty_table_at_the_start_of_the_next_session_has_to_be_confirmed_too(
    unconfirmed: UnconfirmedTables,
) -> None:
    harness = unconfirmed.harness

    def empty(manager: FakeManager) -> None:
        manager.may_empty_tables = True
        manager.tables["trades"] = b""

    harness.reconnect(empty)
    assert [message.topic for message in harness.events_after(PumpCode.START_PUMPING)] == ["session.start"]
    assert seen(unconfirmed.pass_by(CONFIRM_AFTER_S, callbacks=1), "order", "change") == [("trade.100", 1, "closed")]


def test_an_empty_table_of_which_no_row_is_known_is_read_at_once() -> None:
    with open_harness() as harness:
        harness.manager.may_empty_tables = True
        harness.start()
        harness.manager.tables["trades"] = TABLES[PumpCode.UPDATE_TRADES][1]
        assert seen(harness.events_after(PumpCode.UPDATE_TRADES), "change") == [("trade.100", "opened")]
        assert harness.dispatcher.skipped()["empty_tables"] == 0


def test_a_new_reader_is_not_live() -> None:
    assert CurrentSession().live is False
