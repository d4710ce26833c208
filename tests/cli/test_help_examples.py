"""``--help`` of every command of every program has an example, with flags that there are."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from mt4pump_consumers.archive.commands import COMMANDS as ARCHIVE_COMMANDS
from mt4pump_consumers.gateway.new_token import run as new_token

from mt4pump.cli import COMMANDS, main
from tests.cli.commands import LIMIT_S, PROJECT, environment

SCRIPTS: dict[str, str] = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["scripts"]
PROGRAMS = [name for name in SCRIPTS if name != "mt4pump"]


def help_of(run: Callable[[], object], capsys: pytest.CaptureFixture[str]) -> str:
    """Return what ``--help`` prints, a long line joined again."""
    with suppress(SystemExit):
        run()
    return capsys.readouterr().out


def has_example(text: str, command: str) -> bool:
    """Return whether a line, other than the usage, shows the command with something behind it, or alone."""
    body = text.split("\n\n", 1)[1]
    return bool(re.search(rf"^(?:  |example: ){re.escape(command)}(?: |$)", body, re.MULTILINE))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_mt4pump_has_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert has_example(help_of(lambda: main([name, "--help"]), capsys), f"mt4pump {name}")


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_has_an_example(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, _, function = SCRIPTS[name].partition(":")
    monkeypatch.setattr("sys.argv", [name, "--help"])
    assert has_example(help_of(getattr(importlib.import_module(module), function), capsys), name)


@pytest.mark.parametrize("name", ARCHIVE_COMMANDS)
def test_every_command_of_the_archive_has_an_example(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("mt4pump_consumers.archive.__main__")
    monkeypatch.setattr("sys.argv", ["mt4pump-archive", name, "--help"])
    assert has_example(help_of(module.run, capsys), f"mt4pump-archive {name}")


LIBRARIES = (
    *("httpx", "prompt_toolkit", "cryptography", "nats", "prometheus_client", "jwt", "websockets"),
    *("duckdb", "pyarrow", "psycopg"),
)
"""What the extras bring."""
WITHOUT_EXTRAS = f"""
import contextlib, importlib, io, json, sys
sys.modules.update(dict.fromkeys({LIBRARIES!r}))
found = {{}}
for module, words in json.loads(sys.argv[1]):
    sys.argv, out = ["x", *words], io.StringIO()
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(out):
        importlib.import_module(module).run()
    found[" ".join([module, *words])] = out.getvalue()
print(json.dumps(found))
"""


def test_help_works_without_the_extras(tmp_path: Path) -> None:
    asked = [(SCRIPTS[name].partition(":")[0], ["--help"]) for name in PROGRAMS]
    asked += [("mt4pump_consumers.archive.__main__", [name, "--help"]) for name in ARCHIVE_COMMANDS]
    asked += [("mt4pump_consumers.gateway.new_token", ["--help"])]
    command = [sys.executable, "-c", WITHOUT_EXTRAS, json.dumps(asked)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment(), timeout=LIMIT_S
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) == len(asked) > 10
    assert [name for name, text in found.items() if not text.startswith("usage: ")] == []


def test_without_the_extra_the_maker_of_tokens_says_what_to_install(tmp_path: Path) -> None:
    code = f"import sys; sys.modules['jwt'] = None; from {new_token.__module__} import run; sys.exit(run(['a', 'b.*']))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment(), timeout=LIMIT_S
    )
    assert done.returncode == 3
    assert "new_token: the library jwt is not installed; the consumers' libraries come with: pip install" in done.stderr


def test_the_maker_of_tokens_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(lambda: new_token(["--help"]), capsys)
    assert has_example(text, "python -m mt4pump_consumers.gateway.new_token")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_use_flags_that_there_are(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(lambda: main([name, "--help"]), capsys)
    options = set(re.findall(r"(--[a-z][a-z-]*)", text.split("options:", 1)[1].split(f"  mt4pump {name}", 1)[0]))
    for line in re.findall(rf"^  mt4pump {name} .*$", text, re.MULTILINE):
        words = shlex.split(re.split(r"\s{2,}", line.strip())[0].replace("\\", "/"))
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= options, line
