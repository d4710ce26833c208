"""The data folder: one daemon at a time, and the epoch of each run.

``daemon.lock`` is locked; the system drops the lock when the process ends, however it ends. ``daemon.json`` beside it
names the holder, since Windows lets nobody read a locked file. What a dead process left of either is no obstacle.

``epoch`` has the epoch of the last run: ms since 1970 by the clock, but always above that of every run before. A clock
that was set back between two runs would otherwise make it fall, and readers order runs by it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from mt4pump import __version__
from mt4pump.errors import StartError
from mt4pump.private_files import is_open_to_all, make_private, make_private_folder, replace_file, replaceable_parent

LOCK, ABOUT = "daemon.lock", "daemon.json"
LOCK_WAIT_S = 0.3
"""Longest wait of a start for the lock: `instance_on` of other programs holds it for a moment."""
POLL_S = 0.02
ABOUT_MAX_BYTES = 4_096
OTHER_FOLDER = "set --data-dir to another folder"
EPOCH = "epoch"
EPOCH_LIMIT = 2**53
"""A number from here on is no epoch but a damaged file: it would be the year 287,396."""
EPOCH_MAX_BYTES = 64

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LockHolder:
    """The daemon that holds a data folder; ``pid`` 0 and ``started_s`` (since 1970) 0 are not known."""

    pid: int = 0
    program: str = "another program"
    started_s: float = 0.0

    @property
    def text(self) -> str:
        """Return who it is, for people: ``mt4pump 1.0 (python3, pid 1234, since 2026-11-23 11:09:38)``."""
        parts = [f"pid {self.pid}"] if self.pid else []
        with contextlib.suppress(ValueError, OverflowError, OSError):  # not a time that can be shown
            if self.started_s:
                parts.append(f"since {datetime.fromtimestamp(self.started_s, UTC).astimezone():%Y-%m-%d %H:%M:%S}")
        return f"{self.program} ({', '.join(parts)})" if parts else self.program


class DataFolderLock:
    """The only daemon on ``data_dir``, from construction to `close`; the folder is made if it is missing.

    Raises StartError when the folder cannot be used, or when another process holds it: the text names that process.
    """

    def __init__(self, data_dir: Path) -> None:
        self._about = data_dir / ABOUT
        self._lock = _new_lock(data_dir)
        try:
            make_private_folder(data_dir)  # the journal holds trades
            refuse_shared(data_dir)
            self._lock.acquire(timeout=LOCK_WAIT_S, poll_interval=POLL_S)
            make_private(data_dir / LOCK)  # one that an earlier version made may be open to others
            _write_about(self._about)
        except Timeout as error:
            holder = _holder(data_dir).text
            raise StartError(f"data_dir {data_dir} is in use by {holder}: stop it, or {OTHER_FOLDER}") from error
        except NotImplementedError as error:
            text = f"data_dir {data_dir} is on a file system without locks ({error}); {OTHER_FOLDER}, on a local disk"
            raise StartError(text) from error
        except OSError as error:
            self._lock.release()
            text = f"data_dir {data_dir} cannot be written to ({error.strerror or error})"
            raise StartError(f"{text}: make it writable for this user, or {OTHER_FOLDER}") from error

    def close(self) -> None:
        """Release the lock; harmless when done before."""
        if self._lock.is_locked:
            with contextlib.suppress(OSError):  # a folder that is gone or read-only by now: the lock is what counts
                self._about.unlink(missing_ok=True)
            self._lock.release()


def instance_on(data_dir: Path) -> LockHolder | None:
    """Return the daemon that runs on ``data_dir``, or None. Creates nothing and never raises."""
    try:
        if (data_dir / LOCK).is_file():
            _new_lock(data_dir).acquire(timeout=0).lock.release()
    except Timeout:
        return _holder(data_dir)
    except (OSError, NotImplementedError):  # another user's folder: it cannot be known whether it is locked
        pass
    return None


def _new_lock(data_dir: Path) -> FileLock:
    # Not thread-local: the thread that stops the daemon need not be the one that started it.
    return FileLock(data_dir / LOCK, mode=0o600, thread_local=False)


def refuse_shared(folder: Path) -> None:
    """Raise StartError when every user of this machine may put files into ``folder``: a link, or another journal."""
    if is_open_to_all(folder):
        raise StartError(
            f"data_dir {folder} may be written to by every user of this machine: chmod o-w {folder}, or {OTHER_FOLDER}"
        )
    if parent := replaceable_parent(folder):
        log.warning("data_dir %s can be replaced by every user of this machine: chmod o-w %s", folder, parent)


def _write_about(about: Path) -> None:
    """Write pid, program and start, atomically."""
    program = f"mt4pump {__version__}, {Path(sys.executable or 'python').name}"
    text = json.dumps({"pid": os.getpid(), "program": program, "started_s": time.time()})
    replace_file(about, text.encode(), durable=False)


def _holder(data_dir: Path) -> LockHolder:
    """Return what the holder wrote about itself; it may be missing, or garbage."""
    try:
        with (data_dir / ABOUT).open("rb") as file:
            about = json.loads(file.read(ABOUT_MAX_BYTES))
        return LockHolder(int(about["pid"]), str(about["program"]), float(about["started_s"]))
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return LockHolder()


def next_epoch(data_dir: Path, now_ms: int) -> int:
    """Return the epoch of the run that begins, and store it; raises StartError when it cannot be stored."""
    path = data_dir / EPOCH
    last = _last_epoch(path)
    epoch = max(now_ms, last + 1)
    if last > now_ms:
        log.warning(
            "the machine's clock is %.0f s behind the start of the run before: the epoch is that one's plus 1; "
            "check the clock",
            (last - now_ms) / 1000,
        )
    try:
        replace_file(path, b"%d\n" % epoch)
    except OSError as error:
        raise StartError(
            f"{path} cannot be written ({error.strerror or error}): it holds the epoch of this run, which must grow "
            "from run to run; make data_dir writable for this user and see that its disk is not full"
        ) from error
    return epoch


def _last_epoch(path: Path) -> int:
    """Return the epoch of the run before, 0 when there was none."""
    try:
        with path.open("rb") as file:
            text = file.read(EPOCH_MAX_BYTES)
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise StartError(f"{path} cannot be read ({error.strerror or error}): let the daemon's user read it") from error
    number = int(text) if text.strip().isdigit() else -1
    if 0 <= number < EPOCH_LIMIT - 1:
        return number
    log.warning("%s holds no epoch (%r): this run's epoch is the machine's time", path, text)
    return 0
