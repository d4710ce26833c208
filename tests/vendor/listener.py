"""A subscriber of a daemon that plays a `Scenario`, and the flags that daemon needs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import zmq

from tests import bus
from tests.bus import ANY_PORT, Message, receive
from tests.vendor.scenario import LOGIN, PASSWORD, SERVER, TRADES

LIMIT_S = 60.0
LINGER_S = 20
"""How long the last words may take on a busy machine; as short as ever where they are read."""


def session_flags(library: str, data_dir: str, endpoint: str = ANY_PORT) -> list[str]:
    """Return ``run`` and its flags for a session on the fake ``library``; paths as the daemon's system spells them."""
    return [
        "run",
        f"--dll-path={library}",
        f"--data-dir={data_dir}",
        f"--pub-endpoint={endpoint}",
        f"--query-endpoint={ANY_PORT}",
        f"--servers={SERVER}",
        f"--login={LOGIN}",
        f"--password={PASSWORD}",
        "--heartbeat-interval-s=0.2",
        f"--linger-s={LINGER_S}",
        "--log-format=json",
    ]


def pumping(
    own: zmq.Context[zmq.Socket[bytes]],
    endpoint: str,
    arm: Callable[[zmq.Socket[bytes]], object] = lambda _socket: None,
) -> zmq.Socket[bytes]:
    """Return a subscriber of everything that has received that the session runs; ``arm`` may give it keys before."""
    socket: zmq.Socket[bytes] = own.socket(zmq.SUB)
    arm(socket)
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.connect(endpoint)
    socket.setsockopt(zmq.SUBSCRIBE, b"")
    deadline_s = time.monotonic() + LIMIT_S
    while receive(socket, LIMIT_S).body.get("state") != "pumping":
        assert time.monotonic() < deadline_s, "the session never ran"
    return socket


def received(socket: zmq.Socket[bytes], go: Path) -> list[Message]:
    """Have the script go on, now that ``socket`` receives the daemon; return what it publishes up to the last order."""
    go.touch()
    deadline_s, events = time.monotonic() + LIMIT_S, list[Message]()
    while not (events and events[-1].topic == "trade.1001" and events[-1].body["order"] == TRADES):
        assert time.monotonic() < deadline_s, f"the last order never came; received: {events}"
        events.append(receive(socket, LIMIT_S))
    return events


def last_messages(socket: zmq.Socket[bytes]) -> list[Message]:
    """Return what a daemon that has ended published last, its goodbye the last."""
    return bus.last_messages(lambda: receive(socket), socket)
