"""What is done to an archive, its daemon and its store while it works: kills, and faults that hold for a while."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

import msgpack
import psutil

from mt4pump.journal import Journal, JournalOptions, Stored
from tests.consumers.archive.database_servers import DatabaseServer
from tests.consumers.archive.test_archive_program import ArchivePrograms

SMALL_DISK_BYTES = 512 << 20
CLOCK_AHEAD_S = 30 * 86_400
GROUP = 500
TOPICS = 200
IDENTITY = "simulator:0@"
RIGHTS = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"]
"""Begins the command of a program for which folders of root are read-only, too."""

Fault = Callable[[], AbstractContextManager[None]]


class Faults:
    """The faults of the programs by name; each is a function that gives a context manager, which ends the fault.

    ``missing`` says which ones this machine cannot have, and why. ``server`` is the database, if there is one.
    """

    def __init__(self, programs: ArchivePrograms, stack: ExitStack, server: DatabaseServer | None) -> None:
        self._programs, self._server = programs, server
        self._clock = programs.folder / "clock_shift"
        self.missing: list[str] = []
        self.by_name: dict[str, Fault] = {"clock jump": self._clock_jump}
        program = [sys.executable, "-m", "tests.consumers.archive.shifted_clock", str(self._clock)]
        if server is not None:
            self.by_name["slow database"] = self._slow_database
        else:
            if self._has_small_disk(stack):
                self.by_name["full disk"] = self._full_disk
            if os.geteuid() and sys.platform != "win32":
                self.by_name["read-only folder"] = self._read_only_folder
            elif shutil.which("setpriv"):
                self.by_name["read-only folder"] = self._read_only_folder
                program = [*RIGHTS, *program]
            else:
                self.missing.append("read-only folder: there is no setpriv")
        programs.archive_program = program
        programs.archive = programs.new_archive("--metrics-port", "0")

    def _has_small_disk(self, stack: ExitStack) -> bool:
        path = self._programs.path
        path.mkdir(mode=0o700)
        size = f"size={SMALL_DISK_BYTES},mode=700"
        mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(path)]
        if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False, timeout=60).returncode:
            self.missing.append("full disk: this machine lets nobody mount a file system")
            return False
        stack.callback(subprocess.run, ["umount", "-l", str(path)], check=True, timeout=60)
        return True

    @contextmanager
    def _clock_jump(self) -> Iterator[None]:
        """The archive's clock is 30 days ahead."""
        self._clock.write_text(str(CLOCK_AHEAD_S))
        yield
        self._clock.write_text("0")

    @contextmanager
    def _full_disk(self) -> Iterator[None]:
        """Not one byte is free."""
        filler = self._programs.path / "filler"
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(1 << 20)):
                pass
        yield
        filler.unlink()

    @contextmanager
    def _read_only_folder(self) -> Iterator[None]:
        """Nothing can be made or renamed in the folder."""
        folders = [self._programs.path, *(path for path in self._programs.path.rglob("*") if path.is_dir())]
        for folder in folders:
            folder.chmod(0o500)
        yield
        for folder in folders:
            with suppress(FileNotFoundError):
                folder.chmod(0o700)

    @contextmanager
    def _slow_database(self) -> Iterator[None]:
        """The server answers nothing."""
        assert self._server is not None
        processes = self._server.processes
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        yield
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.resume()


def fill_journal(folder: Path, count: int) -> None:
    """Store ``count`` more durable events in the journal of a daemon that does not run, as an earlier run of it."""
    journal = Journal(folder / "data" / "journal.sqlite3", JournalOptions(identity=IDENTITY), time.time_ns)
    try:
        epoch = time.time_ns() // 10**6
        for start in range(0, count, GROUP):
            first, now_ns = journal.last_offset + 1, time.time_ns()
            group = [_stored(first + at, start + at, epoch, now_ns) for at in range(min(GROUP, count - start))]
            assert journal.append(group, {})
    finally:
        journal.close()


def _stored(offset: int, number: int, epoch: int, ts: int) -> Stored:
    login = 900_000 + number % TOPICS
    body = {"epoch": epoch, "seq": number // TOPICS + 1, "ts": ts, "offset": offset}
    fields = {"login": login, "order": offset, "symbol": "EURUSD", "open_price": 1.5, "change": "opened", "comment": ""}
    return Stored(offset, ts, b"trade.%d" % login, msgpack.packb({**body, **fields}))
