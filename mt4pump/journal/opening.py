"""From a path to a `Store`: make the folder, open or create the file, see how the last life of it ended."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import psutil

from mt4pump.clock import NowNs
from mt4pump.journal.errors import DAMAGED, JournalFileError
from mt4pump.journal.recovery import companion, orphaned
from mt4pump.journal.schema import (
    BUSY_WAIT_S,
    SYNCED_LEVELS,
    JournalOptions,
    connect,
    create,
    is_new,
    pragma,
    prepare,
    read_meta,
    write_meta,
)
from mt4pump.journal.store import RESERVE_BLOCK, Store
from mt4pump.private_files import create_private, make_private

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
TOLERATED_S = 10.0
"""Where only the time of the start is known it moves a little when the clock is set."""


def boot_identity(boot_id: Path = BOOT_ID) -> str:
    """Return a text that changes when the machine restarts."""
    try:
        return f"id:{boot_id.read_text().strip()}"
    except OSError:
        return f"at:{psutil.boot_time():.0f}"


def same_boot(one: str, other: str) -> bool:
    """Whether both texts name the same start of the machine; in doubt they do not."""
    if one == other:
        return bool(one)
    try:
        times = [float(text.removeprefix("at:")) for text in (one, other) if text.startswith("at:")]
    except ValueError:
        return False
    return len(times) == 2 and abs(times[0] - times[1]) <= TOLERATED_S


log = logging.getLogger(__name__)

FILES_LIMIT = 1_000
"""Files beside the journal, damaged ones of before among them, whose rights are looked at."""
UNSTORED_MARK = ".unstored"
"""An empty file beside the journal: events were published that it does not hold, and it does not say so itself yet."""


@dataclass(frozen=True, slots=True)
class PreviousRun:
    """What this process knows from before it opens the file: nothing at its start.

    ``log_id`` is the file it had open, ``last`` and ``kinds`` are the last offset given and the last one per kind,
    ``unstored`` events were published since. ``base`` is where a file that must be created begins.
    """

    log_id: str = ""
    last: int = 0
    kinds: Mapping[bytes, int] = field(default_factory=dict)
    unstored: int = 0
    base: int = 0


def open_store(
    path: Path, options: JournalOptions, now_ns: NowNs, now_s: Callable[[], float], before: PreviousRun
) -> Store:
    """Open the journal, or create it; raises what is in `faults.FAULTS`."""
    make_folder(path.parent)
    if path.is_dir():
        raise JournalFileError("cannot_open", "this is a folder: move it away, the journal is a file")
    if path.exists() and not path.is_file():  # a device would not open as a journal, and be renamed for damaged
        raise JournalFileError("cannot_open", "this is a device or a pipe: move it away, the journal is a file")
    if orphaned(path):
        raise JournalFileError(
            DAMAGED, "its write-ahead log is here, the file is not: both are set aside, a new one is begun"
        )
    wal = companion(path, "-wal")
    had_wal = wal.exists() and wal.stat().st_size > 0
    if not path.exists():
        with contextlib.suppress(OSError):  # SQLite meets the same and has better words for it
            create_private(path)
    tightened = [part for part in islice(path.parent.glob(f"{path.name}*"), FILES_LIMIT) if make_private(part)]
    if tightened:
        log.warning("%s: other users of this machine could read it: made private", ", ".join(map(str, tightened)))
    connection = connect(path, wait_s=BUSY_WAIT_S)
    try:
        new = is_new(connection)
        prepare(connection, options)
        if new:
            create(connection, max(before.base, before.last), now_ns())
        marks = read_meta(connection)
        store = Store(path, connection, options, marks=marks, now_ns=now_ns, now_s=now_s)
        _begin_life(store, options, marks, before, had_wal=had_wal or new)
    except BaseException:
        connection.close()
        raise
    return store


def make_folder(folder: Path) -> None:
    """Make the folder, and those above it, for this user alone: the journal holds trades."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)


def _begin_life(
    store: Store, options: JournalOptions, marks: dict[str, Any], before: PreviousRun, *, had_wal: bool
) -> None:
    """Go on behind every offset that may have been seen, mark breaks, reserve; on the disk when this returns."""
    boot = boot_identity()
    unstored_mark = companion(store.path, UNSTORED_MARK)
    connection = store.connection
    pragma(connection, "synchronous", "FULL")
    connection.execute("BEGIN IMMEDIATE")
    why = "" if store.log_id == before.log_id else _tail_in_doubt(marks, boot, had_wal=had_wal)
    if why:
        store.skip(max(store.last, store.reserved), unstored=0, why=why)
        log.warning(
            "%s: %s: offsets go on behind %d, a replay over the break is not whole", store.path, why, store.last
        )
    if before.last > store.last:
        store.skip(before.last, unstored=0, why="the file is behind what this daemon published")
    if before.unstored or unstored_mark.exists():
        store.skip(store.last, unstored=before.unstored, why="events were published unstored")
    for kind, last in before.kinds.items():
        store.kinds[kind] = max(last, store.kinds.get(kind, 0))
    store.reserved = store.last + RESERVE_BLOCK
    write_meta(connection, {"clean": 0, "boot": boot, "synchronous": options.synchronous, "reserved": store.reserved})
    connection.execute("COMMIT")
    pragma(connection, "synchronous", options.synchronous)
    store.reserved_synced = store.reserved
    unstored_mark.unlink(missing_ok=True)


def _tail_in_doubt(marks: dict[str, Any], boot: str, *, had_wal: bool) -> str:
    """Return why events at the end may be missing, empty when all that was committed is here."""
    if marks["clean"]:
        return ""
    if not had_wal:
        return "the daemon did not end cleanly and the write-ahead log is gone"
    if marks["synchronous"] not in SYNCED_LEVELS and not same_boot(str(marks["boot"]), boot):
        return "the machine went down while the daemon ran"
    return ""
