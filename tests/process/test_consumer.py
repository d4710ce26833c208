"""What every consumer has around it: streams, TOML files within bounds, exit codes, a log of harmless lines."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest
from mt4pump_consumers.gateway.tokens import BadKey, TokenFile
from mt4pump_consumers.monitor.rules import load_rules

from mt4pump.process.program import ConsumerSettings, Shutdown, StartError, run_consumer
from mt4pump.process.sources import FILE_BYTES_MAX, read_toml
from mt4pump.process.systemd import Notifier
from tests.hostile import HOSTILE, is_harmless
from tests.isolation import logging_put_back, nothing_set

__all__ = ["logging_put_back", "nothing_set"]

ODD = {
    "too deep": ("x = " + "[" * 5_000, "brackets too deep"),
    "tables too deep": ("x = " + "{a=" * 5_000, "brackets too deep"),
    "a long number": ("x = " + "1" * 5_000, "number too long"),
    "no TOML": ("x = 1\n[[\n", "not TOML at line 2"),
    "cut off": ("x = [", "not TOML"),
    "a Windows path": ('keys = "C:\\users\\x"', "at line 1, column 13; write a path in single quotes: 'C:\\\\folder"),
    "too large": ("#" * (FILE_BYTES_MAX + 1), "bytes; is it the right file"),
}


class OwnSettings(ConsumerSettings):
    """Nothing of its own."""

    program = help_command = "mt4pump-own"


def run(main: Callable[[OwnSettings, Shutdown], int], *arguments: str) -> int:
    return run_consumer(OwnSettings, main, "For a test.", list(arguments))


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
@pytest.mark.parametrize(("reader", "error"), [(read_toml, ValueError), (load_rules, ValueError), (TokenFile, BadKey)])
def test_odd_toml_is_refused_with_the_files_name(
    tmp_path: Path, text: tuple[str, str], reader: Callable[[Path], object], error: type[Exception]
) -> None:
    path = tmp_path / "odd.toml"
    path.write_text(text[0])
    with pytest.raises(error, match=text[1]) as found:
        reader(path)
    assert str(path) in str(found.value)
    assert len(str(found.value)) < 500


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_odd_settings_end_a_consumer_with_code_2_and_no_traceback(
    tmp_path: Path, text: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "odd.toml"
    path.write_text(text[0])
    assert run(lambda _settings, _shutdown: 0, "--config", str(path)) == 2
    head, problem = capsys.readouterr().err.splitlines()
    assert head == "mt4pump-own: settings are wrong:"
    assert text[1].replace("\\\\", "\\") in problem
    assert str(path) in problem


@pytest.mark.skipif(os.name != "posix", reason="on Windows rights are no modes")
@pytest.mark.parametrize("reader", [read_toml, load_rules, TokenFile])
def test_a_file_that_others_may_write_is_refused(tmp_path: Path, reader: Callable[[Path], object]) -> None:
    path = tmp_path / "open.toml"
    path.write_text("")
    path.chmod(0o666)
    with pytest.raises((ValueError, BadKey), match="chmod o-w"):
        reader(path)


def test_a_consumer_without_output_finds_streams_that_take_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    seen: list[bool] = []

    def main(_settings: OwnSettings, _shutdown: Shutdown) -> int:
        for stream in (sys.stdout, sys.stderr):
            stream.write("\udcff ü\n")
            stream.flush()
            seen.append(stream.isatty())
        return 0

    assert run(main) == 0
    with sys.stdout, sys.stderr:
        assert seen == [False, False]


def fail_with(error: Exception) -> Callable[[OwnSettings, Shutdown], int]:
    def main(_settings: OwnSettings, _shutdown: Shutdown) -> int:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (StartError("the port is taken"), 3, "cannot start: the port is taken"),
        (ModuleNotFoundError("x", name="nats.aio"), 3, "library nats is not installed; the consumers' libraries come"),
        (ModuleNotFoundError("x", name="mt4pump.gone"), 1, "should not happen; please report it"),
        (ZeroDivisionError(), 1, "should not happen; please report it"),
    ],
)
def test_what_ends_a_consumer_decides_its_exit_code(
    error: Exception, code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(fail_with(error), "--log-format=json") == code
    (line,) = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    assert text in entry["message"]
    assert (entry["level"], entry["ts"][-1]) == ("error", "Z")


def test_a_signal_asks_it_to_end(capsys: pytest.CaptureFixture[str]) -> None:
    def main(_settings: OwnSettings, shutdown: Shutdown) -> int:
        assert not shutdown.wait(0)
        signal.raise_signal(signal.SIGTERM)
        return 0 if shutdown.wait(60) else 1

    assert run(main) == 0
    assert capsys.readouterr().err == ""


class Recorded(Notifier):
    """Keeps what the service manager would receive."""

    def __init__(self) -> None:
        super().__init__("/nowhere", watchdog_s=0.000_001)
        self.sent: list[str] = []

    def _send(self, *lines: str) -> None:
        self.sent.append(lines[0])


def test_checks_of_the_main_thread_alone_ping_the_service_manager() -> None:
    notifier = Recorded()
    shutdown = Shutdown(notifier=notifier)
    thread = Thread(target=shutdown.asked)
    thread.start()
    thread.join()
    assert notifier.sent == []
    while notifier.sent.count("WATCHDOG=1") < 2:  # clocks of Windows step by 16 ms
        assert not shutdown.asked()
    shutdown.ask()
    for _ in range(2):
        assert shutdown.asked()
    assert notifier.sent == ["READY=1", "WATCHDOG=1", "WATCHDOG=1", "STOPPING=1"]


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("style", ["human", "json"])
def test_a_log_line_is_harmless_wherever_the_text_stands(
    text: str, style: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(_settings: OwnSettings, _shutdown: Shutdown) -> int:
        log = logging.getLogger("mt4pump_consumers.test")
        log.warning("client %s logged in", text)
        try:
            raise ValueError(text)  # noqa: TRY301 - what is to be logged
        except ValueError:
            log.exception("failed: %r", text, extra={"reason": text})
        return 0

    assert run(main, f"--log-format={style}") == 0
    lines = capsys.readouterr().err.removesuffix("\n").split("\n")
    assert len(lines) == 2
    assert all(map(is_harmless, lines))
    if style == "json":
        assert json.loads(lines[0])["message"] == f"client {text} logged in"
