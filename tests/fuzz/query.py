"""Mutated queries against a daemon of its own, beside a live stream: ``python -m tests.fuzz query --count 10000000``.

Every query must be answered, none with ``internal_error``, and after the first third the daemon's memory must grow no
more than that of a daemon beside it that nobody asks anything: else the exit code is 1. Both remember the last 20,000
orders that ended, and need more than an hour to have as many. The age of quotes is reported by round, alone and beside
the fuzzer, and not asserted.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import cycle, islice

import msgpack
import zmq

from mt4pump.query.handlers import QuerySources, RequestHandler
from mt4pump.query.limits import QueryOptions
from mt4pump.query.requests import CODES, parse_envelope
from mt4pump.query.snapshots import Peer
from mt4pump.security import EVERYTHING
from tests.bus import LIMIT_S, until
from tests.fuzz import MemoryByTenth, QuoteAges, QuoteReader, give_way, report_line
from tests.programs import Program, program
from tests.query.endpoint import UNDISTURBED, FakePump, FakeReader, accounts, stored

WINDOW = 32
"""Queries under way per connection."""
ANSWER_MS = 60_000
LOG_SHOWN = 4_000
"""Characters of the daemon's log in an error."""
BATCH = 2_000
"""Queries of new connections, between two readings of the daemon's memory."""

GOOD: list[dict[str, object]] = [
    {"op": "describe", "id": 7},
    {"op": "snapshot", "topics": ["user.", b"trade."], "limit": 20, "values": True, "id": "a"},
    {"op": "snapshot", "topics": ["quote."], "limit": 2},
    {"op": "snapshot", "cursor": "0123456789abcdef" * 2 + ".5"},
    {"op": "replay", "topics": ["trade.1001"], "after": 3, "to": 40, "since": 1, "limit": 10},
    {"op": "replay", "limit": 50},
]
VALID = [msgpack.packb(each) for each in GOOD]
COPIES = (6, 1, 1, 40, 40, 3)
"""How often each is mutated: seldom those with large replies, and new snapshots, which all others would wait for."""
SEEDS = [each for each, count in zip(GOOD, COPIES, strict=True) for _ in range(count)]
PACKED_SEEDS = [msgpack.packb(each) for each in SEEDS]
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
        fields = dict(rng.choice(SEEDS))
        for _ in range(rng.randint(1, 3)):
            fields[rng.choice(["op", "id", "topics", "cursor", "limit", "values", "after", "to", "since", "new"])] = (
                rng.choice(ODD)
            )
        return [b"", msgpack.packb(fields)]
    if choice < 0.303:
        return [b"", rng.choice(COSTLY)[: rng.randint(1, 65_536)]]
    if choice < 0.35:
        return [b"", *(rng.randbytes(rng.randint(0, 40)) for _ in range(rng.randint(1, 12)))]
    payload = bytearray(rng.choice(PACKED_SEEDS))
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


class Sender:
    """One connection; it checks what comes back."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, codes: Counter[str]) -> None:
        self.socket = context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVTIMEO, ANSWER_MS)
        self.socket.connect(endpoint)
        self._codes = codes
        self._under_way = 0

    def send(self, queries: Iterable[list[bytes]]) -> None:
        """Send queries, once those before are answered."""
        self.finish()
        for frames in queries:
            self.socket.send_multipart(frames)
            self._under_way += 1

    def receive(self) -> None:
        """Take one answer; raise AssertionError when there is none, or it is not one."""
        try:
            frames = self.socket.recv_multipart()
        except zmq.Again:
            raise AssertionError(f"{self._under_way} queries were not answered") from None
        self._under_way -= 1
        head = msgpack.unpackb(frames[frames.index(b"") + 1])
        code = "ok" if head["ok"] is True else head["code"]
        assert code == "ok" or (code in CODES and head["error"]), head
        self._codes[code] += 1

    def finish(self) -> None:
        """Receive the answers to all queries that are under way."""
        while self._under_way:
            self.receive()


def ask_all(senders: list[Sender], queries: Iterator[list[bytes]]) -> None:
    """Send the queries over all senders, `WINDOW` at a time, receive every answer, and close them."""
    for sender in cycle(senders):
        some = list(islice(queries, WINDOW))
        if not some:
            break
        sender.send(some)
    for sender in senders:
        sender.finish()
        sender.socket.close()


@contextmanager
def daemon(rate: int) -> Iterator[tuple[Program, str, str]]:
    """Give a daemon on free ports with ``rate`` quotes a second, and its two endpoints."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["--source", "simulator", "--rate", str(rate), "--data-dir", folder, "--log-format", "json"]
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


