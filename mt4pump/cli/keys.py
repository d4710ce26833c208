"""The flag ``--keys`` of the commands that connect to a daemon."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mt4pump.errors import PumpError, SettingsError

if TYPE_CHECKING:
    from mt4pump.client import ClientKeys


def add_keys_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--keys``."""
    parser.add_argument(
        "--keys",
        type=Path,
        metavar="FILE",
        help="keys of a client, where the daemon wants them (mt4pump keygen)",
    )


def keys_in(path: Path | None) -> ClientKeys | None:
    """Return the keys of the file; raises SettingsError when it cannot be used."""
    if path is None:
        return None
    from mt4pump.client import ClientKeys  # noqa: PLC0415 - the whole client, for those who have keys

    try:
        return ClientKeys.load(path.expanduser())
    except (PumpError, OSError, ValueError, RuntimeError) as error:
        raise SettingsError(f"settings are wrong:\n  --keys: {error}") from error
