"""The journal is copied while a daemon writes it; the copy can be read, and a daemon can go on from it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mt4pump.journal import JournalReader
from tests.live import running

SCRIPT = Path(__file__).resolve().parents[2] / "deploy" / "backup_journal.py"
ROOM = 100_000
"""Offsets that a daemon skips, at least, after it was given an older file: those that may have been seen."""


def backup(journal: Path, target: Path) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, str(SCRIPT), str(journal), str(target)]
    return subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=60)


def offsets(journal: Path) -> list[int]:
    reader = JournalReader(journal)
    try:
        page = reader.page(after=0, to=None, prefixes=[b""], limit=10_000)
    finally:
        reader.close()
    return [event.offset for event in page.events]


def test_a_copy_of_a_live_journal_holds_all_up_to_one_moment_and_opens_by_itself(tmp_path: Path) -> None:
    folder, copied = tmp_path / "data", tmp_path / "copy" / "journal.sqlite3"
    copied.parent.mkdir()
    with running(folder, source="simulator", rate=2000.0) as run:
        seen = run.next(lambda message: message.body.get("offset", 0) >= 50).body["offset"]
        result = backup(folder / "journal.sqlite3", copied)
        assert result.returncode == 0, result.stderr
        after = run.next(lambda message: message.body.get("offset", 0) > seen)  # the daemon went on all the while
        assert run.pumping().body["durable"], after
    found = offsets(copied)
    assert found == list(range(1, len(found) + 1))
    assert len(found) >= seen
    assert f"events up to offset {len(found)}" in result.stdout
    assert [file.name for file in copied.parent.iterdir()] == ["journal.sqlite3"]


def test_a_daemon_continues_from_a_copy_with_offsets_no_reader_has_seen(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    second.mkdir()
    with running(first, source="simulator", rate=2000.0) as run:
        run.next(lambda message: message.body.get("offset", 0) >= 20)
        assert backup(first / "journal.sqlite3", second / "journal.sqlite3").returncode == 0
        copied = offsets(second / "journal.sqlite3")
        latest = run.next(lambda message: message.body.get("offset", 0) > copied[-1]).body["offset"]
    with running(second, source="simulator", rate=2000.0) as run:
        again = run.next(lambda message: "offset" in message.body and message.topic != "heartbeat").body["offset"]
    assert again > max(latest, ROOM)


def test_the_journal_of_a_stopped_daemon_is_copied_as_well(tmp_path: Path) -> None:
    with running(tmp_path / "data", source="simulator", rate=2000.0) as run:
        seen = run.next(lambda message: message.body.get("offset", 0) >= 20).body["offset"]
    assert backup(tmp_path / "data" / "journal.sqlite3", tmp_path / "copy.sqlite3").returncode == 0
    assert len(offsets(tmp_path / "copy.sqlite3")) >= seen
    if sys.platform != "win32":
        assert (tmp_path / "copy.sqlite3").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("case", ["no journal", "name taken", "no database"])
def test_a_copy_that_cannot_be_made_is_refused_and_leaves_nothing(case: str, tmp_path: Path) -> None:
    journal, target = tmp_path / "journal.sqlite3", tmp_path / "copy.sqlite3"
    if case != "no journal":
        journal.write_bytes(b"this is no database, and long enough to be none" * 10)
    if case == "name taken":
        target.write_text("older copy")
    before = sorted(file.name for file in tmp_path.iterdir())
    result = backup(journal, target)
    assert result.returncode == 1
    assert {"no journal": "no such file", "name taken": "exists", "no database": "could not be copied"}[
        case
    ] in result.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == before
