"""Files that only the daemon's own user may read, and folders that only it may write to.

Modes are those of POSIX. Windows has none: a file gets the rights of its folder there, and every check passes.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

PRIVATE, PUBLIC = 0o600, 0o644
OTHERS = stat.S_IRWXG | stat.S_IRWXO
HAS_MODES = os.name == "posix"
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


def replace_file(path: Path, content: bytes, *, mode: int = PRIVATE, durable: bool = True) -> None:
    """Write a file that appears whole or not at all, and replaces what stood there. Raises OSError.

    The new file has a name that nobody can foresee and is created by this call or not at all, so a link that somebody
    put in the folder is never followed. ``durable``: file and name are on the disk when this returns.
    """
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}.new")
    handle = os.open(fresh, _NEW, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise
    if durable:
        sync_folder(path.parent)


def make_private_folder(folder: Path) -> None:
    """Make the folder and those above it, for this user alone. Raises OSError."""
    for missing in [each for each in reversed([folder, *folder.parents]) if not each.is_dir()]:
        missing.mkdir(mode=0o700, exist_ok=True)


def private_opener(path: str, flags: int) -> int:
    """Open a file for `open`'s ``opener``; one that this call creates is for this user alone."""
    return os.open(path, flags, PRIVATE)


def create_private(path: Path) -> None:
    """Create an empty file for this user alone if there is none; one that is there is made private. Raises OSError.

    For SQLite: its write-ahead log and index get the mode of the main file.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), PRIVATE))
    make_private(path)


def make_private(path: Path) -> bool:
    """Take the rights of other users to ``path`` away; return whether they had any. Harmless where it may not."""
    if not is_exposed(path):
        return False
    try:
        path.chmod(stat.S_IMODE(path.stat().st_mode) & ~OTHERS)
    except OSError:
        return False
    return True


def is_exposed(path: Path) -> bool:
    """Return whether other users of this machine may use the regular file ``path``; False where only ACLs show it."""
    mode = _mode(path)
    return stat.S_ISREG(mode) and bool(mode & OTHERS)


def is_open_to_all(folder: Path) -> bool:
    """Return whether every user of this machine may create files in ``folder``; False where only ACLs show it."""
    return bool(_mode(folder) & stat.S_IWOTH)


def replaceable_parent(folder: Path) -> Path | None:
    """Return a folder above ``folder`` in which every user may rename it away, None when there is none."""
    modes = ((parent, _mode(parent)) for parent in folder.absolute().parents)
    return next((parent for parent, mode in modes if mode & stat.S_IWOTH and not mode & stat.S_ISVTX), None)


def _mode(path: Path) -> int:
    """Return the mode of ``path``, 0 where there is none: on Windows, or when nothing can be seen there."""
    try:
        return path.stat().st_mode if HAS_MODES else 0
    except OSError:
        return 0


def changeable_by_others(path: Path, *, is_chosen: bool = True) -> str:
    """Return why somebody beside this user and root may change or replace ``path``, and the cure; empty: nobody may.

    For files and folders that name what is executed or where secrets go. One that nobody ``is_chosen`` (found in the
    working folder) must belong to this user or to root as well. Empty where only ACLs show it, or nothing is there.
    """
    if not HAS_MODES:
        return ""
    try:
        found = path.stat()
    except OSError:
        return ""
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        return f"every user of this machine may write to {path}: chmod o-w {path}"
    if found.st_mode & stat.S_IWGRP and found.st_gid not in {0, os.getegid()}:
        return f"the group {found.st_gid} may write to {path}: chmod g-w {path}"
    if not is_chosen and found.st_uid not in {0, os.geteuid()}:
        return f"{path} belongs to the user {found.st_uid}, who may change it: chown it, or remove it"
    parent = replaceable_parent(path) or replaceable_parent(path.resolve())
    return f"every user of this machine may replace {path}: chmod o-w {parent}" if parent else ""


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on the disk, where the system can."""
    if HAS_MODES:
        with contextlib.suppress(OSError):
            sync_file(folder, os.O_RDONLY)


def sync_file(path: Path, flags: int = os.O_RDWR) -> None:
    """Have the system write to the disk what it holds of a file. Raises OSError."""
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
