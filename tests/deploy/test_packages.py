"""Wheel and sdist: what is in them, that both say the same, and that the wheel runs in an empty environment."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.utils import canonicalize_name

from mt4pump.errors import CONSTRAINTS_PLACE
from tests import lock
from tests.bus import ANY_PORT
from tests.programs import program

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONSTRAINTS = ROOT / "deploy" / "constraints.txt"
HASHES = ROOT / "deploy" / "hashes.txt"
CONSUMERS = sorted(set(PROJECT["scripts"]) - {"mt4pump"})
SCRIPTS = "Scripts" if sys.platform == "win32" else "bin"
GENERATED = {"__pycache__", ".venv", "build", "dist", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"}
INSTALL_S = 800

pytestmark = [
    pytest.mark.skipif(
        not os.environ.get("REQUIRE_ALL_TESTS"), reason="builds and installs: needs a package index and minutes"
    ),
    pytest.mark.timeout(2400),
]


class Built(NamedTuple):
    """What was built: the sdist, the wheel made of it, the wheel made of the folder itself."""

    sdist: Path
    wheel: Path
    direct: Path


def run(*arguments: str | Path, limit_s: float = INSTALL_S) -> str:
    """Run a command to its end and return its output; fail with it when it fails."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MT4PUMP_", "PYTHON"))}
    result = subprocess.run(
        [*map(str, arguments)], capture_output=True, text=True, check=False, timeout=limit_s, env=plain, cwd=ROOT.parent
    )
    assert result.returncode == 0, f"{arguments}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build with ``python -m build``: first the usual way, the wheel of the sdist, then the wheel alone."""
    usual, alone = tmp_path_factory.mktemp("usual"), tmp_path_factory.mktemp("alone")
    run(sys.executable, "-m", "build", "--outdir", usual, ROOT)
    run(sys.executable, "-m", "build", "--wheel", "--outdir", alone, ROOT)
    (sdist,), (wheel,), (direct,) = usual.glob("*.tar.gz"), usual.glob("*.whl"), alone.glob("*.whl")
    return Built(sdist, wheel, direct)


def names(wheel: Path) -> set[str]:
    """Return the files in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


def sources(folder: Path, prefix: str) -> set[str]:
    """Return the files of a package as they should be in a wheel."""
    files = [
        file for file in folder.rglob("*") if file.is_file() and not GENERATED & set(file.relative_to(folder).parts)
    ]
    return {f"{prefix}/{file.relative_to(folder).as_posix()}" for file in files}


def test_the_wheel_holds_both_packages_whole_and_nothing_else(built: Built) -> None:
    packages = sources(ROOT / "mt4pump", "mt4pump") | sources(
        ROOT / "consumers" / "mt4pump_consumers", "mt4pump_consumers"
    )
    held = names(built.wheel)
    assert {name for name in held if ".dist-info/" not in name} == packages
    needed = {"py.typed", "PROTOCOL.md", "LICENSE", "protocol/protocol.toml"}
    assert {f"mt4pump/{name}" for name in needed} <= held
    scripts = {
        f"{name}.js" for name in ("app", "board", "chart", "client", "table", "trades", "vendor/lightweight-charts")
    }
    page = {"index.html", "app.css", "icon.svg", "vendor/LICENSE", *scripts}
    assert {f"mt4pump_consumers/gateway/page/{name}" for name in page} <= held
    assert not [name for name in held if "test" in name.lower()]


def test_the_wheel_says_its_licence_and_brings_the_text(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        fields = Parser().parsestr(archive.read(metadata).decode())
        text = archive.read(metadata.replace("METADATA", "licenses/mt4pump/LICENSE")).decode()
    assert (fields["License-Expression"], fields["License-File"]) == ("MIT", "mt4pump/LICENSE")
    assert text == (ROOT / "mt4pump" / "LICENSE").read_text(encoding="utf-8")
    assert text.startswith("MIT License\n\nCopyright (c) 2026 mt4pump maintainers\n")
    assert {"consumers", "test"} <= set(fields.get_all("Provides-Extra", []))


def test_the_sdist_makes_the_same_wheel_as_the_folder(built: Built) -> None:
    assert built.wheel.name == built.direct.name
    contents = []
    for wheel in (built.wheel, built.direct):
        with zipfile.ZipFile(wheel) as archive:
            contents.append({name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()})
    assert contents[0] == contents[1]


def test_the_sdist_holds_what_is_needed_to_build_test_and_deploy(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    wanted = ("pyproject.toml", "README.md", "mt4pump/LICENSE", "deploy/README.md", "deploy/constraints.txt")
    assert set(wanted) <= held
    assert "tests/deploy/test_packages.py" in held
    assert "consumers/mt4pump_consumers/http_server.py" in held
    assert not [name for name in held if GENERATED & set(name.split("/"))]


def fresh(folder: Path) -> Path:
    """Make an empty environment; return its folder of scripts."""
    venv.create(folder, with_pip=True)
    return folder / SCRIPTS


@pytest.fixture(scope="session")
def plain(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel without extras."""
    scripts = fresh(tmp_path_factory.mktemp("plain"))
    run(scripts / "python", "-m", "pip", "install", "-q", "-c", CONSTRAINTS, built.wheel)
    return scripts


