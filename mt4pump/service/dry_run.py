"""What an action would run, without running it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mt4pump.service.commands import CommandResult, shown
from mt4pump.service.control import Control
from mt4pump.service.nssm import ABSENT, STOPPED, Nssm
from mt4pump.service.plan import Placement, restrict
from mt4pump.service.programs import Program


class DryRun:
    """Says commands, one per line; files and services stay as they are."""

    def __init__(self, nssm: str, place: Placement, say: Callable[[str], None]) -> None:
        self._nssm, self._place, self._say = nssm, place, say
        self._installed: set[str] = set()

    def install(self, programs: Sequence[Program], *, own_account: bool = False) -> None:
        """Say what installs ``programs``, which are in starting order, on a machine that has none of them."""
        self._call(restrict(self._place.root))
        control = Control(Nssm(self._nssm, self._answer), self._answer, self._place, say=lambda _line: None)
        for program in programs:
            control.install(program, own_account=own_account)

    def tell(self, action: str, programs: Sequence[Program]) -> None:
        """Say what another action runs."""
        words = {"remove": (("stop",), ("remove", "confirm"))}.get(action, ((action,),))
        for program in programs if action in {"start", "status"} else reversed(programs):
            for word, *rest in words:
                self._call([self._nssm, word, program.service, *rest])

    def _answer(self, command: Sequence[str]) -> CommandResult:
        """Answer as a machine would that had none of our services at first."""
        word, service = command[1:3]
        if word == "status":
            return CommandResult(0, STOPPED) if service in self._installed else CommandResult(ABSENT, "")
        if word == "install":
            self._installed.add(service)
        return self._call(command)

    def _call(self, command: Sequence[str]) -> CommandResult:
        self._say(shown(command))
        return CommandResult(0, "")
