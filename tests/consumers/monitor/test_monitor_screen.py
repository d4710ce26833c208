"""The screen: it fits, it says what is wrong, and nobody's text commands the terminal."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from mt4pump_consumers.monitor.controls import OVERVIEW, ScreenControls
from mt4pump_consumers.monitor.execution import Alert
from mt4pump_consumers.monitor.screen import age_text, draw
from mt4pump_consumers.monitor.state import MonitorState
from mt4pump_consumers.monitor.tables import TABLES
from rich.cells import cell_len
from rich.console import Console

from mt4pump.client import Status
from tests.consumers.monitor.monitor_run import NS, execution, margin


def status(**changes: Any) -> Status:
    """Return a daemon that is well."""
    well: dict[str, Any] = {"alive": True, "state": "pumping", "age_s": 0.2, "feed_age_s": 0.3, "epoch": 1}
    well |= {"server": "Demo-1", "version": "1", "log": "l", "offset": 1, "durable": True, "body": {}}
    return Status(**{**well, **changes})


def busy_state(symbols: int = 40) -> MonitorState:
    """Return a state with more than fits on any screen."""
    state = MonitorState(status=status(), is_whole=True)
    for number in range(300):
        done = execution(
            number, order=number, login=10_000 + number % 50, symbol=f"SYM{number % symbols}", volume=number
        )
        state.exposure.take(done)
        state.executed(done)
        state.alerted(Alert(str(number), "big", "volume", "warning", "firing", "1", NS, f"text {number} " * 20), 30)
    for login in range(40):
        state.margin(margin(login=login, level_type=1 + login % 2))
    return state


def lines(state: MonitorState, width: int, height: int, controls: ScreenControls | None = None) -> list[str]:
    """Return the screen as a terminal of this size would show it, and what does not fit."""
    console = Console(width=width, height=height, file=io.StringIO(), force_terminal=False, legacy_windows=False)
    with console.capture() as capture:
        console.print(draw(state, controls or ScreenControls(), width, height, has_keys=True))
    return capture.get().splitlines()


SIZES = [(80, 24), (140, 40), (80, 10), (60, 20), (250, 80), (119, 30), (120, 15), (40, 8)]


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("state", [busy_state(), MonitorState()], ids=["busy", "empty"])
def test_it_fits_into_the_terminal(width: int, height: int, state: MonitorState) -> None:
    shown = lines(state, width, height)
    assert len(shown) == height
    assert {cell_len(line) for line in shown} == {width}


@pytest.mark.parametrize(("width", "height"), [(80, 24), (140, 40)])
def test_everything_that_was_asked_for_is_on_it(width: int, height: int) -> None:
    text = "\n".join(lines(busy_state(), width, height))
    for words in (
        "pumping",
        "Demo-1",
        "quote 0.3 s ago",
        "executions",
        "exposure, lots",
        "accounts, lots",
        "margin calls",
    ):
        assert words in text
    for words in ("2.99", "[big] text 299", "STOP-OUT", "opened", "SYM19"):
        assert words in text


def held(symbols: int, accounts: int = 3, volume: int = 100) -> MonitorState:
    """Return a state with one order per symbol, the largest in S00, held by as many accounts in turn."""
    state = MonitorState(status=status(), is_whole=True)
    for number in range(symbols):
        login, lots = 1001 + number % accounts, volume * (symbols - number)
        state.exposure.take(execution(number, order=number, login=login, symbol=f"S{number:02}", volume=lots))
    return state


@pytest.mark.parametrize(("width", "height", "keys"), [(200, 60, ""), (120, 40, ""), (80, 24, "z")])
def test_thirty_symbols_are_all_shown_in_the_width_there_is(width: int, height: int, keys: str) -> None:
    state, controls = held(30), ScreenControls()
    for key in keys:
        controls.press(key, state)
    text = "\n".join(lines(state, width, height, controls))
    assert [number for number in range(30) if f"S{number:02} " not in text] == []


def test_a_number_is_never_cut() -> None:
    state = held(30, volume=123_456_789)
    for width in (80, 120, 200):
        assert f"{123_456_789 * 30 / 100:+,.2f}" in "\n".join(lines(state, width, 40))


def rows(state: MonitorState, controls: ScreenControls, first: str, count: int) -> list[str]:
    """Return the first words of ``count`` lines from the first line on that begins with ``first``."""
    words = [line.split()[:1] for line in lines(state, 80, 40, controls)]
    start = words.index([first])
    return [word for found in words[start : start + count] for word in found]


def press(state: MonitorState, *keys: str) -> ScreenControls:
    """Return new controls after these keys."""
    controls = ScreenControls()
    for key in keys:
        assert not controls.press(key, state)
    return controls


def test_s_sorts_by_the_next_column_and_r_reverses() -> None:
    state = held(4)
    state.exposure.take(execution(9, order=9, login=1001, symbol="S03", volume=30, cmd=1))
    assert rows(state, press(state), "S00", 4) == ["S00", "S01", "S02", "S03"]
    assert rows(state, press(state, "r"), "S03", 4) == ["S03", "S02", "S01", "S00"]
    assert rows(state, press(state, "s"), "S03", 4)[0] == "S03", "by the number of orders"


def test_a_filter_keeps_the_rows_that_have_its_text_until_escape_clears_it() -> None:
    state = held(12)
    controls = press(state, "/", "s", "1")
    assert "filter symbols: s1" in lines(state, 80, 40, controls)[-1]
    controls.press("c-m", state)
    text = "\n".join(lines(state, 80, 40, controls))
    assert ["S10" in text, "S11" in text, "S00" in text] == [True, True, False]
    controls.press("escape", state)
    assert rows(state, controls, "S00", 12)[-1] == "S11"


def test_enter_opens_a_symbol_then_an_account_and_escape_goes_back() -> None:
    state = held(6)
    controls = press(state, "down", "down", "c-m")
    assert str(controls.subject) == "symbol S01"
    text = "\n".join(lines(state, 80, 24, controls))
    assert "symbol S01" in text
    assert "1002" in text
    assert "1001" not in text
    controls.press("c-m", state)
    assert str(controls.subject) == "account 1002"
    text = "\n".join(lines(state, 80, 24, controls))
    assert "S04" in text
    assert "S03" not in text
    controls.press("escape", state)
    controls.press("escape", state)
    assert controls.subject is None


@pytest.mark.parametrize(
    ("key", "row"), [("down", "S00"), ("end", "S59"), ("home", "S00"), ("pagedown", "S20"), ("up", "S00")]
)
def test_keys_move_the_row_and_the_rows_follow(key: str, row: str) -> None:
    state, controls = held(60), ScreenControls()
    controls.tables["symbols"].page = 20
    controls.press(key, state)
    assert controls.tables["symbols"].selected == row
    assert row in "\n".join(lines(state, 80, 24, controls))


@pytest.mark.parametrize("name", [*OVERVIEW, "orders"])
def test_pagedown_moves_by_a_page_and_pageup_back_in_every_table(name: str) -> None:
    state, controls = busy_state(3 if name == "orders" else 40), ScreenControls()
    if name not in controls.names:
        controls.press("c-m", state)  # the symbol that is first is open, and its orders
    while controls.focus != name:
        controls.press("c-i", state)
    rows, at = controls.rows(name, state), 0
    for key, step in (("pagedown", 1), ("pagedown", 1), ("pageup", -1)):
        lines(state, 80, 24, controls)
        page = controls.tables[name].page
        controls.press(key, state)
        at = min(max(at + step * page, 0), len(rows) - 1)
        assert controls.tables[name].selected == TABLES[name].identity(rows[at])
        text = "\n".join(lines(state, 80, 24, controls))
        (first, last) = re.findall(rf"▶ {TABLES[name].title}  (\d+)-(\d+) of {len(rows)}\b", text)[0]
        assert int(first) <= at + 1 <= int(last), "the row is seen"
    assert at


def test_the_selected_row_stays_the_same_symbol_when_the_order_changes() -> None:
    state = held(20)
    controls = press(state, "down", "down", "r")
    assert controls.tables["symbols"].selected == "S01"
    assert "S01" in "\n".join(lines(state, 80, 24, controls))


def test_every_table_has_the_focus_in_turn_and_all_keys_work_without_rows() -> None:
    state, controls, seen = MonitorState(), ScreenControls(), []
    for _ in range(5):
        seen.append(controls.focus)
        for key in ("down", "pagedown", "end", "c-m", "s", "r", "z", "z", "/", "x", "backspace", "c-m", "escape", "f1"):
            assert not controls.press(key, state)
        lines(state, 80, 24, controls)
        controls.press("c-i", state)
    assert sorted(seen) == ["accounts", "calls", "executions", "messages", "symbols"]
    assert controls.press("q", state)


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
