"""The gateway against mutated messages: ``python -m tests.fuzz gateway --messages 1000000``.

A real daemon, a real gateway, and clients with a token each that send broken requests and broken frames, as fast as
``--rate`` lets them; one reader beside them measures how old quotes are when they come, in rounds without and with the
messages, which is reported and not asserted. The exit code is 1 when anything is answered with ``internal``, when a
connection is closed with 1011 for another reason than a ping without an answer, when the log has a traceback, when the
gateway ends, or when its memory is not flat after the first third.

The gateway remembers stored events, which are as large as all else that it holds, and takes minutes to have as many as
it may. So the messages are counted, and the memory is measured, only once that many came: ``--warm-up-events``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jwt
from mt4pump_consumers.gateway.broadcaster import RECENT
from websockets.sync.client import connect

from mt4pump.client import Query
from tests.consumers.gateway.gateway_run import Running, addresses, daemon, environment, gateway
from tests.fuzz import MemoryByTenth, QuoteAges, QuoteReader, give_way, report_line

SECRET = "0123456789abcdef0123456789abcdef"  # noqa: S105 - of these runs alone
UNANSWERED_PING = "1011 keepalive ping timeout"
"""How the gateway closes a client that does not answer a ping: our answer may be swallowed by a broken frame."""
FIRST_QUOTE_S = 60.0
"""How long the reader may take to start and to receive its first quote."""
REASON_PLACE = re.compile(r" at position \d+$")
"""How long the reader measures before anything is sent."""
SEEDS = (
    {"action": "auth", "token": "a.b.c"},
    {"action": "subscribe", "symbols": ["EURUSD", "GBP*"], "topics": ["trade.*", "quote.???JPY"], "id": 7},
    {"action": "unsubscribe", "symbols": ["EURUSD"], "topics": ["trade.*"]},
    {"action": "resume", "topics": ["trade.*"], "offset": 0, "log": "0123456789abcdef"},
    {"action": "batch", "window_s": 0.1},
    {"action": "status", "id": "status"},
)
VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        2**31,
        2**63,
        2**64,
        10**400,
        1e308,
        float("nan"),
        float("inf"),
        "",
        "*",
        "[",
        "[!",
        "x" * 300,
    ),
    *("\ud800", "\x00", "\u202e", "quote.*", "****", "*?*?*?", [], {}, [[]], [{}], {"a": []}, ["*"] * 60, [1], [None]),
)


@dataclass(slots=True)
class Tally:
    """What a run saw: ``closes`` by code and reason, the gateway's memory, the age of quotes.

    ``warm_up`` of the messages that were ``sent`` are not counted, None until the warm-up has ended.
    """

    memory: MemoryByTenth
    ages: QuoteAges = field(default_factory=QuoteAges)
    sent: int = 0
    warm_up: int | None = None
    connections: int = 0
    replies: Counter[str] = field(default_factory=Counter)
    closes: Counter[str] = field(default_factory=Counter)

    @property
    def counted(self) -> int:
        """Return how many messages were sent after the warm-up."""
        return 0 if self.warm_up is None else self.sent - self.warm_up

    def has_counted(self, count: int) -> bool:
        """Return whether ``count`` messages were sent after the warm-up."""
        return self.counted >= count


def token(owner: str) -> str:
    """Return a token of its own for each client."""
    return jwt.encode({"exp": time.time() + 86_400, "topics": ["*"], "sub": owner}, SECRET, "HS256")


def mutated(rng: random.Random) -> bytes:
    """Return a message that is nearly right."""
    message: dict[str, Any] = dict(rng.choice(SEEDS))
    for _ in range(rng.randrange(3)):
        message[rng.choice([*message, "id", "action", "extra", "topics"])] = rng.choice(VALUES)
    if rng.random() < 0.05:
        depth = rng.choice([10, 900, 5_000])
        text = json.dumps(message)[:-1] + ', "deep": ' + "[" * depth + "]" * depth + "}"
    else:
        text = json.dumps(message)
    data = bytearray(text.encode("utf-8", "surrogatepass"))
    for _ in range(rng.choice([0, 0, 1, 1, 2, 8])):
        place = rng.randrange(len(data) + 1)
        what = rng.randrange(4)
        if what == 0:
            data[place:place] = bytes([rng.randrange(256)])
        elif what == 1:
            del data[place : place + rng.randrange(1, 9)]
        elif what == 2 and place < len(data):
            data[place] ^= 1 << rng.randrange(8)
        else:
            data[place:place] = data[: rng.randrange(40)]
    if rng.random() < 0.9:  # bytes that are no text end the connection, and most messages are to be read
        data = bytearray(data.decode("utf-8", "replace").encode())
    return bytes(data) or b" "


def frames(rng: random.Random, data: bytes) -> bytes:
    """Return ``data`` as frames: mostly one text, else parts, other kinds, and now and then what is no frame."""
    dice = rng.random()
    if dice < 0.92:
        return frame(0x81, data)
    if dice < 0.95:
        cut = rng.randrange(len(data) + 1)
        return frame(0x01, data[:cut]) + frame(0x80, data[cut:])
    if dice < 0.97:
        return frame(rng.choice([0x82, 0x89, 0x8A]), data[:125])
    if dice < 0.99:
        return frame(rng.randrange(256), data[: rng.randrange(126)])
    return rng.randbytes(rng.randrange(1, 60))


def frame(head: int, data: bytes) -> bytes:
    """Return a frame with a mask of zeros."""
    if len(data) < 126:
        return bytes([head, 0x80 | len(data)]) + bytes(4) + data
    return bytes([head, 0xFE]) + len(data).to_bytes(2, "big") + bytes(4) + data[:65_535]


class Fuzzer:
    """One client after the other, on one place; each sends until the gateway closes it."""

    def __init__(self, port: int, number: int, seed: int, tally: Tally) -> None:
        self._port, self._owner, self._tally = port, f"fuzz {number}", tally
        self._rng = random.Random(seed * 1_000 + number)  # noqa: S311

    async def run(self, per_s: float, is_done: Callable[[], bool]) -> None:
        """Send until enough was sent by all."""
        while not is_done():
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            self._tally.connections += 1
            answered = asyncio.Event()
            reading = asyncio.create_task(self._read(reader, writer, answered))
            try:
                writer.write(self._request())
                await answered.wait()
                while not is_done() and not reading.done():
                    writer.write(frames(self._rng, mutated(self._rng)))
                    self._tally.sent += 1
                    await writer.drain()
                    await asyncio.sleep(1 / per_s)
            except ConnectionError:
                pass
            finally:
                writer.transport.abort()
                await asyncio.wait([reading])
                await asyncio.sleep(0)  # the transport is closed one turn after the end of what it reads

    def _request(self) -> bytes:
        lines = ["GET / HTTP/1.1", "Host: 127.0.0.1", "Upgrade: websocket", "Connection: Upgrade"]
        lines += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]
        lines += [f"Authorization: Bearer {token(self._owner)}"] if self._rng.random() < 0.9 else []
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answered: asyncio.Event) -> None:
        """Count what is answered, by the code of errors, until the end; answer pings, or 1011 comes after 40 s."""
        replies = self._tally.replies
        try:
            await reader.readuntil(b"\r\n\r\n")
            answered.set()
            while True:
                head, length = await reader.readexactly(2)
                if length >= 126:
                    length = int.from_bytes(await reader.readexactly(2 if length == 126 else 8), "big")
                data = await reader.readexactly(length)
                if head & 0x0F == 8:
                    self._tally.closes[
                        f"{int.from_bytes(data[:2], 'big')} {REASON_PLACE.sub('', data[2:].decode())}"
                    ] += 1
                elif head & 0x0F == 9:
                    writer.write(frame(0x8A, data))
                elif (place := data.rfind(b'"code":"')) >= 0:
                    replies[data[place + 8 : place + 40].split(b'"')[0].decode()] += 1
                else:
                    replies["other"] += 1
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            answered.set()


def read_quotes(port: int) -> int:
    """Print the age of every quote, in ms."""
    headers = {"Authorization": f"Bearer {token('reader')}"}
    with connect(f"ws://127.0.0.1:{port}", additional_headers=headers, max_size=None) as link:
        link.send(json.dumps({"action": "subscribe", "topics": ["quote.*"]}))
        for text in link:
            message = json.loads(text)
            if message["type"] == "quote" and "snapshot" not in message:
                report_line(f"{(time.time_ns() - message['data']['ts']) / 1e6:.3f}")
    return 0


async def send_until(is_done: Callable[[], bool], fuzzers: list[Fuzzer], rate: float, tally: Tally) -> None:
    """Send until ``is_done``; note the gateway's memory now and then."""
    work = asyncio.gather(*(fuzzer.run(rate, is_done) for fuzzer in fuzzers))
    while not work.done():
        await asyncio.wait([work], timeout=0.5)
        tally.memory.note(tally.counted)
    work.result()


