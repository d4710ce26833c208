"""The file of constraints names one version of everything that is needed, and each is within its range."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LINES = (ROOT / "deploy" / "constraints.txt").read_text(encoding="utf-8").splitlines()
PINS = [line for line in LINES if line and not line.startswith("#")]
VERSIONS = {canonicalize_name(name): version for name, _, version in (pin.partition("==") for pin in PINS)}
WINDOWS = {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt"}


def asked() -> list[Requirement]:
    """Return what pyproject.toml asks for, extras included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = [*project["dependencies"], *(each for extra in project["optional-dependencies"].values() for each in extra)]
    return [Requirement(text) for text in texts if not text.startswith(project["name"])]


def applies(requirement: Requirement, extras: set[str]) -> bool:
    """Return whether it is needed here or on Windows."""
    marker = requirement.marker
    places: list[dict[str, str]] = [{}, WINDOWS]
    return marker is None or any(marker.evaluate({**place, "extra": extra}) for extra in extras for place in places)


def closure() -> Iterator[Requirement]:
    """Yield what is asked for, and what that needs in turn, as far as it is installed."""
    waiting, seen = asked(), set[str]()
    while waiting:
        requirement = waiting.pop()
        yield requirement
        if (name := canonicalize_name(requirement.name)) in seen:
            continue
        seen.add(name)
        try:
            needs = importlib.metadata.requires(requirement.name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # of another system
        waiting += [need for need in map(Requirement, needs) if applies(need, {"", *requirement.extras})]


def test_every_line_is_one_version_and_no_project_stands_twice() -> None:
    assert [pin for pin in PINS if not re.fullmatch(r"[\w.-]+==[\w.+!]+", pin)] == []
    assert len(VERSIONS) == len(PINS)


@pytest.mark.parametrize("requirement", asked(), ids=str)
def test_what_the_project_asks_for_is_pinned_within_its_range(requirement: Requirement) -> None:
    assert requirement.specifier.contains(VERSIONS[canonicalize_name(requirement.name)])


def test_what_that_needs_in_turn_is_pinned_within_its_range() -> None:
    needed = list(closure())
    assert {str(need) for need in needed if canonicalize_name(need.name) not in VERSIONS} == set()
    wrong = [need for need in needed if not need.specifier.contains(VERSIONS[canonicalize_name(need.name)])]
    assert list(map(str, wrong)) == []


def test_nothing_is_pinned_that_nobody_needs() -> None:
    installed = {canonicalize_name(each.name) for each in importlib.metadata.distributions()}
    assert (set(VERSIONS) & installed) - {canonicalize_name(need.name) for need in closure()} == set()
