"""NSSM: where it is, and what it answers."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from mt4pump.service.commands import Call, CommandResult, shown
from mt4pump.service.errors import NssmMissingError, ServiceError

ABSENT = 3
"""Exit code of ``nssm status`` for a service that does not exist."""
RUNNING, STOPPED, PAUSED = "SERVICE_RUNNING", "SERVICE_STOPPED", "SERVICE_PAUSED"
PENDING = "_PENDING"
"""End of the names of states that do not last."""
SET_TRIES, SET_PAUSE_S = 3, 0.5
GET_IT = "get it from https://nssm.cc (2.24-101 for Windows 10 and later), put it on PATH or name it with --nssm"


def find(given: Path | None, noted: str | None) -> str:
    """Return the path of NSSM, whole: services are started by it from there. Raises NssmMissingError.

    ``noted`` is where it was when services were installed; what is ``given`` goes before it, `PATH` behind.
    """
    if given is not None:
        if not given.is_file():
            raise NssmMissingError(f"there is no file {given}: {GET_IT}")
        return str(given.absolute())
    if noted is not None and Path(noted).is_file():
        return noted
    found = shutil.which("nssm")
    if found is None:
        elsewhere = "" if os.name == "nt" else " (this is not Windows: systemd units are in deploy/)"
        raise NssmMissingError(f"nssm.exe is not on PATH{elsewhere}: {GET_IT}")
    return str(Path(found).absolute())


class Nssm:
    """One NSSM program, called by ``call``."""

    def __init__(self, program: str, call: Call) -> None:
        self._program = program
        self._call = call

    def ask(self, *words: str) -> CommandResult:
        """Return what NSSM answers, right or wrong."""
        return self._call([self._program, *words])

    def tell(self, *words: str) -> None:
        """Have it done; raises ServiceError with the command and what NSSM said when it was not."""
        must(self._call, [self._program, *words])

    def set(self, service: str, *words: str) -> None:
        """Set a parameter; raises ServiceError as `tell`, but only after `SET_TRIES`: to set twice does no harm.

        The service manager, busy with the call before, now and then refuses one ("Internal error", seen under Wine).
        """
        for _ in range(SET_TRIES - 1):
            if not self.ask("set", service, *words).code:
                return
            time.sleep(SET_PAUSE_S)
        self.tell("set", service, *words)

    def state(self, service: str) -> str | None:
        """Return ``SERVICE_RUNNING``, ``SERVICE_STOPPED`` ..., or None when there is no such service."""
        answer = self.ask("status", service)
        if answer.code == ABSENT:
            return None
        if answer.code or not answer.text.startswith("SERVICE_"):
            raise ServiceError(f"{shown([self._program, 'status', service])}: {answer.text or answer.code}")
        return answer.text


def must(call: Call, command: Sequence[str]) -> None:
    """Run a command that must succeed; raises ServiceError."""
    answer = call(command)
    if answer.code:
        raise ServiceError(
            f"{shown(command)}: exit code {answer.code}: {answer.text or 'no words'} "
            "(installing and starting need an elevated prompt: Run as administrator)"
        )
