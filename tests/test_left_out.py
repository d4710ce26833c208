"""What is named for the tests under Wine exists: a renamed file would be left out, or run, without anybody's notice."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import __main__ as command
from tests.deploy import container_engine as container_engine_module
from tests.deploy.container_engine import (
    IMAGES,
    ContainerEngine,
    built_image,
    container_engine,
    missing_images,
    pull,
    running_engine,
)
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
        ("images that are not on this machine: nats", "(images that are not on this machine: nats)"),
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
  "image inspect "*absent*) exit 1 ;;
  "pull "*absent*) echo "trying" >&2; echo "no such host: registry" >&2; exit 125 ;;
esac
"""

Commands = Callable[[], list[str]]


@pytest.fixture(name="commands")
def _commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Commands:
    """Make `ENGINE` the only engine; return what gives the commands that it got."""
    for name in ("podman", "podman-compose"):
        (tmp_path / name).write_text(ENGINE.format(log=tmp_path / "log"), encoding="utf-8")
        (tmp_path / name).chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setattr(container_engine_module, "PROGRAMS", (("podman", ("podman-compose",)),))
    monkeypatch.setattr(container_engine_module, "fill_context", lambda _: None)
    for variable in (*IMAGES, "MT4PUMP_BASE_IMAGE"):
        monkeypatch.delenv(variable, raising=False)
    return lambda: (tmp_path / "log").read_text(encoding="utf-8").splitlines()


ON_A_SHELL = pytest.mark.skipif(sys.platform == "win32", reason="the engine is a script of the shell")


@ON_A_SHELL
@pytest.mark.parametrize("image", ["present", "absent"])
def test_an_engine_is_only_asked_for_what_is_on_this_machine(
    monkeypatch: pytest.MonkeyPatch, commands: Commands, image: str
) -> None:
    for variable in IMAGES:
        monkeypatch.setenv(variable, image)
    found = container_engine()
    assert found.missing == (
        "" if image == "present" else "images that are not on this machine: absent, absent, absent"
    )
    assert commands() == ["podman info", "podman-compose version", *[f"podman image inspect {image}"] * len(IMAGES)]


@ON_A_SHELL
def test_images_that_are_not_there_are_built_and_pulled_or_the_reason_is_the_engines(
    monkeypatch: pytest.MonkeyPatch, commands: Commands, tmp_path: Path
) -> None:
    monkeypatch.setenv("NATS_IMAGE", "registry/absent")
    monkeypatch.setenv("MT4PUMP_BASE_IMAGE", "registry/absent-base")
    assert running_engine() == ("podman", "")
    assert missing_images("podman") == ["registry/absent"]
    reason = "cannot be pulled: no such host: registry"
    assert pull("podman", "registry/absent") == f"the image registry/absent {reason}"
    with built_image("podman", tmp_path) as (_, fault):
        assert fault == f"the base image registry/absent-base {reason}"
    assert not any("rmi" in each for each in commands())


@ON_A_SHELL
def test_our_image_is_built_under_a_name_of_its_own_and_removed_also_after_a_failure(
    commands: Commands, tmp_path: Path
) -> None:
    name = f"mt4pump-test:{os.getpid()}"
    with pytest.raises(LookupError) as raised, built_image("podman", tmp_path) as built:
        raise LookupError(*built)
    assert raised.value.args == (name, "")
    build, remove = commands()[-2:]
    assert re.fullmatch(rf"podman build -q --build-arg BASE=\S+/python:\S+ -f \S+Containerfile -t {name} \S+", build)
    assert remove == f"podman rmi {name}"


@ON_A_SHELL
@pytest.mark.usefixtures("commands")
def test_an_image_of_ours_that_nobody_named_is_not_tested_by_every_run() -> None:
    """The engine has an image ``mt4pump``, of whatever day."""
    assert container_engine().missing == "MT4PUMP_IMAGE names no image of mt4pump"


def test_without_an_engine_the_reason_names_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(container_engine_module, "PROGRAMS", (("podman", ("podman-compose",)),))
    assert running_engine() == ("", "no container engine runs here (podman: is not installed)")
    assert container_engine().missing.endswith("with a compose program (podman-compose: is not installed)")
