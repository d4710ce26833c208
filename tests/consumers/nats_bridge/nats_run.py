"""A real nats-server, daemon and bridge, each a process that can be killed, and what the stream holds at the end."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

import nats.errors
import pytest
from nats.aio.client import Client
from nats.js.errors import NotFoundError

from mt4pump.client import Event, Query
from tests.chaos.processes import free_ports

ROOT = Path(__file__).parents[3]
LIMIT_S = 40.0
POLL_S = 0.01
"""Between two checks of a condition: without a pause the test takes a core from the programs that it waits for."""
STREAM = "MT4PUMP"
SERVER = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin:/usr/local/sbin")
needs_server = pytest.mark.skipif(SERVER is None, reason="nats-server is not installed: apt-get install nats-server")

Result = TypeVar("Result")


class Stored(NamedTuple):
    """One message of the stream."""

    seq: int
    subject: str
    headers: dict[str, str]
    data: bytes

    @property
    def offset(self) -> int:
        return int(self.headers["Mt4pump-Offset"])


def environment() -> dict[str, str]:
    """Return the environment of a program of ours: none of our settings, and this folder's packages."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MT4PUMP_")}
    path = os.pathsep.join([str(ROOT / "consumers"), str(ROOT), kept.get("PYTHONPATH", "")])
    return {**kept, "PYTHONPATH": path}


class Process:
    """A program that is started, killed and started again with the same words; its log goes on in one file."""

    def __init__(self, words: list[str], folder: Path, name: str) -> None:
        self.words, self.folder = words, folder
        self.log = folder / f"{name}.log"
        self.running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.running = subprocess.Popen(self.words, cwd=self.folder, stdout=log, stderr=log, env=environment())

    def kill(self) -> None:
        """End it as a power cut does."""
        if self.running is not None:
            self.running.kill()
            self.running.wait()
            self.running = None

    def signal(self, number: signal.Signals) -> None:
        assert self.running is not None
        self.running.send_signal(number)

    def stop(self) -> int:
        """End it with Ctrl-C; return its exit code."""
        assert self.running is not None
        self.running.send_signal(signal.SIGINT)
        code = self.running.wait(2 * LIMIT_S)
        self.running = None
        return code

    @property
    def text(self) -> str:
        return self.log.read_text() if self.log.exists() else ""


class NatsPrograms:
    """``nats``, ``daemon`` and ``bridge`` on free ports, all in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        nats_port, publish, query = free_ports(3)
        self.url = f"nats://127.0.0.1:{nats_port}"
        self.endpoint, self.query_endpoint = f"tcp://127.0.0.1:{publish}", f"tcp://127.0.0.1:{query}"
        words = [str(SERVER), "-js", "-sd", str(folder / "jetstream"), "-a", "127.0.0.1", "-p", str(nats_port)]
        self.nats = Process(words, folder, "nats")
        self.daemon = self.new_daemon()
        self.bridge = self.new_bridge()

    def new_daemon(self, *flags: str) -> Process:
        """Return the simulator with many trades."""
        where = ["--pub-endpoint", self.endpoint, "--query-endpoint", self.query_endpoint, "--data-dir", "data"]
        more = ["--source", "simulator", "--rate", "1000", "--heartbeat-interval-s", "0.2"]
        return Process([sys.executable, "-m", "mt4pump", "run", *where, *more, *flags], self.folder, "daemon")

    def new_bridge(self, *flags: str) -> Process:
        where = ["--endpoint", self.endpoint, "--query-endpoint", self.query_endpoint, "--servers", self.url]
        words = [sys.executable, "-m", "mt4pump_consumers.nats_bridge", *where, "--retry-s", "1", *flags]
        return Process(words, self.folder, "bridge")

    def start(self) -> None:
        for each in (self.nats, self.daemon, self.bridge):
            each.start()

    def end(self) -> None:
        for each in (self.bridge, self.daemon, self.nats):
            each.kill()

    def logs(self) -> str:
        """Return the end of every log, for a test that failed."""
        return "\n".join(f"--- {each.log.name}\n{each.text[-3000:]}" for each in (self.nats, self.daemon, self.bridge))

    def with_nats(self, callback: Callable[[Client], Awaitable[Result]]) -> Result:
        """Run ``callback`` with a connection of its own."""

        async def connected() -> Result:
            client = Client()
            try:
                await client.connect(self.url, allow_reconnect=False, connect_timeout=int(LIMIT_S), error_cb=_silent)
                return await callback(client)
            finally:
                await client.close()  # a connection that failed, too: the library leaves its socket open

        return asyncio.run(connected())

    def state(self) -> tuple[int, int]:
        """Return how many messages the stream has and the number of its last; zeros while it cannot be asked."""

        async def ask(client: Client) -> tuple[int, int]:
            state = (await client.jetstream(timeout=2).stream_info(STREAM)).state
            return state.messages, state.last_seq

        with suppress(NotFoundError, nats.errors.Error, OSError, TimeoutError):
            return self.with_nats(ask)
        return 0, 0

    def until_stored(self, messages: int) -> int:
        """Return how many messages the stream has once there are so many."""
        self.until(lambda: self.state()[0] >= messages, f"{messages} messages")
        return self.state()[0]

    def until(self, condition: Callable[[], Result], what: str, limit_s: float = LIMIT_S) -> Result:
        deadline_s = time.monotonic() + limit_s
        while not (result := condition()):
            assert time.monotonic() < deadline_s, f"never: {what}\n{self.logs()}"
            time.sleep(POLL_S)
        return result

    def stored(self) -> list[Stored]:
        """Return all messages of the stream, in its order."""

        async def read(client: Client) -> list[Stored]:
            stream = client.jetstream()
            state = (await stream.stream_info(STREAM)).state
            found = []
            for seq in range(state.first_seq, state.last_seq + 1):
                message = await stream.get_msg(STREAM, seq)
                found.append(Stored(seq, message.subject or "", message.headers or {}, message.data or b""))
            return found

        return self.with_nats(read)

    def journal(self, to: int) -> tuple[str, list[Event]]:
        """Return the journal's name and its events up to an offset."""
        with Query(self.query_endpoint) as query:
            replay = query.replay(after=0, to=to)
            events = list(replay)
            assert replay.whole
            return str(replay.log), events


async def _silent(_error: Exception) -> None:
    """Keep the library from logging what a test does on purpose."""


@contextmanager
def nats_programs(folder: Path) -> Iterator[NatsPrograms]:
    """Give NATS, a daemon and a bridge that are not started, and end those that were started."""
    made = NatsPrograms(folder)
    try:
        yield made
    finally:
        made.end()
