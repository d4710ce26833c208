"""What is told of a journal that is not whole."""

from __future__ import annotations

from typing import Any

import pytest

from mt4pump.client.event import Notice
from tests.client.desk import Desk


@pytest.mark.parametrize(
    ("head", "text"),
    [
        ({"first_available": 9}, "the journal no longer has offsets 2 to 8: they were deleted"),
        ({"first_available": 0, "last": 8}, "the journal no longer has offsets 2 to 8: they were deleted"),
        ({"first_available": 2}, "after offset 1 the journal is not whole: events were published while"),
        ({"first_available": 1}, "after offset 1 the journal is not whole: events were published while"),
    ],
)
def test_a_notice_names_exactly_what_is_gone(monkeypatch: pytest.MonkeyPatch, head: dict[str, Any], text: str) -> None:
    desk = Desk().live()
    desk.take(desk.ledger.event("trade.1"), desk.ledger.beat())
    desk.ledger.event("trade.1")
    answer = desk.ledger._replay
    monkeypatch.setattr(desk.ledger, "_replay", lambda ask: ({**answer(ask)[0], "whole": False, **head}, []))
    desk.take(desk.ledger.event("trade.1"))
    told = [item.text for item in desk.items if isinstance(item, Notice) and item.kind == "not_whole"]
    assert [each[: len(text)] for each in told] == [text]
