"""The screen: it fits, it says what is wrong, and nobody's text commands the terminal."""

from __future__ import annotations

import io
from typing import Any

import pytest
from mt4pump_consumers.monitor.execution import Alert
from mt4pump_consumers.monitor.screen import age_text, draw
from mt4pump_consumers.monitor.state import MonitorState
from rich.console import Console

from mt4pump.client import Status
from tests.consumers.monitor.monitor_run import NS, execution, margin


def status(**changes: Any) -> Status:
    """Return a daemon that is well."""
    well: dict[str, Any] = {"alive": True, "state": "pumping", "age_s": 0.2, "feed_age_s": 0.3, "epoch": 1}
    well |= {"server": "Demo-1", "version": "1", "log": "l", "offset": 1, "durable": True, "body": {}}
    return Status(**{**well, **changes})


def busy_desk() -> MonitorState:
    """Return a state with more than fits on any screen."""
    state = MonitorState(status=status(), is_whole=True)
    for number in range(300):
        done = execution(number, order=number, login=10_000 + number % 50, symbol=f"SYM{number % 40}", volume=number)
        state.exposure.take(done)
        state.executed(done)
        state.alerted(Alert(str(number), "big", "volume", "warning", "firing", "1", NS, f"text {number} " * 20), 30)
    for login in range(40):
        state.margin(margin(login=login, level_type=1 + login % 2))
    return state


def lines(state: MonitorState, width: int, height: int) -> list[str]:
    """Return the screen as a terminal of this size would show it, and what does not fit."""
    console = Console(width=width, height=height, file=io.StringIO(), force_terminal=False, legacy_windows=False)
    with console.capture() as capture:
        console.print(draw(state, width, height))
    return capture.get().splitlines()


SIZES = [(80, 24), (140, 40), (80, 10), (60, 20), (250, 80), (119, 30), (120, 15), (40, 8)]


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("state", [busy_desk(), MonitorState()], ids=["busy", "empty"])
def test_it_fits_into_the_terminal(width: int, height: int, state: MonitorState) -> None:
    shown = lines(state, width, height)
    if height >= 15:
        assert len(shown) <= height
    assert max(len(line.rstrip()) for line in shown) <= width


@pytest.mark.parametrize(("width", "height"), [(80, 24), (140, 40)])
def test_everything_that_was_asked_for_is_on_it(width: int, height: int) -> None:
    text = "\n".join(lines(busy_desk(), width, height))
    for words in (
        "pumping",
        "Demo-1",
        "quote 0.3 s ago",
        "executions",
        "exposure, lots",
        "biggest accounts",
        "margin calls",
    ):
        assert words in text
    for words in ("2.99", "[big] text 299", "STOP-OUT", "opened", "SYM19"):
        assert words in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"alive": False, "age_s": 75.0}, "DAEMON SILENT 75 s"),
        ({"age_s": None, "alive": False}, "no heartbeat yet"),
        ({"state": "lost"}, "lost"),
        ({"durable": False}, "JOURNAL FAILS"),
        ({"durable": False, "log": ""}, "JOURNAL FAILS"),
        ({"durable": False, "log": None}, "no journal"),
        ({"feed_age_s": None}, "quote none yet"),
    ],
)
def test_the_first_line_says_what_is_wrong_with_the_feed(changes: dict[str, Any], words: str) -> None:
    assert words in lines(MonitorState(status=status(**changes)), 80, 24)[0]


def test_losses_and_trouble_are_in_the_second_line() -> None:
    state = MonitorState(status=status(), problem="store: disk is full")
    state.counts["lost"] = 3
    assert "lost 3" in lines(state, 80, 24)[1]
    assert "disk is full" in lines(state, 80, 24)[1]


def test_text_from_outside_cannot_command_the_terminal() -> None:
    state = MonitorState(status=status(server="\x1b[2Jevil"))
    state.executed(execution(symbol="EU\x1b]0;x\x07R"))
    state.alerted(Alert("1", "r", "volume", "warning", "firing", "1", NS, "a\x1b[31mb\nc"), 30)
    text = "\n".join(lines(state, 140, 40))
    assert "\x1b" not in text
    assert "\x07" not in text


def test_the_result_of_an_account_is_what_it_closed_since_the_start() -> None:
    state = MonitorState()
    for seq, profit in enumerate([10.0, -25.5], 1):
        state.executed(execution(seq, change="closed", profit=profit))
    assert state.results == {1001: -15.5}


@pytest.mark.parametrize(
    ("age_s", "text"),
    [(0.04, "0.0 s"), (9.9, "9.9 s"), (75, "75 s"), (600, "10 min"), (90_000, "25 h"), (10**6, "12 d")],
)
def test_an_age_has_the_unit_that_fits(age_s: float, text: str) -> None:
    assert age_text(age_s) == text
