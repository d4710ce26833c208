"""The locked set agrees with itself and with pyproject.toml; neither an index nor what is installed is asked."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

from tests import lock

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
CONTENT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = CONTENT["project"]
BUILD = CONTENT["build-system"]["requires"]
FILES = ("constraints.txt", "constraints-win32.txt")
HASHED = {
    "hashes.txt": ("constraints.txt", ("consumers",)),
    "hashes-archive.txt": ("constraints.txt", lock.ARCHIVE),
    "hashes-win32.txt": ("constraints-win32.txt", ("consumers",)),
}
"""The files with hashes: the one whose versions each holds, and the extras that it is for."""
PIN = re.compile(r"([\w.-]+)==([\w.!+]+)(?: ; (.+))?")
DIGEST = re.compile(r"    --hash=sha256:[0-9a-f]{64}")
TEXTS = frozenset({".md", ".py", ".txt", ".yml", ".service", ".ps1"})
INSTALLATION = re.compile(r"""pip['"]?,? ['"]?(?:install|download)['"]?,? (?=[^\s`])(?:(?!&&)[^`])+""")
PLACE = "{CONSTRAINTS_PLACE}"
LOCKED = re.compile(r"-c \S*constraints(?:-win32)?\.txt|-c', \$Constraints|--require-hashes|--no-deps")
SYSTEMS = {
    "windows": {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt", "platform_machine": "AMD64"},
    "linux": {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "x86_64"},
    "macos": {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix", "platform_machine": "arm64"},
    "intel-macos": {
        "sys_platform": "darwin",
        "platform_system": "Darwin",
        "os_name": "posix",
        "platform_machine": "x86_64",
    },
}
CPYTHON = {"implementation_name": "cpython", "platform_python_implementation": "CPython"}
SOUND_SINCE = {
    "cryptography": "50",  # GHSA-537c-gmf6-5ccf, GHSA-g6cj-pr64-35w5
    "filelock": "3.20.3",  # CVE-2025-68146, CVE-2026-22701
    "duckdb": "1.4.2",  # CVE-2025-64429, CVE-2024-41672
    "msgpack": "1.2.1",  # CVE-2026-57585
    "playwright": "1.56",  # CVE-2025-59288: 1.55.1 of its driver, which no release for Python holds
    "psycopg": "3.3.9",  # libpq and OpenSSL in its wheels: CVE-2025-12818, CVE-2026-6477
    "pyarrow": "23.0.1",  # CVE-2026-25087
    "pydantic-settings": "2.14.2",  # GHSA-4xgf-cpjx-pc3j
    "pyjwt": "2.13",  # CVE-2026-48526, CVE-2026-48525, CVE-2026-32597
    "pytest": "9.0.3",  # CVE-2025-71176
    "python-dotenv": "1.2.2",  # CVE-2026-28684
    "pyzmq": "27.2",  # libsodium in its wheels: CVE-2025-69277
    "websockets": "17.4",  # a message of endlessly many fragments
}
"""The first version of each without a known vulnerability, looked up in November 2026."""
WITHOUT_WHEELS = {
    "cryptography": (
        Marker("sys_platform == 'win32' or (sys_platform == 'darwin' and platform_machine == 'x86_64')"),
        "48.0.1",
    )
}
"""Where the sound version has no wheels on some system, and the last one that has: pyproject.toml names the reason."""


class Pinned(NamedTuple):
    """One pin of a file, where it applies, and the projects that need it."""

    name: NormalizedName
    version: Version
    marker: Marker | None
    needed_by: frozenset[NormalizedName]


def places() -> Iterator[tuple[str, dict[str, str]]]:
    """Yield every supported system and Python, with the markers' values there."""
    for system, values in SYSTEMS.items():
        for python in lock.PYTHONS:
            version = {"python_version": python, "python_full_version": f"{python}.9"}
            yield f"{system}-{python}", {**values, **CPYTHON, **version}


PLACES = dict(places())


def entries(file: str) -> list[str]:
    """Return the pins of a file and of the file that it refers to, each with the lines that belong to it."""
    text = (DEPLOY / file).read_text(encoding="utf-8")
    found = re.findall(r"^[^\s#].*\n(?:[ ].*\n)*", text, re.MULTILINE)
    if found[0].startswith("-r "):
        return entries(found[0].split()[1]) + found[1:]
    return found


def pinned(file: str) -> list[Pinned]:
    """Return what a file pins; fail at a line that pins nothing."""
    found = []
    for entry in entries(file):
        head, _, rest = entry.partition("\n")
        match = PIN.fullmatch(head.removesuffix(" \\"))
        assert match is not None, f"{file}: {head}"
        reasons = re.findall(r"#(?: +via)? +([\w.-]+)", rest)
        marker = Marker(match[3]) if match[3] else None
        needed_by = frozenset(canonicalize_name(name) for name in reasons if name != "via")
        found.append(Pinned(canonicalize_name(match[1]), Version(match[2]), marker, needed_by))
    return found


