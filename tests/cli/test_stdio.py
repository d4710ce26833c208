"""Standard output and error that are not there, are full, or are read no more."""

from __future__ import annotations

import errno
import io
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest

from mt4pump.cli import main
from mt4pump.log import mend_streams
from mt4pump.recording import Recording
from tests.bus import until
from tests.cli.commands import LIMIT_S, environment, start
from tests.cli.fake_publisher import fake_publisher
from tests.cli.fake_query import install_fake_query, trade
from tests.programs import program

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell and its signals")
CHECK = ("check", "--source=simulator", "--data-dir=data", "--pub-endpoint=tcp://127.0.0.1:*", "--query-endpoint=none")
TABLES = [("--version",), ("--help",), ("describe", "--asyncapi"), CHECK]
FULL = "mt4pump: the output cannot be written: File too large\n"


def in_shell(before: str, *arguments: str) -> subprocess.Popen[str]:
    """Start ``mt4pump`` as the shell does after ``before``, which ends with a redirection."""
    return subprocess.Popen(
        ["/bin/sh", "-c", before.replace("mt4pump", '"$@"'), "sh", sys.executable, "-m", "mt4pump", *arguments],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    with process:
        text, _ = process.communicate(timeout=LIMIT_S)
    return process.returncode, text


class Broken(io.StringIO):
    """Takes nothing."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code

    def write(self, _text: str) -> int:
        raise OSError(self.code, "says the disk")


@posix
@pytest.mark.parametrize("arguments", TABLES, ids=" ".join)
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_command_ends_well_without_output(arguments: tuple[str, ...], closed: str) -> None:
    code, text = ended(in_shell(f"exec mt4pump {closed}", *arguments))
    assert code == 0, text
    assert "Traceback" not in text


@posix
def test_what_listens_ends_well_without_output(tmp_path: Path) -> None:
    with fake_publisher("quote.A") as endpoint:
        for command in (("tail",), ("tail", "--json"), ("record", str(tmp_path / "a"))):
            words = (*command, "--count", "3", "--endpoint", endpoint)
            assert ended(in_shell("exec mt4pump >&- 2>&-", *words)) == (0, "")


@posix
def test_a_daemon_without_output_stops_with_0(tmp_path: Path) -> None:
    where = ("--pub-endpoint=tcp://127.0.0.1:*", "--query-endpoint=none", f"--data-dir={tmp_path}")
    process = in_shell("exec mt4pump 2>&1 >&-", "run", "--source=simulator", *where)
    with program(process) as run:
        run.line("publishes on")
        process.send_signal(signal.SIGTERM)
        assert run.end(LIMIT_S) == 0
        assert "Traceback" not in run.text


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_stream_that_is_not_there_takes_everything_and_is_no_terminal(
    stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, stream, None)
    mend_streams()
    made = getattr(sys, stream)
    with made:
        assert not made.isatty()
        made.write("\udcff ü")
        made.flush()


@posix
@pytest.mark.parametrize("arguments", TABLES, ids=" ".join)
def test_a_full_disk_is_one_line_and_code_1(arguments: tuple[str, ...]) -> None:
    assert ended(in_shell("ulimit -f 0; exec mt4pump > full", *arguments)) == (1, FULL)


@posix
def test_a_full_disk_ends_a_tail_with_a_line_and_code_1() -> None:
    with fake_publisher("quote.A") as endpoint:
        code, text = ended(in_shell("ulimit -f 0; exec mt4pump > full", "tail", "--json", "--endpoint", endpoint))
    assert code == 1
    assert text.endswith(FULL)
    assert "Traceback" not in text


@pytest.mark.parametrize("arguments", [["snapshot"], ["snapshot", "--json"], ["replay", "--after=0"], ["describe"]])
@pytest.mark.parametrize(
    ("problem", "ending"),
    [
        (errno.ENOSPC, (1, "mt4pump: the output cannot be written: says the disk\n")),
        (errno.EINVAL, (0, "")),  # what Windows calls a pipe that nobody reads any more
        (errno.EPIPE, (0, "")),
    ],
)
def test_the_error_of_the_output_decides_how_a_reply_ends(
    arguments: list[str],
    problem: int,
    ending: tuple[int, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    install_fake_query(monkeypatch).events = [trade(100, 3)]
    monkeypatch.setattr(sys, "stdout", Broken(problem))
    monkeypatch.setattr("mt4pump.cli.drop_output", lambda: None)
    assert (main(arguments), capsys.readouterr().err) == ending


def test_a_tail_ends_when_windows_calls_its_broken_pipe_an_invalid_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Broken(errno.EINVAL))
    monkeypatch.setattr("mt4pump.cli.drop_output", lambda: None)
    with fake_publisher("quote.A") as endpoint:
        assert main(["tail", "--json", "--endpoint", endpoint]) == 0


def test_a_recording_goes_on_when_its_notes_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mt4pump.cli.recordings.CHECK_INTERVAL_S", 0.0)
    monkeypatch.setattr("mt4pump.cli.drop_output", lambda: None)
    monkeypatch.setattr(sys, "stderr", Broken(errno.EPIPE))
    with fake_publisher("quote.A") as endpoint:
        assert main(["record", str(tmp_path / "a"), "--count", "50", "--endpoint", endpoint]) == 0
    with Recording(tmp_path / "a") as recording:
        assert (len(list(recording)), recording.problem) == (50, "")


def test_an_error_of_something_else_is_not_put_on_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_args: object) -> int:
        raise OSError(errno.EIO, "says another disk")

    monkeypatch.setattr("mt4pump.cli.tail.tail_command", fail)
    with pytest.raises(OSError, match="another disk"):
        main(["tail"])


@pytest.mark.parametrize("arguments", [CHECK, ("describe", "--asyncapi"), ("--help",)], ids=" ".join)
def test_a_reader_who_has_enough_is_code_0(arguments: tuple[str, ...]) -> None:
    with start(*arguments) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert (process.stderr.read(), process.wait(LIMIT_S)) == ("", 0)


@pytest.mark.parametrize("command", ["tail", "record"])
def test_a_terminal_that_cannot_redraw_gets_alerts_as_lines(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    numbers = count()

    def is_named() -> bool:  # a busy machine may take longer than --for
        file = [str(tmp_path / f"recorded-{next(numbers)}")] if command == "record" else []
        assert main([command, *file, "--for", "3", "--endpoint", "tcp://127.0.0.1:9"]) == 0
        shown = capsys.readouterr()
        assert "\x1b" not in shown.out + shown.err
        return f"mt4pump {command}: tcp://127.0.0.1:9: the connection was refused" in shown.err

    until(is_named, "the alert")
