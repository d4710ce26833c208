"""The publishers that the pipeline is compared with, and the subscriber that measures all of them.

`BareLoop` is the minimum: ready-made bytes in two frames. `NaivePipeline` is a first version: a lock,
``run_coroutine_threadsafe``, an ``asyncio.Queue``, ``wait_for``, a dict, ``packb``, ``send_multipart``. `Receiver`
counts messages and their one-way latency in a process of its own. Every body ends in its ``ts`` as eight big-endian
bytes (it is the last key and too large for a shorter form), so the latency costs no unpacking.
"""

from __future__ import annotations

import asyncio
import math
import multiprocessing
import statistics
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Self

import msgpack
import zmq
import zmq.asyncio

from mt4pump.process.signals import interrupts_delayed

PROBE = b"heartbeat"
"""The daemon sends one a second; `BareLoop.probe` and `NaivePipeline.probe` send one."""
SILENCE_S = 5.0
READY_LIMIT_S = 20.0


class Received(NamedTuple):
    """What one subscriber received: ``seconds`` from its first to its last message, latencies in µs."""

    messages: int
    seconds: float
    p50_us: float
    p99_us: float
    p999_us: float

    @property
    def per_second(self) -> float:
        """Return messages per second."""
        return self.messages / self.seconds if self.seconds else 0.0


class Receiver:
    """Starts a subscriber process on ``topic``; a context manager.

    The process ends after ``expected`` messages, or after `SILENCE_S` without one.
    """

    def __init__(self, endpoint: str, topic: bytes, expected: int) -> None:
        self._pipe, there = multiprocessing.Pipe()
        spawn = multiprocessing.get_context("spawn")
        self._process = spawn.Process(target=_receive, args=(there, endpoint, topic, expected), daemon=True)
        resource_tracker.ensure_running()  # its start, with the process, would unblock the signal
        with interrupts_delayed():  # the process never gets one: `Receiver` ends it
            self._process.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.join(0.5)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()

    def ready(self, limit_s: float = 0.0) -> bool:
        """Return whether the subscriber received a probe within ``limit_s``."""
        if not self._pipe.poll(limit_s):
            return False
        self._pipe.recv()
        return True

    def result(self, limit_s: float = 300.0) -> Received:
        """Return what was received; raises TimeoutError when the process sends no result within ``limit_s``."""
        if not self._pipe.poll(limit_s):
            raise TimeoutError(f"the subscriber process gave no result within {limit_s} s")
        received: Received = self._pipe.recv()
        return received


