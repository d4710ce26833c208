"""The systemd units: systemd finds nothing wrong with them, they are closed, and they start what there is."""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from mt4pump.process.signals import RELOAD
from mt4pump.service.plan import PROGRAMS
from tests.deploy.jail import values

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))
BIN = "/opt/mt4pump/bin/"
EXPOSURE_MAX = 15
"""In tenths; 1.3 were measured with systemd 252. A web server's usual unit has 90."""


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze; skip where there is none."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (Debian: apt install systemd)")
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False, timeout=60)  # noqa: S607


def section(unit: Path, start: str, end: str) -> list[str]:
    lines = unit.read_text(encoding="utf-8").splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(start))
    return lines[first : lines.index(end, first)]


def test_every_program_has_a_unit_and_a_user_of_its_own() -> None:
    assert {unit.stem for unit in UNITS} == {program.service for program in PROGRAMS.values()}
    users = [line.split()[1] for line in (FOLDER / "mt4pump.sysusers.conf").read_text().splitlines() if line[:1] == "u"]
    assert sorted(users) == sorted(value for unit in UNITS for value in values(unit.read_text(), "User"))
    assert len(set(users)) == len(UNITS)


def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    scripts = tmp_path / "bin"
    scripts.mkdir()
    copies = []
    for unit in UNITS:
        script = scripts / unit.stem
        script.write_text("#!/bin/sh\n")
        script.chmod(0o755)
        copies.append(tmp_path / unit.name)
        copies[-1].write_text(unit.read_text(encoding="utf-8").replace(BIN, f"{scripts}/"))
    result = analyze("verify", "--man=no", *map(str, copies))
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


def test_systemd_would_find_a_mistake(tmp_path: Path) -> None:
    unit = tmp_path / "wrong.service"
    unit.write_text("[Service]\nType=notify\nExecStart=/bin/true\nRestartSecs=2\n")
    assert "RestartSecs" in analyze("verify", "--man=no", str(unit)).stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_is_closed(unit: Path) -> None:
    result = analyze("security", "--offline=true", "--no-pager", f"--threshold={EXPOSURE_MAX}", str(unit))
    assert result.returncode == 0, result.stdout.splitlines()[-1:] + result.stderr.splitlines()


def test_all_units_are_closed_in_the_same_way() -> None:
    closed = [section(unit, "# What the program may do", "[Install]") for unit in UNITS]
    assert len(closed[0]) > 30
    assert [each for each in closed if each != closed[0]] == []


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_starts_a_script_of_ours_with_its_settings(unit: Path) -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    (start,) = values(unit.read_text(encoding="utf-8"), "ExecStart")
    words = start.split()
    assert words[0].removeprefix(BIN) in scripts
    program = next(program for program in PROGRAMS.values() if program.service == unit.stem)
    assert words[-2:] == ["--config", f"/etc/mt4pump/{program.name}/{program.settings_file}"]
    assert values(unit.read_text(encoding="utf-8"), "WorkingDirectory") == [f"/etc/mt4pump/{program.name}"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_is_watched_and_comes_back_but_not_with_wrong_settings(unit: Path) -> None:
    text = unit.read_text(encoding="utf-8")
    assert values(text, "Type") == ["notify"]
    assert values(text, "WatchdogSec")
    assert values(text, "Restart") == ["on-failure"]
    assert values(text, "RestartPreventExitStatus") == ["2"]
    assert values(text, "StartLimitIntervalSec") == ["0"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_strangers_do_not_use_up_a_units_descriptors_at_once(unit: Path) -> None:
    assert values(unit.read_text(encoding="utf-8"), "LimitNOFILE") == ["65536"]


def test_consumers_start_after_the_daemon_and_do_without_it() -> None:
    for unit in UNITS:
        text = unit.read_text(encoding="utf-8")
        needs = " ".join(values(text, "After")).split()
        assert ("mt4pump.service" in needs) is (unit.stem != "mt4pump")
        assert not values(text, "Requires"), "a daemon on another machine must not keep a consumer from starting"


def test_the_daemon_reloads_by_the_signal_that_it_handles() -> None:
    (reload,) = values((FOLDER / "mt4pump.service").read_text(encoding="utf-8"), "ExecReload")
    program, signal, process = reload.split()
    assert (program, signal.removeprefix("-"), process) == ("/bin/kill", RELOAD[0].removeprefix("SIG"), "$MAINPID")
