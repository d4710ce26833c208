"""What NSSM has to be told about a service; pure.

Only parameters that NSSM 2.24 (the last release) and 2.24-101 (which Windows 10 needs) both know. A password never
stands here: the registry, where NSSM keeps all this, can be read by every user.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from mt4pump.service.errors import ServiceError
from mt4pump.service.programs import Program

EXIT_SETTINGS = 2
"""Exit code of settings that are wrong: a restart does not make them right."""
STOP_LIMIT_S = 15.0
"""How long Ctrl-C may take: the daemon needs about a second, more when its ``linger_s`` is set higher."""
RESTART_DELAY_S = 2.0
SHORT_LIFE_S = 5.0
"""A program that ends sooner is restarted with growing delays (NSSM doubles them up to four minutes)."""
LOG_BYTES = 10 * 2**20
SKIP_WINDOW_AND_THREADS = 2 | 4
"""After Ctrl-C in vain, NSSM's messages to windows and threads are of no use to us: it terminates the process."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where services run: Windows paths as text, whole.

    ``python`` is the interpreter that has mt4pump; ``root`` holds one folder per program, so that a consumer with an
    account of its own cannot read the daemon's password; ``separator`` is between the parts of a path.
    """

    python: str
    root: str
    separator: str = "\\"

    def folder(self, program: Program) -> str:
        """Return the working folder of the program."""
        return self._path(program)

    def settings(self, program: Program) -> str:
        """Return its settings file."""
        return self._path(program, program.settings_file)

    def logs(self, program: Program) -> str:
        """Return its folder of logs, the present one and those before."""
        return self._path(program, "logs")

    def log(self, program: Program) -> str:
        """Return its present log."""
        return self._path(program, "logs", f"{program.name}.log")

    def data(self, program: Program) -> str:
        """Return the folder of what it keeps."""
        return self._path(program, "data")

    def _path(self, program: Program, *parts: str) -> str:
        return self.separator.join([self.root, program.name, *parts])

    def check(self) -> None:
        """Raise ServiceError for a path that NSSM would change."""
        for path in (self.python, self.root):
            if "%" in path or '"' in path:
                raise ServiceError(f"{path}: NSSM would expand the % in this path; use a folder without % and quotes")


def parameters(program: Program, place: Placement) -> Iterator[tuple[str, ...]]:
    """Yield what ``nssm set SERVICE`` is followed by, one tuple of arguments per call."""
    words = ("-X", "utf8", "-u", *program.words, "--config", place.settings(program))
    yield "Application", place.python
    yield "AppParameters", subprocess.list2cmdline(words)  # one argument: NSSM keeps it as it comes
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
    yield "AppExit", str(EXIT_SETTINGS), "Exit"
    yield "AppRestartDelay", _ms(RESTART_DELAY_S)
    yield "AppThrottle", _ms(SHORT_LIFE_S)
    yield "AppStopMethodSkip", str(SKIP_WINDOW_AND_THREADS)
    yield "AppStopMethodConsole", _ms(STOP_LIMIT_S)


def restrict(folder: str) -> list[str]:
    """Return the command that leaves ``folder`` to the system and to administrators.

    By number, as the names of these groups differ by the language of Windows.
    """
    return ["icacls", folder, "/inheritance:r", "/grant:r", "*S-1-5-18:(OI)(CI)F", "*S-1-5-32-544:(OI)(CI)F"]


def own_rights(program: Program, place: Placement) -> list[list[str]]:
    """Return the commands that have a service run as its own virtual account, and let that use its folder.

    Such an account exists as long as its service, and has no password.
    """
    account = f"NT SERVICE\\{program.service}"
    return [
        ["sc.exe", "config", program.service, "obj=", account],
        ["icacls", place.folder(program), "/grant", f"{account}:(OI)(CI)M"],
    ]


def template(program: Program, place: Placement) -> str:
    """Return the settings file of a fresh installation."""
    if program.name != "daemon":
        return f"# Settings of {program.service}: see python {' '.join(program.words)} --help\n"
    return f"""\
# Settings of mt4pump; mt4pump run --help explains all of them.
# Only the system, administrators and the service may read this folder: the password may stand here.
data_dir = '{place.data(program)}'
# dll_path = 'C:\\MT4ManagerAPI\\mtmanapi64.dll'   # 64-bit Python; mtmanapi.dll with 32-bit Python
# servers = ["mt4.example.com:443"]
# login = 5
# password = "..."
"""


def _ms(seconds: float) -> str:
    return str(int(seconds * 1000))