def _receive(pipe: Connection, endpoint: str, topic: bytes, expected: int) -> None:
    """Run in the subscriber's process."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.SUB)
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.connect(endpoint)
    socket.subscribe(topic)
    socket.subscribe(PROBE)
    with suppress(KeyboardInterrupt):  # on Windows, where Ctrl-C reaches this process too
        if socket.poll(int(READY_LIMIT_S * 1000)):
            pipe.send("ready")
            pipe.send(_measure(socket, expected))
    socket.close(0)
    context.term()


def _measure(socket: zmq.Socket[bytes], expected: int) -> Received:
    """Count and time ``expected`` messages, or all until silence."""
    receive = super(zmq.Socket, socket).recv
    now_ns, first_ns, last_ns = time.time_ns, 0, 0
    latencies: list[int] = []
    socket.setsockopt(zmq.RCVTIMEO, int(SILENCE_S * 1000))
    with suppress(zmq.Again):
        while len(latencies) < expected:
            topic, body = receive(), receive()
            if topic == PROBE:
                continue
            last_ns = now_ns()
            first_ns = first_ns or last_ns
            latencies.append(last_ns - int.from_bytes(body[-8:], "big"))
    count, seconds = len(latencies), (last_ns - first_ns) / 1e9
    permille = statistics.quantiles(latencies, n=1000, method="inclusive") if count > 1 else [0] * 999
    return Received(count, seconds, permille[499] / 1e3, permille[989] / 1e3, permille[998] / 1e3)


Socket = zmq.Socket[bytes]
READ_SYMBOL_INFO = struct.Struct("<12si32xi4xi4xdddd16x")
"""What a first version decodes of a SymbolInfo: symbol, digits, direction, lasttime, bid, ask, high, low."""


def paced(count: int, rate: float) -> Iterator[int]:
    """Yield 0 … count-1 at ``rate`` per second (inf: without waiting). Sleeps; never spins on the interpreter."""
    if math.isinf(rate):
        yield from range(count)
        return
    began_s = time.perf_counter()
    for number in range(count):
        wait_s = began_s + number / rate - time.perf_counter()
        if wait_s > 0:
            time.sleep(wait_s)
        yield number


def bind_publisher(socket: zmq.Socket[Any], hwm: int) -> str:
    """Bind a PUB socket to a free loopback port; return its endpoint."""
    socket.setsockopt(zmq.SNDHWM, hwm)
    socket.setsockopt(zmq.LINGER, 60_000)
    socket.bind("tcp://127.0.0.1:*")
    return socket.getsockopt_string(zmq.LAST_ENDPOINT)


class BareLoop:
    """A pyzmq loop that sends the same ``topic`` and ``body`` repeatedly."""

    def __init__(self, topic: bytes, body: bytes, hwm: int) -> None:
        self._topic, self._body = topic, body
        self._context: zmq.Context[Socket] = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self.endpoint = bind_publisher(self._socket, hwm)

    def probe(self) -> None:
        """Send one message that every receiver waits for."""
        self._socket.send_multipart([PROBE, b""])

    def run(self, count: int, rate: float) -> float:
        """Send ``count`` messages at ``rate`` per second (inf: without waiting); return the seconds it took."""
        send, topic, more = self._socket.send, self._topic, zmq.SNDMORE
        body, began_s = self._body, time.perf_counter()
        if math.isinf(rate):
            for _ in range(count):
                send(topic, more)
                send(body)
        else:
            head = body[:-8]
            for _ in paced(count, rate):
                send(topic, more)
                send(head + time.time_ns().to_bytes(8, "big"))
        return time.perf_counter() - began_s

    def close(self) -> None:
        """Send what is queued, then close."""
        self._socket.close()
        self._context.term()


class NaivePipeline:
    """A first version of the pipeline, fed with one ``record``; `notify` is what its callback does with each copy."""

    def __init__(self, record: bytes, hwm: int) -> None:
        self._record = record
        self._lock = threading.Lock()
        self._sent = 0
        self._seq: dict[str, int] = {}
        self._ready = threading.Event()
        self._hwm = hwm
        self.endpoint = ""
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="naive", daemon=True)
        self._thread.start()
        self._ready.wait()

    def notify(self, record: bytes) -> None:
        """Queue one record from the calling thread."""
        with self._lock:
            asyncio.run_coroutine_threadsafe(self._queue.put((record, time.time_ns())), self._loop)

    def probe(self) -> None:
        """Send one message that every receiver waits for."""
        asyncio.run_coroutine_threadsafe(self._probe(), self._loop).result()

    def run(self, count: int, rate: float) -> float:
        """Feed ``count`` records, once; return the seconds until the last was sent."""
        began_s, notify, record = time.perf_counter(), self.notify, self._record
        for _ in paced(count, rate):
            notify(record)
        while self._sent < count:
            time.sleep(0.0005)
        return time.perf_counter() - began_s

    def close(self) -> None:
        """End the loop after what is queued."""
        self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[tuple[bytes, int]] = asyncio.Queue()
        self._ending = asyncio.Event()
        context = zmq.asyncio.Context()
        self._socket = context.socket(zmq.PUB)
        self.endpoint = bind_publisher(self._socket, self._hwm)
        self._ready.set()
        while not self._ending.is_set():
            try:
                record, ts = await asyncio.wait_for(self._queue.get(), 0.2)
            except TimeoutError:
                continue
            await self._publish(record, ts)
        self._socket.close()
        context.term()

    async def _probe(self) -> None:
        await self._socket.send_multipart([PROBE, b""])

    async def _publish(self, record: bytes, ts: int) -> None:
        raw, digits, direction, lasttime, bid, ask, high, low = READ_SYMBOL_INFO.unpack(record)
        symbol = raw.split(b"\0")[0].decode("cp1252")
        self._seq[symbol] = self._seq.get(symbol, 0) + 1
        quote: dict[str, Any] = {"symbol": symbol, "digits": digits, "epoch": 1, "bid": bid, "ask": ask}
        quote |= {"spread": round((ask - bid) * 10**digits), "time": lasttime, "high": high, "low": low}
        quote |= {"direction": direction, "seq": self._seq[symbol], "ts": ts}
        await self._socket.send_multipart([f"quote.{symbol}".encode(), msgpack.packb(quote)])
        self._sent += 1
