"""Copies the daemon's journal while the daemon writes it: ``python backup_journal.py JOURNAL COPY``.

The copy is of one moment, checked, and a single file. It appears whole or not at all, under a name that must not be
taken yet. Reads only; the daemon goes on meanwhile, its write-ahead log (at most the size of what it writes during the
copy) is emptied afterwards. Needs Python alone. Exit codes: 0 done, 1 not done (the text says why), 2 wrong arguments.
"""
# ruff: noqa: INP001 - a script that stands alone

from __future__ import annotations

import argparse
import os
import secrets
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

WAIT_S = 30.0
NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)


class NotCopied(Exception):
    """Why there is no copy."""


def copy(journal: Path, target: Path) -> int:
    """Copy ``journal`` to ``target``; return the last offset in the copy. Raises NotCopied."""
    if not journal.is_file():
        raise NotCopied(f"{journal}: there is no such file; the journal is journal.sqlite3 in the daemon's data_dir")
    if target.exists():
        raise NotCopied(f"{target} exists; choose another name")
    unfinished = target.with_name(f".{target.name}.{secrets.token_hex(8)}.unfinished")
    try:
        os.close(os.open(unfinished, NEW_FILE, 0o600))  # SQLite writes into an empty file, and keeps its mode
        with closing(sqlite3.connect(f"{journal.absolute().as_uri()}?mode=ro", uri=True, timeout=WAIT_S)) as source:
            source.execute("VACUUM INTO ?", (str(unfinished),))
        offset = last_offset(unfinished)
        unfinished.rename(target)
    except (sqlite3.Error, OSError) as error:
        raise NotCopied(f"{journal} could not be copied to {target}: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return offset


def last_offset(path: Path) -> int:
    """Return the last offset of a whole, undamaged journal; raises sqlite3.Error for another file."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as copied:
        (found,) = copied.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(f"the copy is damaged: {found}")
        (offset,) = copied.execute('SELECT coalesce(max("offset"), 0) FROM events').fetchone()
    return int(offset)


def main() -> int:
    """Copy and say what was copied."""
    parser = argparse.ArgumentParser(description="copy the journal of a running mt4pump")
    parser.add_argument("journal", type=Path, help="journal.sqlite3 in the daemon's data_dir")
    parser.add_argument("copy", type=Path, help="file to make")
    given = parser.parse_args()
    try:
        offset = copy(given.journal, given.copy)
    except NotCopied as error:
        print(f"backup_journal: {error}", file=sys.stderr)  # noqa: T201 - a command line prints
        return 1
    print(f"{given.copy}: {given.copy.stat().st_size} bytes, events up to offset {offset}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
