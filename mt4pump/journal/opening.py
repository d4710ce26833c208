"""From a path to a `Store`: make the folder, open or create the file, check how its last run ended.

A file that cannot be used any more is renamed, and its last offset recovered; `old_files` deletes old ones.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from mt4pump.journal.schema import (
    DAMAGED,
    SYNCED_LEVELS,
    JournalFileError,
    JournalOptions,
    companion,
    connect,
    create,
    first_value,
    is_new,
    pragma,
    prepare,
    read_meta,
    write_meta,
)
from mt4pump.journal.store import RESERVE_BLOCK, Store
from mt4pump.private_files import create_private, make_private, make_private_folder
from mt4pump.process.clock import NowNs

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
TOLERANCE_S = 10.0
"""Where only the time of the boot is known it moves a little when the clock is set."""
FILES_LIMIT = 1_000
"""Files beside the journal, earlier damaged ones among them, whose rights are checked."""
EVENTS_PER_S_MAX = 100_000
"""More durable events than a daemon publishes in a second: so many offsets per second of its age a copy may lack."""
IS_COPY = "the file is a copy of the one that the daemon wrote"
NO_WAL = "the daemon did not end cleanly and the write-ahead log is gone"
UNSTORED_SUFFIX = ".unstored"
"""An empty file beside the journal: events were published unstored and no gap is recorded for them yet."""

PARTS = ("", "-wal", "-shm")
NAMES_LIMIT = 1000

HIGHEST = (
    'SELECT max("offset") FROM events',
    "SELECT max(last) FROM kinds",
    "SELECT max(next) FROM breaks",
    "SELECT value FROM meta WHERE name = 'base'",
    "SELECT value FROM meta WHERE name = 'forgotten'",
    "SELECT value FROM meta WHERE name = 'reserved'",
)
"""All that shows which offsets may have been given."""
OFFSET_LIMIT = 2**62
"""A greater number is no offset but a damaged byte."""

log = logging.getLogger(__name__)


class PreviousRun(NamedTuple):
    """What this process knows from before it opens the file: nothing at its start.

    ``log_id`` is the file it had open, ``last`` and ``kinds`` are the last offset given and the last one per kind,
    ``unstored`` events were published since. ``base`` is where a file that must be created begins.
    """

    log_id: str = ""
    last: int = 0
    kinds: Mapping[str, int] = {}
    unstored: int = 0
    base: int = 0


def boot_identity(boot_id: Path = BOOT_ID) -> str:
    """Return a text that changes when the machine restarts."""
    try:
        return f"id:{boot_id.read_text().strip()}"
    except OSError:
        return f"at:{psutil.boot_time():.0f}"


def is_same_boot(one: str, other: str) -> bool:
    """Return whether both texts surely name the same start of the machine."""
    if one == other:
        return bool(one)
    try:
        times = [float(text.removeprefix("at:")) for text in (one, other) if text.startswith("at:")]
    except ValueError:
        return False
    return len(times) == 2 and abs(times[0] - times[1]) <= TOLERANCE_S


def open_store(
    path: Path, options: JournalOptions, now_ns: NowNs, now_s: Callable[[], float], previous: PreviousRun
) -> Store:
    """Open the journal, or create it; raises `FAULTS`."""
    make_private_folder(path.parent)
    if path.is_dir():
        raise JournalFileError("cannot_open", "this is a folder: move it away, the journal is a file")
    if path.exists() and not path.is_file():  # a device would fail to open and be renamed as damaged
        raise JournalFileError("cannot_open", "this is a device or a pipe: move it away, the journal is a file")
    if is_orphaned(path):
        raise JournalFileError(
            DAMAGED, "its write-ahead log is here, the file is not: both are quarantined, a new one is begun"
        )
    had_wal = _has_content(companion(path, "-wal"))
    if not path.exists():
        with suppress(OSError):  # SQLite fails, too, and has a better text for it
            create_private(path)
    tightened = [part for part in islice(path.parent.glob(f"{path.name}*"), FILES_LIMIT) if make_private(part)]
    if tightened:
        log.warning("%s: other users of this machine could read it: made private", ", ".join(map(str, tightened)))
    connection = connect(path)
    try:
        new = is_new(connection)
        prepare(connection, options)
        if new:
            create(connection, max(previous.base, previous.last), now_ns())
        meta = read_meta(connection)
        store = Store(path, connection, options, meta=meta, now_ns=now_ns, now_s=now_s)
        _begin_run(store, meta, previous, had_wal=had_wal or new)
    except BaseException:
        connection.close()
        raise
    return store


def _begin_run(store: Store, meta: dict[str, Any], previous: PreviousRun, *, had_wal: bool) -> None:
    """Continue after every offset that readers may have, record gaps, reserve; on the disk when this returns."""
    boot, inode = boot_identity(), str(store.path.stat().st_ino)
    unstored_file = companion(store.path, UNSTORED_SUFFIX)
    connection = store.connection
    pragma(connection, "synchronous", "FULL")
    connection.execute("BEGIN IMMEDIATE")
    why = "" if store.log_id == previous.log_id else _why_incomplete(meta, boot, inode, had_wal=had_wal)
    if why:
        to = max(store.last, store.reserved)
        if why in (IS_COPY, NO_WAL):  # it shows how long ago it was written, and not what was published since
            to += int(store.clock.ahead_s * EVENTS_PER_S_MAX)
        store.record_gap(to, unstored=0, why=why)
        log.warning(
            "%s: %s: offsets continue after %d, a replay over the gap is not whole", store.path, why, store.last
        )
    if previous.last > store.last:
        store.record_gap(previous.last, unstored=0, why="the file is behind what this daemon published")
    if previous.unstored or unstored_file.exists():
        store.record_gap(store.last, unstored=previous.unstored, why="events were published unstored")
    for kind, last in previous.kinds.items():
        store.kinds[kind] = max(last, store.kinds.get(kind, 0))
    reserved = store.reserved = store.last + RESERVE_BLOCK
    level = store.options.synchronous
    write_meta(connection, {"clean": 0, "boot": boot, "inode": inode, "synchronous": level, "reserved": reserved})
    connection.execute("COMMIT")
    pragma(connection, "synchronous", level)
    store.reserved_synced = reserved
    unstored_file.unlink(missing_ok=True)


def _why_incomplete(meta: dict[str, Any], boot: str, inode: str, *, had_wal: bool) -> str:
    """Return why events at the end may be missing, empty if all that was committed is here."""
    if meta["inode"] not in ("", inode):  # empty: an earlier version wrote it
        return IS_COPY
    if meta["clean"]:
        return ""
    if not had_wal:
        return NO_WAL
    if meta["synchronous"] not in SYNCED_LEVELS and not is_same_boot(str(meta["boot"]), boot):
        return "the machine went down while the daemon ran"
    return ""


def is_orphaned(path: Path) -> bool:
    """Return whether the file is missing or empty but its write-ahead log is not: opening would destroy that log."""
    return _has_content(companion(path, "-wal")) and not _has_content(path)


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def quarantine(path: Path, now_ns: int) -> Path:
    """Rename the file and its companions to ``<name>.damaged-<UTC time>``; return the new name.

    The main file first: a crash in between leaves an orphaned log, which is detected, and not an older journal, which
    is not.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_ns // 10**9))
    for number in range(NAMES_LIMIT):
        target = path.with_name(f"{path.name}.damaged-{stamp}{f'.{number}' if number else ''}")
        if not any(companion(target, suffix).exists() for suffix in PARTS):
            break
    else:
        raise OSError(f"{NAMES_LIMIT} damaged files of {stamp} are here already: {path}")
    for suffix in PARTS:
        part = companion(path, suffix)
        if part.exists():
            part.rename(companion(target, suffix))
    return target


def recover_last_offset(path: Path) -> int | None:
    """Return the highest offset that a damaged file shows, None for none.

    Reserved offsets count, too: they cover events that the damage hides.
    """
    if not path.exists():
        return None
    found: list[int] = []
    with suppress(sqlite3.Error), closing(connect(path, read_only=True)) as connection:
        for query in HIGHEST:
            with suppress(sqlite3.Error):
                offset = first_value(connection, query)
                if isinstance(offset, int) and 0 <= offset < OFFSET_LIMIT:
                    found.append(offset)
    return max(found, default=None)
