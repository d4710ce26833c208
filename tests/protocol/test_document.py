"""PROTOCOL.md: its tables are the contract's, its examples run, its links lead somewhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from mt4pump.protocol import contract, fields_of
from mt4pump.pump.lifecycle import CHANGES
from mt4pump.wire import KINDS, PROTOCOL
from tests.protocol.__main__ import main
from tests.protocol.tables import DOCUMENT, TABLE, filled, table, write_tables

TEXT = DOCUMENT.read_text(encoding="utf-8")
SMALL = "before\n<!-- table: codes -->\nold\n<!-- end -->\nafter\n"


def test_its_tables_are_current() -> None:
    assert filled(TEXT) == TEXT, "run python -m tests.protocol"


def test_it_has_every_table() -> None:
    names = {found["name"] for found in TABLE.finditer(TEXT)}
    every = {"kinds", "common", "numbers", "codes"}
    every |= {f"kind {kind}" for kind in KINDS}
    every |= {f"request {op}" for op in contract().requests} | {f"head {op}" for op in contract().heads}
    assert names == every


def test_a_table_names_every_field_nested_ones_included() -> None:
    rows = table("kind heartbeat")
    assert all(f"| `{name}` |" in rows for name in fields_of("heartbeat"))
    assert "| `journal.first_offset` |" in rows
    assert "| `sessions[].quote[].open_hour` |" in table("kind symbol")


def test_it_names_its_version_and_every_change() -> None:
    assert TEXT.startswith(f"# The wire protocol of mt4pump, version {PROTOCOL}\n")
    section = TEXT.partition("### 6.2")[2].partition("### 6.3")[0]
    assert [change for change in CHANGES if f"`{change}`" not in section.partition("<!-- table")[0]] == []


def test_its_grammar_names_every_kind() -> None:
    grammar = TEXT.partition("kind-name     =")[2].partition("key  ")[0]
    assert set(re.findall(r'"([a-z]+)"', grammar)) == KINDS.keys() - {"heartbeat"}


def test_its_links_lead_to_its_sections() -> None:
    headings = re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    links = re.findall(r"\]\(#([^)]+)\)", TEXT)
    assert links
    assert set(links) <= anchors


def test_its_python_is_python() -> None:
    for example in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        ast.parse(example)


def test_writing_replaces_only_what_is_between_the_markers(tmp_path: Path) -> None:
    document = tmp_path / "small.md"
    document.write_text(SMALL, encoding="utf-8")
    assert not write_tables(document, check=True)
    assert document.read_text(encoding="utf-8") == SMALL
    assert not write_tables(document, check=False)
    written = document.read_text(encoding="utf-8")
    assert written.startswith("before\n<!-- table: codes -->\n| code |")
    assert written.endswith("|\n<!-- end -->\nafter\n")
    assert write_tables(document, check=True)


def test_a_marker_for_no_table_is_refused() -> None:
    with pytest.raises(KeyError, match="nonsense"):
        filled("<!-- table: nonsense -->\n<!-- end -->")


def test_the_command_checks_the_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("PROTOCOL.md: current")
    assert second.endswith("events.py: current")


def test_the_command_reports_a_document_that_is_out_of_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    document = tmp_path / "small.md"
    document.write_text(SMALL, encoding="utf-8")
    monkeypatch.setattr("tests.protocol.__main__.DOCUMENT", document)
    assert main(["--check"]) == 1
    assert "out of date: run python -m tests.protocol" in capsys.readouterr().out
