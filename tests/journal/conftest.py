"""Where the journal of a test is, and its time."""

from pathlib import Path

import pytest

from tests.journal.journals import Clock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite3"


@pytest.fixture
def clock() -> Clock:
    return Clock()
