"""Connections as the monitor reports them: good ones, garbage, and those that end at once.

Private access: the socket, whose poll waits until libzmq has something without reading it, and the handling of one
event, because libzmq reuses numbers when it likes.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest
import zmq

from mt4pump.libzmq_sockets import duplicate
from mt4pump.log import FaultCounters
from mt4pump.publisher.connections import Connections
from mt4pump.publisher.descriptors import EndpointLimits, fault_text, peer_of
from mt4pump.publisher.publisher import Publisher, log
from tests.bus import LIMIT_MS, context, subscriber, sync, until, wire_settings

LIMITS = EndpointLimits(1_000, 250)


@pytest.fixture
def fault_counters() -> FaultCounters:
    return FaultCounters(log)


@pytest.fixture
def publisher(fault_counters: FaultCounters) -> Iterator[Publisher]:
    with context() as own:
        made = Publisher(own, wire_settings(), fault_counters=fault_counters)
        yield made
        made.close()


def await_counters(made: Publisher, **wanted: int) -> None:
    """Read until the counters have these values."""

    def reached() -> bool:
        made.read_subscriptions()
        return made.connections.counters().items() >= wanted.items()

    until(reached, f"{wanted} in {made.connections.counters()}")


def raw_connection(made: Publisher) -> socket.socket:
    host, port = made.endpoint.removeprefix("tcp://").split(":")
    return socket.create_connection((host, int(port)))


def test_subscribers_are_counted_while_they_are_there(publisher: Publisher) -> None:
    with context() as other:
        first, second = (subscriber(other, publisher.endpoint, b"") for _ in range(2))
        sync(publisher, first)
        await_counters(publisher, now=2, accepted=2, refused=0, failed=0)
        second.close(0)
        await_counters(publisher, now=1, accepted=2, refused=0, failed=0)


def test_who_speaks_no_zeromq_is_counted_and_logged_with_its_address(
    publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    with raw_connection(publisher) as bad:
        await_counters(publisher, now=1)
        host, port = bad.getsockname()
        with contextlib.suppress(OSError):  # it may be cut off before it is done
            bad.sendall(b"\xff" + b"\x00" * 8 + b"\x7f" + b"\x09garbage" * 20)
            bad.shutdown(socket.SHUT_WR)
        await_counters(publisher, now=0, accepted=0, failed=1)
        assert f"from {host}:{port}" in caplog.text


def test_who_hangs_up_at_once_is_counted(publisher: Publisher, fault_counters: FaultCounters) -> None:
    for count in range(1, 20):
        raw_connection(publisher).close()
        await_counters(publisher, now=0, failed=count)
    assert fault_counters.counts["handshake_failed"] == 19


def test_a_reading_ends_when_its_time_is_over(publisher: Publisher) -> None:
    publisher.connections.read_events()  # that the socket listens
    with context() as other:
        reader = subscriber(other, publisher.endpoint, b"")
        publisher._socket.poll(LIMIT_MS)  # noqa: SLF001
        assert not publisher.connections.read_events(0)
        assert publisher.connections.counters().items() >= {"now": 1, "accepted": 0, "refused": 0, "failed": 0}.items()
        sync(publisher, reader)
        await_counters(publisher, now=1, accepted=1)


def test_reading_without_a_socket_does_nothing() -> None:
    made = Connections(FaultCounters(log), LIMITS, lambda _number: None)
    assert made.read_events()
    made.detach()


def test_a_number_that_is_reused_is_distinguished_from_the_one_before() -> None:
    gone: list[int] = []
    made = Connections(FaultCounters(log), LIMITS, gone.append)

    def happens(event: int, number: int) -> None:
        made._events_read += 1  # noqa: SLF001
        made._handle(event, number)  # noqa: SLF001

    happens(zmq.EVENT_ACCEPTED, 7)
    first = made.generation()
    assert first is not None
    assert made.is_open(7, first)
    happens(zmq.EVENT_DISCONNECTED, 7)
    assert not made.is_open(7, first)
    happens(zmq.EVENT_ACCEPTED, 7)
    assert made.is_open(7)
    assert not made.is_open(7, first)
    assert made.is_open(7, made.generation())
    assert gone == []  # reported by the thread that reads events, not by the one that asked for a generation
    made.read_events()
    assert gone == [7]


def test_the_generation_of_a_connection_counts_events_that_were_not_read_yet(publisher: Publisher) -> None:
    with context() as other:
        reader = subscriber(other, publisher.endpoint, b"")
        publisher._socket.poll(LIMIT_MS)  # noqa: SLF001
        before = publisher.connections.generation()
        reader.close(0)
        until(
            lambda: publisher.connections.now == 0 or publisher.connections.generation() != before, "its end is counted"
        )


def test_there_is_no_generation_while_events_come_faster_than_they_are_read(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mt4pump.publisher.connections.ALL_LIMIT_S", 0.0)
    monkeypatch.setattr("mt4pump.publisher.connections.LOCK_LIMIT_S", 0.0)
    with raw_connection(publisher), context() as other:
        reader = subscriber(other, publisher.endpoint, b"")
        publisher._socket.poll(LIMIT_MS)  # noqa: SLF001
        assert publisher.connections.generation() is None
        until(lambda: publisher.connections.generation() is not None, "all is counted")
        reader.close(0)


def test_faults_have_texts() -> None:
    assert "the client needs keys" in fault_text(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, 0x11000002)
    assert "wrong server key" in fault_text(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, 0x11000001)
    assert "0x10000000" in fault_text(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, 0x10000000)
    assert "no ZeroMQ client" in fault_text(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, 104)


def test_a_peer_is_named_and_its_socket_left_alone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        accepted, _ = server.accept()
        with accepted:
            host, port = client.getsockname()
            assert peer_of(accepted.fileno()) == f"{host}:{port}"
            accepted.sendall(b"x")
            assert client.recv(1) == b"x"
        assert peer_of(server.fileno()) == ""
    assert peer_of(-1) == ""
    assert peer_of(2**20) == ""


def test_a_duplicate_leaves_the_descriptor_non_blocking() -> None:
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)  # noqa: FBT003 - it has no name
        with duplicate(left.fileno()) as copied, pytest.raises(BlockingIOError):
            copied.recv(1)
        with pytest.raises(BlockingIOError):
            left.recv(1)
