"""The command line: ``mt4pump COMMAND``.

Each command is a module of this folder with ``add_arguments(parser)`` and ``command(args) -> int`` (the exit code).
Only the one that is asked for is imported.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Sequence

from mt4pump import __version__
from mt4pump.cli.parser import COMMANDS, Parser, no_such_command, teach
from mt4pump.errors import SettingsError, StartError

EXIT_OK, EXIT_ANYTHING, EXIT_SETTINGS, EXIT_START = 0, 1, 2, 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 fine, 2 settings or flags wrong, 3 cannot start, 1 anything else."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a character that the terminal lacks must not end the program
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
    except SystemExit as end:  # argparse's way to end after --help, and ours after a wrong flag
        return end.code if isinstance(end.code, int) else EXIT_OK
    except SettingsError as error:
        return _say(f"mt4pump: {error}", EXIT_SETTINGS)
    except StartError as error:
        return _say(f"mt4pump: cannot start: {error}", EXIT_START)
    except BrokenPipeError:  # the reader of our output has enough, as in `mt4pump tail | head`
        _drop_output()
        return EXIT_OK
    except KeyboardInterrupt:
        return _say("mt4pump: interrupted", EXIT_ANYTHING)
    return code


def _dispatch(arguments: list[str]) -> int:
    if not arguments:
        return _say(teach(), EXIT_SETTINGS)
    name, *rest = arguments
    if name in {"-h", "--help", "help"}:
        print(teach())
        return EXIT_OK
    if name == "--version":
        print(f"mt4pump {__version__}")
        return EXIT_OK
    if name not in COMMANDS:
        return _say(no_such_command(name), EXIT_SETTINGS)
    module = importlib.import_module(f"mt4pump.cli.{name}")
    parser = Parser(name)
    module.add_arguments(parser)
    code: int = module.command(parser.read(rest))
    return code


def _say(text: str, code: int) -> int:
    print(text, file=sys.stderr)
    return code


def _drop_output() -> None:
    """Point standard output at nothing, so that Python's last flush does not fail loudly."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)
