"""What services need of Windows: NSSM and other commands, the registry, and a root folder that is safe."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from mt4pump.service.plan import NssmMissingError, ServiceError, restrict

ABSENT = 3
"""Exit code of ``nssm status`` for a service that does not exist."""
RUNNING, STOPPED, PAUSED = "SERVICE_RUNNING", "SERVICE_STOPPED", "SERVICE_PAUSED"
PENDING = "_PENDING"
"""End of the names of transitional states."""
TRIES, PAUSE_S = 3, 0.5
"""For what does no harm when it is tried twice: a busy system sometimes refuses to start a program, and the service
manager to set a parameter ("Internal error", seen under Wine)."""
COMMAND_LIMIT_S = 120.0
"""Longer than NSSM waits for any service."""
SPECIAL_CHARACTERS = frozenset("&|<>^%")
"""What cmd.exe interprets within a word."""
DOWNLOAD = "get it from https://nssm.cc (2.24-101 for Windows 10 and later), put it on PATH or name it with --nssm"


class CommandResult(NamedTuple):
    """Exit code and output of a command."""

    code: int
    text: str


Call = Callable[[Sequence[str]], CommandResult]
"""Runs one command to its end. Raises ServiceError when it cannot be run, or does not end."""


def run(command: Sequence[str]) -> CommandResult:
    """Run a command, with `TRIES` tries to start it: a `Call`. It has to end within `COMMAND_LIMIT_S`."""
    for attempt in range(1, TRIES + 1):
        try:
            return _run_once(command)
        except subprocess.TimeoutExpired as error:
            text = f"did not end within {COMMAND_LIMIT_S:g} s: open services.msc to see why"
            raise ServiceError(f"{shown(command)} {text}") from error
        except OSError as error:
            if attempt == TRIES or isinstance(error, FileNotFoundError | PermissionError):
                raise ServiceError(f"{shown(command)} cannot be run: {error.strerror or error}") from error
            time.sleep(PAUSE_S)
    raise AssertionError("the last try returns or raises")


def _run_once(command: Sequence[str]) -> CommandResult:
    # Output goes into a file: a pipe stays open as long as anything that the command has started.
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(  # noqa: S603 - ours, and a list: no shell reads it
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False, timeout=COMMAND_LIMIT_S
        )
        output.seek(0)
        return CommandResult(done.returncode, decoded(output.read()))


def must(call: Call, command: Sequence[str]) -> None:
    """Run a command that must succeed; raises ServiceError with the command and its output."""
    result = call(command)
    if result.code:
        raise ServiceError(
            f"{shown(command)}: exit code {result.code}: {result.text or 'no words'} "
            "(installing and starting need an elevated prompt: Run as administrator)"
        )


def decoded(output: bytes) -> str:
    """Return a program's output on one line; NSSM writes UTF-16 into a pipe, others a code page."""
    text = output.decode("utf-16-le" if b"\0" in output else "utf-8", "replace")
    return " ".join(text.split())


def shown(command: Sequence[str]) -> str:
    """Return a command as one would type it into cmd.exe."""
    return " ".join(map(_quoted, command))


def _quoted(word: str) -> str:
    """Return one word for cmd.exe, which interprets its special characters before the program splits the line.

    Quotes hide them, except ``%``, and as long as there are no quotes within: then each gets a caret.
    """
    plain = subprocess.list2cmdline([word])
    if not SPECIAL_CHARACTERS & set(word):
        return plain
    if '"' in word or "%" in word:
        return re.sub(r'([&|<>^%()!"])', r"^\1", plain)
    backslashes = word[len(word.rstrip("\\")) :]  # before a closing quote they have to be doubled
    return plain if plain.startswith('"') else f'"{word}{backslashes}"'


def find(given: Path | None, last: str | None) -> str:
    """Return the absolute path of NSSM: services are started by it from there. Raises NssmMissingError.

    ``given`` comes first, then ``last``, where it was at the last installation, then PATH.
    """
    if given is not None:
        if not given.is_file():
            raise NssmMissingError(f"there is no file {given}: {DOWNLOAD}")
        return str(given.absolute())
    if last is not None and Path(last).is_file():
        return last
    found = shutil.which("nssm")
    if found is None:
        elsewhere = "" if os.name == "nt" else " (this is not Windows: systemd units are in deploy/)"
        raise NssmMissingError(f"nssm.exe is not on PATH{elsewhere}: {DOWNLOAD}")
    return str(Path(found).absolute())


