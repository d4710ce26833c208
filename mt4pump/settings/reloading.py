"""What a running daemon takes over from settings that were read again, and what has to wait for a restart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mt4pump.errors import SettingsError
from mt4pump.settings.consistency import Settings

AT_ONCE = ("symbols",)
"""Settings that a reload takes over. The files in ``curve_clients`` are read again as well, but are no setting."""


@dataclass(frozen=True, slots=True)
class Reread:
    """What came of it.

    ``settings`` is what now holds: of the new ones only those that were taken over, so that the next reload names the
    others again. ``changed_now`` are the names to take over, ``needs_restart`` the rest. ``ok`` is False when the new
    settings are wrong and nothing changes; ``text`` is for people, and never has a value in it.
    """

    settings: Settings
    changed_now: tuple[str, ...]
    needs_restart: tuple[str, ...]
    ok: bool
    text: str


def reloadable(old: Settings, new: Settings) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the settings that differ: those a reload takes over, and those that need a restart; pure."""
    changed = [name for name in Settings.model_fields if getattr(old, name) != getattr(new, name)]
    return (
        tuple(name for name in changed if name in AT_ONCE),
        tuple(name for name in changed if name not in AT_ONCE),
    )


def reread(old: Settings, load: Callable[[], Settings]) -> Reread:
    """Return what changes when ``load`` reads the settings anew; when they are wrong, nothing does."""
    try:
        new = load()
    except SettingsError as error:
        return Reread(old, (), (), ok=False, text=f"nothing changed: {error}")
    now, later = reloadable(old, new)
    settings = old.model_copy(update={name: getattr(new, name) for name in now})
    return Reread(settings, now, later, ok=True, text=_told(now, later))


def _told(now: tuple[str, ...], later: tuple[str, ...]) -> str:
    parts = [f"taken over: {', '.join(now)}" if now else "no setting to take over changed"]
    if later:
        parts.append(f"needs a restart: {', '.join(later)}")
    return "; ".join(parts)
