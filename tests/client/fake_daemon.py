"""A scripted daemon on real sockets for tests: XPUB and ROUTER over a `DaemonModel`, with faults on demand."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from threading import Thread
from typing import Any, Self

import msgpack
import zmq

from tests.client.daemon_model import DaemonModel, Frames

HEARTBEAT_S = 0.05
LIMIT_S = 40.0


class FakeDaemon:
    """Runs in a thread of its own. ``refuse`` is the code that queries get, ``mute`` stops heartbeats and answers."""

    def __init__(self, model: DaemonModel | None = None, *, query: bool = True) -> None:
        self.model = model or DaemonModel()
        self.refuse = ""
        self.mute = False
        self.asked: list[dict[str, Any]] = []
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.setsockopt(zmq.LINGER, 0)  # from the beginning: see tests.bus.context
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._stopping = False
        self._router = self._context.socket(zmq.ROUTER)
        self._router.bind("tcp://127.0.0.1:*")
        self._xpub = self._context.socket(zmq.XPUB)
        self._xpub.setsockopt(zmq.XPUB_VERBOSER, 1)
        self._xpub.setsockopt(zmq.SNDHWM, 0)
        self._xpub.bind("tcp://127.0.0.1:*")
        self.endpoint = self._xpub.getsockopt_string(zmq.LAST_ENDPOINT)
        self.query_endpoint = self._router.getsockopt_string(zmq.LAST_ENDPOINT) if query else None
        self._wake_in = self._context.socket(zmq.PAIR)
        self._wake_in.bind("inproc://wake")
        self._wake_out = self._context.socket(zmq.PAIR)
        self._wake_out.connect("inproc://wake")
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        self._thread.join(LIMIT_S)
        self._context.destroy(linger=0)

    def do(self, call: Callable[[], None]) -> None:
        """Have ``call`` done by the daemon's thread, and return when it is."""
        done: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

        def run() -> None:
            try:
                call()
            except BaseException as error:  # noqa: BLE001 - handed to who asked
                done.put(error)
            else:
                done.put(None)

        self._calls.put(run)
        self._wake_out.send(b"")
        if (error := done.get(timeout=LIMIT_S)) is not None:
            raise error

    def publish(self, *topics: str, **fields: Any) -> None:
        """Publish events."""

        def run() -> None:
            for topic in topics:
                self._send(self.model.event(topic, **fields))

        self.do(run)

    def lose(self, *topics: str, **fields: Any) -> None:
        """Number and store events that no subscriber gets, as a full queue loses them."""

        def run() -> None:
            for topic in topics:
                self.model.event(topic, **fields)
                self.model.dropped += 1

        self.do(run)

    def restart(self, *, log: str | None = None) -> None:
        """Begin a new epoch."""
        self.do(lambda: self.model.restart(log=log))

    def disconnect(self) -> None:
        """Break every connection, and listen again on the same address."""

        def run() -> None:
            self._xpub.unbind(self.endpoint)
            self._xpub.close(0)
            deadline_s = time.monotonic() + LIMIT_S
            self._xpub = self._context.socket(zmq.XPUB)
            self._xpub.setsockopt(zmq.XPUB_VERBOSER, 1)
            while True:
                try:
                    self._xpub.bind(self.endpoint)
                except zmq.ZMQError:
                    assert time.monotonic() < deadline_s, "the address stays taken"
                    self._wake_in.poll(10)
                else:
                    return

        self.do(run)

    def send_raw(self, *frames: bytes) -> None:
        """Publish what may be no event at all."""

        def run() -> None:
            self._xpub.send_multipart(frames)

        self.do(run)

    def _send(self, frames: Frames) -> None:
        self._xpub.send_multipart(frames)

    def _run(self) -> None:
        heartbeat_at_s = 0.0
        while not self._stopping:
            poller = zmq.Poller()
            for socket in (self._router, self._xpub, self._wake_in):
                poller.register(socket, zmq.POLLIN)
            ready = dict(poller.poll(int(HEARTBEAT_S * 500)))
            if self._wake_in in ready:
                while self._wake_in.poll(0):
                    self._wake_in.recv()
            while not self._calls.empty():
                self._calls.get()()
            if self._xpub in ready and not self._xpub.closed:
                heartbeat_at_s = self._receive_subscriptions(heartbeat_at_s)
            if self._router in ready:
                self._answer()
            if time.monotonic() >= heartbeat_at_s and not self.mute:
                heartbeat_at_s = time.monotonic() + HEARTBEAT_S
                self._send(self.model.heartbeat())

    def _receive_subscriptions(self, heartbeat_at_s: float) -> float:
        """Receive subscriptions; one to the heartbeat is answered by a heartbeat at once."""
        while self._xpub.poll(0):
            message = self._xpub.recv()
            if message[:1] == b"\x01" and b"heartbeat".startswith(message[1:10]):
                heartbeat_at_s = 0.0
        return heartbeat_at_s

    def _answer(self) -> None:
        while self._router.poll(0):
            peer, payload = self._router.recv_multipart()
            request = msgpack.unpackb(payload)
            self.asked.append(request)
            if self.mute:
                continue
            if self.refuse:
                head = {"ok": False, "code": self.refuse, "error": "refused on purpose", "id": request.get("id")}
                self._router.send_multipart([peer, msgpack.packb(head)])
            else:
                self._router.send_multipart([peer, *self.model.answer(request)])
