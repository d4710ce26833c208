"""Real subscribers for the tests: they sync up instead of sleeping, and read up to a fence instead of for a while."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any, NamedTuple

import msgpack
import zmq

from mt4pump.client.checks import event_body
from mt4pump.publisher.publisher import Publisher
from mt4pump.settings import Settings
from mt4pump.wire import Body

ANY_PORT = "tcp://127.0.0.1:*"
LIMIT_S = 40.0
"""No wait takes this long unless something is broken."""
LIMIT_MS = int(LIMIT_S * 1000)
FENCE = b"fence"
SYNC = b"sync"


def wire_settings(endpoint: str = ANY_PORT, *, linger_s: float = 0.0, **values: Any) -> Settings:
    """Return the settings of a daemon that publishes on ``endpoint``, valid or not."""
    checked = Settings(source="simulator", linger_s=linger_s, **values)
    return checked.model_copy(update={"pub_endpoint": endpoint})


class Message(NamedTuple):
    """A received event."""

    topic: str
    body: Body


def until(condition: Callable[[], Any], what: str, limit_s: float = LIMIT_S) -> None:
    """Return once ``condition`` holds; fail with ``what`` when it never does."""
    deadline_s, pause = time.monotonic() + limit_s, Event()
    while not condition():
        assert time.monotonic() < deadline_s, f"never: {what}"
        pause.wait(0.001)


@contextmanager
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    """Give a context that is ended with everything in it.

    Its sockets linger for no time from the beginning: a connection that ends while something is queued for it keeps
    the linger of that moment, and by default would never let the context end.
    """
    own: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    own.setsockopt(zmq.LINGER, 0)
    try:
        yield own
    finally:
        own.destroy(linger=0)


def subscriber(own: zmq.Context[zmq.Socket[bytes]], endpoint: str, *prefixes: bytes) -> zmq.Socket[bytes]:
    """Return a SUB socket that is connecting, subscribed to ``prefixes`` in this order."""
    socket: zmq.Socket[bytes] = own.socket(zmq.SUB)
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.connect(endpoint)
    for prefix in prefixes:
        socket.setsockopt(zmq.SUBSCRIBE, prefix)
    return socket


def sync(publisher: Publisher, socket: zmq.Socket[bytes], limit_s: float = LIMIT_S) -> None:
    """Return once messages flow and ``publisher`` knows the subscriptions of ``socket``; both in this thread.

    A probe or two is left to read; `receive` skips them.
    """
    socket.setsockopt(zmq.SUBSCRIBE, SYNC)  # the last one sent: once it is known, those before it are
    deadline_s = time.monotonic() + limit_s
    while not socket.poll(1):
        assert time.monotonic() < deadline_s, "the subscriber received nothing"
        publisher.read_subscriptions()
        if publisher.subscriptions.has_subscriber(SYNC):
            publisher.send(SYNC, b"")
    socket.setsockopt(zmq.UNSUBSCRIBE, SYNC)


def decode_frames(frames: list[bytes]) -> tuple[bytes, Body]:
    """Return topic and body of a message."""
    topic, packed = frames
    return topic, event_body(topic, packed)


def receive(socket: zmq.Socket[bytes], limit_s: float = LIMIT_S) -> Message:
    """Return the next event that is no sync probe; fail when none comes."""
    while True:
        assert socket.poll(int(limit_s * 1000)), "no message came"
        frames = socket.recv_multipart()
        if frames[0] != SYNC:
            topic, body = decode_frames(frames)
            return Message(topic.decode(), body)


def last_messages(read: Callable[[], Message], socket: zmq.Socket[bytes]) -> list[Message]:
    """Return what a daemon that ended published last: all that ``read`` gives up to its goodbye, and what follows."""
    events = [read()]
    while not (events[-1].topic == "heartbeat" and events[-1].body["state"] == "stopping"):
        events.append(read())
    while socket.poll(50):
        events.append(read())
    return events


class Bus:
    """A `Publisher` on a free port and one subscriber of ``prefixes``, both in the test's thread."""

    def __init__(self, own: zmq.Context[zmq.Socket[bytes]], *prefixes: bytes) -> None:
        self.publisher = Publisher(own, wire_settings())
        self.socket = subscriber(own, self.publisher.endpoint, FENCE, *prefixes)
        sync(self.publisher, self.socket)
        self.events()  # reads the probes

    def events(self) -> list[Message]:
        """Return every event published since the last call, in order: all that comes before a fence sent now."""
        self.publisher.send(FENCE, msgpack.packb({"epoch": 0, "seq": 0, "ts": 0}))
        events: list[Message] = []
        while (message := receive(self.socket)).topic != FENCE.decode():
            events.append(message)
        return events

    def topics(self) -> list[str]:
        """Return the topics of `events`."""
        return [message.topic for message in self.events()]


@contextmanager
def bus(*prefixes: bytes) -> Iterator[Bus]:
    """Give a `Bus` whose subscriber asked for ``prefixes`` (none: everything)."""
    with context() as own:
        made = Bus(own, *(prefixes or (b"",)))
        try:
            yield made
        finally:
            made.publisher.close()
