"""A real gateway over a real daemon with the simulator, each in a process of its own on free ports."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.programs import LIMIT_S, Program, program

ROOT = Path(__file__).parents[3]
Json = dict[str, Any]


def environment() -> dict[str, str]:
    """Return the environment of the programs: none of ours but the path of the consumers."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MT4PUMP_")}
    path = os.pathsep.join([str(ROOT / "consumers"), str(ROOT), kept.get("PYTHONPATH", "")])
    return {**kept, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def started(folder: Path, module: str, *arguments: str) -> subprocess.Popen[str]:
    """Return a started module whose log lines can be read."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env=environment(),
    )


@contextmanager
def daemon(folder: Path, endpoint: str = "tcp://127.0.0.1:*", query: str = "tcp://127.0.0.1:*") -> Iterator[Program]:
    """Run a daemon; its ``addresses`` are in the log."""
    flags = ["run", "--source", "simulator", "--rate", "200", "--log-format", "json", "--heartbeat-interval-s", "0.2"]
    where = ["--pub-endpoint", endpoint, "--query-endpoint", query, "--data-dir", str(folder / "data")]
    with program(started(folder, "mt4pump", *flags, *where)) as run:
        yield run


def addresses(run: Program) -> tuple[str, str]:
    """Return where a daemon publishes and answers."""
    return run.endpoint(), run.endpoint("queries are answered on ")


class Running:
    """A gateway."""

    def __init__(self, run: Program) -> None:
        self.program = run
        found = re.search(r"serves on (https?)://127\.0\.0\.1:(\d+)/", run.line("serves on "))
        assert found
        self.port = int(found[2])

    @property
    def page(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def connect(self, **options: Any) -> ClientConnection:
        """Return a client; it reads on while its messages are not asked for, or its close would take ten seconds."""
        scheme = "wss" if "ssl" in options else "ws"
        link: ClientConnection = connect(
            f"{scheme}://127.0.0.1:{self.port}", open_timeout=LIMIT_S, max_queue=None, **options
        )
        return link


@contextmanager
def gateway(folder: Path, endpoint: str, query: str, *flags: str) -> Iterator[Running]:
    """Run a gateway on a free port."""
    where = ["--endpoint", endpoint, "--query-endpoint", query, "--silence-s", "2"]
    where += [] if "--port" in flags else ["--port", "0"]
    with program(started(folder, "mt4pump_consumers.gateway", *where, *flags)) as run:
        yield Running(run)


def ask(link: ClientConnection, **message: object) -> None:
    """Send one request."""
    link.send(json.dumps(message))


def until(link: ClientConnection, wanted: Callable[[Json], object], limit_s: float = LIMIT_S) -> Json:
    """Return the next message that is ``wanted``; fail when none comes."""
    deadline_s, seen = time.monotonic() + limit_s, set[str]()
    while (left_s := deadline_s - time.monotonic()) > 0:
        try:
            received = json.loads(link.recv(timeout=left_s))
        except TimeoutError:
            break
        for message in received if isinstance(received, list) else [received]:
            seen.add(str(message["type"]))
            if wanted(message):
                found: Json = message
                return found
    raise AssertionError(f"the message never came; seen: {sorted(seen)}")


def kind(name: str) -> Callable[[Json], bool]:
    """Return whether a message is of type ``name``."""
    return lambda message: message["type"] == name
