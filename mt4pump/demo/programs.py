"""What the demo consists of; pure.

The daemon comes first, then its consumers. Every part ignores the settings of the surroundings: the demo looks the
same everywhere, and never gets hold of a real session's password or journal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

HOST = "127.0.0.1"
PREFIX = "MT4PUMP_"
EXTRA = re.compile(r"""extra\s*==\s*["']consumers["']""")
NAME = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the parts listen, all on loopback."""

    publish: int = 5556
    query: int = 5557
    gateway: int = 8765
    metrics: int = 9564

    @property
    def endpoint(self) -> str:
        """Return where the stream is."""
        return f"tcp://{HOST}:{self.publish}"

    @property
    def query_endpoint(self) -> str:
        """Return where questions are answered."""
        return f"tcp://{HOST}:{self.query}"


@dataclass(frozen=True, slots=True)
class Part:
    """A program of the demo: ``python -m`` ``module`` ``words``, which is ready when it listens on ``ports``."""

    name: str
    module: str
    words: tuple[str, ...]
    ports: tuple[int, ...]


def daemon(ports: Ports, data_dir: str, rate: float) -> Part:
    """Return the daemon with the simulator, ``rate`` events a second."""
    where = ("--pub-endpoint", ports.endpoint, "--query-endpoint", ports.query_endpoint, "--data-dir", data_dir)
    words = ("run", "--source", "simulator", "--rate", f"{rate:g}", *where, "--log-format", "human")
    return Part("daemon", "mt4pump", words, (ports.publish, ports.query))


def consumers(ports: Ports) -> tuple[Part, ...]:
    """Return the gateway, open to everybody on this machine, and the metrics."""
    stream = ("--endpoint", ports.endpoint, "--query-endpoint", ports.query_endpoint)
    return (
        Part(
            "gateway",
            "mt4pump_consumers.gateway",
            (*stream, "--port", str(ports.gateway), "--anonymous", "--anonymous-topics", "*"),
            (ports.gateway,),
        ),
        Part("metrics", "mt4pump_consumers.metrics", (*stream, "--port", str(ports.metrics)), (ports.metrics,)),
    )


def environment(surroundings: Mapping[str, str], paths: Iterable[str], separator: str) -> dict[str, str]:
    """Return the environment of every part: none of our settings; ``paths`` are where its modules are found."""
    kept = {name: value for name, value in surroundings.items() if not name.upper().startswith(PREFIX)}
    return {**kept, "PYTHONPATH": separator.join(dict.fromkeys(paths)), "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}


def missing(requirements: Iterable[str], is_there: Callable[[str], bool]) -> list[str]:
    """Return the packages that the extra ``consumers`` asks for and that are not there."""
    found = (NAME.match(each) for each in requirements if EXTRA.search(each))
    return [name[0] for name in found if name is not None and not is_there(name[0])]
