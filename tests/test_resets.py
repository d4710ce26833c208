"""Connections that break while libzmq holds back their input must not end the process. Linux; Windows in tests/wine."""

from __future__ import annotations

import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import msgpack
import pytest
import zmq

from mt4pump.libzmq_sockets import end_input, protect
from tests.bus import LIMIT_MS, LIMIT_S, context
from tests.cli.commands import environment
from tests.programs import Program, program
from tests.publisher.test_limits import READY_XSUB, raw_link

PING = b"\x04\x07\x04PING\x00\x00"
READY_DEALER = b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
REPLAY = msgpack.packb({"op": "replay", "limit": 10_000})
REQUESTS = (b"\x01\x00" + bytes((0, len(REPLAY))) + REPLAY + PING) * 100
SUBSCRIPTIONS = b"".join(b"\x00\x15\x01quote.%014d" % count + PING for count in range(3_000))
CONNECTIONS, ROUNDS = 60, 3
SETTLED_S, URGENT_AFTER_S = 0.7, 0.02
"""Until libzmq has read what was sent: a shorter time can only hide the fault."""
STALLED = """
import sys
from mt4pump.client import Subscriber, connection
connection.ZMTP_HEARTBEAT_MS = 100
with Subscriber(sys.argv[1], topics=["*"], rcvhwm=10) as events:
    next(iter(events))
    print("stalled", flush=True)
    sys.stdin.read(1)
    for _ in range(20):
        next(iter(events))
    print("goes on", flush=True)
"""
TWINS = """
import msgpack, zmq
from mt4pump.query.limits import QueryOptions
from tests.bus import until, wire_settings
from tests.query.endpoint import Setup, serving

settings = wire_settings(zmtp_heartbeat_ivl_s=0.1, zmtp_heartbeat_timeout_s=4.0)
with serving(Setup(QueryOptions(silent_s=0.5), settings=settings)) as at, at.own.socket(zmq.DEALER) as second:
    with at.own.socket(zmq.DEALER) as first:
        for each in (first, second):
            each.setsockopt(zmq.ROUTING_ID, b"twin")
            each.connect(at.server.endpoint)
            for _ in range(20):
                each.send(msgpack.packb({"op": "describe"}))
            until(lambda: first.poll(0), "the first is served")
        until(lambda: at.server.connections.accepted > 2, "the second was closed, and came again")
    def is_served():
        second.send(msgpack.packb({"op": "describe"}))
        return second.poll(100)
    until(is_served, "the second is served")
"""

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="libzmq's poller on Linux has the fault")


def reset(own: socket.socket) -> None:
    own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    own.close()


def break_amid(port: int, ready: bytes, sent: bytes, source: str, *, urgent: bool = False) -> None:
    """Make connections that send more than libzmq's queue takes, then perhaps urgent data, and then reset."""
    with ExitStack() as open_links, suppress(OSError, AssertionError):  # more are refused once they did too much
        for _ in range(CONNECTIONS):
            link = raw_link(port, ready, source)
            open_links.callback(reset, link)
            link.setblocking(False)  # noqa: FBT003 - the standard library's
            with suppress(OSError):
                link.send(sent)
            if urgent:
                time.sleep(URGENT_AFTER_S)
                with suppress(OSError):
                    link.send(b"x", socket.MSG_OOB)
        time.sleep(SETTLED_S)


def python(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=environment(),
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextmanager
def daemon(folder: Path, events: str = "tcp://127.0.0.1:*") -> Iterator[Program]:
    options = ["--source", "simulator", "--rate", "3000", "--data-dir", str(folder), "--log-format", "json"]
    endpoints = ["--pub-endpoint", events, "--query-endpoint", "tcp://127.0.0.1:*"]
    with python(folder, "-m", "mt4pump", "run", *options, *endpoints) as process, program(process) as made:
        yield made


@pytest.mark.parametrize(
    ("endpoint", "ready", "sent"),
    [("publishes on ", READY_XSUB, SUBSCRIPTIONS), ("answered on ", READY_DEALER, REQUESTS)],
    ids=["events", "queries"],
)
def test_connections_that_break_amid_what_they_sent_do_not_end_the_daemon(
    endpoint: str, ready: bytes, sent: bytes, tmp_path: Path
) -> None:
    with daemon(tmp_path) as made, context() as own, own.socket(zmq.REQ) as honest:
        ports = {name: int(made.endpoint(name).rpartition(":")[2]) for name in ("publishes on ", "answered on ")}
        honest.connect(f"tcp://127.0.0.1:{ports['answered on ']}")
        for number in range(ROUNDS):
            break_amid(ports[endpoint], ready, sent, f"127.0.0.{number + 2}")  # not too many of one client
        honest.send(msgpack.packb({"op": "describe"}))
        assert honest.poll(LIMIT_MS), made.printed()
        assert made.process.poll() is None


def test_a_stalled_subscriber_outlives_the_daemon_and_goes_on(tmp_path: Path) -> None:
    with daemon(tmp_path) as made:
        endpoint = made.endpoint()
        with python(tmp_path, "-c", STALLED, endpoint) as process, program(process) as reader:
            reader.line("stalled")
            time.sleep(SETTLED_S)
            made.process.kill()
            made.process.wait(LIMIT_S)
            time.sleep(SETTLED_S)
            with daemon(tmp_path, endpoint) as again:
                again.endpoint()
                assert process.stdin is not None
                process.stdin.write("\n")
                process.stdin.flush()
                reader.line("goes on")
                assert reader.end() == 0


def test_two_clients_of_one_routing_id_do_not_end_the_daemon(tmp_path: Path) -> None:
    with python(tmp_path, "-c", TWINS) as process, program(process) as made:
        assert made.end() == 0, made.text


@contextmanager
def link() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return both ends of a TCP connection; resets that reach the second are ignored."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        protect(listener)
        with socket.create_connection(listener.getsockname()) as peer, listener.accept()[0] as own:
            own.settimeout(LIMIT_S)
            yield peer, own


def broken(own: socket.socket) -> bool:
    poller = select.poll()
    poller.register(own, 0)
    return bool(poller.poll(0))


def test_a_reset_reaches_no_connection_to_a_listener_that_ignores_them() -> None:
    with link() as (peer, own):
        peer.send(b"before")
        reset(peer)
        assert own.recv(6) == b"before"
        own.send(b"whose answer is a reset")
        assert not broken(own)


def test_a_connection_that_its_peer_ends_is_read_to_its_end() -> None:
    with link() as (peer, own):
        peer.send(b"before")
        peer.close()
        assert (own.recv(6), own.recv(1)) == (b"before", b"")


def test_where_the_system_has_no_filter_none_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    with link() as (peer, own):
        peer.send(b"read first")
        monkeypatch.setattr(sys, "platform", "darwin")
        assert not end_input(own)
        assert own.recv(100) == b"read first"


def test_after_its_input_is_ended_nothing_comes_and_nothing_is_broken() -> None:
    with link() as (peer, own):
        assert end_input(own)
        peer.setblocking(False)  # noqa: FBT003 - the standard library's
        with suppress(BlockingIOError):
            while True:
                peer.send(bytes(65_536))
        assert own.recv(1) == b""
        assert not broken(own)
        own.send(b"the last reply")
        peer.settimeout(LIMIT_S)
        assert peer.recv(100) == b"the last reply"
        own.close()
        assert peer.recv(1) == b""