PINS = {file: pinned(file) for file in (*FILES, *HASHED)}


def versions(file: str, place: str) -> dict[NormalizedName, Version]:
    """Return what a file means at one place; fail when it means two versions of a project."""
    found: dict[NormalizedName, Version] = {}
    for pin in PINS[file]:
        if pin.marker is None or pin.marker.evaluate(PLACES[place]):
            assert pin.name not in found, f"{file}: two versions of {pin.name} on {place}"
            found[pin.name] = pin.version
    return found


def asked(*extras: str) -> list[Requirement]:
    """Return what pyproject.toml asks for: the dependencies, those of ``extras``, and the build backend."""
    return [Requirement(line) for line in lock.requirements(*extras)]


def windows_places() -> list[str]:
    """Return the places that a file for 32-bit Windows is about."""
    return [place for place in PLACES if place.startswith("windows")]


def sound_since(name: str, place: dict[str, str]) -> Version:
    """Return the first version without a known vulnerability that can be installed at a place."""
    project = canonicalize_name(name)
    marker, last = WITHOUT_WHEELS.get(project, (None, ""))
    return Version(last if marker is not None and marker.evaluate(place) else SOUND_SINCE.get(project, "0"))


def test_every_file_says_that_it_is_written_by_the_command() -> None:
    assert set(lock.HEADER) == {*FILES, *HASHED}
    for file, header in lock.HEADER.items():
        assert (DEPLOY / file).read_text(encoding="utf-8").startswith(header)
        assert "`python -m tests.lock`" in header


@pytest.mark.parametrize("place", PLACES)
def test_what_the_project_asks_for_is_pinned_once_and_within_its_range(place: str) -> None:
    known = versions("constraints.txt", place)
    for requirement in asked("consumers", "archive", "postgresql", "test"):
        if requirement.marker is None or requirement.marker.evaluate(PLACES[place]):
            assert requirement.specifier.contains(known[canonicalize_name(requirement.name)]), str(requirement)


@pytest.mark.parametrize("place", windows_places())
def test_so_it_is_for_32_bit_python_but_for_test_tools_without_wheels(place: str) -> None:
    known = versions("constraints-win32.txt", place)
    for requirement in asked("consumers", "test"):
        name = canonicalize_name(requirement.name)
        if name in lock.NO_WIN32_WHEEL or (requirement.marker and not requirement.marker.evaluate(PLACES[place])):
            continue
        assert requirement.specifier.contains(known[name]), str(requirement)


def test_32_bit_python_gets_the_last_versions_that_have_its_wheels() -> None:
    known = versions("constraints-win32.txt", "windows-3.11")
    assert (str(known[canonicalize_name("psutil")]), str(known[canonicalize_name("cryptography")])) == (
        "7.1.1",
        "48.0.1",
    )


@pytest.mark.parametrize("file", FILES)
def test_nothing_is_pinned_that_no_package_needs(file: str) -> None:
    names = {pin.name for pin in PINS[file]}
    direct = {canonicalize_name(each.name) for each in asked("consumers", "archive", "postgresql", "test")}
    for pin in PINS[file]:
        assert pin.name in direct or pin.needed_by, f"{pin.name}: neither asked for nor needed"
        assert pin.needed_by <= names, f"{pin.name} is needed by {pin.needed_by - names}, which is not pinned"


@pytest.mark.parametrize("hashed", HASHED)
def test_the_form_with_hashes_holds_the_same_versions_and_all_that_daemon_and_its_extras_ask_for(hashed: str) -> None:
    file, extras = HASHED[hashed]
    for place in windows_places() if "win32" in file else PLACES:
        known, with_hashes = versions(file, place), versions(hashed, place)
        assert with_hashes.items() <= known.items()
        wanted = {
            canonicalize_name(each.name)
            for each in asked(*extras)
            if each.name != "hatchling" and (each.marker is None or each.marker.evaluate(PLACES[place]))
        }
        assert wanted <= set(with_hashes)


def test_the_form_for_the_archive_refers_to_the_form_without_it_and_adds_what_needs_64_bit_python() -> None:
    plain, archive = entries("hashes.txt"), entries("hashes-archive.txt")
    assert "\n-r hashes.txt\n" in (DEPLOY / "hashes-archive.txt").read_text(encoding="utf-8")
    assert archive[: len(plain)] == plain
    added = [re.split("==", entry)[0] for entry in archive[len(plain) :]]
    assert {"duckdb", "pyarrow", "psycopg", "psycopg-binary"} <= set(added)
    assert lock.added_to("hashes.txt", "".join(archive)) == "-r hashes.txt\n" + "".join(archive[len(plain) :])


