"""The command line: ``mt4pump COMMAND``.

A module of this folder has one command, or a group of commands: of each a function ``NAME_arguments(parser)`` and a
function ``NAME_command(args) -> int`` that returns the exit code. Only the requested module is imported.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from mt4pump import __version__
from mt4pump.cli.parser import COMMANDS, CommandParser, help_text, no_such_command
from mt4pump.errors import PumpError, SettingsError, StartError
from mt4pump.log import one_line
from mt4pump.process import streams

EXIT_OK, EXIT_ANYTHING, EXIT_SETTINGS, EXIT_START = 0, 1, 2, 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 2 settings or flags wrong, 3 cannot start, 1 anything else."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    streams.mend_streams()
    try:
        code = _exit_code(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _print_error("mt4pump: interrupted", EXIT_ANYTHING)
    except OSError as error:
        fault = streams.output_fault(error)
        if fault is None:
            raise
        streams.drop_output()
        if isinstance(fault, BrokenPipeError):  # as in `mt4pump tail | head`
            return EXIT_OK
        return _print_error(f"mt4pump: the output cannot be written: {fault.strerror or fault}", EXIT_ANYTHING)
    return code


def _exit_code(arguments: list[str]) -> int:
    try:
        return _dispatch(arguments)
    except SystemExit as end:  # argparse's way to end after --help or a wrong flag
        return end.code if isinstance(end.code, int) else EXIT_OK
    except SettingsError as error:
        return _print_error(f"mt4pump: {error}", EXIT_SETTINGS)
    except StartError as error:
        return _print_error(f"mt4pump: cannot start: {one_line(str(error))}", EXIT_START)
    except PumpError as error:
        return _print_error(f"mt4pump {arguments[0]}: {one_line(str(error))}", EXIT_ANYTHING)


def _dispatch(arguments: list[str]) -> int:
    if not arguments:
        return _print_error(help_text(), EXIT_SETTINGS)
    name, *rest = arguments
    if name in {"-h", "--help", "help"}:
        print(help_text())
        return EXIT_OK
    if name == "--version":
        print(f"mt4pump {__version__}")
        return EXIT_OK
    if name not in COMMANDS:
        return _print_error(no_such_command(name), EXIT_SETTINGS)
    module = importlib.import_module(f"mt4pump.cli.{COMMANDS[name].module}")
    parser = CommandParser(name)
    getattr(module, f"{name}_arguments")(parser)
    code: int = getattr(module, f"{name}_command")(parser.read(rest))
    return code


def _print_error(text: str, code: int) -> int:
    print(text, file=sys.stderr)
    return code
