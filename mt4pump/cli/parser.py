"""argparse with messages that name the nearest right word, and the help that teaches."""

from __future__ import annotations

from mt4pump.process.arguments import ProgramParser
from mt4pump.process.values import nearest

COMMANDS = {
    "demo": "a simulated market with page and metrics, all at once, for a look",
    "run": "publish: one Manager session, or the simulator, to ZeroMQ",
    "tail": "show what is published: quotes, trades, gaps, the daemon's state",
    "snapshot": "show the last value of everything, of one moment",
    "replay": "show stored events again, from an offset or a time on",
    "record": "capture the stream in a file, with its timing",
    "play": "publish a captured stream again, at its own pace or another",
    "describe": "show what a daemon publishes: kinds, fields, units",
    "check": "show the effective settings, and try what can be tried before a start",
    "keygen": "make keys: for the daemon, and for each client that may connect",
    "bench": "measure events per second and latency of this machine",
    "service": "run the daemon and its consumers as Windows services, by NSSM",
}

HELP = """\
mt4pump publishes everything that a MetaTrader 4 Manager session is told (quotes, trades, margin calls, accounts, news)
as msgpack messages on a ZeroMQ socket that any program in any language can subscribe to.

Try it without MetaTrader: mt4pump demo, which brings everything up and says where it is; or in two terminals:
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
    """Return what ``mt4pump --help`` says."""
    return HELP.format(commands="\n".join(f"  {name:10}{what}" for name, what in COMMANDS.items()))


def no_such_command(word: str) -> str:
    """Return the error for a first word that is no command."""
    if word.startswith("-"):
        return "mt4pump: the command comes first, then its flags: mt4pump run --source simulator (see mt4pump --help)"
    near = nearest(word, COMMANDS)
    cure = f"did you mean mt4pump {near}?" if near else f"the commands are {', '.join(COMMANDS)}"
    return f"mt4pump: there is no command {word!r}; {cure}"


class Parser(ProgramParser):
    """Parser of one command's flags."""

    def __init__(self, name: str) -> None:
        super().__init__(f"mt4pump {name}", COMMANDS.get(name))