@pytest.mark.parametrize("hashed", HASHED)
def test_every_pin_with_hashes_has_some_and_they_are_sha256(hashed: str) -> None:
    for entry in entries(hashed):
        digests = [line.removesuffix(" \\") for line in entry.splitlines()[1:]]
        assert digests
        assert [line for line in digests if not DIGEST.fullmatch(line)] == []


def test_the_build_backend_has_a_range_with_two_ends_and_is_pinned_with_all_that_it_needs() -> None:
    (backend,) = map(Requirement, CONTENT["dependency-groups"]["build"])
    assert {clause.operator for clause in backend.specifier} == {">=", "<"}
    pins = {canonicalize_name(name): Version(version) for name, version in (line.split("==") for line in BUILD)}
    assert backend.specifier.contains(pins[canonicalize_name(backend.name)])
    for place in PLACES:
        assert pins.items() <= versions("constraints.txt", place).items()
    unpinned = {pin.name for pin in PINS["constraints.txt"] if pin.needed_by & set(pins)} - set(pins)
    assert unpinned == set(), "needed to build, and not in [build-system] requires"


@pytest.mark.parametrize("requirement", asked("consumers", "archive", "postgresql", "test"), ids=str)
def test_every_requirement_has_a_lower_bound_without_a_known_vulnerability(requirement: Requirement) -> None:
    (bound,) = [Version(clause.version) for clause in requirement.specifier if clause.operator in {">=", "=="}]
    for place, values in PLACES.items():
        if requirement.marker is None or requirement.marker.evaluate(values):
            assert bound >= sound_since(requirement.name, values), place


@pytest.mark.parametrize("place", PLACES)
def test_no_version_with_a_known_vulnerability_is_pinned(place: str) -> None:
    known = versions("constraints.txt", place)
    assert [name for name in SOUND_SINCE if known[canonicalize_name(name)] < sound_since(name, PLACES[place])] == []


@pytest.mark.parametrize(("place", "is_excepted"), [("linux", False), ("macos", False), ("intel-macos", True)])
def test_only_a_system_without_wheels_is_excepted_from_the_sound_version(place: str, *, is_excepted: bool) -> None:
    assert (sound_since("cryptography", PLACES[f"{place}-3.11"]) < Version(SOUND_SINCE["cryptography"])) == is_excepted
    assert versions("constraints.txt", "windows-3.11")[canonicalize_name("cryptography")] >= Version("50")


def installations() -> Iterator[tuple[str, str]]:
    """Yield each command that installs packages by pip, of documents, messages and recipes, with its file."""
    folders = (ROOT / "mt4pump", ROOT / "consumers", ROOT / "deploy", ROOT / ".github", ROOT / ".ci")
    found = (file for folder in folders for file in folder.rglob("*") if "node_modules" not in file.parts)
    for file in (ROOT / "README.md", *found):
        if file.is_file() and (file.suffix in TEXTS or file.name in {"Containerfile", "run"}):
            for line in file.read_text(encoding="utf-8").splitlines():
                yield from ((str(file.relative_to(ROOT)), command) for command in INSTALLATION.findall(line))


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        ("`.venv/bin/pip install build && x`", ["pip install build "]),
        ("pip install -r a && pip install --no-deps b", ["pip install -r a ", "pip install --no-deps b"]),
        ('"C:\\Scripts\\pip" install build', ['pip" install build']),
        ("py -m pip download build", ["pip download build"]),
        ("@('-m', 'pip', 'install', $Package)", ["pip', 'install', $Package)"]),
        ("in place of `pip install` above; What pip installs: a wheel", []),
    ],
)
def test_every_form_of_a_command_that_installs_is_found(text: str, commands: list[str]) -> None:
    assert INSTALLATION.findall(text) == commands


def test_every_text_that_installs_anything_installs_the_locked_set() -> None:
    found = list(installations())
    assert {name.replace("\\", "/").rpartition("/")[2] for name, _ in found} >= {
        *("README.md", "program.py", "Containerfile", "connection.py", "tick_formats.py"),
        "mt4pump-service.ps1",
    }
    assert [line for line in found if not LOCKED.search(line[1])] == []


def test_every_message_that_installs_anything_says_where_the_locked_set_is() -> None:
    """An installed wheel has no folder ``deploy`` beside it."""
    commands = Counter(name for name, command in installations() if name.endswith(".py") and LOCKED.search(command))
    modules = (file for folder in ("mt4pump", "consumers") for file in (ROOT / folder).rglob("*.py"))
    said = Counter({str(file.relative_to(ROOT)): file.read_text("utf-8").count(PLACE) for file in modules})
    assert len(commands) >= 5
    assert +said == commands


def test_the_table_of_vulnerabilities_names_what_the_project_asks_for() -> None:
    known = {canonicalize_name(each.name) for each in asked("consumers", "archive", "postgresql", "test")}
    assert set(SOUND_SINCE) <= known
