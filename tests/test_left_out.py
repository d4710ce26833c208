"""What is named for the tests under Wine exists: a renamed file would be left out, or run, without anybody's notice."""

from __future__ import annotations

import pytest

from tests import __main__ as command
from tests.wine.machine import ROOT
from tests.wine.test_unit_suite import NOT_COLLECTED, SYSTEM


def test_every_file_and_folder_that_is_left_out_exists() -> None:
    assert [name for name in NOT_COLLECTED if not (ROOT / name).exists()] == []


def test_every_file_and_folder_that_is_named_for_the_gate_exists() -> None:
    assert [name for name in SYSTEM if not (ROOT / "tests" / name).exists()] == []
    assert [name for name in command.NOT_STABLE if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize(
    ("variables", "is_run", "is_whole"),
    [({}, False, False), ({"REQUIRE_ALL_TESTS": "1"}, True, False), ({"WINDOWS_TESTS": "1"}, True, True)],
    ids=["a developer", "the gate", "all of Windows"],
)
def test_the_gate_runs_all_but_what_is_not_stable(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], *, is_run: bool, is_whole: bool
) -> None:
    for name in ("REQUIRE_ALL_TESTS", "WINDOWS_TESTS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    steps = dict(command.chosen())
    assert ("tests under Wine" in steps) == is_run
    if is_run:
        left_out = [word for word in steps["tests under Wine"] if word.startswith("--ignore=")]
        assert left_out == ([] if is_whole else [f"--ignore={name}" for name in command.NOT_STABLE])


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (None, "(there is no container engine here): "),
        ("/usr/bin/x", "(docker and podman on this machine; they need the images"),
    ],
)
def test_a_line_names_the_tests_of_containers_that_no_step_runs_and_their_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], found: str | None, text: str
) -> None:
    monkeypatch.setattr(command, "chosen", lambda: iter([("nothing", ["-c", ""])]))
    monkeypatch.setattr("shutil.which", lambda _: found)
    assert command.main() == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("left out: ")]
    assert text in line
    words = line.partition(": python ")[2].split()
    assert [word for word in words if word.endswith(".py") and not (ROOT / word).is_file()] == []
    assert words[:4] == ["-m", "pytest", "-m", "index"]