async def wait_for_events(query_endpoint: str, count: int, ended: asyncio.Event) -> None:
    """Set ``ended`` once the daemon has stored ``count`` events."""
    with Query(query_endpoint) as query:
        while (await asyncio.to_thread(query.describe))["offset"] < count:  # noqa: ASYNC110 - another process changes it
            await asyncio.sleep(1)
    ended.set()


async def measure(query_endpoint: str, run: Running, options: argparse.Namespace, tally: Tally) -> None:
    """Fuzz until the gateway remembers all that it may, then in rounds, beside one reader."""
    fuzzers = [Fuzzer(run.port, place, options.seed, tally) for place in range(options.connections)]
    with QuoteReader("gateway", "--read", str(run.port), environment=environment()) as reader:
        async with asyncio.timeout(FIRST_QUOTE_S):
            while not reader.has_any:  # noqa: ASYNC110 - a thread fills it
                await asyncio.sleep(0.05)
        give_way(options.nice)
        is_warm = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(wait_for_events(query_endpoint, options.warm_up_events, is_warm))
            group.create_task(send_until(is_warm.is_set, fuzzers, options.rate, tally))
        tally.warm_up = tally.sent
        for number in range(options.rounds):
            reader.take()
            await asyncio.sleep(options.quiet_s)
            tally.ages.alone.append(reader.take())
            due = options.messages * (number + 1) // options.rounds
            await send_until(partial(tally.has_counted, due), fuzzers, options.rate, tally)
            tally.ages.beside.append(reader.take())


