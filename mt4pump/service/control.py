"""Install, start, stop, remove: each may be repeated, and ends in the same state."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from mt4pump.service.acl import secure
from mt4pump.service.commands import Call
from mt4pump.service.errors import ServiceError
from mt4pump.service.nssm import PAUSED, PENDING, RUNNING, STOPPED, Nssm, must
from mt4pump.service.plan import STOP_LIMIT_S, Placement, own_rights, parameters, template
from mt4pump.service.programs import PROGRAMS, Program, dependents

POLL_S = 0.25
STOP_WAIT_S = STOP_LIMIT_S + 15.0
"""After NSSM has sent Ctrl-C: the program's time, and NSSM's own."""
FIRST_WORD_S, LAST_WORD_S = 15.0, 1.0
"""How long a slow machine may take to get a program to its first line of log, and a program to end after its last."""
LOG_LINES = 5
LOG_TAIL_BYTES = 8192


class Control:
    """What can be done with services; ``say`` gets a line for each thing that was done or found done."""

    def __init__(self, nssm: Nssm, call: Call, place: Placement, say: Callable[[str], None]) -> None:
        self._nssm, self._call, self._place, self._say = nssm, call, place, say

    def states(self) -> dict[str, str | None]:
        """Return the state of each program's service by the program's name; None: not installed."""
        return {name: self._nssm.state(program.service) for name, program in PROGRAMS.items()}

    def installed(self) -> list[Program]:
        """Return the programs that are services, in starting order."""
        return [PROGRAMS[name] for name, state in self.states().items() if state is not None]

    def prepare(self, programs: list[Program]) -> None:
        """Make folders, access rights and settings files; what an installation before made keeps its contents."""
        root = Path(self._place.root)
        try:
            secure(root, self._call, [Path(self._place.settings(program)) for program in PROGRAMS.values()])
            for program in programs:
                Path(self._place.logs(program)).mkdir(parents=True, exist_ok=True)
                self._offer_settings(program)
        except OSError as error:
            raise ServiceError(f"{error.filename or root} cannot be written ({error.strerror})") from error

    def _offer_settings(self, program: Program) -> None:
        path = Path(self._place.settings(program))
        if path.exists():
            return
        path.write_text(template(program, self._place), encoding="utf-8")
        self._say(f"{path}: made; write its settings before you start {program.service}")

    def install(self, program: Program, *, own_account: bool = False) -> None:
        """Make the service, or give the one that is there the same parameters.

        ``own_account``: have it run as an account of its own that may use its folder and little else.
        """
        state = self._nssm.state(program.service)
        if state is None:
            self._nssm.tell("install", program.service, self._place.python)
        for words in parameters(program, self._place):
            self._nssm.set(program.service, *words)
        self._order(program)
        if state is None:
            for other in self._waiting_for(program):  # installed before it
                self._order(other)
        if own_account:
            for command in own_rights(program, self._place):
                must(self._call, command)
        if state is None:
            self._say(f"{program.service}: installed")
        else:
            note = "" if state == STOPPED else "; what changed takes effect at its next start"
            self._say(f"{program.service}: was installed, parameters set{note}")

    def start(self, program: Program) -> None:
        """Start the service and see that it stays up."""
        state = self._settled(program)
        if state is None:
            raise ServiceError(f"{program.service} is not installed: mt4pump service install {program.name}")
        if state == RUNNING:
            self._say(f"{program.service}: runs already")
            return
        if state != STOPPED:  # NSSM is waiting before the next restart of a program that ends at once
            self._stop_one(program)
        silent = self._log_bytes(program)
        answer = self._nssm.ask("start", program.service)
        reached = self._settled(program)
        if reached == RUNNING and self._log_bytes(program) == silent:
            reached = self._outcome(program, silent)
        if reached != RUNNING:
            text = f"{program.service} did not stay up ({_in_words(reached)}): {answer.text}"
            raise ServiceError(text + self._log(program))
        self._say(f"{program.service}: started")

    def stop(self, program: Program) -> None:
        """Stop the service by Ctrl-C, those that need it first."""
        for other in reversed(dependents([program])):
            if self._nssm.state(other.service) not in {None, STOPPED}:
                self._stop_one(other)
        state = self._nssm.state(program.service)
        if state is None or state == STOPPED:
            self._say(f"{program.service}: {'is not installed' if state is None else 'is stopped already'}")
            return
        self._stop_one(program)

    def remove(self, program: Program) -> None:
        """Stop the service and remove it; settings, logs and data stay."""
        if self._nssm.state(program.service) is None:
            self._say(f"{program.service}: is not installed")
            return
        self.stop(program)
        self._nssm.tell("remove", program.service, "confirm")  # without that word NSSM opens a window
        for other in self._waiting_for(program):
            self._order(other, gone=program)
        self._say(f"{program.service}: removed; {self._place.folder(program)} is left as it is")

    def _order(self, program: Program, *, gone: Program | None = None) -> None:
        """Have Windows start the service after those that it needs and that are here.

        It refuses to start one that waits for a service that is not here; the daemon may be on another machine.
        ``gone`` was removed just now: Windows may still show it for a moment.
        """
        needed = [PROGRAMS[name].service for name in program.needs if gone is None or name != gone.name]
        if here := [service for service in needed if self._nssm.state(service) is not None]:
            self._nssm.set(program.service, "DependOnService", *here)
        elif program.needs:
            self._nssm.tell("reset", program.service, "DependOnService")

    def _waiting_for(self, program: Program) -> list[Program]:
        """Return the others that are installed and need the program."""
        return [other for other in dependents([program]) if self._nssm.state(other.service) is not None]

    def _stop_one(self, program: Program) -> None:
        answer = self._nssm.ask("stop", program.service)
        for _ in _until(time.monotonic() + STOP_WAIT_S):
            if self._nssm.state(program.service) in {None, STOPPED}:
                self._say(f"{program.service}: stopped")
                return
        state = _in_words(self._nssm.state(program.service))
        raise ServiceError(f"{program.service} did not stop within {STOP_WAIT_S:g} s ({state}): {answer.text}")

    def _settled(self, program: Program) -> str | None:
        """Return the state once the service is no longer on its way from one to another, or after `STOP_WAIT_S`."""
        state = self._nssm.state(program.service)
        for _ in _until(time.monotonic() + STOP_WAIT_S):
            if state is None or not state.endswith(PENDING):
                break
            state = self._nssm.state(program.service)
        return state

    def _outcome(self, program: Program, silent: int) -> str | None:
        """Return the state of a program that NSSM takes for started before it said anything: it may yet refuse."""
        deadline_s = time.monotonic() + FIRST_WORD_S
        for _ in _until(deadline_s):
            if self._nssm.state(program.service) != RUNNING or self._log_bytes(program) != silent:
                break
        for _ in _until(min(time.monotonic(), deadline_s) + LAST_WORD_S):
            if self._nssm.state(program.service) != RUNNING:
                break
        return self._settled(program)

    def _log_bytes(self, program: Program) -> int:
        """Return the size of the program's log; any other one means that it said something."""
        try:
            return Path(self._place.log(program)).stat().st_size
        except OSError:
            return 0

    def _log(self, program: Program) -> str:
        """Return the last lines of the program's log, which say why it ended."""
        path = Path(self._place.log(program))
        try:
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - LOG_TAIL_BYTES))
                lines = file.read().decode("utf-8", "replace").splitlines()[-LOG_LINES:]
        except OSError:
            lines = []
        return "".join(f"\n  {line}" for line in [f"the end of {path}:", *lines])


def _in_words(state: str | None) -> str:
    return "paused: its program ends as soon as it is started" if state == PAUSED else str(state)


def _until(deadline_s: float) -> Iterator[None]:
    """Yield at once, then every `POLL_S` until the deadline."""
    yield
    while time.monotonic() < deadline_s:
        time.sleep(POLL_S)
        yield
