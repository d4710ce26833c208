"""``mt4pump reload``: has a running daemon read its settings and the keys of its clients again."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mt4pump.cli.arguments import seconds
from mt4pump.errors import SettingsError
from mt4pump.log import one_line
from mt4pump.process.reload import ANSWER_LIMIT_S, ReloadError, ask_to_reload
from mt4pump.settings import setting_as_written
from mt4pump.settings.validators import path

EXAMPLES = """\
The daemon reads its own sources again: its flags, its environment, .env and the TOML file of its working folder. It
takes over symbols and the files in curve_clients; what else changed is named, and needs a restart. Wrong settings
change nothing. Which daemon: the one on --data-dir, else on this machine's data_dir. Where there are signals, SIGHUP
does the same.

Exit codes: 0 done, 1 the daemon refused or did not answer, 3 no daemon runs there."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which daemon is meant."""
    parser.epilog = EXAMPLES
    parser.add_argument("--data-dir", metavar="PATH", help="folder of the daemon [MT4PUMP_DATA_DIR]")
    parser.add_argument("--config", metavar="FILE", type=Path, help="TOML file to find data_dir in [MT4PUMP_CONFIG]")
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=ANSWER_LIMIT_S,
        metavar="SECONDS",
        dest="timeout_s",
        help=f"longest wait for the answer (default {ANSWER_LIMIT_S:g})",
    )


def command(args: argparse.Namespace) -> int:
    """Ask and show the answer."""
    try:
        answer = ask_to_reload(_data_dir(args), args.timeout_s)
    except ReloadError as error:
        print(f"mt4pump reload: {one_line(str(error))}", file=sys.stderr)
        return 1
    text = "\n".join(map(one_line, answer.text.split("\n")))  # a list of what is wrong has a line each
    print(f"mt4pump reload: {text}", file=sys.stdout if answer.ok else sys.stderr)
    return 0 if answer.ok else 1


def _data_dir(args: argparse.Namespace) -> Path:
    """Return the folder, whatever else in the settings is wrong: that may be why somebody reloads."""
    written = args.data_dir or setting_as_written("data_dir", config=args.config)
    try:
        return Path(str(path(written)))
    except ValueError as error:
        raise SettingsError(f"settings are wrong:\n  data_dir: {one_line(str(error))}") from error
