"""What is named for the tests under Wine exists: a renamed file would be left out, or run, without anybody's notice."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests import __main__ as command
from tests.deploy import container_engine as container_engine_module
from tests.deploy.container_engine import IMAGES, ContainerEngine, container_engine
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
    ("missing", "text"),
    [
        ("images that are not on this machine: mt4pump", "(images that are not on this machine: mt4pump)"),
        ("", "the build of the container image"),
    ],
    ids=["no images", "all there"],
)
def test_containers_run_where_engine_and_images_are_and_a_line_names_what_is_left_out(
    monkeypatch: pytest.MonkeyPatch, missing: str, text: str
) -> None:
    monkeypatch.setattr(command, "container_engine", lambda: ContainerEngine("podman", ("podman-compose",), missing))
    assert ("containers" in dict(command.chosen())) == (not missing)
    line = command.left_out()
    assert line.startswith("left out: ")
    assert text in line
    words = [*command.COMPOSED, *line.partition(": python ")[2].split()]
    assert [word for word in words if word.endswith(".py") and not (ROOT / word).is_file()] == []
    assert words[:3] == ["-m", "pytest", "-m"]


ENGINE = """#!/bin/sh
echo "$(basename "$0") $*" >> {log}
case "$*" in
  "image inspect absent") exit 1 ;;
esac
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the engine is a script of the shell")
@pytest.mark.parametrize("image", ["present", "absent"])
def test_an_engine_is_only_asked_for_what_is_on_this_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, image: str
) -> None:
    for name in ("podman", "podman-compose"):
        (tmp_path / name).write_text(ENGINE.format(log=tmp_path / "log"), encoding="utf-8")
        (tmp_path / name).chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setattr(container_engine_module, "PROGRAMS", (("podman", ("podman-compose",)),))
    for variable in IMAGES:
        monkeypatch.setenv(variable, image)
    found = container_engine()
    assert found.missing == (
        "" if image == "present" else "images that are not on this machine: absent, absent, absent"
    )
    asked = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    assert asked == ["podman info", "podman-compose version", *[f"podman image inspect {image}"] * len(IMAGES)]
