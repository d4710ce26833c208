"""The command line: ``mt4pump COMMAND``.

A module of this folder has one command, or a group of commands: of each a function ``NAME_arguments(parser)`` and a
function ``NAME_command(args) -> int`` that returns the exit code. Only the requested module is imported.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

from mt4pump import __version__
from mt4pump.errors import (
    EXIT_FAILED,
    EXIT_OK,
    EXIT_SETTINGS,
    EXIT_START,
    PumpError,
    SettingsError,
    StartError,
    did_you_mean,
)
from mt4pump.log import drop_output, mend_streams, one_line, output_fault
from mt4pump.process.arguments import ProgramParser


class CommandEntry(NamedTuple):
    """One command: the module that has it, and its line in the help."""

    module: str
    help: str


COMMANDS = {
    "demo": CommandEntry("demo", "a simulated market with page and metrics, all at once, for a look"),
    "run": CommandEntry("run", "publish: one Manager session, or the simulator, to ZeroMQ"),
    "tail": CommandEntry("tail", "show what is published: quotes, trades, gaps, the daemon's state"),
    "snapshot": CommandEntry("queries", "show the last value of everything, of one moment"),
    "replay": CommandEntry("queries", "show stored events again, from an offset or a time on"),
    "record": CommandEntry("recordings", "capture the stream in a file, with its timing"),
    "play": CommandEntry("recordings", "publish a captured stream again, at its own speed or another"),
    "describe": CommandEntry("queries", "show what a daemon publishes: kinds, fields, units"),
    "check": CommandEntry("check", "show the effective settings, and check what can be checked before a start"),
    "keygen": CommandEntry("keygen", "make keys: for the daemon, and for each client that may connect"),
    "bench": CommandEntry("bench", "measure events per second and latency of this machine"),
    "service": CommandEntry("service", "run the daemon and its consumers as Windows services, by NSSM"),
}
DELETED = {
    "reload": (
        "the daemon takes over a change of its settings file by itself (SIGHUP: it reads the file at once), "
        "and its log says which settings need a restart"
    )
}
"""Commands of earlier versions, and what replaces them."""

HELP = """\
mt4pump publishes everything that a MetaTrader 4 Manager session receives (quotes, trades, margin calls, accounts, news)
as msgpack messages on a ZeroMQ socket that any program in any language can subscribe to.

Try it without MetaTrader: mt4pump demo, which starts everything and shows the addresses; or in two terminals:
  mt4pump run --source simulator          a market with trading accounts, on tcp://127.0.0.1:5556
  mt4pump tail                            everything that is published, live
  mt4pump tail 'quote.EURUSD' --json      one symbol, one JSON object per line
  mt4pump replay trade --since 10m        the trades of the last ten minutes, from the journal

Commands:
{commands}
  mt4pump COMMAND --help shows the flags of each; mt4pump run --help shows all settings.

Settings, strongest first: flags, environment (MT4PUMP_...), the TOML file that --config or MT4PUMP_CONFIG names, .env
in the working directory, else ./mt4pump.toml, defaults. A name that is not known stops the program, and so does a file
that other users may change.

Exit codes: 0 clean stop, 2 settings or flags wrong, 3 cannot start (library, address, data folder), 1 anything else."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 2 settings or flags wrong, 3 cannot start, 1 anything else."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    mend_streams()
    try:
        code = _exit_code(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _print_error("mt4pump: interrupted", EXIT_FAILED)
    except OSError as error:
        fault = output_fault(error)
        if fault is None:
            raise
        drop_output()
        if isinstance(fault, BrokenPipeError):  # as in `mt4pump tail | head`
            return EXIT_OK
        return _print_error(f"mt4pump: the output cannot be written: {fault.strerror or fault}", EXIT_FAILED)
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
        report(arguments[0], str(error))
        return EXIT_FAILED


def _dispatch(arguments: list[str]) -> int:
    if not arguments:
        return _print_error(_help_text(), EXIT_SETTINGS)
    name, *rest = arguments
    if name in {"-h", "--help", "help"}:
        print(_help_text())
        return EXIT_OK
    if name == "--version":
        print(f"mt4pump {__version__}")
        return EXIT_OK
    if name not in COMMANDS:
        return _print_error(_no_such_command(name), EXIT_SETTINGS)
    module = importlib.import_module(f"mt4pump.cli.{COMMANDS[name].module}")
    parser = ProgramParser(f"mt4pump {name}", COMMANDS[name].help)
    getattr(module, f"{name}_arguments")(parser)
    code: int = getattr(module, f"{name}_command")(parser.read(rest))
    return code


def report(command: str, text: str) -> None:
    """Print a line of a command to standard error, with all that is not printable escaped."""
    print(f"mt4pump {command}: {one_line(text)}", file=sys.stderr, flush=True)


def _print_error(text: str, code: int) -> int:
    print(text, file=sys.stderr)
    return code


def _help_text() -> str:
    """Return the text of ``mt4pump --help``."""
    return HELP.format(commands="\n".join(f"  {name:10}{entry.help}" for name, entry in COMMANDS.items()))


def _no_such_command(word: str) -> str:
    """Return the error for a first word that is no command."""
    if word.startswith("-"):
        return "mt4pump: the command comes first, then its flags: mt4pump run --source simulator (see mt4pump --help)"
    cure = did_you_mean(word, COMMANDS, f"the commands are {', '.join(COMMANDS)}", "mt4pump {}".format)
    return f"mt4pump: there is no command {word!r}; {DELETED.get(word, cure)}"
