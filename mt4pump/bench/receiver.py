"""A subscriber in a process of its own that counts messages and their one-way latency.

Every body ends in its ``ts`` as eight big-endian bytes (it is the last key and too large for a shorter form), so the
latency costs the receiver no unpacking. Both clocks are the same machine's.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from contextlib import suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import NamedTuple, Self

import zmq

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
        here, there = multiprocessing.Pipe()
        self._pipe = here
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
    try:
        while len(latencies) < expected:
            topic, body = receive(), receive()
            if topic == PROBE:
                continue
            last_ns = now_ns()
            first_ns = first_ns or last_ns
            latencies.append(last_ns - int.from_bytes(body[-8:], "big"))
    except zmq.Again:
        pass
    count, seconds = len(latencies), (last_ns - first_ns) / 1e9
    permille = statistics.quantiles(latencies, n=1000, method="inclusive") if count > 1 else [0] * 999
    return Received(count, seconds, permille[499] / 1e3, permille[989] / 1e3, permille[998] / 1e3)
