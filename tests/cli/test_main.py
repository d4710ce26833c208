"""The command line as a whole: help that teaches, nearest names, exit codes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest

from mt4pump import __version__
from mt4pump.cli import COMMANDS, main
from mt4pump.errors import StartError
from mt4pump.process.settings import extra_of
from mt4pump.process.sources import flag_name
from mt4pump.settings import Settings
from tests.cli.commands import environment, finish


def test_help_shows_what_to_type_first_the_sources_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for wanted in (
        "mt4pump run --source simulator",
        "mt4pump tail ",
        "mt4pump tail 'quote.EURUSD' --json",
        "mt4pump.toml",
        "0 clean stop, 2 settings or flags wrong, 3 cannot start",
        *COMMANDS,
    ):
        assert wanted in text


def test_no_command_shows_the_help_as_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "mt4pump run --source simulator" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "check"])
def test_help_of_run_and_check_has_every_setting_with_its_variable_and_group(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for name in Settings.model_fields:
        assert f"{flag_name(name)} " in text or f"{flag_name(name)}," in text
        assert f" {extra_of(Settings, name)['group']}: " in text
        assert f"[{Settings.naming().variable(name)}" in text
    assert "[MT4PUMP_PUB_ENDPOINT; default tcp://127.0.0.1:5556]" in text
    assert "--quotes, --no-quotes" in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mt4pump {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tial"], "mt4pump: there is no command 'tial'; did you mean mt4pump tail?"),
        (["zzz"], f"mt4pump: there is no command 'zzz'; the commands are {', '.join(COMMANDS)}"),
        (
            ["reload"],
            "mt4pump: there is no command 'reload'; the daemon takes over a change of its settings file by itself",
        ),
        (["--source", "dll"], "mt4pump: the command comes first, then its flags: mt4pump run --source simulator"),
        (["run", "--sorce=x"], "mt4pump run: there is no flag --sorce; did you mean --source?"),
        (["run", "--no-quots"], "mt4pump run: there is no flag --no-quots; did you mean --no-quotes?"),
        (["run", "--zzzzzz"], "mt4pump run: there is no flag --zzzzzz; mt4pump run --help lists all"),
        (["run", "--rat", "5"], "mt4pump run: there is no flag --rat; did you mean --rate?"),
        (["run", "stray"], "mt4pump run: 1 word(s) too many; put a value that has spaces in quotes"),
        (
            ["run", "--seed"],
            "mt4pump run: argument --seed: expected one argument (a value that starts with - is written",
        ),
        (["check", "--jsn"], "mt4pump check: there is no flag --jsn; did you mean --json?"),
        (["tail", "--endpont=x"], "mt4pump tail: there is no flag --endpont; did you mean --endpoint?"),
        (["tail", "--count", "0"], "mt4pump tail: argument --count: '0' is not a whole number of at least 1"),
        (["tail", "--for", "nan"], "mt4pump tail: argument --for: 'nan' is not a number of seconds above 0"),
    ],
)
def test_a_wrong_word_is_code_2_with_the_nearest_right_one(
    arguments: Sequence[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(message)
    assert not shown.out


def test_every_unknown_flag_is_named_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--sorce=x", "--sed=2"]) == 2
    assert [line.rpartition(" ")[2] for line in capsys.readouterr().err.splitlines()] == ["--source?", "--seed?"]


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (StartError("the address is taken"), 3, "mt4pump: cannot start: the address is taken\n"),
        (KeyboardInterrupt(), 1, "mt4pump: interrupted\n"),
        (BrokenPipeError(), 0, ""),
    ],
)
def test_what_ends_a_command_decides_the_exit_code(
    error: BaseException,
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def fail(_args: object) -> int:
        raise error

    monkeypatch.setattr("mt4pump.cli.tail.tail_command", fail)
    monkeypatch.setattr("mt4pump.cli.drop_output", lambda: None)
    assert main(["tail"]) == code
    assert capfd.readouterr().err == message


@pytest.mark.not_under_wine("starts many processes, which takes Wine seconds each")
def test_the_process_ends_with_2_for_wrong_settings_and_lists_them() -> None:
    code, out, error = finish("run", "--seed=x", extra={"MT4PUMP_LOGN": "5"})
    assert (code, out) == (2, "")
    assert error.startswith("mt4pump: settings are wrong:\n")
    assert "  MT4PUMP_LOGN (environment): no such setting; did you mean MT4PUMP_LOGIN?\n" in error
    assert "  seed (flag --seed): 'x' is not a whole number of at least 0\n" in error


@pytest.mark.not_under_wine("starts many processes, which takes Wine seconds each")
def test_the_process_ends_with_3_when_it_cannot_start() -> None:
    account = ("--servers=127.0.0.1:1", "--login=5", "--password=x")
    code, _, error = finish("run", *account, "--dll-path=missing.dll", "--data-dir=data")
    assert code == 3
    assert "cannot start: " in error
    assert "missing.dll" in error
    assert "Traceback" not in error


@pytest.mark.not_under_wine("starts many processes, which takes Wine seconds each")
def test_the_process_ends_with_1_and_a_traceback_in_the_log_for_anything_else() -> None:
    program = "import sys, mt4pump.cli.run as run; from mt4pump.cli import main; run.run = 5; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", program, "run", "--source=simulator"],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "should not happen" in line
    assert "TypeError" in line
