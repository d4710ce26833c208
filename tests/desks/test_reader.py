"""The session that the desks read from."""

from __future__ import annotations

import pytest

from mt4pump.desks.reader import Reader, rows
from mt4pump.errors import ConnectionLost
from mt4pump.manager_api.codes import PumpCode
from mt4pump.manager_api.layout import TRADE_RECORD
from mt4pump.session import Link
from tests.desks.stand import seen, stand
from tests.fake_manager import FakeManager


def test_without_a_session_a_read_says_so() -> None:
    with pytest.raises(ConnectionLost, match="no session to read from"):
        Reader().manager  # noqa: B018 - the read is what raises


def test_a_read_goes_to_the_session_of_the_moment() -> None:
    reader = Reader()
    for manager in (FakeManager(), FakeManager()):
        reader.link = Link(manager, "one:443", 7)
        assert reader.manager is manager


def test_no_order_is_told_as_closed_for_the_empty_table_of_a_lost_link() -> None:
    with stand(b"trade.") as desk:
        desk.manager.tables["trades"] = TRADE_RECORD.pack({"order": 1, "login": 100, "symbol": "EURUSD"})
        desk.start()
        desk.manager.tables["trades"] = b""
        desk.manager.connected = False
        assert desk.take(PumpCode.UPDATE_TRADES) == []
        assert desk.complaints.counts["session_gone"] == 1
        desk.manager.connected = True
        assert seen(desk.take(PumpCode.UPDATE_TRADES), "order", "change") == [("trade.100", 1, "closed")]


def test_a_new_reader_is_not_live() -> None:
    assert Reader().live is False


@pytest.mark.parametrize(
    ("array", "expected"), [(b"", []), (b"ab", [b"ab"]), (b"abcd", [b"ab", b"cd"]), (b"abc", [b"ab"]), (b"a", [])]
)
def test_rows_are_whole_records_only(array: bytes, expected: list[bytes]) -> None:
    assert list(rows(array, 2)) == expected
