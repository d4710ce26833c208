"""Install, start, stop, remove services, or show the commands; each may be repeated, and ends in the same state."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mt4pump.service.plan import (
    PROGRAMS,
    STOP_LIMIT_S,
    Placement,
    Program,
    ServiceError,
    dependents,
    own_rights,
    parameters,
    restrict,
    template,
)
from mt4pump.service.windows import (
    ABSENT,
    PAUSED,
    PENDING,
    RUNNING,
    STOPPED,
    CommandResult,
    Nssm,
    must,
    secure,
    shown,
)

POLL_S = 0.25
STOP_WAIT_S = STOP_LIMIT_S + 15.0
"""After NSSM has sent Ctrl-C: the program's time, and NSSM's own."""
FIRST_LINE_S, LAST_LINE_S = 60.0, 1.0
"""How long a slow machine may take until a program logs its first line, and until it ends after its last."""
LOG_LINES = 5
LOG_TAIL_BYTES = 8192


class Control:
    """Acts on services; ``report`` receives a line for each action done, or found done."""

    def __init__(self, nssm: Nssm, place: Placement, report: Callable[[str], None]) -> None:
        self._nssm, self._place, self._report = nssm, place, report

    def states(self) -> dict[str, str | None]:
        """Return the state of each program's service by the program's name; None: not installed."""
        return {name: self._nssm.state(program.service) for name, program in PROGRAMS.items()}

    def prepare(self, programs: list[Program]) -> None:
        """Make folders, access rights and settings files; existing ones keep their contents."""
        root = Path(self._place.root)
        try:
            secure(root, self._nssm.call, [Path(self._place.settings(program)) for program in PROGRAMS.values()])
            for program in programs:
                Path(self._place.log(program)).parent.mkdir(parents=True, exist_ok=True)
                settings = Path(self._place.settings(program))
                if not settings.exists():
                    settings.write_text(template(program, self._place), encoding="utf-8")
                    self._report(f"{settings}: made; write its settings before you start {program.service}")
        except OSError as error:
            raise ServiceError(f"{error.filename or root} cannot be written ({error.strerror})") from error

    def install(self, program: Program, *, own_account: bool = False) -> None:
        """Make the service, or set the parameters of an existing one.

        ``own_account``: it runs as an account of its own that may use its folder and little else.
        """
        state = self._nssm.state(program.service)
        if state is None:
            self._nssm.must("install", program.service, self._place.python)
        for words in parameters(program, self._place):
            self._nssm.set(program.service, *words)
        self._set_dependencies(program)
        if state is None:
            for other in self._installed_dependents(program):
                self._set_dependencies(other)
        if own_account:
            for command in own_rights(program, self._place):
                must(self._nssm.call, command)
        if state is None:
            self._report(f"{program.service}: installed")
        else:
            note = "" if state == STOPPED else "; what changed takes effect at its next start"
            self._report(f"{program.service}: was installed, parameters set{note}")

    def start(self, program: Program) -> None:
        """Start the service and check that it stays up."""
        state = self._settled_state(program)
        if state is None:
            raise ServiceError(f"{program.service} is not installed: mt4pump service install {program.name}")
        if state == RUNNING:
            self._report(f"{program.service}: runs already")
            return
        if state != STOPPED:  # NSSM waits before the next restart of a program that ends at once
            self._stop_one(program)
        log_bytes = self._log_bytes(program)
        result = self._nssm.run("start", program.service)
        reached = self._settled_state(program)
        if reached == RUNNING and self._log_bytes(program) == log_bytes:
            reached = self._state_after_first_line(program, log_bytes)
        if reached != RUNNING:
            text = f"{program.service} did not stay up ({_in_words(reached)}): {result.text}"
            raise ServiceError(text + self._last_log_lines(program))
        self._report(f"{program.service}: started")

    def stop(self, program: Program) -> None:
        """Stop the service by Ctrl-C, after those that need it."""
        for other in reversed(dependents([program])):
            if self._nssm.state(other.service) not in {None, STOPPED}:
                self._stop_one(other)
        state = self._nssm.state(program.service)
        if state is None or state == STOPPED:
            self._report(f"{program.service}: {'is not installed' if state is None else 'is stopped already'}")
            return
        self._stop_one(program)

    def remove(self, program: Program) -> None:
        """Stop the service and remove it; settings, logs and data stay."""
        if self._nssm.state(program.service) is None:
            self._report(f"{program.service}: is not installed")
            return
        self.stop(program)
        self._nssm.must("remove", program.service, "confirm")  # without that word NSSM opens a window
        for other in self._installed_dependents(program):
            self._set_dependencies(other, removed=program)
        self._report(f"{program.service}: removed; {self._place.folder(program)} is left as it is")

    def _set_dependencies(self, program: Program, *, removed: Program | None = None) -> None:
        """Let Windows start the service after those that it needs and that are installed.

        Windows refuses to start one that waits for a service that does not exist; the daemon may be on another machine.
        It may still list one that was ``removed`` just now.
        """
        needed = [PROGRAMS[name].service for name in program.needs if removed is None or name != removed.name]
        if here := [service for service in needed if self._nssm.state(service) is not None]:
            self._nssm.set(program.service, "DependOnService", *here)
        elif program.needs:
            self._nssm.must("reset", program.service, "DependOnService")

    def _installed_dependents(self, program: Program) -> list[Program]:
        return [other for other in dependents([program]) if self._nssm.state(other.service) is not None]

    def _stop_one(self, program: Program) -> None:
        result = self._nssm.run("stop", program.service)
        for _ in _polls(STOP_WAIT_S):
            if self._nssm.state(program.service) in {None, STOPPED}:
                self._report(f"{program.service}: stopped")
                return
        state = _in_words(self._nssm.state(program.service))
        raise ServiceError(f"{program.service} did not stop within {STOP_WAIT_S:g} s ({state}): {result.text}")

    def _settled_state(self, program: Program) -> str | None:
        """Return the state once the service is no longer in transition, or after `STOP_WAIT_S`."""
        state = self._nssm.state(program.service)
        for _ in _polls(STOP_WAIT_S):
            if state is None or not state.endswith(PENDING):
                break
            state = self._nssm.state(program.service)
        return state

    def _state_after_first_line(self, program: Program, log_bytes: int) -> str | None:
        """Return the state of a program that NSSM calls started before it logged anything: it may yet refuse."""
        for _ in _polls(FIRST_LINE_S):
            if self._nssm.state(program.service) != RUNNING or self._log_bytes(program) != log_bytes:
                break
        for _ in _polls(LAST_LINE_S):
            if self._nssm.state(program.service) != RUNNING:
                break
        return self._settled_state(program)

    def _log_bytes(self, program: Program) -> int:
        """Return the size of the program's log; another size means that it logged something."""
        try:
            return Path(self._place.log(program)).stat().st_size
        except OSError:
            return 0

    def _last_log_lines(self, program: Program) -> str:
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


