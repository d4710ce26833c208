"""What is named for the tests under Wine exists: a renamed file would be left out, or run, without anybody's notice."""

from __future__ import annotations

import pytest

from tests import __main__ as command
from tests.wine import test_unit_suite
from tests.wine.machine import ROOT
from tests.wine.test_unit_suite import NOT_COLLECTED, SYSTEM


def test_every_file_and_folder_that_is_left_out_exists() -> None:
    assert [name for name in NOT_COLLECTED if not (ROOT / name).exists()] == []


def test_every_file_and_folder_that_the_gate_runs_there_exists() -> None:
    assert [name for name in SYSTEM if not (ROOT / "tests" / name).exists()] == []
    file, _, test = command.NOT_STABLE.partition("::")
    assert (ROOT / file).samefile(test_unit_suite.__file__)
    assert hasattr(test_unit_suite, test), "what is not stable would run in the gate"


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
        left_out = [word for word in steps["tests under Wine"] if word.startswith("--deselect=")]
        assert left_out == ([] if is_whole else [f"--deselect={command.NOT_STABLE}"])
