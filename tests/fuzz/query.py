"""Mutated queries against a daemon of its own, beside a live stream: ``python -m tests.fuzz query --count 10000000``.

Every query must be answered, none with ``internal_error``; the daemon's memory must not grow after the first tenth.
The latency of quotes before and meanwhile is reported.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

import msgpack
import psutil
import zmq

from mt4pump.query.handlers import QuerySources, RequestHandler
from mt4pump.query.limits import QueryOptions
from mt4pump.query.requests import CODES, parse_envelope
from mt4pump.query.snapshots import Peer
from mt4pump.security import EVERYTHING
from tests.bus import LIMIT_S
from tests.programs import Program, program
from tests.query.endpoint import FakePump, FakeReader, accounts, stored

WINDOW = 16
"""Queries under way per connection."""
ANSWER_MS = 60_000
GROWTH_MB = 32
QUIET_S = 5.0

GOOD: list[dict[str, object]] = [
    {"op": "describe", "id": 7},
    {"op": "snapshot", "topics": ["user.", b"trade."], "limit": 20, "values": True, "id": "a"},
    {"op": "snapshot", "topics": ["quote."], "limit": 2},
    {"op": "snapshot", "cursor": "0123456789abcdef" * 2 + ".5"},
    {"op": "replay", "topics": ["trade.1001"], "after": 3, "to": 40, "since": 1, "limit": 10},
    {"op": "replay", "limit": 50},
]
VALID = [msgpack.packb(each) for each in GOOD]
ODD = [
    *(None, True, False, -1, 0, 1, 2**31, 2**63, 2**64 - 1, -(2**63), 0.5, float("nan"), float("inf"), "", "x" * 300),
    *(b"\xff" * 70, [], {}, [[]], [1], ["quote."] * 300, {"a": {}}, msgpack.Timestamp(5), msgpack.ExtType(5, b"x")),
]
COSTLY = [
    b"\xdd\x00\x00\xfd\xe8" * 12_000,
    b"\xdc\x04\x00" * 20_000,
    b"\x9f" * 60_000,
    b"\xdd\x00\x00\xfd\xe8" + b"\x80" * 60_000,
    b"\x81\xa0" * 30_000,
    b"\xdf\x00\x00\x75\x30\xa1a" * 8_000,
]


def mutated(rng: random.Random) -> list[bytes]:
    """Return the frames of one query gone bad."""
    choice = rng.random()
    if choice < 0.3:
        fields = dict(rng.choice(GOOD))
        for _ in range(rng.randint(1, 3)):
            fields[rng.choice(["op", "id", "topics", "cursor", "limit", "values", "after", "to", "since", "new"])] = (
                rng.choice(ODD)
            )
        return [b"", msgpack.packb(fields)]
    if choice < 0.303:
        return [b"", rng.choice(COSTLY)[: rng.randint(1, 65_536)]]
    if choice < 0.35:
        return [b"", *(rng.randbytes(rng.randint(0, 40)) for _ in range(rng.randint(1, 12)))]
    payload = bytearray(rng.choice(VALID))
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(payload) + 1)
        change = rng.random()
        if change < 0.5 and place < len(payload):
            payload[place] = rng.randrange(256)
        elif change < 0.7:
            del payload[place : place + rng.randint(1, 9)]
        elif change < 0.9:
            payload[place:place] = rng.randbytes(rng.randint(1, 9))
        else:
            payload[place:place] = payload[: rng.randint(1, 40)]
    return [b"", bytes(payload)]


class Latency(Thread):
    """Hears all quotes; ``milliseconds`` are their latencies since `reset`."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
        super().__init__(daemon=True)
        self.milliseconds: deque[float] = deque(maxlen=1_000_000)
        self.ended = Event()
        self._socket = context.socket(zmq.SUB)
        self._socket.connect(endpoint)
        self._socket.subscribe(b"quote.")

    def run(self) -> None:
        """Hear until ended."""
        with self._socket:
            while not self.ended.is_set():
                if self._socket.poll(100):
                    body = msgpack.unpackb(self._socket.recv_multipart()[1])
                    self.milliseconds.append((time.time_ns() - body["ts"]) / 1e6)

    def report(self) -> str:
        """Return percentiles since the last report, and begin anew."""
        ordered = sorted(self.milliseconds)
        self.milliseconds.clear()
        if not ordered:
            return "no quotes"
        p50, p99 = (ordered[int((len(ordered) - 1) * part)] for part in (0.5, 0.99))
        return f"{len(ordered)} quotes, latency p50 {p50:.2f} ms, p99 {p99:.1f} ms, max {ordered[-1]:.1f} ms"