def _polls(limit_s: float) -> Iterator[None]:
    """Yield at once, then every `POLL_S` until ``limit_s`` is over."""
    deadline_s = time.monotonic() + limit_s
    yield
    while time.monotonic() < deadline_s:
        time.sleep(POLL_S)
        yield


class DryRun:
    """Prints the commands of an action, one per line, and runs none."""

    def __init__(self, nssm: str, place: Placement, report: Callable[[str], None]) -> None:
        self._nssm, self._place, self._report = nssm, place, report
        self._installed: set[str] = set()

    def install(self, programs: Sequence[Program], *, own_account: bool = False) -> None:
        """Print what installs ``programs``, which are in starting order, on a machine that has none of them."""
        self._print(restrict(self._place.root))
        control = Control(Nssm(self._nssm, self._answer), self._place, report=lambda _line: None)
        for program in programs:
            control.install(program, own_account=own_account)

    def act(self, action: str, programs: Sequence[Program]) -> None:
        """Print the commands of another action."""
        words = {"remove": (("stop",), ("remove", "confirm"))}.get(action, ((action,),))
        for program in programs if action in {"start", "status"} else reversed(programs):
            for word, *rest in words:
                self._print([self._nssm, word, program.service, *rest])

    def _answer(self, command: Sequence[str]) -> CommandResult:
        """Return what a machine would answer that had none of our services at first."""
        word, service = command[1:3]
        if word == "status":
            return CommandResult(0, STOPPED) if service in self._installed else CommandResult(ABSENT, "")
        if word == "install":
            self._installed.add(service)
        return self._print(command)

    def _print(self, command: Sequence[str]) -> CommandResult:
        self._report(shown(command))
        return CommandResult(0, "")
