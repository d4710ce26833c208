"""What each console event of Windows does; the registration itself is tested on a Windows Python under Wine."""

from __future__ import annotations

import sys

import pytest

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


@pytest.mark.skipif(sys.platform == "win32", reason="about the other systems")
def test_elsewhere_there_are_no_console_events() -> None:
    asked: list[int] = []
    with console_events(lambda: asked.append(1)):
        pass
    assert asked == []
