"""A library in a process of its own plays its script: what the tests on other machines rely on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.bus import context
from tests.cli.commands import environment
from tests.programs import piped, program
from tests.vendor.listener import pumping, received, session_flags
from tests.vendor.scenario import QUOTES, TRADES, VARIABLE, trading


def daemon(folder: Path, library: Path, extra: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start a daemon on the fake library, its log in one pipe."""
    words = [sys.executable, "-m", "mt4pump", *session_flags(str(library), str(folder))]
    return piped(words, environment(extra), folder)


def test_daemon_publishes_what_the_script_plays(vendor_library: Path, tmp_path: Path) -> None:
    scenario, go = trading(tmp_path / "script")
    with (
        program(daemon(tmp_path, vendor_library, {VARIABLE: scenario.write()})) as run,
        context() as own,
    ):
        socket = pumping(own, run.endpoint())
        events = received(socket, go)
    trades = [body for topic, body in events if topic == "trade.1001"]
    quotes = [body for topic, body in events if topic == "quote.EURUSD"]
    assert [body["order"] for body in trades] == list(range(1, TRADES + 1))
    assert [body["seq"] for body in quotes] == list(range(1, len(quotes) + 1))
    assert 0 < len(quotes) <= QUOTES


@pytest.mark.parametrize("line", ["nonsense 5", "table 122 no-such-file", "once_called 999 1"])
def test_command_that_cannot_be_played_ends_the_process_and_names_the_line(
    line: str, vendor_library: Path, tmp_path: Path
) -> None:
    script = tmp_path / "script.txt"
    script.write_text(f"# a comment\n\n{line}\n", encoding="utf-8")
    with program(daemon(tmp_path, vendor_library, {VARIABLE: str(script)})) as run:
        assert run.end() == 70
    assert f"line 3 of the script cannot be played: {line}" in run.text
