"""Views: a reader that takes nothing costs lines, not the reading; the terminal is given back after every error."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from io import StringIO
from typing import Any

import pytest
from mt4pump_consumers.monitor import monitor, views
from mt4pump_consumers.monitor.state import MonitorState
from mt4pump_consumers.monitor.views import JsonLines, MonitorScreen
from rich.console import Console

from mt4pump.client import Notice
from mt4pump.process.program import Shutdown
from tests.consumers.monitor.test_monitor_screen import status


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot show whether a pipe is full")
@pytest.mark.parametrize("size", [100, 5_000, 10_000])  # the pipe is full behind a line, or within one
def test_lines_for_a_reader_that_takes_nothing_are_dropped_whole_and_counted(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "PATIENCE_S", 0.0)
    counts: Counter[str] = Counter()
    read, write = os.pipe()
    with os.fdopen(read, "rb", 0) as reader, os.fdopen(write, "w") as out:
        writer = JsonLines(out, Shutdown(), counts)

        def write_until(dropped: int) -> int:
            written = 0
            while counts["lines_dropped"] < dropped:
                writer.notice(Notice("lost", "x" * size, topic="trade.opened"))
                written += 1
            return written

        written = write_until(dropped=3)
        found = reader.read(1 << 20)
        written += write_until(dropped=6)
        found += reader.read(1 << 20)
        writer.notice(Notice("lost", "last", topic="trade.opened"))
        found += reader.read(1 << 20)
    lines = [json.loads(line)["text"] for line in found.splitlines()]
    assert len(lines) + counts["lines_dropped"] == written + 1
    assert lines[-1] == "last"


def test_a_monitor_that_handles_nothing_is_not_healthy() -> None:
    state = MonitorState()
    assert monitor.fault_of(state) == "no heartbeat of the daemon"
    state.status = status(alive=True)
    assert monitor.fault_of(state) == ""
    state.checked_s -= monitor.STALLED_S + 1_000
    state.problem = "store: database or disk is full"
    fault = monitor.fault_of(state)
    assert fault.startswith("no event was handled for 10")
    assert fault.endswith(" s: store: database or disk is full")


@pytest.mark.parametrize("method", ["start", "stop"])
def test_the_keys_terminal_is_given_back_when_the_output_fails(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []

    class Keys:
        def close(self) -> None:
            closed.append("keys")

    def fail(_: Any) -> None:
        raise OSError("the terminal is gone")

    monkeypatch.setattr(views, "TerminalKeys", Keys)
    monkeypatch.setattr(f"rich.live.Live.{method}", fail)

    def run() -> None:
        MonitorScreen(MonitorState(), 1.0, Console(file=StringIO()), Shutdown()).close()

    with pytest.raises(OSError, match="the terminal is gone"):
        run()
    assert closed == ["keys"]
