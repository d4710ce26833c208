"""The whole program on a pseudo terminal: keys change what is seen, and the terminal is given back."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.consumers.monitor.monitor_run import LIMIT_S, Daemon, daemon
from tests.consumers.monitor.terminal import Terminal, terminal


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("keys") / "data"
    folder.mkdir()
    with daemon(folder, "--rate", "200") as running:
        yield running


def arguments(feed: Daemon, *more: str) -> list[str]:
    """Return what runs the monitor at this daemon."""
    return ["mt4pump_consumers.monitor", "--endpoint", feed.pub, "--query-endpoint", feed.query, *more]


def symbols(screen: str) -> list[str]:
    """Return the symbols of the exposure, as far as they are seen in the first columns of 80."""
    lines = screen.splitlines()
    start = next((number for number, line in enumerate(lines) if "exposure, lots" in line), len(lines)) + 2
    return [line.split()[0] for line in lines[start : start + 9] if line[:1].isalpha()]


def ready(seen: Terminal) -> None:
    """Wait for the screen with its symbols."""
    seen.until(lambda screen: "q quit" in screen and "exposure, lots" in screen and len(symbols(screen)) == 9)


def test_keys_filter_open_go_back_and_quit(feed: Daemon, tmp_path: Path) -> None:
    with terminal(arguments(feed), tmp_path, width=80, height=24) as seen:
        ready(seen)
        seen.press("/", "E", "U", "R", "enter")
        seen.until(lambda screen: symbols(screen) and all("EUR" in name for name in symbols(screen)))
        seen.press("down", "enter")
        seen.until(lambda screen: " symbol " in screen.splitlines()[1] and "open orders" in screen)
        seen.press("escape")
        seen.until(lambda screen: " symbol " not in screen.splitlines()[1] and "/EUR" in screen)
        seen.press("escape")
        seen.until(lambda screen: "/EUR" not in screen and len(symbols(screen)) == 9)
        seen.press("q")
        assert seen.end() == 0
    assert b"\x1b[?1049h" in seen.raw, "a screen of its own"
    assert seen.raw.rindex(b"\x1b[?1049l") > seen.raw.rindex(b"exposure, lots"), "given back at the end"
    assert b"Traceback" not in seen.raw


def test_keys_sort_reverse_zoom_and_change_the_table(feed: Daemon, tmp_path: Path) -> None:
    with terminal(arguments(feed), tmp_path, width=80, height=24) as seen:
        ready(seen)
        seen.until(lambda screen: "gross▼" in screen)
        seen.press("r")
        seen.until(lambda screen: "gross▲" in screen)
        seen.press("s")
        seen.until(lambda screen: "orders▼" in screen)
        seen.press("z")
        whole = seen.until(
            lambda screen: "executions  " not in screen.splitlines()[2] and "accounts, lots" not in screen
        )
        assert "exposure, lots" in whole.splitlines()[2]
        seen.press("z", "tab")
        seen.until(lambda screen: "▶ accounts, lots" in screen)
        seen.process.send_signal(2)
        assert seen.end() == 0


def test_the_key_pagedown_shows_later_rows(feed: Daemon, tmp_path: Path) -> None:
    with terminal(arguments(feed), tmp_path, width=80, height=24) as seen:
        ready(seen)
        seen.press("tab", "tab", "tab")
        seen.until(lambda screen: re.search(r"▶ executions  1-\d+ of [2-9]\d", screen))
        seen.press("pagedown", "pagedown")
        seen.until(lambda screen: re.search(r"▶ executions  ([2-9]|\d{2,})-\d+ of", screen))
        seen.press("q")
        assert seen.end() == 0


def test_a_terminal_that_cannot_draw_gets_lines(feed: Daemon, tmp_path: Path) -> None:
    with terminal(arguments(feed), tmp_path, width=200, height=24, term="dumb") as seen:
        seen.until(lambda screen: " opened " in screen and " lots" not in screen)
        seen.process.terminate()
        assert seen.end() == 0
    assert b"\x1b" not in seen.raw


def test_a_pipe_gets_a_line_per_execution(feed: Daemon, tmp_path: Path) -> None:
    command = [sys.executable, "-m", *arguments(feed)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=tmp_path
    ) as process:
        assert process.stdout is not None
        found = [line for line in (process.stdout.readline() for _ in range(5)) if " #" in line]
        process.stdout.close()
        assert process.wait(LIMIT_S) == 0
    assert found
    assert all(" at " in line and line.split()[1].isdecimal() for line in found)
