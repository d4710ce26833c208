"""The list of commands and the help."""

from __future__ import annotations

from typing import NamedTuple

from mt4pump.process.arguments import ProgramParser
from mt4pump.process.values import nearest


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


def help_text() -> str:
    """Return the text of ``mt4pump --help``."""
    return HELP.format(commands="\n".join(f"  {name:10}{entry.help}" for name, entry in COMMANDS.items()))


def no_such_command(word: str) -> str:
    """Return the error for a first word that is no command."""
    if word.startswith("-"):
        return "mt4pump: the command comes first, then its flags: mt4pump run --source simulator (see mt4pump --help)"
    near = nearest(word, COMMANDS)
    cure = f"did you mean mt4pump {near}?" if near else f"the commands are {', '.join(COMMANDS)}"
    return f"mt4pump: there is no command {word!r}; {DELETED.get(word, cure)}"


class CommandParser(ProgramParser):
    """Parser of one command's flags."""

    def __init__(self, name: str) -> None:
        super().__init__(f"mt4pump {name}", COMMANDS[name].help)
