"""Files for one user alone: how they are made, and that nobody's link is followed."""

from __future__ import annotations

import os
import secrets
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mt4pump import private_files
from mt4pump.client.position import Position, PositionFile
from mt4pump.errors import StartError
from mt4pump.private_files import (
    create_private,
    is_exposed,
    is_open_to_all,
    make_private,
    replace_file,
    replaceable_parent,
)
from mt4pump.process.data_folder import DataFolderLock
from mt4pump.recording import RecordingWriter
from tests.journal.journals import add, opened

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has ACLs instead of modes")


@pytest.fixture(autouse=True)
def no_umask() -> Iterator[None]:
    """The worst umask: what a file's creator does not forbid, everybody may do."""
    before = os.umask(0)
    yield
    os.umask(before)


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_replaced_whole_for_this_user_alone_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o666)
    for durable in (True, False):
        replace_file(path, b"new", durable=durable)
        assert (path.read_bytes(), mode(path), names(tmp_path)) == (b"new", 0o600, ["file"])


def test_a_file_that_cannot_be_replaced_stays_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError, match="file"):
        replace_file(tmp_path / "file", b"new")
    assert names(tmp_path) == ["file"]


def test_a_link_that_waits_under_the_new_name_is_never_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where somebody guessed the name."""
    monkeypatch.setattr(secrets, "token_hex", lambda _size: "guessed")
    victim, path = tmp_path / "victim", tmp_path / "file"
    victim.write_text("precious")
    (tmp_path / ".file.guessed.new").symlink_to(victim)
    with pytest.raises(FileExistsError):
        replace_file(path, b"new")
    assert victim.read_text() == "precious"
    assert not path.exists()


@pytest.mark.parametrize("name", ["file.new", ".file.new"])
def test_a_link_under_a_name_of_before_does_no_harm(tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / name).symlink_to(victim)
    PositionFile(tmp_path / "file").write(Position("log", 7, {}), durable=True)
    assert victim.read_text() == "precious"
    assert PositionFile(tmp_path / "file").load() == Position("log", 7, {})


def test_a_link_under_the_final_name_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "file"
    victim.write_text("precious")
    path.symlink_to(victim)
    replace_file(path, b"new")
    assert (victim.read_text(), path.is_symlink(), path.read_bytes()) == ("precious", False, b"new")


def test_rights_of_others_are_taken_away_and_ours_stay(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch(0o664)
    assert is_exposed(path)
    assert make_private(path)
    assert (mode(path), make_private(path), is_exposed(path)) == (0o600, False, False)
    assert not is_exposed(tmp_path / "none")
    create_private(tmp_path / "other")
    assert mode(tmp_path / "other") == 0o600


def test_everything_of_a_journal_is_private(tmp_path: Path) -> None:
    path = tmp_path / "data" / "journal.sqlite3"
    with opened(path) as journal:
        add(journal, 10)
        assert {each.name: mode(each) for each in path.parent.iterdir()} == {
            "journal.sqlite3": 0o600,
            "journal.sqlite3-wal": 0o600,
            "journal.sqlite3-shm": 0o600,
        }
        assert mode(path.parent) == 0o700


def test_a_journal_that_others_could_read_is_made_private(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "journal.sqlite3"
    with opened(path) as journal:
        add(journal, 10)
    path.chmod(0o644)
    damaged = tmp_path / "journal.sqlite3.damaged-20260101T000000Z"
    damaged.touch(0o644)
    with opened(path) as journal:
        assert (mode(path), mode(damaged)) == (0o600, 0o600)
        assert journal.last_offset == 10
    assert "other users of this machine could read it: made private" in caplog.text


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_recording_is_private(tmp_path: Path, *, overwrite: bool) -> None:
    path = tmp_path / "a.rec"
    if overwrite:
        path.touch(0o666)
    with RecordingWriter(path, 0, {}, overwrite=overwrite):
        assert mode(path) == 0o600


def test_a_new_data_folder_and_what_is_in_it_are_private(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "data"
    DataFolderLock(folder).close()
    (folder / "daemon.lock").chmod(0o666)
    with closing(DataFolderLock(folder)):
        assert (mode(folder), mode(folder.parent)) == (0o700, 0o700)
        assert {mode(each) for each in folder.iterdir()} == {0o600}


@pytest.mark.parametrize("bits", [0o777, 0o1777, 0o702])
def test_a_data_folder_that_everybody_may_write_to_is_refused(tmp_path: Path, bits: int) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(bits)
    with pytest.raises(StartError, match=f"data_dir {folder} may be written to by every user.*chmod o-w {folder}"):
        DataFolderLock(folder)
    assert list(folder.iterdir()) == []
    folder.chmod(0o770)
    DataFolderLock(folder).close()


def test_a_data_folder_that_everybody_may_replace_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    parent = tmp_path / "open"
    parent.mkdir(0o777)
    DataFolderLock(parent / "data").close()
    assert f"can be replaced by every user of this machine: chmod o-w {parent}" in caplog.text
    assert replaceable_parent(parent / "data") == parent
    parent.chmod(0o1777)
    assert replaceable_parent(parent / "data") is None


@pytest.mark.parametrize("arguments", [("run", "--pub-endpoint", "tcp://127.0.0.1:0"), ("check",)])
def test_the_programs_say_what_to_do_about_a_folder_for_everybody(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    folder = tmp_path / "data"
    folder.mkdir(0o777)
    command = [sys.executable, "-m", "mt4pump", *arguments, "--source", "simulator", "--data-dir", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    said = done.stdout + done.stderr
    assert done.returncode == 3, said
    assert f"chmod o-w {folder}" in " ".join(said.split()), said
    assert names(folder) == []


def test_where_there_are_no_modes_every_check_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_files, "HAS_MODES", False)
    (tmp_path / "file").touch(0o666)
    tmp_path.chmod(0o777)
    found = [is_exposed(tmp_path / "file"), make_private(tmp_path / "file"), is_open_to_all(tmp_path)]
    assert found == [False, False, False]
    replace_file(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
