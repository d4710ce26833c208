"""What `describe` says of the journal."""

from __future__ import annotations

from pathlib import Path

import pytest

from mt4pump.journal import Journal, JournalOptions
from mt4pump.pump.heartbeat import ServerClock
from mt4pump.query.handlers import describer
from mt4pump.query.limits import QueryOptions
from mt4pump.settings import load
from tests.journal.journals import NOW_NS


@pytest.mark.parametrize("blocked", [True, False], ids=["never open", "open"])
def test_the_log_is_empty_until_its_file_was_opened(tmp_path: Path, blocked: bool) -> None:  # noqa: FBT001 - a case
    path = tmp_path / "journal.sqlite3"
    if blocked:
        path.mkdir()
    journal = Journal(path, JournalOptions(), lambda: NOW_NS)
    assert described(tmp_path, journal) == journal.log_id
    assert (journal.log_id == "") is blocked
    journal.close()


def test_without_a_journal_the_log_is_none(tmp_path: Path) -> None:
    assert described(tmp_path, None) is None


def described(folder: Path, journal: Journal | None) -> object:
    settings = load({"source": "simulator", "data_dir": folder}, environ={}, config=None)
    clock = ServerClock()
    return describer(settings, QueryOptions(), epoch=1, pub_endpoint="", journal=journal, server_clock=clock)()["log"]