class Nssm:
    """One NSSM program, run by ``call``, as are all other commands."""

    def __init__(self, program: str, call: Call) -> None:
        self._program = program
        self.call = call

    def run(self, *words: str) -> CommandResult:
        """Return the result of a command, whether it succeeded or not."""
        return self.call([self._program, *words])

    def must(self, *words: str) -> None:
        """Run a command that must succeed."""
        must(self.call, [self._program, *words])

    def set(self, service: str, *words: str) -> None:
        """Set a parameter, with `TRIES` tries."""
        for _ in range(TRIES - 1):
            if not self.run("set", service, *words).code:
                return
            time.sleep(PAUSE_S)
        self.must("set", service, *words)

    def state(self, service: str) -> str | None:
        """Return ``SERVICE_RUNNING``, ``SERVICE_STOPPED`` ..., or None when there is no such service."""
        result = self.run("status", service)
        if result.code == ABSENT:
            return None
        if result.code or not result.text.startswith("SERVICE_"):
            raise ServiceError(f"{shown([self._program, 'status', service])}: {result.text or result.code}")
        return result.text


PROOF = "install.proof"
OWNER_ONLY = 0o700
"""Newer Pythons make a folder with this mode for its owner, the system and administrators alone, on Windows too."""
KEY = r"SOFTWARE\mt4pump"
NSSM_VALUE = "nssm"
"""Name of the registry value with NSSM's path; all others have the name of a root folder."""

if sys.platform == "win32":
    import winreg

    def read_value(name: str) -> str | None:
        """Return the registry value; None if there is none."""
        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, KEY, 0, winreg.KEY_READ | winreg.KEY_WOW64_64KEY) as key:
                return str(winreg.QueryValueEx(key, name)[0])
        except OSError:
            return None

    def write_value(name: str, text: str) -> None:
        """Set the registry value; raises ServiceError, always without administrator's rights."""
        access = winreg.KEY_SET_VALUE | winreg.KEY_WOW64_64KEY
        try:
            with winreg.CreateKeyEx(winreg.HKEY_LOCAL_MACHINE, KEY, 0, access) as key:
                winreg.SetValueEx(key, name, 0, winreg.REG_SZ, text)
        except OSError as error:
            cure = "installing needs an elevated prompt: Run as administrator"
            raise ServiceError(rf"HKLM\{KEY} cannot be written ({error.strerror}): {cure}") from error

else:  # there are no services

    def read_value(name: str) -> str | None:  # noqa: ARG001
        """Return nothing."""
        return None

    def write_value(name: str, text: str) -> None:
        """Keep nothing."""


def secure(root: Path, call: Call, settings: Sequence[Path]) -> None:
    r"""Make the root folder of all services, or check that it is of an earlier installation.

    Any user may make folders in ``C:\ProgramData``. One that was made beforehand stays its maker's, and so does its
    content, whatever rights it is given later: settings that name a DLL, which would run as LocalSystem. So no folder
    is taken over. One of an earlier installation is recognised by a secret in it that only administrators can read; its
    digest is in the registry (``HKLM\SOFTWARE\mt4pump``, the view that 32- and 64-bit programs share), which only
    they can write. ``settings`` are files that may be in it, for the error's text.

    Raises ServiceError for a folder that somebody else may have made, and OSError.
    """
    if _is_ours(root):
        must(call, restrict(str(root)))
        return
    _refuse_foreign(root, settings)
    secret = secrets.token_hex()
    write_value(str(root), _digest(secret))  # first: without the rights to do so nothing is begun
    root.parent.mkdir(parents=True, exist_ok=True)
    root.mkdir(mode=OWNER_ONLY)
    must(call, restrict(str(root)))  # before a password can come into it
    if any(root.iterdir()):
        raise ServiceError(f"somebody wrote into {root} while it was made: see who, delete it, install again")
    (root / PROOF).write_text(secret, encoding="ascii")


def _is_ours(root: Path) -> bool:
    try:
        if _is_link(root):
            return False
        secret = (root / PROOF).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return _digest(secret) == read_value(str(root))


def _refuse_foreign(root: Path, settings: Sequence[Path]) -> None:
    try:
        root.rmdir()  # an empty one is made again, by us; of a junction only the link is removed
    except FileNotFoundError:
        pass
    except OSError as error:
        there = ", ".join(str(path) for path in settings if path.exists()) or "none"
        raise ServiceError(
            f"{root} was not made by mt4pump service install: any user may have made it, with settings that have a DLL "
            "of theirs run as LocalSystem. Move it away, install again, check what was in it, and copy (do not "
            f"move) what is yours into the new one. Settings files in it: {there}"
        ) from error


def _is_link(path: Path) -> bool:
    found = os.lstat(path)
    return stat.S_ISLNK(found.st_mode) or bool(getattr(found, "st_reparse_tag", 0))


def _digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()
