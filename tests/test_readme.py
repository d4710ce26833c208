"""The README is short, and its commands do what it says, in a fresh virtual environment."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bus import ANY_PORT

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
REQUIRED = os.environ.get("REQUIRE_ALL_TESTS")
ENDPOINT = "tcp://127.0.0.1:5556"


def shell_lines() -> list[str]:
    """Return the commands of the README's shell blocks, without their comments."""
    blocks = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    return [line.split("  #")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) < 150


def test_the_gate_runs_the_test_command_of_the_readme() -> None:
    pattern = re.search(r"'s/(\^.*?)/\\1/p'", (ROOT / ".ci" / "run").read_text(encoding="utf-8"))
    assert pattern is not None
    expression = pattern[1].replace("\\(", "(").replace("\\)", ")")
    assert [line for line in README.splitlines() if re.match(expression, line)] == [
        line for line in shell_lines() if "python -m tests" in line
    ]


def test_every_installation_is_of_the_locked_set() -> None:
    commands = [line for line in shell_lines() if "pip install" in line]
    assert len(commands) == 2, "try it, test it"
    assert [line for line in commands if "pip install -q -c deploy/constraints.txt " not in line] == []
    assert "write `constraints-win32.txt` for\n`constraints.txt` above" in README


def test_every_setting_the_readme_names_exists() -> None:
    from mt4pump.settings import Settings  # noqa: PLC0415 - read where it is compared

    table = README.split("| setting | default | meaning |")[1].split("\n\n")[0]
    first_cells = [row.split("|")[1] for row in table.splitlines()[2:]]
    named = {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)}
    assert named <= set(Settings.model_fields)


def test_every_topic_the_readme_names_exists() -> None:
    from mt4pump.wire import KINDS  # noqa: PLC0415 - read where it is compared

    table = README.split("| topic | body")[1].split("\n\n")[0]
    first_cells = [row.split("|")[1] for row in table.splitlines()[2:]]
    assert {name for cell in first_cells for name in re.findall(r"`(\w+)", cell)} == set(KINDS)


@pytest.mark.skipif(not REQUIRED, reason="installs into a fresh environment: needs a package index and a minute")
@pytest.mark.timeout(1800)
def test_from_a_clone_to_quotes_and_trades_in_another_terminal(tmp_path: Path) -> None:
    copy = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(copy)], check=True)  # noqa: S607 - git by name
    first, tail, tail_json = shell_lines()[:3]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MT4PUMP_", "PYTHON"))}
    daemon = subprocess.Popen(
        ["bash", "-c", first.replace("&& .venv/bin/mt4pump", "&& exec .venv/bin/mt4pump")],  # noqa: S607 - bash by name
        cwd=copy,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert daemon.stdout is not None
        seen = []
        for line in daemon.stdout:
            seen.append(line)
            if "Ctrl-C ends all of it" in line:
                break
        else:
            pytest.fail("".join(seen))
        for line, wanted in (
            (f"{tail} 'trade.*' --count 5", "trade."),
            (f"{tail_json} --count 5", '{"topic": "quote.EUR'),
        ):
            result = subprocess.run(
                ["bash", "-c", line],  # noqa: S607 - bash by name
                cwd=copy,
                env=environment,
                check=True,
                capture_output=True,
                text=True,
                timeout=300,
            )
            assert result.stdout.count(wanted) == 5
        assert json.loads(result.stdout.splitlines()[0])["body"]["seq"] > 0
        daemon.send_signal(signal.SIGINT)
        assert daemon.wait(120) == 0
    finally:
        daemon.kill()
        daemon.wait()
        daemon.stdout.close()  # type: ignore[union-attr]


def test_the_python_example_receives_trades(tmp_path: Path) -> None:
    example = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)[0]
    flags = ("--source", "simulator", "--data-dir", str(tmp_path), "--pub-endpoint", ANY_PORT)
    more = ("--query-endpoint", ANY_PORT)
    with subprocess.Popen(
        [sys.executable, "-m", "mt4pump", "run", *flags, *more, "--log-format", "json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    ) as daemon:
        assert daemon.stderr is not None
        text = next(line for line in daemon.stderr if "publishes on" in line)
        port = re.findall(r"publishes on (tcp://[\d.:]+)", text)[0]
        with subprocess.Popen(
            [sys.executable, "-u", "-c", example.replace(ENDPOINT, port)], stdout=subprocess.PIPE, text=True
        ) as reader:
            assert reader.stdout is not None
            assert reader.stdout.readline().startswith("trade.")
            reader.kill()
        daemon.terminate()
        assert daemon.wait(40) == (1 if sys.platform == "win32" else 0)  # Windows just kills it
