"""Which programs can be services, where each is installed, and the NSSM parameters of each; pure.

Only parameters that NSSM 2.24 (the last release) and 2.24-101 (which Windows 10 needs) both know. They never contain a
password: NSSM keeps them in the registry, which every user can read.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mt4pump.errors import EXIT_SETTINGS, PumpError

STOP_LIMIT_S = 15.0
"""How long Ctrl-C may take: the daemon needs about a second, more when its ``linger_s`` is set higher."""
RESTART_DELAY_S = 2.0
THROTTLE_S = 5.0
"""A program that ends sooner is restarted with growing delays (NSSM doubles them up to four minutes)."""
LOG_BYTES = 10 * 2**20
SKIP_WINDOW_AND_THREADS = 2 | 4
"""If Ctrl-C fails, NSSM's messages to windows and threads do not help: it terminates the process at once."""


class ServiceError(PumpError):
    """A service cannot be installed, started, stopped or removed; the text says why and what to do."""


class NssmMissingError(ServiceError):
    """NSSM was not found."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program that runs until it is stopped.

    ``service`` is its name in Windows, ``arguments`` follow ``python``; programs in ``needs`` are started before it
    when they are on the same machine.
    """

    name: str
    service: str
    description: str
    arguments: tuple[str, ...]
    needs: tuple[str, ...] = ()

    @property
    def settings_file(self) -> str:
        """Return the name of its settings file: the one that it looks for in its working folder."""
        return f"{self.service}.toml"


def _consumer(name: str, package: str, description: str) -> Program:
    return Program(name, f"mt4pump-{name}", description, ("-m", f"mt4pump_consumers.{package}"), ("daemon",))


PROGRAMS = {
    program.name: program
    for program in (
        Program("daemon", "mt4pump", "Publishes a MetaTrader 4 manager session on ZeroMQ", ("-m", "mt4pump", "run")),
        _consumer("gateway", "gateway", "Serves the mt4pump stream to WebSocket clients"),
        _consumer("monitor", "monitor", "Watches trades of the mt4pump stream and alerts"),
        _consumer("metrics", "metrics", "Exports metrics of the mt4pump stream to Prometheus"),
        _consumer("archive", "archive", "Stores the mt4pump stream in files or a database"),
        _consumer("nats", "nats_bridge", "Republishes the mt4pump stream on NATS"),
    )
}
"""In the order in which they start."""


def chosen(names: Iterable[str]) -> list[Program]:
    """Return the programs of these names in starting order, each once; raises ServiceError for an unknown name."""
    wanted = set(names)
    if unknown := sorted(wanted - set(PROGRAMS)):
        raise ServiceError(f"there is no program {', '.join(unknown)}; there are {', '.join(PROGRAMS)}")
    return [program for name, program in PROGRAMS.items() if name in wanted]


def dependents(programs: Iterable[Program]) -> list[Program]:
    """Return the others that need one of ``programs``, in starting order."""
    names = {program.name for program in programs}
    return [each for each in PROGRAMS.values() if each.name not in names and names & set(each.needs)]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where services run: absolute Windows paths as text.

    ``python`` is the interpreter that has mt4pump; ``root`` holds one folder per program, so that a consumer with an
    account of its own cannot read the daemon's password; ``separator`` is between the parts of a path.
    """

    python: str
    root: str
    separator: str = "\\"

    def folder(self, program: Program, *parts: str) -> str:
        """Return the working folder of the program, or a path in it."""
        return self.separator.join([self.root, program.name, *parts])

    def settings(self, program: Program) -> str:
        """Return its settings file."""
        return self.folder(program, program.settings_file)

    def log(self, program: Program) -> str:
        """Return its current log; rotated ones are beside it."""
        return self.folder(program, "logs", f"{program.name}.log")

    def data(self, program: Program) -> str:
        """Return its data folder."""
        return self.folder(program, "data")

    def check(self) -> None:
        """Raise ServiceError for a path that NSSM would change."""
        for path in (self.python, self.root):
            if "%" in path or '"' in path:
                raise ServiceError(f"{path}: NSSM would expand the % in this path; use a folder without % and quotes")


def parameters(program: Program, place: Placement) -> Iterator[tuple[str, ...]]:
    """Yield the arguments that follow ``nssm set SERVICE``, one tuple per call."""
    arguments = ("-X", "utf8", "-u", *program.arguments, "--config", place.settings(program))
    yield "Application", place.python
    yield "AppParameters", subprocess.list2cmdline(arguments)  # one argument: NSSM keeps it as it is
    yield "AppDirectory", place.folder(program)
    yield "DisplayName", program.service
    yield "Description", program.description
    yield "Start", "SERVICE_AUTO_START"
    for stream in ("AppStdout", "AppStderr"):
        yield stream, place.log(program)
    yield "AppRotateFiles", "1"
    yield "AppRotateOnline", "1"  # also while it runs: the daemon runs for months
    yield "AppRotateBytes", str(LOG_BYTES)
    yield "AppExit", "Default", "Restart"
    yield "AppExit", str(EXIT_SETTINGS), "Exit"  # a restart does not correct them
    yield "AppRestartDelay", _ms(RESTART_DELAY_S)
    yield "AppThrottle", _ms(THROTTLE_S)
    yield "AppStopMethodSkip", str(SKIP_WINDOW_AND_THREADS)
    yield "AppStopMethodConsole", _ms(STOP_LIMIT_S)


def _ms(seconds: float) -> str:
    return str(int(seconds * 1000))


def restrict(folder: str) -> list[str]:
    """Return the command that gives ``folder`` to the system and administrators only; group names are localized."""
    return ["icacls", folder, "/inheritance:r", "/grant:r", "*S-1-5-18:(OI)(CI)F", "*S-1-5-32-544:(OI)(CI)F"]


def own_rights(program: Program, place: Placement) -> list[list[str]]:
    """Return the commands that run a service as its own virtual account, which may use the service's folder.

    Such an account exists as long as its service, and has no password.
    """
    account = f"NT SERVICE\\{program.service}"
    return [
        ["sc.exe", "config", program.service, "obj=", account],
        ["icacls", place.folder(program), "/grant", f"{account}:(OI)(CI)M"],
    ]


def template(program: Program, place: Placement) -> str:
    """Return the settings file of a new installation."""
    if program.name != "daemon":
        return f"# Settings of {program.service}: see python {' '.join(program.arguments)} --help\n"
    return f"""\
# Settings of mt4pump; mt4pump run --help explains all of them.
# Only the system, administrators and the service may read this folder: the password may stand here.
data_dir = '{place.data(program)}'
# dll_path = 'C:\\MT4ManagerAPI\\mtmanapi64.dll'   # 64-bit Python; mtmanapi.dll with 32-bit Python
# servers = ["mt4.example.com:443"]
# login = 5
# password = "..."
"""