def fuzz(folder: Path, options: argparse.Namespace) -> tuple[Tally, list[str]]:
    """Run once; return what was seen, and what is wrong, but for the memory."""
    flags = ["--jwt-secret", SECRET, "--messages-per-s", str(2 * options.rate), "--connections-per-address", "1000"]
    flags += ["--new-connections-per-s", "1000"]
    with daemon(folder) as source:
        endpoint, query_endpoint = addresses(source)
        with gateway(folder, endpoint, query_endpoint, *flags) as run:
            tally = Tally(MemoryByTenth(run.program.process.pid, options.messages))
            run.program.line("the feed is live")
            asyncio.run(measure(query_endpoint, run, options, tally))
            ended = run.program.process.poll() is not None
            log = run.program.printed()
    failed = [close for close in tally.closes if close.startswith("1011") and close != UNANSWERED_PING]
    faults = [
        f"closed with {failed}" if failed else "",
        f"{tally.replies['internal']} internal errors" if tally.replies["internal"] else "",
        "Traceback" + log.partition("Traceback")[2][:2_000] if "Traceback" in log else "",
        "the gateway ended" if ended else "",
    ]
    return tally, [fault for fault in faults if fault]


def options_of(arguments: list[str]) -> argparse.Namespace:
    """Return the options of a run."""
    parser = argparse.ArgumentParser(prog="tests.fuzz gateway", description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--rate", type=float, default=200.0, help="messages a second of each connection")
    parser.add_argument("--read", type=int, help="read the quotes of the gateway on this port, and do nothing else")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--warm-up-events", type=int, default=RECENT, help="stored events before messages count")
    parser.add_argument("--rounds", type=int, default=5, help="of quotes alone, then messages beside them")
    parser.add_argument("--quiet-s", type=float, default=10.0, help="how long quotes are read alone in each round")
    parser.add_argument("--nice", type=int, default=19, help="niceness of the fuzzer")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Run as the options say, print what was seen; return 1 when something is wrong."""
    options = options_of(arguments)
    if options.read is not None:
        return read_quotes(options.read)
    with tempfile.TemporaryDirectory() as folder:
        tally, faults = fuzz(Path(folder), options)
    lines = [
        f"{tally.counted} messages, after {tally.warm_up} that are not counted, on {tally.connections} connections",
        f"internal errors: {tally.replies['internal']}",
        f"replies {dict(tally.replies.most_common())}, closes {dict(tally.closes.most_common())}",
        tally.memory.report(),
        *tally.ages.report(),
        *(f"WRONG: {fault}" for fault in faults),
    ]
    report_line("\n".join(lines))
    return tally.memory.exit_code() or (1 if faults else 0)
