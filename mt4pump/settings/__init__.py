"""The settings: one frozen schema, four sources, and errors that name every problem at once.

Sources, strongest first: command line flags, environment (``MT4PUMP_…``), ``.env`` in the working directory, a TOML
file, defaults. Only the command line and the daemon import this; every other package gets plain values.
"""

from mt4pump.settings.consistency import Settings
from mt4pump.settings.loader import Loaded, load, read, setting_as_written
from mt4pump.settings.reloading import FileWatch, Reread, reloadable, reread
from mt4pump.settings.sources import Origin, settings_file

__all__ = [
    "FileWatch",
    "Loaded",
    "Origin",
    "Reread",
    "Settings",
    "load",
    "read",
    "reloadable",
    "reread",
    "setting_as_written",
    "settings_file",
]
