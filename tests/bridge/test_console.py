"""What each console event of Windows does; the registration itself is tested on a Windows Python under Wine.

Private access: the list of callbacks, because only Windows registers any.
"""

from __future__ import annotations

import sys

import pytest

from mt4pump.bridge import console
from mt4pump.bridge.console import CLOSE, CTRL_BREAK, CTRL_C, END_WAIT_S, LOGOFF, SHUTDOWN, console_events


@pytest.mark.parametrize(
    ("event", "handled", "expected"),
    [
        (CTRL_C, True, ["first", "second"]),
        (CTRL_BREAK, True, ["first", "second"]),
        (CLOSE, True, ["first", "second", END_WAIT_S]),
        (SHUTDOWN, True, ["first", "second", END_WAIT_S]),
        (LOGOFF, True, []),
        (3, False, []),
    ],
)
def test_event_calls_all_callbacks_and_waits_where_returning_would_end_the_process(
    event: int,
    handled: bool,  # noqa: FBT001 - a parameter of the test
    expected: list[object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[object] = []
    monkeypatch.setattr(console, "_callbacks", [lambda: calls.append("first"), lambda: calls.append("second")])
    assert console.handle(event, calls.append) is handled
    assert calls == expected


def test_without_a_callback_the_next_handler_gets_the_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_callbacks", [])
    assert not console.handle(CTRL_BREAK)


@pytest.mark.skipif(sys.platform == "win32", reason="about the other systems")
def test_elsewhere_there_are_no_console_events() -> None:
    calls: list[int] = []
    with console_events(lambda: calls.append(1)):
        pass
    assert calls == []
