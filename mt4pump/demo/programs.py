"""The programs of the demo: the daemon first, then its consumers.

Every program ignores the settings of this machine, so that the demo is the same everywhere and never uses a real
session's password or journal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

HOST = "127.0.0.1"
PREFIX = "MT4PUMP_"
REQUIREMENT = re.compile(r"""([A-Za-z0-9._-]+).*extra\s*==\s*["']consumers["']""")


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of the programs, all on loopback."""

    publish: int = 5556
    query: int = 5557
    gateway: int = 8765
    metrics: int = 9564

    @property
    def endpoint(self) -> str:
        """Return the address of the stream."""
        return f"tcp://{HOST}:{self.publish}"

    @property
    def query_endpoint(self) -> str:
        """Return the address for queries."""
        return f"tcp://{HOST}:{self.query}"


class DemoProgram(NamedTuple):
    """``python -m`` ``module`` ``words``, which is ready when it listens on ``ports``."""

    name: str
    module: str
    words: tuple[str, ...]
    ports: tuple[int, ...]


def daemon(ports: Ports, data_dir: str, rate: float) -> DemoProgram:
    """Return the daemon with the simulator, ``rate`` events a second."""
    where = ("--pub-endpoint", ports.endpoint, "--query-endpoint", ports.query_endpoint, "--data-dir", data_dir)
    words = ("run", "--source", "simulator", "--rate", f"{rate:g}", *where, "--log-format", "human")
    return DemoProgram("daemon", "mt4pump", words, (ports.publish, ports.query))


def consumers(ports: Ports) -> tuple[DemoProgram, ...]:
    """Return the gateway, open to everybody on this machine, and the metrics."""
    stream = ("--endpoint", ports.endpoint, "--query-endpoint", ports.query_endpoint)
    gateway = (*stream, "--port", str(ports.gateway), "--anonymous", "--anonymous-topics", "*")
    metrics = (*stream, "--port", str(ports.metrics))
    return (
        DemoProgram("gateway", "mt4pump_consumers.gateway", gateway, (ports.gateway,)),
        DemoProgram("metrics", "mt4pump_consumers.metrics", metrics, (ports.metrics,)),
    )


def environment(environ: Mapping[str, str], paths: Iterable[str], separator: str) -> dict[str, str]:
    """Return the environment of every program: without our settings; ``paths`` are where its modules are found."""
    kept = {name: value for name, value in environ.items() if not name.upper().startswith(PREFIX)}
    return {**kept, "PYTHONPATH": separator.join(dict.fromkeys(paths)), "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}


def missing(requirements: Iterable[str], is_installed: Callable[[str], bool]) -> list[str]:
    """Return the packages of the extra ``consumers`` that are not installed."""
    found = filter(None, map(REQUIREMENT.match, requirements))
    return [match[1] for match in found if not is_installed(match[1])]
