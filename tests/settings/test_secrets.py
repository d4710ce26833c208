"""A secret never shows: not in errors or their causes, not in texts of settings, whatever source it came from."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mt4pump.cli import main
from mt4pump.errors import SettingsError
from mt4pump.settings import Settings, load

CANARY = "Kanarienvogel7"
SOURCES = ("flag", "environment", "dotenv", "toml")


def arguments_for(source: str, name: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Put the secret under ``name`` into ``source``; return the flags to give."""
    if source == "flag":
        return [f"--{name}={CANARY}"]
    if source == "environment":
        monkeypatch.setenv(f"MT4PUMP_{name.upper()}", CANARY)
    if source == "dotenv":
        Path(".env").write_text(f"MT4PUMP_{name.upper()}={CANARY}\n", encoding="utf-8")
    if source == "toml":
        Path("mt4pump.toml").write_text(f'{name} = "{CANARY}"\n', encoding="utf-8")
    return []


def everything_in(error: BaseException | None) -> Iterator[str]:
    """Yield all text of an exception and of those that it was raised from or during."""
    while error is not None:
        yield from (str(error), repr(error), str(error.args), str(vars(error)))
        yield from traceback.format_exception(error)
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", ["password", "pasword"])
@pytest.mark.parametrize("wrong", [[], ["--seed=x"], ["--pub-endpoint=tcp://*:1"], ["--no-such-flag"]])
def test_check_and_run_never_print_it(
    source: str, name: str, wrong: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*arguments_for(source, name, monkeypatch), *wrong]
    offline = ["--servers=127.0.0.1:1", "--login=5", "--dll-path=missing.dll", "--data-dir=data"]
    for command in (["check"], ["check", "--json"]):
        main([*command, *offline, *flags])
    main(["run", "--login=0", *flags])
    shown = capsys.readouterr()
    assert shown.err or shown.out
    assert CANARY not in shown.out + shown.err


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", ["password", "pasword"])
def test_no_error_carries_it(source: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = arguments_for(source, name, monkeypatch)
    flags: dict[str, object] = {name: CANARY} if arguments else {}
    with pytest.raises(SettingsError) as caught:
        load({**flags, "seed": "x"})
    assert not any(CANARY in text for text in everything_in(caught.value))
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "toml", [f"password = {CANARY}", f'password = "{CANARY}', f'password = ["{CANARY}"]', f"[{CANARY}\nx=1"]
)
def test_a_file_that_is_written_wrong_is_not_quoted(toml: str) -> None:
    Path("mt4pump.toml").write_text(toml, encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load({"source": "simulator"}, {})
    assert not any(CANARY in text for text in everything_in(caught.value))


@pytest.mark.parametrize("text", [f"MT4PUMP_PASSWORD '{CANARY}'", f"MT4PUMP_PASSWORD: {CANARY}", f"'{CANARY}"])
def test_a_broken_line_of_dotenv_is_not_quoted(text: str) -> None:
    Path(".env").write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load({"source": "simulator"}, {})
    assert not any(CANARY in each for each in everything_in(caught.value))


def test_settings_themselves_show_a_mask() -> None:
    settings = load({"source": "simulator", "password": CANARY}, {})
    shown = (repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump()))
    assert not any(CANARY in text for text in shown)
    assert settings.password is not None
    assert settings.password.get_secret_value() == CANARY


def test_the_error_of_the_schema_itself_hides_it() -> None:
    values: dict[str, Any] = {"password": [CANARY], "login": "x"}
    with pytest.raises(ValidationError) as caught:
        Settings(**values)
    assert CANARY not in str(caught.value)


def test_words_left_over_on_the_command_line_are_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--password", "my", CANARY]) == 2
    assert main(["run", "--pasword", CANARY]) == 2
    assert CANARY not in "".join(capsys.readouterr())


def test_run_blots_it_out_of_log_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def careless(_settings: Settings, _load: object, _watch: object) -> int:
        logging.getLogger("mt4pump.test").warning("logging in with %s", CANARY)
        raise RuntimeError(CANARY)

    monkeypatch.setattr("mt4pump.cli.run.run", careless)
    assert main(["run", "--source=simulator", f"--password={CANARY}"]) == 1
    error_lines = capsys.readouterr().err
    assert "logging in with ********" in error_lines
    assert CANARY not in error_lines


@pytest.mark.parametrize("source", SOURCES)
def test_one_that_stands_in_the_list_of_processes_is_warned_about(
    source: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mt4pump.cli.run.run", lambda *_: 0)
    assert main(["run", "--source=simulator", *arguments_for(source, "password", monkeypatch)]) == 0
    logged = capsys.readouterr().err
    warning = "password was given as a flag, which other users see in the list of processes: set MT4PUMP_PASSWORD in"
    assert (warning in logged) is (source == "flag")
    assert CANARY not in logged
