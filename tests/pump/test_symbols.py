"""Symbols: what a read of their table and records that come meanwhile make of each."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from mt4pump.log import FaultCounters
from mt4pump.mt4.codes import Transaction
from mt4pump.mt4.layout import CON_SYMBOL
from mt4pump.pump.session import FAULTS, CurrentSession, ManagerSession
from mt4pump.pump.sliced_work import SlicedWork
from mt4pump.pump.tables import TableHandler
from mt4pump.settings import Settings
from mt4pump.wire import Kind
from tests.fake_manager import FakeManager


class Written:
    """An event writer that keeps what was written: key, action, digits."""

    def __init__(self) -> None:
        self.events: list[tuple[object, str, int]] = []

    def write(self, _kind: Kind, key: object, fields: dict[str, Any], _ts: int, **_how: object) -> None:
        """Keep one event."""
        self.events.append((key, fields["action"], fields["digits"]))


def symbol(name: str, digits: int = 5) -> bytes:
    return CON_SYMBOL.pack({"symbol": name, "digits": digits})


def test_symbols_are_selected_when_their_table_is_read_and_records_that_come_are_newer_than_it() -> None:
    written, current, manager = Written(), CurrentSession(), FakeManager()
    work = SlicedWork(0.0, FAULTS, lambda _name, fault: pytest.fail(str(fault)), lambda: 0.0)  # a step per run
    faults = FaultCounters(logging.getLogger("test.symbols"))
    tables = TableHandler(written, current, faults, Settings(source="simulator"), work.add)  # type: ignore[arg-type]
    manager.tables["symbols"] = b"".join(symbol(f"S{number:04}") for number in range(300))
    current.session, current.live = ManagerSession(manager, "one:443", 1), True
    tables.reread("symbols", 1)
    while work.is_busy:
        work.run()
    steps = 0
    manager.selected.clear()
    tables.reread("symbols", 2, synthetic=True)
    assert len(manager.selected) == 300, "no quote comes before"
    for name, action, digits in (
        ("S0005", Transaction.UPDATE, 3),
        ("NEW", Transaction.ADD, 5),
        ("S0006", Transaction.DELETE, 5),
    ):
        work.run()
        steps += work.is_busy
        tables.handle("symbols", action, symbol(name, digits), 3)
    while work.is_busy:
        work.run()
    assert steps == 3, "the comparison went on"
    assert written.events == [("S0005", "update", 3), ("NEW", "add", 5), ("S0006", "delete", 5)]
    assert b"NEW" in manager.selected