class Sender:
    """One connection that keeps `WINDOW` queries under way, and checks what comes back."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, codes: Counter[str]) -> None:
        self.socket = context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(endpoint)
        self._codes = codes
        self._under_way = 0

    def send(self, frames: list[bytes]) -> None:
        """Send a query, once there is room for it."""
        while self._under_way >= WINDOW:
            self.receive()
        self.socket.send_multipart(frames)
        self._under_way += 1

    def receive(self) -> None:
        """Take one answer; raise AssertionError when there is none, or it is not one."""
        assert self.socket.poll(ANSWER_MS), "a query was not answered"
        frames = self.socket.recv_multipart()
        self._under_way -= 1
        head = msgpack.unpackb(frames[frames.index(b"") + 1])
        code = "ok" if head["ok"] is True else head["code"]
        assert code == "ok" or (code in CODES and code != "internal_error" and head["error"]), head
        self._codes[code] += 1

    def finish(self) -> None:
        """Take all handler that are under way."""
        while self._under_way:
            self.receive()


@contextmanager
def daemon() -> Iterator[tuple[Program, str, str]]:
    """Give a daemon on free ports, and its two endpoints."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["--source", "simulator", "--rate", "200", "--data-dir", folder, "--log-format", "json"]
        words += ["--pub-endpoint", "tcp://127.0.0.1:*", "--query-endpoint", "tcp://127.0.0.1:*"]
        process = subprocess.Popen(
            [sys.executable, "-m", "mt4pump", "run", *words],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        with program(process) as made:
            yield made, made.endpoint(), made.endpoint("answered on ")


def fuzz(count: int, seed: int, connections: int, report: Callable[[str], object]) -> bool:
    """Send ``count`` queries; return whether the memory stayed flat. Raises AssertionError at a wrong answer."""
    codes: Counter[str] = Counter()
    rng = random.Random(seed)  # noqa: S311 - the same seed gives the same queries
    with daemon() as (running, events, queries), zmq.Context() as context:
        process, live = psutil.Process(running.process.pid), Latency(context, events)
        live.start()
        live.ended.wait(QUIET_S)
        report(f"before: {live.report()}")
        senders = [Sender(context, queries, codes) for _ in range(connections)]
        began_s, early_mb = time.monotonic(), 0.0
        for number in range(count):
            senders[number % connections].send(mutated(rng))
            if number == count // 10:
                early_mb = process.memory_info().rss / 2**20
            if number % 100_000 == 99_999:
                report(f"{number + 1} sent: {process.memory_info().rss / 2**20:.0f} MB; {live.report()}")
        for sender in senders:
            sender.finish()
            sender.socket.close()
        grown_mb = process.memory_info().rss / 2**20 - early_mb
        report(f"{count} answered in {time.monotonic() - began_s:.0f} s: {dict(codes.most_common())}")
        report(f"memory {early_mb:.0f} MB after a tenth, {grown_mb:+.1f} MB since; meanwhile: {live.report()}")
        live.ended.set()
        live.join()
        assert running.process.poll() is None, running.text
    return grown_mb <= GROWTH_MB


def fuzz_directly(count: int, seed: int, report: Callable[[str], object]) -> bool:
    """Do the same without daemon and sockets, many times as fast."""
    codes: Counter[str] = Counter()
    rng = random.Random(seed)  # noqa: S311 - as above
    pump = FakePump(accounts(30))
    sources = QuerySources(
        lambda _user: EVERYTHING, lambda request: request.answer(pump.snapshot), FakeReader(stored(50)), dict
    )
    options = QueryOptions(snapshot_wait_s=LIMIT_S, page_s=LIMIT_S)
    handler = RequestHandler(options, sources, sleep=lambda _seconds: None)
    process, early_mb = psutil.Process(), 0.0
    for number in range(count):
        reply = handler.reply(*handler.parse(parse_envelope(mutated(rng)).payload), Peer(b"%d" % (number % 9), ""))
        head = msgpack.unpackb(reply[0])
        codes["ok" if head["ok"] else head["code"]] += 1
        if number == count // 10:
            early_mb = process.memory_info().rss / 2**20
    grown_mb = process.memory_info().rss / 2**20 - early_mb
    report(f"{count} answered: {dict(codes.most_common())}")
    report(f"memory {early_mb:.0f} MB after a tenth, {grown_mb:+.1f} MB since")
    return grown_mb <= GROWTH_MB and not codes["internal_error"]


def main(arguments: list[str]) -> int:
    """Fuzz as the arguments say; return 1 when the memory grew."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz query", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="queries to send")
    parser.add_argument("--seed", type=int, default=1, help="of the queries")
    parser.add_argument("--connections", type=int, default=4, help="that send them")
    parser.add_argument("--direct", action="store_true", help="without a daemon and sockets: faster")
    options = parser.parse_args(arguments)

    def report(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    if options.direct:
        return 0 if fuzz_directly(options.count, options.seed, report) else 1
    return 0 if fuzz(options.count, options.seed, options.connections, report) else 1
