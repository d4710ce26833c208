"""The PowerShell script parses, and calls what the command line has. No PowerShell is needed for either."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mt4pump.service.plan import PROGRAMS

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "windows"
SCRIPTS = sorted(FOLDER.glob("*.ps1"))


def problems(source: bytes) -> list[str]:
    """Return where a script does not parse; commands, types and variables are not checked."""
    tree_sitter = pytest.importorskip("tree_sitter")
    grammar = pytest.importorskip("tree_sitter_powershell")
    parser = tree_sitter.Parser(tree_sitter.Language(grammar.language()))
    found, nodes = [], [parser.parse(source).root_node]
    while nodes:
        node = nodes.pop()
        nodes += node.children
        if node.type == "ERROR" or node.is_missing:
            found.append(f"line {node.start_point.row + 1}: {node.type}")
    return found


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_script_parses(script: Path) -> None:
    assert problems(script.read_bytes()) == []


@pytest.mark.parametrize("text", [b"if ($x) { 'open'", b"param([string] $a\nWrite-Host 'x'", b'Write-Host "open'])
def test_the_check_finds_what_is_broken(text: bytes) -> None:
    assert problems(text)


def test_there_is_a_script_and_it_names_the_programs_there_are() -> None:
    (script,) = SCRIPTS
    (named,) = re.findall(r"any of ([\w, ]+)\.", script.read_text(encoding="utf-8"))
    assert named.split(", ") == [name for name in PROGRAMS if name != "daemon"]


def test_what_it_installs_and_what_it_shows_to_type_next_fit_the_programs_and_the_folder() -> None:
    text = SCRIPTS[0].read_text(encoding="utf-8")
    assert "if ($consumers) { 'mt4pump[consumers]' } else { 'mt4pump' }" in text
    assert "-m mt4pump service start --root '$Root'" in text


def test_it_installs_the_locked_set_that_fits_the_python() -> None:
    text = SCRIPTS[0].read_text(encoding="utf-8")
    assert "if ($bits -eq '32') { 'constraints-win32.txt' } else { 'constraints.txt' }" in text
    assert "'-c', $Constraints, $Package" in text
    assert all((FOLDER.parent / name).is_file() for name in ("constraints.txt", "constraints-win32.txt"))


def test_scripts_are_ascii_which_every_powershell_reads_alike() -> None:
    for script in SCRIPTS:
        script.read_bytes().decode("ascii")
