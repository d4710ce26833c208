"""The guide's commands are ones that the command line takes, and its words are the program's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mt4pump.cli import COMMANDS, main
from mt4pump.service.plan import PROGRAMS, Placement

GUIDE = (Path(__file__).resolve().parents[2] / "deploy" / "windows" / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bat\n(.*?)```", GUIDE, flags=re.DOTALL)
LINES = [line for block in BLOCKS for line in block.splitlines() if line.startswith("mt4pump ")]


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("mt4pump service")])
def test_service_commands_are_understood(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = [word for word in line.split()[1:] if word != "--dry-run"]
    assert main([*words, "--dry-run"]) == 0
    assert "nssm" in capsys.readouterr().out


def test_other_commands_exist() -> None:
    assert LINES
    assert {line.split()[1] for line in LINES} <= set(COMMANDS)


def test_pip_is_always_that_of_mt4pumps_own_environment_and_installs_the_locked_set_before_the_wheel() -> None:
    pip = r'"C:\Program Files\mt4pump\Scripts\pip" install '
    lines = [line for block in BLOCKS for line in block.splitlines() if " install " in line and "pip" in line]
    (offline,) = [line for line in lines if "--no-index" in line]
    lines.remove(offline)
    assert offline.removeprefix(pip) == (
        r"--no-index --find-links C:\mt4pump-setup\wheels --require-hashes -r C:\mt4pump-setup\deploy\hashes.txt"
    )
    assert len(lines) == 4, "install, upgrade"
    for libraries, wheel in (lines[:2], lines[2:]):
        assert libraries == pip + r"--require-hashes -r C:\mt4pump-setup\deploy\hashes.txt"
        assert re.fullmatch(re.escape(pip) + r"--no-deps C:\\mt4pump-setup\\mt4pump-1\.\d-py3-none-any\.whl", wheel)
    assert "**32-bit Python**: `hashes-win32.txt` for `hashes.txt`" in GUIDE


def test_places_are_those_of_the_plan() -> None:
    place = Placement("python.exe", r"C:\ProgramData\mt4pump")
    daemon = PROGRAMS["daemon"]
    for path in (place.settings(daemon), place.data(daemon), place.log(daemon)):
        assert path.removeprefix(r"C:\ProgramData\mt4pump" + "\\") in GUIDE


def test_it_says_what_was_tested_and_what_was_not() -> None:
    assert "Tested under Wine 8 with CPython for Windows" in GUIDE
    assert "**Not tested**: the vendor's DLL and a real server" in GUIDE