def read_quotes(endpoint: str) -> int:
    """Print the age of each quote, in ms."""
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.connect(endpoint)
        socket.subscribe(b"quote.")
        while True:
            body = msgpack.unpackb(socket.recv_multipart()[1])
            report_line(f"{(time.time_ns() - body['ts']) / 1e6:.3f}")


def fuzz(options: argparse.Namespace, report: Callable[[str], object]) -> MemoryByTenth:
    """Send the queries in rounds; return the daemon's memory. Raises AssertionError at a wrong answer."""
    codes: Counter[str] = Counter()
    rng = random.Random(options.seed)  # noqa: S311 - the same seed gives the same queries
    ages, sent = QuoteAges(), 0
    with (
        daemon(options.rate) as (running, events, queries),
        daemon(options.rate) as (beside, _, _),
        zmq.Context() as context,
        QuoteReader("query", "--read", events) as reader,
    ):
        until(lambda: reader.has_any, "a quote is read")
        memory = MemoryByTenth(running.process.pid, options.count, beside.process.pid)
        give_way(options.nice)
        began_s = time.monotonic()

        def senders() -> list[Sender]:
            return [Sender(context, queries, codes) for _ in range(options.connections)]

        for number in range(options.rounds):
            reader.take()
            time.sleep(options.quiet_s)
            ages.alone.append(reader.take())
            due = options.count * (number + 1) // options.rounds
            if options.valid:
                ask_all(senders(), ([b"", rng.choice(VALID)] for _ in range(due - sent)))
                ages.valid.append(reader.take())
            while sent < due:
                count = min(due - sent, BATCH)
                try:
                    ask_all(senders(), (mutated(rng) for _ in range(count)))
                except AssertionError as error:
                    raise AssertionError(f"after {sent}: {error}\n{running.printed()[-LOG_SHOWN:]}") from None
                sent += count
                memory.note(sent)
            ages.beside.append(reader.take())
            spent_s = time.monotonic() - began_s
            report(f"{sent} answered in {spent_s:.0f} s, {memory.now_mb():.1f} MB: {dict(codes.most_common())}")
        report(f"{sent} queries, internal errors: {codes['internal_error']}")
        report(memory.report())
        for line in ages.report():
            report(line)
        assert running.process.poll() is None, running.text
        assert not codes["internal_error"], running.text
    return memory


def fuzz_directly(count: int, seed: int, report: Callable[[str], object]) -> MemoryByTenth:
    """Do the same without daemon and sockets, many times as fast."""
    codes: Counter[str] = Counter()
    rng = random.Random(seed)  # noqa: S311 - as above
    pump = FakePump(accounts(30))
    sources = QuerySources(
        lambda _user: EVERYTHING,
        lambda request: request.answer(pump.snapshot),
        FakeReader(stored(50)),
        dict,
        UNDISTURBED,
    )
    limits = QueryOptions(snapshot_wait_s=LIMIT_S, page_s=LIMIT_S)
    handler = RequestHandler(limits, sources, sleep=lambda _seconds: None)
    memory = MemoryByTenth(os.getpid(), count)
    for number in range(count):
        reply = handler.reply(*handler.parse(parse_envelope(mutated(rng)).payload), Peer(b"%d" % (number % 9), ""))
        head = msgpack.unpackb(reply[0])
        codes["ok" if head["ok"] else head["code"]] += 1
        memory.note(number + 1)
    report(f"{count} answered: {dict(codes.most_common())}")
    report(memory.report())
    assert not codes["internal_error"]
    return memory


def options_of(arguments: list[str]) -> argparse.Namespace:
    """Return the options of a run."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz query", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="queries to send")
    parser.add_argument("--seed", type=int, default=1, help="of the queries")
    parser.add_argument("--connections", type=int, default=4, help="that send them")
    parser.add_argument("--direct", action="store_true", help="without a daemon and sockets: faster")
    parser.add_argument("--rate", type=int, default=500, help="quotes a second")
    parser.add_argument("--rounds", type=int, default=5, help="of quotes alone, then queries beside them")
    parser.add_argument("--quiet-s", type=float, default=10.0, help="how long quotes are read alone in each round")
    parser.add_argument("--valid", action="store_true", help="as many valid queries in each round, to compare")
    parser.add_argument("--nice", type=int, default=19, help="niceness of the fuzzer")
    parser.add_argument("--read", metavar="ENDPOINT", help="print the ages of quotes, and do nothing else")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Fuzz as the arguments say; return 1 when the memory grew."""
    options = options_of(arguments)
    if options.read:
        return read_quotes(options.read)
    if options.direct:
        return fuzz_directly(options.count, options.seed, report_line).exit_code()
    return fuzz(options, report_line).exit_code()
