"""``mt4pump run``: settings to daemon, and every ending to its exit code."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mt4pump.cli import main
from mt4pump.cli.run import FileWatch
from mt4pump.errors import BindError, LibraryError, SettingsError
from mt4pump.settings import Settings
from tests.cli.commands import LIMIT_S, finish, start

Load = Callable[[], Settings]


@pytest.mark.parametrize("code", [0, 1])
def test_the_daemon_gets_the_settings_and_its_code_is_the_commands(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Settings] = []

    def run(settings: Settings, _load: Load, _watch: FileWatch) -> int:
        seen.append(settings)
        return code

    monkeypatch.setattr("mt4pump.cli.run.run", run)
    assert main(["run", "--source=simulator", "--seed=7", "--no-quotes"]) == code
    assert (seen[0].seed, seen[0].quotes) == (7, False)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (SettingsError("encoding is wrong"), 2, ["ERROR", "settings are wrong: encoding is wrong"]),
        (LibraryError("x.dll: no such file"), 3, ["ERROR", "cannot start: x.dll: no such file"]),
        (BindError("taken by python (pid 5)"), 3, ["ERROR", "cannot start: taken by python (pid 5)"]),
        (ZeroDivisionError("oh"), 1, ["ERROR", "please report it", "Traceback", "ZeroDivisionError: oh"]),
        (KeyboardInterrupt(), 0, []),
    ],
)
def test_how_the_daemon_ends_decides_code_and_log_line(
    error: BaseException,
    code: int,
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(_settings: Settings, _load: Load, _watch: FileWatch) -> int:
        raise error

    monkeypatch.setattr("mt4pump.cli.run.run", run)
    assert main(["run", "--source=simulator"]) == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == (1 if words else 0)
    assert all(word in lines[0] for word in words)


def test_the_daemon_can_read_its_settings_again_from_the_same_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Settings] = []

    def run(settings: Settings, load: Load, _watch: FileWatch) -> int:
        Path("own.toml").write_text('symbols = ["GBP*"]\nseed = 3\n', encoding="utf-8")
        seen.extend([settings, load()])
        return 0

    monkeypatch.setattr("mt4pump.cli.run.run", run)
    Path("own.toml").write_text('symbols = ["EUR*"]\n', encoding="utf-8")
    assert main(["run", "--source=simulator", "--config=own.toml", "--seed=7"]) == 0
    assert [(each.symbols, each.seed) for each in seen] == [(("EUR*",), 7), (("GBP*",), 7)]


def test_wrong_settings_never_reach_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_settings: Settings, _load: Load, _watch: FileWatch) -> Any:
        pytest.fail("started")

    monkeypatch.setattr("mt4pump.cli.run.run", run)
    assert main(["run", "--source=simulator", "--rate=-5"]) == 2


def test_logs_are_set_up_by_the_settings(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def run(_settings: Settings, _load: Load, _watch: FileWatch) -> int:
        raise BindError("taken")

    monkeypatch.setattr("mt4pump.cli.run.run", run)
    assert main(["run", "--source=simulator", "--log-format=json"]) == 3
    assert '"message": "cannot start: taken"' in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="a signal to a process of its own is sent otherwise on Windows")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_tail_receives_from_a_real_daemon_that_stops_cleanly_at_a_signal(number: signal.Signals) -> None:
    flags = ("--pub-endpoint=tcp://127.0.0.1:*", "--query-endpoint=none", "--source=simulator", "--data-dir=data")
    with start("run", *flags) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            endpoint = next(word.rstrip(",") for word in line.split() if word.startswith("tcp://"))
            code, out, _ = finish("tail", "--json", "--count=3", "--for=30", f"--endpoint={endpoint}")
            assert (code, len(out.splitlines())) == (0, 3)
            asked_s = time.monotonic()
            process.send_signal(number)
            _, rest = process.communicate(timeout=LIMIT_S)
        finally:
            process.kill()
    assert process.returncode == 0, rest
    assert time.monotonic() - asked_s < LIMIT_S
    assert "stopped" in rest
