"""Large tables are read beside quotes on a Windows Python too, from a DLL: `tests/test_large_tables.py`, run there."""

from __future__ import annotations

from pathlib import Path

from tests.wine.machine import Machine
from tests.wine.test_unit_suite import run

TESTS = 6


def test_large_tables_are_read_beside_quotes_on_a_windows_python(windows: Machine, library: Path) -> None:
    assert run(windows, library, "-n", "0", "tests/test_large_tables.py") == TESTS
