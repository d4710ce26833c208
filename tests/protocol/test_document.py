"""PROTOCOL.md: its tables are the contract's, its examples run, its links lead somewhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from mt4pump.protocol import fields_of
from mt4pump.protocol.__main__ import DOCUMENT, main, write_tables
from mt4pump.protocol.markdown import TABLE, filled, table
from mt4pump.protocol.queries import HEADS, REQUESTS
from mt4pump.pump.lifecycle import CHANGES
from mt4pump.wire import KINDS, PROTOCOL

TEXT = DOCUMENT.read_text(encoding="utf-8")
SMALL = "before\n<!-- table: codes -->\nold\n<!-- end -->\nafter\n"


def test_its_tables_are_current() -> None:
    assert filled(TEXT) == TEXT, "run python -m mt4pump.protocol"


def test_it_has_every_table() -> None:
    names = {found["name"] for found in TABLE.finditer(TEXT)}
    every = {"kinds", "common", "numbers", "codes"}
    every |= {f"kind {kind}" for kind in KINDS} | {f"request {op}" for op in REQUESTS} | {f"head {op}" for op in HEADS}
    assert names == every


def test_a_table_names_every_field_nested_ones_included() -> None:
    rows = table("kind heartbeat")
    assert all(f"| `{name}` |" in rows for name in fields_of("heartbeat"))
    assert "| `journal.first_offset` |" in rows
    assert "| `sessions[].quote[].open_hour` |" in table("kind symbol")


def test_it_says_which_version_it_is_of_and_every_change() -> None:
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


def test_writing_replaces_what_stands_between_the_markers_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = tmp_path / "small.md"
    document.write_text(SMALL, encoding="utf-8")
    assert write_tables(document, check=True) == 1
    assert document.read_text(encoding="utf-8") == SMALL
    assert write_tables(document, check=False) == 0
    written = document.read_text(encoding="utf-8")
    assert written.startswith("before\n<!-- table: codes -->\n| code |")
    assert written.endswith("|\n<!-- end -->\nafter\n")
    assert write_tables(document, check=True) == 0
    assert "out of date" in capsys.readouterr().out


def test_a_marker_for_no_table_is_refused() -> None:
    with pytest.raises(KeyError, match="nonsense"):
        filled("<!-- table: nonsense -->\n<!-- end -->")


@pytest.mark.parametrize(
    ("flag", "key"), [("--json", '"trade"'), ("--json-schema", '"body.trade"'), ("--asyncapi", '"trade"')]
)
def test_the_command_prints_json(flag: str, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([flag]) == 0
    assert key in capsys.readouterr().out


def test_the_command_checks_the_document_and_refuses_what_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0
    assert main(["--nonsense"]) == 2
    assert "--json-schema" in capsys.readouterr().err
