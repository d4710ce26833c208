"""What can be a service: one row per program, in the order in which they start; pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mt4pump.service.errors import ServiceError


@dataclass(frozen=True, slots=True)
class Program:
    """A program of ours that runs for ever.

    ``service`` is its name in Windows, ``words`` what follows ``python``, ``needs`` the names of programs without
    which it is of no use: those on the same machine are started before it.
    """

    name: str
    service: str
    description: str
    words: tuple[str, ...]
    needs: tuple[str, ...] = ()

    @property
    def settings_file(self) -> str:
        """Return the name of its settings file: the one that it finds by itself in its working folder."""
        return f"{self.service}.toml"


def _consumer(name: str, room: str, description: str) -> Program:
    return Program(name, f"mt4pump-{name}", description, ("-m", f"mt4pump_consumers.{room}"), ("daemon",))


PROGRAMS = {
    program.name: program
    for program in (
        Program("daemon", "mt4pump", "Publishes a MetaTrader 4 manager session on ZeroMQ", ("-m", "mt4pump", "run")),
        _consumer("gateway", "gateway", "Serves the mt4pump stream to WebSocket clients"),
        _consumer("monitor", "monitor", "Watches trades of the mt4pump stream and alerts"),
        _consumer("metrics", "metrics", "Tells Prometheus about the mt4pump stream"),
        _consumer("nats", "nats_bridge", "Republishes the mt4pump stream on NATS"),
    )
}


def chosen(names: Iterable[str]) -> list[Program]:
    """Return the programs of these names in starting order, each once; raises ServiceError for a name not known."""
    wanted = set(names)
    if strangers := sorted(wanted - set(PROGRAMS)):
        raise ServiceError(f"there is no program {', '.join(strangers)}; there are {', '.join(PROGRAMS)}")
    return [program for name, program in PROGRAMS.items() if name in wanted]


def dependents(programs: Iterable[Program]) -> list[Program]:
    """Return the others that need one of ``programs``, in starting order."""
    names = {program.name for program in programs}
    return [each for each in PROGRAMS.values() if each.name not in names and names & set(each.needs)]
