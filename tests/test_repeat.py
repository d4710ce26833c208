"""``python -m tests.repeat`` counts what failed how often, and sees a run that never finished."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from tests import repeat

PARALLEL = ("-n", "0", "-p", "no:cacheprovider")
MOODY = """
import pathlib

STATE = pathlib.Path(__file__).with_name("runs.txt")


def test_fails_in_every_second_run():
    runs = len(STATE.read_text()) if STATE.exists() else 0
    STATE.write_text("x" * (runs + 1))
    assert runs % 2 == 0


def test_always_passes():
    pass
"""


def test_a_test_that_fails_now_and_then_is_counted_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test_moody.py").write_text(MOODY, encoding="utf-8")
    assert repeat.main(["4", str(tmp_path), *PARALLEL]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2] == "== 2 of 4 runs without a failure"
    assert lines[-1].startswith("failed 2 of 4: ")  # then the folder, seen from the one that pytest takes for its root
    assert lines[-1].endswith("test_moody::test_fails_in_every_second_run")


def test_runs_without_a_failure_end_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "test_good.py").write_text("def test_good():\n    pass\n", encoding="utf-8")
    assert repeat.main(["2", str(tmp_path), *PARALLEL]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "== 2 of 2 runs without a failure"


@pytest.mark.parametrize("text", ["import os\n\n\ndef test_dies():\n    os._exit(7)\n", "syntax error"])
def test_a_run_that_could_not_finish_is_a_failure(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test_dies.py").write_text(text, encoding="utf-8")
    assert repeat.main(["1", str(tmp_path), *PARALLEL]) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("failed 1 of 1: ")


def test_a_busy_machine_is_one_only_as_long_as_asked_for() -> None:
    before = set(psutil.Process(os.getpid()).children())
    with repeat.busy(2):
        burning = set(psutil.Process(os.getpid()).children()) - before
        assert len(burning) == 2
    assert not any(process.is_running() for process in burning)
