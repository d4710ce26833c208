"""Old files are deleted by exact name, number and age; the newest stays, and links are left alone."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread

import pytest

from mt4pump.journal.opening import quarantine
from mt4pump.process import program
from mt4pump.process.old_files import (
    CHECK_INTERVAL_S,
    DAY_S,
    OldFiles,
    OldFilesRule,
    damaged_journals,
    service_log_rules,
    service_logs,
)
from mt4pump.process.program import ConsumerSettings, Shutdown, run_consumer
from mt4pump.service.plan import PROGRAMS, Placement, Program
from mt4pump.settings import load
from tests.bus import ANY_PORT, LIMIT_S, until
from tests.isolation import logging_put_back, nothing_set
from tests.live import running

__all__ = ["logging_put_back", "nothing_set"]

NOW_S = datetime(2026, 11, 28, tzinfo=UTC).timestamp()


def stamp(days: float) -> str:
    """Return the time in a name that is ``days`` old."""
    return datetime.fromtimestamp(NOW_S - days * DAY_S, UTC).strftime("%Y%m%dT%H%M%S")


def rotated(program: str, days: float, ms: int = 0) -> str:
    """Return the name that NSSM gives: the last write's time in UTC, with milliseconds, before the suffix."""
    return f"{program}-{stamp(days)}.{ms:03d}.log"


def delete(*rules: OldFilesRule) -> OldFiles:
    old = OldFiles(rules, now_s=lambda: NOW_S)
    old.check()
    assert old.wait(LIMIT_S)
    return old


