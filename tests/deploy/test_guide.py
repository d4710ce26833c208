"""deploy/README.md names what exists: files, commands, settings, and the words that the programs really log."""

from __future__ import annotations

import ast
import functools
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from mt4pump_consumers.gateway import new_token
from mt4pump_consumers.gateway.tokens import TokenFile
from mt4pump_consumers.monitor.settings import MonitorSettings

from mt4pump.journal import Journal, JournalOptions
from mt4pump.service.plan import PROGRAMS
from mt4pump.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
GUIDE = (DEPLOY / "README.md").read_text(encoding="utf-8")
FORMAT = re.compile(r"%(?:\.\d+)?[a-z]")
SHORT = 8
"""A part of a quoted line that is shorter proves nothing, and is not looked for."""


def rows(title: str) -> list[list[str]]:
    """Return the cells of the table below a heading."""
    text = GUIDE.split(f"## {title}")[1].split("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def quoted() -> list[str]:
    """Return every part of a log line that the table of symptoms quotes."""
    found = [
        part
        for row in rows("What to do when")
        for quote in re.findall(r"`([^`]+)`", row[0])
        for part in quote.split("...")
    ]
    return [part.strip("( ") for part in found if len(part.strip("( ")) >= SHORT]


@functools.cache
def written() -> str:
    """Return all text in the programs' string literals, a line per literal, what differs left out."""
    packages = (ROOT / "mt4pump", ROOT / "consumers" / "mt4pump_consumers")
    files = [file for package in packages for file in package.rglob("*.py")]
    return "\n".join(text for file in files for text in literals(ast.parse(file.read_text(encoding="utf-8"))))


def literals(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "\n" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield FORMAT.sub("\n", node.value)


@pytest.mark.parametrize("part", quoted())
def test_a_quoted_log_line_is_one_of_a_program(part: str) -> None:
    assert part in written()


def test_every_symptom_quotes_something() -> None:
    symptoms = rows("What to do when")
    assert len(symptoms) >= 20
    assert [row for row in symptoms if len(row) != 3 or "`" not in row[0]] == []
    assert len(quoted()) >= len(symptoms)


def test_every_file_that_is_named_is_there() -> None:
    linked = re.findall(r"\]\(([\w./-]+)\)", GUIDE)
    assert [name for name in linked if not (DEPLOY / name).exists()] == []
    top = {entry.name for entry in DEPLOY.iterdir() if not entry.name.startswith((".", "_"))} - {"README.md"}
    assert top <= {name.split("/")[0] for name in linked}
    installed = re.findall(r"install (?:-D )?-m \d+ (?:-g [\w-]+ )?((?:systemd|examples)/[\w.*-]+)", GUIDE)
    assert installed
    assert [name for name in installed if not list(DEPLOY.glob(name))] == []


def test_every_setting_that_is_named_exists() -> None:
    named = set(re.findall(r"`((?:journal|inbox|curve)_\w+)", GUIDE))
    assert named
    assert named <= set(Settings.model_fields)
    assert "webhook" in MonitorSettings.model_fields


def test_the_folders_are_those_of_the_programs() -> None:
    assert "Folders are " + ", ".join(f"`{name}`" for name in ("daemon", "gateway", "metrics", "monitor")) in " ".join(
        GUIDE.split()
    )
    assert set(PROGRAMS) == {"daemon", "gateway", "metrics", "monitor", "archive", "nats"}


def test_the_command_that_makes_a_clients_key_works_as_written(tmp_path: Path) -> None:
    (line,) = re.findall(r"`mt4pump (keygen client [^`]+)`", GUIDE)
    for arguments in (
        ["keygen", "server", "keys"],
        ["keygen", "server", "keys", "--force"],
        shlex.split(line.replace("...", "*")),
    ):
        result = subprocess.run(
            [sys.executable, "-m", "mt4pump", *arguments],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert result.returncode == 0, result.stderr
    assert (tmp_path / "keys" / "clients" / "alice-2.toml").exists()
    assert (tmp_path / "keys" / "alice-2.client").exists()


def test_the_command_for_a_new_token_leaves_a_valid_file_with_the_owners_old_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (line,) = re.findall(r"`python -m mt4pump_consumers.gateway.new_token ([^`]+) >> tokens.toml`", GUIDE)
    file = tmp_path / "tokens.toml"
    for arguments in ("NAME TOPIC...", line):
        assert new_token.run(arguments.replace("TOPIC...", "quote.*").split()) == 0
        with file.open("a", encoding="utf-8") as tokens:
            tokens.write(capsys.readouterr().out)
    assert len(tomllib.loads(file.read_text(encoding="utf-8"))) == 2
    TokenFile(file)


def test_the_program_that_reads_a_copy_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Journal(tmp_path / "copy.sqlite3", JournalOptions(), lambda: 1).close()
    monkeypatch.chdir(tmp_path)
    (program,) = re.findall(r"```python\n(.*?)```", GUIDE, flags=re.DOTALL)
    exec(compile(program, "deploy/README.md", "exec"), {})  # noqa: S102 - that is the test
