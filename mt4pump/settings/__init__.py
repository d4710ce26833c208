"""The daemon's settings: `schema`, its checks (`validators`, `wire_faults`), functions that return checked settings.

`mt4pump.process.settings` reads the sources, as it does for the consumers. The commands and the daemon import this; the
client and the consumers do not.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mt4pump.process import settings as process_settings
from mt4pump.process.settings import NOTHING
from mt4pump.process.sources import Sources
from mt4pump.settings.schema import Settings

__all__ = ["Settings", "load", "setting_as_written", "settings_file"]


def load(
    flags: Mapping[str, object] = NOTHING, environ: Mapping[str, str] = os.environ, config: Path | None = None
) -> Settings:
    """Return the daemon's settings; raises SettingsError."""
    return process_settings.read(Settings, flags, environ, config).settings


def setting_as_written(name: str, environ: Mapping[str, str] = os.environ) -> Any:
    """Return the setting ``name`` before checking, whatever else is wrong: for programs that need that one alone."""
    sources = Sources(Settings.naming())
    sources.read(NOTHING, environ, None)
    return sources.values.get(name, Settings.model_fields[name].get_default(call_default_factory=True))


def settings_file(environ: Mapping[str, str], config: Path | None) -> Path:
    """Return the daemon's TOML file, or the one that would be read if it existed."""
    return Sources(Settings.naming()).settings_file(environ, config)