def make(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(name)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture(name="logs")
def _logs(tmp_path: Path) -> Path:
    make(tmp_path / "logs", "daemon.log")
    return tmp_path / "logs"


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_each_service_has_a_rule_for_the_logs_that_nssm_rotates_in_its_working_folder(program: Program) -> None:
    place = Placement("python", "/root", "/")
    rule = service_logs(program.name)
    current = Path(place.log(program))
    assert Path(place.folder(program)) / rule.folder == current.parent
    assert rule.pattern.fullmatch(f"{current.stem}-20261128T154637.012{current.suffix}")
    assert not rule.pattern.fullmatch(current.name)


def test_of_many_rotated_logs_the_newest_twenty_stay(logs: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = [rotated("daemon", 1, ms) for ms in range(25)]
    make(logs, *made)
    with caplog.at_level("INFO"):
        old = delete(service_logs("daemon"))
    assert names(logs) == {"daemon.log", *made[5:]}
    assert old.counts == {"service_logs": 5}
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 5
    assert all(any(name in line for line in lines) for name in made[:5])


def test_what_is_older_than_ninety_days_goes_but_for_the_newest(logs: Path) -> None:
    make(logs, rotated("daemon", 100), rotated("daemon", 91), rotated("daemon", 89))
    assert delete(service_logs("daemon")).counts["service_logs"] == 2
    assert names(logs) == {"daemon.log", rotated("daemon", 89)}
    (logs / rotated("daemon", 89)).unlink()
    make(logs, rotated("daemon", 400), rotated("daemon", 300))
    assert delete(service_logs("daemon")).counts["service_logs"] == 1
    assert names(logs) == {"daemon.log", rotated("daemon", 300)}


def test_names_that_are_not_exactly_ours_stay(logs: Path) -> None:
    day = stamp(400)
    foreign = {
        *(f"gateway-{day}.000.log", f"daemon-{day}.log", f"daemon-{day}.000.log.gz", f"my-daemon-{day}.000.log"),
        *("daemon-20269999T000000.000.log", "daemon-notes.log", f"Daemon-{day}.000.log", f"daemon-{day}.0000.log"),
    }
    make(logs, *foreign, rotated("daemon", 300), rotated("daemon", 1))
    delete(service_logs("daemon"))
    assert names(logs) == {"daemon.log", *foreign, rotated("daemon", 1)}


@pytest.mark.not_under_wine("Wine 8 makes no symbolic link, and reports none as failed")
def test_links_and_folders_are_neither_followed_nor_deleted(tmp_path: Path, logs: Path) -> None:
    make(tmp_path / "other", rotated("daemon", 400))
    (logs / rotated("daemon", 500)).symlink_to(tmp_path / "other" / rotated("daemon", 400))
    (logs / rotated("daemon", 600)).mkdir()
    make(logs, rotated("daemon", 1))
    assert delete(service_logs("daemon")).counts["service_logs"] == 0
    assert len(names(logs)) == 4


def test_a_folder_without_the_current_log_is_not_the_programs(logs: Path) -> None:
    (logs / "daemon.log").unlink()
    make(logs, *(rotated("daemon", days) for days in (1, 200, 300)))
    assert delete(service_logs("daemon")).counts["service_logs"] == 0
    assert len(names(logs)) == 3


def test_only_where_nssm_is_there_are_rules_for_its_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    for platform, count in (("win32", 1), ("linux", 0), ("darwin", 0)):
        monkeypatch.setattr(sys, "platform", platform)
        assert len(service_log_rules("gateway")) == count


def test_a_file_of_the_future_neither_goes_nor_makes_others_go(logs: Path) -> None:
    future = [rotated("daemon", -3_650, ms) for ms in range(25)]
    make(logs, *future, rotated("daemon", 1))
    assert delete(service_logs("daemon")).counts["service_logs"] == 0
    assert len(names(logs)) == 27


def test_where_no_thread_can_be_started_nothing_is_deleted_and_it_is_said(
    logs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_thread: Thread) -> None:
        raise RuntimeError("can't start new thread")

    make(logs, *(rotated("daemon", days) for days in (1, 200)))
    with monkeypatch.context() as patch:
        patch.setattr(Thread, "start", refuse)
        assert delete(service_logs("daemon")).counts["service_logs"] == 0
    assert "old files are not deleted now (can't start new thread)" in caplog.text


def test_a_damaged_journal_goes_after_ninety_days_with_its_companions(tmp_path: Path) -> None:
    journal = tmp_path / "journal.sqlite3"
    made = []
    for days in (120, 100, 30, 30, 30, 20):
        make(tmp_path, journal.name, f"{journal.name}-wal", f"{journal.name}-shm")
        made.append(quarantine(journal, int((NOW_S - days * DAY_S) * 1e9)).name)
    make(tmp_path, journal.name, f"{journal.name}-wal", f"{made[0]}.txt", "copy.sqlite3")
    assert delete(damaged_journals(journal)).counts == {"damaged_journals": 2}
    kept = {f"{name}{part}" for name in made[2:] for part in ("", "-wal", "-shm")}
    assert names(tmp_path) == {*kept, journal.name, f"{journal.name}-wal", f"{made[0]}.txt", "copy.sqlite3"}


def test_a_check_is_due_every_hour(logs: Path) -> None:
    time_s = [1.0]
    old = OldFiles([service_logs("daemon")], lambda: NOW_S, lambda: time_s[0])
    old.check()
    assert old.wait(LIMIT_S)
    make(logs, *(rotated("daemon", 1, ms) for ms in range(21)))
    old.check()
    assert old.wait(LIMIT_S)
    assert old.counts == {"service_logs": 0}, "not yet due"
    time_s[0] += CHECK_INTERVAL_S
    old.check()
    assert old.wait(LIMIT_S)
    assert old.counts == {"service_logs": 1}


def test_a_file_that_cannot_be_deleted_is_logged_and_tried_again(
    logs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make(logs, rotated("daemon", 300), rotated("daemon", 200), rotated("daemon", 1))
    unlink = Path.unlink

    def refuse(path: Path, *, missing_ok: bool = False) -> None:
        if path.name == rotated("daemon", 300):
            raise PermissionError(13, "in use")
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        assert delete(service_logs("daemon")).counts["service_logs"] == 1
    assert f"1 old files could not be deleted, the first is {rotated('daemon', 300)} (in use)" in caplog.text
    assert delete(service_logs("daemon")).counts["service_logs"] == 1
    assert names(logs) == {"daemon.log", rotated("daemon", 1)}


def test_folders_that_do_not_exist_are_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert sum(delete(damaged_journals(tmp_path / "no" / "journal.sqlite3")).counts.values()) == 0
    assert caplog.text == ""


def test_the_daemon_deletes_damaged_journals_and_its_heartbeat_says_so(tmp_path: Path) -> None:
    flags: dict[str, object] = {"data_dir": tmp_path, "source": "simulator", "pub_endpoint": ANY_PORT}
    settings = load({**flags, "query_endpoint": ANY_PORT}, environ={}, config=None)
    journal = settings.journal_path
    make(journal.parent, *(f"{journal.name}.damaged-{year}0101T000000Z" for year in (2001, 2002, 2003)))
    with running(tmp_path, source="simulator") as run:
        run.daemon.delete_old_files()
        until(lambda: len([name for name in names(journal.parent) if ".damaged-" in name]) == 1, "two are deleted")
        run.next(lambda message: message.body.get("deleted_files", {}).get("damaged_journals") == 2)


class OwnSettings(ConsumerSettings):
    """Nothing of its own."""

    program = help_command = "mt4pump-gateway"


def test_a_consumer_deletes_its_own_old_logs_and_counts_them(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "service_log_rules", lambda name: [service_logs(name)])
    yesterday = datetime.fromtimestamp(time.time() - DAY_S, UTC).strftime("%Y%m%dT%H%M%S")  # it uses the real clock
    make(logs, "gateway.log", *(f"gateway-{yesterday}.{ms:03d}.log" for ms in range(22)), rotated("daemon", 400))

    def main(_settings: OwnSettings, shutdown: Shutdown) -> int:
        until(lambda: not shutdown.asked() and shutdown.old_logs_deleted == 2, "two logs were deleted")
        return 0

    assert run_consumer(OwnSettings, main, "For a test.", []) == 0
    assert len(names(logs)) == 23
