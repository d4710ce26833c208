"""What is reported of a journal that is not whole."""

from __future__ import annotations

from typing import Any

import pytest

from mt4pump.client.event import Notice
from tests.client.harness import Harness


@pytest.mark.parametrize(
    ("head", "text"),
    [
        ({"first_available": 9}, "the journal no longer has offsets 2 to 8: they were deleted"),
        ({"first_available": 0, "last": 8}, "the journal no longer has offsets 2 to 8: they were deleted"),
        ({"first_available": 2}, "after offset 1 the journal is not whole: it could not be written"),
        ({"first_available": 1}, "after offset 1 the journal is not whole: it could not be written"),
    ],
)
def test_a_notice_names_exactly_what_is_gone(monkeypatch: pytest.MonkeyPatch, head: dict[str, Any], text: str) -> None:
    harness = Harness().live()
    harness.receive(harness.model.event("trade.1"), harness.model.heartbeat())
    harness.model.event("trade.1")
    answer = harness.model.replay
    monkeypatch.setattr(harness.model, "replay", lambda ask: ({**answer(ask)[0], "whole": False, **head}, []))
    harness.receive(harness.model.event("trade.1"))
    texts = [item.text for item in harness.items if isinstance(item, Notice) and item.kind == "not_whole"]
    assert [each[: len(text)] for each in texts] == [text]
