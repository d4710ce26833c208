"""All children of the demo: started in order, watched, ended in the order that leaves nobody waiting."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event

from mt4pump.demo.process import Child
from mt4pump.demo.programs import HOST, Part
from mt4pump.errors import StartError
from mt4pump.publisher.binding import holder_of, listens

READY_LIMIT_S = 30.0
SLICE_S = 0.1
SHOWN_LINES = 15
CANNOT_START = 3


class ChildEnded(Exception):
    """A child ended that should run; ``code`` is its exit code, the text has the end of its log."""

    def __init__(self, child: Child) -> None:
        child.drain()
        self.code = child.code
        lines = list(child.lines)[-SHOWN_LINES:] or ["(it wrote nothing)"]
        last = "\n".join(f"  {line}" for line in lines)
        super().__init__(f"{child.part.name} ended with code {self.code}; the end of its log:\n{last}")


class ProcessGroup:
    """Holds the children. ``hear`` gets each line of their logs."""

    def __init__(self, folder: Path, environment: Mapping[str, str], hear: Callable[[str, str], None]) -> None:
        self.children: list[Child] = []
        self._folder = folder
        self._environment = environment
        self._hear = hear

    def start(self, parts: tuple[Part, ...], asked: Event) -> None:
        """Start parts, and return when all listen or the end is ``asked`` for.

        Raises ChildEnded, and StartError for a part that does not get there in time.
        """
        started = [Child(part, self._folder, self._environment, self._hear) for part in parts]
        self.children += started
        waiting = [(child, port) for child in started for port in child.part.ports]
        left_s = READY_LIMIT_S
        while not asked.is_set():
            self.look()
            waiting = [(child, port) for child, port in waiting if not listens(child.pid, port)]
            if not waiting:
                return
            if left_s <= 0:
                child, port = waiting[0]
                raise StartError(f"{child.part.name} does not listen on port {port} after {READY_LIMIT_S:g} s")
            asked.wait(SLICE_S)
            left_s -= SLICE_S

    def watch(self, asked: Event) -> None:
        """Return when the end is ``asked`` for; raises ChildEnded."""
        while not asked.wait(SLICE_S):
            self.look()

    def look(self) -> None:
        """Raise ChildEnded if a child did."""
        for child in self.children:
            if child.code is not None:
                raise ChildEnded(child)

    def end(self) -> list[str]:
        """End all, the daemon last; return the names of those that had to be killed."""
        first, others = self.children[:1], self.children[1:]
        for child in others:
            child.ask_to_end()
        return [child.part.name for child in (*others, *first) if not child.end()]


def check_free(names: Mapping[int, str]) -> None:
    """Raise StartError naming every port that is taken, and by whom. ``names``: port to the flag that changes it."""
    taken = []
    for port, flag in names.items():
        if _is_taken(port):
            holder = holder_of(f"tcp://{HOST}:{port}") or "another program"
            taken.append(f"port {port} is taken by {holder}: end it, or give another one with {flag}")
    if taken:
        raise StartError("\n  ".join(taken))


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # Windows, where the other option would share a taken port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:  # a connection that ended a moment ago does not count
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False
