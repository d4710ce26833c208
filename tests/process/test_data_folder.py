"""One daemon per data folder, whatever a dead one left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import filelock
import pytest

from mt4pump.errors import StartError
from mt4pump.process.data_folder import ABOUT, LOCK, DataFolderLock, LockHolder, instance_on
from tests.bus import LIMIT_S, until
from tests.cli.commands import environment

HOLD = """
import sys, pathlib
from mt4pump.process.data_folder import DataFolderLock
held = DataFolderLock(pathlib.Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held_elsewhere(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Have another process hold ``folder``."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_the_first_one_holds_the_folder_until_it_closes(tmp_path: Path) -> None:
    with closing(DataFolderLock(tmp_path)) as held:
        holder = instance_on(tmp_path)
        assert holder is not None
        assert holder.pid == os.getpid()
        assert f"pid {os.getpid()}, since 20" in holder.text
        with pytest.raises(StartError, match="is in use by"):
            DataFolderLock(tmp_path)
    held.close()
    assert instance_on(tmp_path) is None
    DataFolderLock(tmp_path).close()


def test_another_process_is_named_with_its_pid_and_what_to_do(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path) as process:
        with pytest.raises(StartError) as caught:
            DataFolderLock(tmp_path)
        text = str(caught.value)
        assert text.startswith(f"data_dir {tmp_path} is in use by mt4pump ")
        assert Path(sys.executable).name in text
        assert f"pid {process.pid}, since " in text
        assert text.endswith("stop it, or set --data-dir to another folder")
        holder = instance_on(tmp_path)
        assert holder is not None
        assert holder.pid == process.pid


def test_what_a_killed_process_left_is_no_obstacle(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path) as process:
        process.kill()
        process.wait(LIMIT_S)
        assert (tmp_path / ABOUT).exists()
        assert instance_on(tmp_path) is None
        with closing(DataFolderLock(tmp_path)):
            assert json.loads((tmp_path / ABOUT).read_text(encoding="utf-8"))["pid"] == os.getpid()


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGSTOP on Windows")
def test_a_process_that_hangs_still_holds_it(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path) as process:
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(StartError, match=f"pid {process.pid}"):
            DataFolderLock(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": "x"}', b'{"pid": 1e400}', b"\xff" * 9_000])
def test_a_holder_whose_description_is_garbage_is_another_program(tmp_path: Path, content: bytes) -> None:
    with closing(DataFolderLock(tmp_path)):
        (tmp_path / ABOUT).write_bytes(content)
        assert instance_on(tmp_path) == LockHolder()
        with pytest.raises(StartError, match="in use by another program: stop it"):
            DataFolderLock(tmp_path)


def test_a_time_that_cannot_be_shown_is_left_out() -> None:
    assert LockHolder(5, "x", 1e300).text == "x (pid 5)"


def test_a_start_waits_for_a_program_that_only_checks_the_lock(tmp_path: Path) -> None:
    DataFolderLock(tmp_path).close()
    looking = filelock.FileLock(tmp_path / LOCK, mode=0o600, thread_local=False)
    looking.acquire()
    program = f"""
import pathlib, sys
from mt4pump.process import data_folder
data_folder.LOCK_WAIT_S = {LIMIT_S}
print("begins", flush=True)
data_folder.DataFolderLock(pathlib.Path(sys.argv[1]))
print("has it")
"""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
        looking.release()
        assert process.communicate(timeout=LIMIT_S)[0] == "has it\n"


def test_missing_folders_are_made_for_this_user_alone(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    with closing(DataFolderLock(folder)):
        if sys.platform != "win32":
            assert [each.stat().st_mode & 0o777 for each in (folder, folder.parent)] == [0o700, 0o700]
    assert not (folder / ABOUT).exists()


def test_a_folder_that_is_there_keeps_its_permissions(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    before = tmp_path.stat().st_mode
    DataFolderLock(tmp_path).close()
    assert tmp_path.stat().st_mode == before


def test_a_folder_that_is_a_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "data"):
        with pytest.raises(StartError, match=r"cannot be written to \(.*\): make it writable for this user, or set"):
            DataFolderLock(folder)
        assert instance_on(folder) is None


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(28, "No space left on device")])
def test_a_folder_that_cannot_be_written_to_is_a_clear_error_and_the_lock_is_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(
            "mt4pump.process.data_folder.replace_file", refuse
        )  # the tests may run as root, who may write everywhere
        with pytest.raises(StartError, match=f"cannot be written to .{error.strerror}.: make it writable"):
            DataFolderLock(tmp_path)
    DataFolderLock(tmp_path).close()


def test_a_lock_that_the_file_system_refuses_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with pytest.raises(StartError, match="file system without locks"):
        DataFolderLock(tmp_path)


def test_a_check_of_the_lock_creates_nothing(tmp_path: Path) -> None:
    assert instance_on(tmp_path / "no") is None
    assert instance_on(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows lets nobody delete a file that is open")
def test_closing_works_when_the_folder_is_gone(tmp_path: Path) -> None:
    held = DataFolderLock(tmp_path / "data")
    for path in (tmp_path / "data").iterdir():
        path.unlink()
    (tmp_path / "data").rmdir()
    held.close()
    until(lambda: instance_on(tmp_path / "data") is None, "let go")
