"""Runs the daemon and its readers as processes, does to them what is planned, and gets the truth at the end."""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from heapq import heappop, heappush
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgpack
import zmq

from mt4pump.client import ClientError, Query, Snapshot
from tests.chaos import plan
from tests.chaos.plan import Fault
from tests.chaos.reader import ASYNC, ITERATE, RECEIVE
from tests.chaos.verdict import Stored, Truth

START_S = 30.0
END_S = 150.0
LATE_S = 120.0
SLICE_S = 0.05
SUFFIXES = ("", "|")
SEEDS = 3
"""Markets that take turns over the runs of the daemon: one may begin with the orders of the one before, or others."""

ROOT = Path(__file__).parents[2]


class ReaderPlan(NamedTuple):
    """One subscriber: its topics, how it reads, and whether it is slow, or has tiny buffers and high-water mark."""

    name: str
    topics: tuple[str, ...] = ("*",)
    mode: str = ITERATE
    slow: bool = False
    tiny: bool = False
    from_start: bool = True


READERS = (
    ReaderPlan("all"),
    ReaderPlan("tiny", mode=RECEIVE, tiny=True, slow=True),
    ReaderPlan("asyncio", ("trade.*", "user.*", "quote.EUR*"), ASYNC),
    ReaderPlan("joined late", ("quote.*", "margin.*", "trade.1*", "online.*"), from_start=False),
    ReaderPlan("slow", ("trade.*", "session.*", "quote.*USD"), RECEIVE, slow=True, tiny=True),
)


class RunError(Exception):
    """The run itself failed: a process ended by itself, or did not get to its end in time."""


def free_ports(count: int) -> list[int]:
    """Return free ports that no system assigns by itself: a program that is started again needs the same ones."""
    chance, ports = random.SystemRandom(), set[int]()
    while len(ports) < count:
        port = chance.randrange(15_000, 32_000)
        with socket.socket() as each, suppress(OSError):
            each.bind(("127.0.0.1", port))
            ports.add(port)
    return list(ports)


def free_endpoints() -> tuple[str, str]:
    """Return two addresses for a daemon that is started again at the same ones."""
    publish, query = free_ports(2)
    return f"tcp://127.0.0.1:{publish}", f"tcp://127.0.0.1:{query}"


