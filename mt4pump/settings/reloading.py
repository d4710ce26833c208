"""Watches the settings file of a running daemon, and finds what is taken over and what needs a restart."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mt4pump.errors import SettingsError
from mt4pump.settings.schema import Settings

AT_ONCE = ("symbols",)
"""Settings that a running daemon takes over. It reads the files in ``curve_clients`` again too; they are no setting."""
CHECK_INTERVAL_S = 1.0
Fingerprint = tuple[int, int, int]


class FileWatch:
    """Reports that ``file`` changed, by its time, size and inode; for one thread.

    A change counts when two checks in a row find the same file, so that a half-written one is not read. A file that is
    missing or unreadable has not changed: an editor may be replacing it.
    """

    def __init__(self, file: Path, now_s: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._now_s = now_s
        self._check_at_s = now_s() + CHECK_INTERVAL_S
        self._read = self._found = self._fingerprint()

    def has_changed(self) -> bool:
        """Return whether the file changed since the last True; read its state at most once a second."""
        now_s = self._now_s()
        if now_s < self._check_at_s:
            return False
        self._check_at_s = now_s + CHECK_INTERVAL_S
        before, self._found = self._found, self._fingerprint()
        if self._found in (None, self._read) or self._found != before:
            return False
        self._read = self._found
        return True

    def _fingerprint(self) -> Fingerprint | None:
        try:
            state = self._file.stat()
        except (OSError, ValueError):  # ValueError: a path that no system takes; reading the settings reports it
            return None
        return state.st_mtime_ns, state.st_size, state.st_ino


class Reread(NamedTuple):
    """What a second reading of the settings changes.

    ``settings`` are those in force: of the new ones only those that were taken over, so that the next reading names the
    others again. ``ok`` is False when the new settings are wrong and nothing changes; ``text`` is for people, and never
    has a value in it.
    """

    settings: Settings
    ok: bool
    text: str


def reread(old: Settings, load: Callable[[], Settings]) -> Reread:
    """Return what changes when ``load`` reads the settings again; when they are wrong, nothing does."""
    try:
        new = load()
    except SettingsError as error:
        return Reread(old, ok=False, text=f"nothing changed: {error}")
    changed = [name for name in Settings.model_fields if getattr(old, name) != getattr(new, name)]
    now = [name for name in changed if name in AT_ONCE]
    text = f"taken over: {', '.join(now)}" if now else "no setting to take over changed"
    if later := [name for name in changed if name not in AT_ONCE]:
        text += f"; needs a restart: {', '.join(later)}"
    return Reread(old.model_copy(update={name: getattr(new, name) for name in now}), ok=True, text=text)
