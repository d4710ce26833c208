"""A publisher that repeats the same messages until it is stopped, and functions that make messages."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgpack
import zmq

EPOCH = 1_000
TS = 1_577_916_000_000_000_000
Frames = tuple[bytes, bytes]


def message(topic: str, seq: int = 1, *, epoch: int = EPOCH, ts: int = TS, **fields: object) -> Frames:
    """Return the frames of one event."""
    return topic.encode(), msgpack.packb({**fields, "epoch": epoch, "seq": seq, "ts": ts})


def heartbeat(seq: int = 1, *, epoch: int = EPOCH, ts: int = TS, state: str = "pumping", **fields: object) -> Frames:
    """Return the frames of a heartbeat."""
    return message("heartbeat", seq, epoch=epoch, ts=ts, state=state, server="mt4.example.com:443", **fields)


class FakePublisher:
    """Sends each round of messages every few milliseconds from its own thread; ``seq`` grows by ``step`` each round."""

    def __init__(self, topics: Sequence[str], extra: Sequence[Sequence[bytes]], step: int) -> None:
        self._topics = topics
        self._extra = extra
        self._step = step
        self._ending = threading.Event()
        self._bound = threading.Event()
        self.endpoint = ""
        self._thread = threading.Thread(target=self._publish, name="publisher")

    def start(self) -> None:
        """Start, and return once ``endpoint`` is known."""
        self._thread.start()
        assert self._bound.wait(40)

    def stop(self) -> None:
        """Stop and join."""
        self._ending.set()
        self._thread.join(40)

    def _publish(self) -> None:
        with zmq.Context() as own, own.socket(zmq.PUB) as socket:
            socket.setsockopt(zmq.LINGER, 0)
            socket.bind("tcp://127.0.0.1:*")
            self.endpoint = socket.getsockopt_string(zmq.LAST_ENDPOINT)
            self._bound.set()
            seq = 0
            while not self._ending.wait(0.002):
                seq += self._step
                sent = [message(topic, seq, symbol=topic, bid=1.5, ask=1.75, spread=25) for topic in self._topics]
                for frames in (*sent, *self._extra, heartbeat(seq)):
                    socket.send_multipart(frames)


@contextmanager
def fake_publisher(*topics: str, extra: Sequence[Sequence[bytes]] = (), step: int = 1) -> Iterator[str]:
    """Give the endpoint of a `FakePublisher`."""
    publisher = FakePublisher(topics, extra, step)
    publisher.start()
    try:
        yield publisher.endpoint
    finally:
        publisher.stop()
