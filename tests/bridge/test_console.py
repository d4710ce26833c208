"""What each console event of Windows does; the registration itself is tested on a Windows Python under Wine."""

from __future__ import annotations

import sys

import pytest

from mt4pump.bridge import console
from mt4pump.bridge.console import CLOSE, CTRL_BREAK, CTRL_C, END_WAIT_S, LOGOFF, SHUTDOWN, answer, console_events


@pytest.mark.parametrize(
    ("event", "taken", "told"),
    [
        (CTRL_C, True, ["ask"]),
        (CTRL_BREAK, True, ["ask"]),
        (CLOSE, True, ["ask", END_WAIT_S]),
        (SHUTDOWN, True, ["ask", END_WAIT_S]),
        (LOGOFF, True, []),
        (3, False, []),
    ],
)
def test_event_asks_and_holds_the_console_open_where_returning_would_kill(
    event: int,
    taken: bool,  # noqa: FBT001 - a parameter of the test
    told: list[object],
) -> None:
    seen: list[object] = []
    assert answer(event, lambda: seen.append("ask"), seen.append) is taken
    assert seen == told


def test_all_who_want_to_know_are_asked_and_without_any_the_next_handler_is(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(console, "_asks", [lambda: asked.append(1), lambda: asked.append(2)])
    assert console.handle(CTRL_BREAK)
    assert asked == [1, 2]
    monkeypatch.setattr(console, "_asks", [])
    assert not console.handle(CTRL_BREAK), "outside of every `console_events` it is as if we were not there"


@pytest.mark.skipif(sys.platform == "win32", reason="about the other systems")
def test_elsewhere_there_are_no_console_events() -> None:
    asked: list[int] = []
    with console_events(lambda: asked.append(1)):
        pass
    assert asked == []