@pytest.fixture(scope="session")
def whole(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install as the guides do: the libraries of daemon and consumers by their digests, then the wheel alone."""
    scripts = fresh(tmp_path_factory.mktemp("whole"))
    run(scripts / "python", "-m", "pip", "install", "-q", "--require-hashes", "-r", HASHES)
    run(scripts / "python", "-m", "pip", "install", "-q", "--no-deps", built.wheel)
    return scripts


def publishes(scripts: Path, folder: Path) -> None:
    """Run the installed daemon on the simulator until it pumps, and end it."""
    flags = ("--pub-endpoint", ANY_PORT, "--query-endpoint", ANY_PORT, "--data-dir", str(folder / "data"))
    arguments = [str(scripts / "mt4pump"), "run", "--source", "simulator", *flags]
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with program(subprocess.Popen(arguments, cwd=folder, **pipe)) as daemon:  # type: ignore[call-overload]
        daemon.line("session pumping")
        if sys.platform != "win32":
            daemon.process.send_signal(signal.SIGTERM)
            assert daemon.end() == 0


def test_without_extras_the_daemon_runs(plain: Path, tmp_path: Path) -> None:
    publishes(plain, tmp_path)
    assert run(plain / "mt4pump", "--help").startswith("mt4pump publishes everything")


@pytest.mark.parametrize("name", CONSUMERS)
def test_without_extras_a_consumer_says_what_to_install(name: str, plain: Path, tmp_path: Path) -> None:
    flags = ["--anonymous"] if name == "mt4pump-gateway" else []  # without it the settings are wrong, which comes first
    result = subprocess.run(
        [plain / name, *flags], capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path
    )
    assert result.returncode == 3
    assert re.search(
        r"the library \w+ is not installed; .* pip install -c deploy/constraints\.txt 'mt4pump\[(consumers|archive)\]'",
        result.stderr,
    )
    assert CONSTRAINTS_PLACE in result.stderr


@pytest.mark.parametrize("name", CONSUMERS)
def test_without_extras_a_consumer_has_its_help(name: str, plain: Path) -> None:
    assert f"usage: {name}" in run(plain / name, "--help")


def test_without_extras_commands_of_consumers_have_their_help(plain: Path) -> None:
    assert "usage: mt4pump-archive query" in run(plain / "mt4pump-archive", "query", "--help")
    assert "usage: new_token" in run(plain / "python", "-m", "mt4pump_consumers.gateway.new_token", "--help")


@pytest.mark.parametrize("name", CONSUMERS)
def test_with_the_extra_a_consumer_runs(name: str, whole: Path) -> None:
    assert f"usage: {name}" in run(whole / name, "--help")


def test_with_the_extra_the_daemon_runs_and_the_page_is_there(whole: Path, tmp_path: Path) -> None:
    publishes(whole, tmp_path)
    code = (
        "import importlib.resources as r; print((r.files('mt4pump_consumers.gateway') / 'page/index.html').is_file())"
    )
    assert run(whole / "python", "-c", code).strip() == "True"


def test_what_is_installed_is_what_the_constraints_say_and_whole(whole: Path, plain: Path) -> None:
    pins = lock.pins("constraints.txt")
    for scripts in (whole, plain):
        listed = json.loads(run(scripts / "python", "-m", "pip", "list", "--format", "json"))
        found = {canonicalize_name(each["name"]): each["version"] for each in listed}
        strangers = {name: version for name, version in found.items() if pins.get(name) != version}
        assert set(strangers) <= {"pip", "setuptools", "mt4pump"}
    run(whole / "python", "-m", "pip", "check")


def test_the_wheel_is_built_by_the_pinned_backend(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/WHEEL")]
        generator = Parser().parsestr(archive.read(name).decode())["Generator"]
    assert generator == f"hatchling {lock.pins('constraints.txt')['hatchling']}"


def newer_releases(folder: Path) -> Path:
    """Make a release 9999 of every project in the locked set, which nothing can be built or run with."""
    folder.mkdir()
    for name in lock.pins("constraints.txt"):
        module = name.replace("-", "_")
        info = f"{module}-9999.dist-info"
        with zipfile.ZipFile(folder / f"{module}-9999-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{module}/__init__.py", "raise ImportError('a release of tomorrow')\n")
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 9999\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
    return folder


def test_newer_releases_change_nothing_in_what_the_readme_installs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = os.environ.get("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_FIND_LINKS", f"{newer_releases(tmp_path / 'tomorrow')} {known}".strip())
    scripts = fresh(tmp_path / "environment")
    run(scripts / "python", "-m", "pip", "install", "-q", "-c", CONSTRAINTS, ROOT)
    listed = json.loads(run(scripts / "python", "-m", "pip", "list", "--format", "json"))
    assert [each["name"] for each in listed if each["version"] == "9999"] == []
    assert run(scripts / "mt4pump", "--help").startswith("mt4pump publishes everything")