class Processes:
    """``count`` is what was done, ``published`` (per epoch and kind) at least that, by the heartbeats."""

    def __init__(self, folder: Path, *, rate: float, seed: int, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.count: Counter[str] = Counter()
        self.runs = self.unclean_stops = 0
        self._rate, self._seed, self._say = rate, seed, say
        publish, query = free_ports(2)
        self.endpoint, self.query_endpoint = f"tcp://127.0.0.1:{publish}", f"tcp://127.0.0.1:{query}"
        self._daemon: subprocess.Popen[str] | None = None
        self._readers: dict[int, subprocess.Popen[str]] = {}
        self._processes: list[subprocess.Popen[str]] = []
        self._stopped: set[int] = set()
        self._logs: list[IO[str]] = []
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._heartbeats = self._context.socket(zmq.SUB)
        self._heartbeats.setsockopt(zmq.SUBSCRIBE, b"heartbeat")
        self._heartbeats.connect(self.endpoint)
        self._published: dict[int, int] = {}
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._ending = False

    @property
    def events(self) -> int:
        """Return how many events were published, at least."""
        while True:
            try:
                _, packed = self._heartbeats.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return sum(self._published.values())
            body = msgpack.unpackb(packed)
            self._published[body["epoch"]] = sum(body["counts"].values()) - body["counts"].get("heartbeat", 0)

    # ---- processes ----

    def start_daemon(self, sndhwm: int) -> None:
        """Start a new run of the daemon, and wait until it publishes."""
        self.runs += 1
        flags = {
            "source": "simulator",
            "data_dir": str(self.folder / "data"),
            "pub_endpoint": self.endpoint,
            "query_endpoint": self.query_endpoint,
            "rate": self._rate,
            "seed": self._seed + self.runs % SEEDS,
            "sndhwm": sndhwm,
            "topic_suffix": SUFFIXES[self._seed % len(SUFFIXES)],
            "heartbeat_interval_s": 0.2,
            "reconcile_interval_s": 2.0,
            "reconnect_delay_s": 0.05,
            "reconnect_delay_max_s": 0.5,
            "liveness_timeout_s": 3.0,
            "watch_interval_s": 0.1,
        }
        deadline_s = time.monotonic() + START_S
        while True:
            self._daemon = self._spawn("tests.chaos.pump", flags, f"daemon-{self.runs}")
            answer = self._answer()
            if "epoch" in answer:
                return
            if time.monotonic() > deadline_s:
                raise RunError(f"the daemon does not start: {self.folder}/daemon-{self.runs}.log says why")

    def start_reader(self, number: int) -> None:
        """Start a reader, or start it again."""
        reader = READERS[number]
        given = {
            "endpoint": self.endpoint,
            "query_endpoint": self.query_endpoint,
            "file": str(self.file_of(number)),
            "goal": str(self.folder / "goal.json"),
            "topics": reader.topics,
            "mode": reader.mode,
            "slow": reader.slow,
            "tiny": reader.tiny,
            "resume_from": 0 if reader.from_start else None,
        }
        self._readers[number] = self._spawn("tests.chaos.reader", given, f"reader-{number}")

    def file_of(self, number: int) -> Path:
        """Return where a reader stores what it receives."""
        return self.folder / f"reader-{number}.blocks"

    def _spawn(self, module: str, given: dict[str, Any], name: str) -> subprocess.Popen[str]:
        log = (self.folder / f"{name}.log").open("a")
        self._logs.append(log)
        process = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(given)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        self._processes.append(process)
        return process

    def _command(self, line: str) -> None:
        assert self._daemon is not None
        assert self._daemon.stdin is not None
        self._daemon.stdin.write(line + "\n")
        self._daemon.stdin.flush()

    def _answer(self) -> dict[str, Any]:
        assert self._daemon is not None
        assert self._daemon.stdout is not None
        line = self._daemon.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {}
        return answer

    # ---- faults ----

    def await_joins(self) -> None:
        """Wait until every reader received something."""
        deadline_s = time.monotonic() + START_S
        while not all(
            self.file_of(number).exists() and self.file_of(number).stat().st_size for number in self._readers
        ):
            if time.monotonic() > deadline_s:
                raise RunError(f"a reader received nothing within {START_S:g} s: see {self.folder}/reader-*.log")
            self._check()
            time.sleep(SLICE_S)

    def run(self, faults: list[Fault], events: int, length_s: float) -> None:
        """Let happen what is planned, until enough events were published; returns when nobody is down."""
        began_s, slipped_s, coming = time.monotonic(), 0.0, deque(faults)
        while coming or self._later or self.events < events:
            now_s = time.monotonic()
            if now_s > began_s + slipped_s + 2 * length_s + LATE_S:
                raise RunError(f"{self.events} events after {now_s - began_s:.0f} s: {events} were wanted")
            while self._later and self._later[0][0] <= now_s:
                heappop(self._later)[2]()
            if coming and began_s + slipped_s + coming[0].at_s <= now_s:
                self._inject(coming.popleft())
                slipped_s += time.monotonic() - now_s  # a daemon that starts slowly must not have the next at once
            self._check()
            time.sleep(SLICE_S)

    def _at(self, at_s: float, action: Callable[[], None]) -> None:
        self._number += 1
        heappush(self._later, (at_s, self._number, action))

    def _inject(self, fault: Fault) -> None:
        self.count[fault.kind] += 1
        self._say(f"{fault}   ({self.events} events)")
        if fault.kind in {plan.KILL_DAEMON, plan.RESTART_DAEMON}:
            self._end_daemon(clean=fault.kind == plan.RESTART_DAEMON)
            time.sleep(fault.amount)
            self.start_daemon(fault.sndhwm)
        elif fault.kind == plan.KILL_READER:
            self._kill_reader(fault.reader, fault.amount)
        elif fault.kind == plan.STOP_READER:
            self._stop_reader(fault.reader, fault.amount)
        else:
            self._command(f"{fault.kind} {fault.amount:g}" if fault.kind != plan.MUTE else fault.kind)

    def _end_daemon(self, *, clean: bool) -> None:
        assert self._daemon is not None
        if clean:
            self._command("stop")
            answer = self._answer()
            if not answer.get("clean"):
                self.unclean_stops += 1
        else:
            self._daemon.kill()
        self._daemon.wait(START_S)

    def _kill_reader(self, number: int, away_s: float) -> None:
        reader = self._readers.pop(number, None)
        if reader is None:
            return
        self._stopped.discard(number)
        reader.kill()
        reader.wait(START_S)
        self._at(time.monotonic() + away_s, lambda: self.start_reader(number))

    def _stop_reader(self, number: int, for_s: float) -> None:
        reader = self._readers.get(number)
        if reader is None or number in self._stopped:
            return
        self._stopped.add(number)
        reader.send_signal(signal.SIGSTOP)

        def resume() -> None:
            if self._readers.get(number) is reader:
                self._stopped.discard(number)
                reader.send_signal(signal.SIGCONT)

        self._at(time.monotonic() + for_s, resume)

    def _check(self) -> None:
        """Raise RunError for a process that ended by itself."""
        if self._daemon is not None and self._daemon.poll() is not None:
            raise RunError(f"the daemon ended by itself: {self.folder}/daemon-{self.runs}.log says why")
        for number, reader in self._readers.items():
            if not self._ending and reader.poll() is not None:
                raise RunError(f"reader {number} ended by itself: {self.folder}/reader-{number}.log says why")

    # ---- the end ----

    def calm(self) -> list[str]:
        """Stop the market; return in what the daemon's state differs from the simulator's."""
        self._command("calm")
        differences: list[str] = self._answer().get("differences", ["the daemon gave no answer"])
        return differences

    def truth(self) -> Truth:
        """Ask the daemon for all that it published, and give the readers their goal."""
        deadline_s = time.monotonic() + END_S
        snapshot: Snapshot | None = None
        journal: dict[int, Stored] = {}
        with Query(self.query_endpoint, timeout_s=END_S) as query:
            while True:
                try:
                    snapshot = snapshot or query.snapshot()
                    for event in query.replay(after=max(journal, default=0), to=snapshot.offset):
                        assert event.offset is not None
                        journal[event.offset] = Stored(event.topic, event.epoch, event.seq, zlib.crc32(event.frames[1]))
                    break
                except ClientError as error:  # readers that catch up may keep the query thread busy for long
                    if error.code != "busy" or time.monotonic() > deadline_s:
                        raise
        goal = {"log": snapshot.log, "offset": snapshot.offset, "epoch": snapshot.epoch, "seqs": snapshot.seqs}
        fresh = self.folder / "goal.new"
        fresh.write_text(json.dumps(goal))
        fresh.replace(self.folder / "goal.json")
        return Truth(journal, snapshot.offset, snapshot.epoch, snapshot.seqs)

    def await_readers(self) -> list[str]:
        """Wait until every reader received everything; return the names of the others."""
        self._ending = True
        deadline_s = time.monotonic() + END_S
        late = []
        for number, reader in self._readers.items():
            try:
                if reader.wait(max(0.1, deadline_s - time.monotonic())):
                    late.append(f"{READERS[number].name} (ended with code {reader.returncode})")
            except subprocess.TimeoutExpired:
                late.append(READERS[number].name)
        return late

    def close(self) -> None:
        """End every process that is left."""
        for process in self._processes:
            process.kill()  # does nothing to one that has ended
            process.wait(START_S)
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(BrokenPipeError):
                        pipe.close()
        self._heartbeats.close(0)
        self._context.term()
        for log in self._logs:
            log.close()
