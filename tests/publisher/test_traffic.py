"""Which connections are checked for floods."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import zmq

from mt4pump.publisher.received import CONNECTIONS_PER_CHECK, TURN_S, TURNS, Traffic
from mt4pump.security import zap
from tests.bus import LIMIT_MS, until
from tests.publisher.test_limits import served

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux reports what came")


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    with ExitStack() as stack:
        made = [socket.socketpair() for _ in range(CONNECTIONS_PER_CHECK + 10)]
        for pair in made:
            for each in pair:
                stack.enter_context(each)
        yield made


@linux
def test_only_connections_over_which_something_came_are_checked(
    pairs: list[tuple[socket.socket, socket.socket]],
) -> None:
    made = Traffic(pairs[0][0].fileno())
    numbers = {own.fileno(): peer for own, peer in pairs[1:]}
    for number in numbers:
        made.add(number)
    assert len(made.take(numbers, 0.0)) == len(numbers) // TURNS + 1, "the first of all in turn"
    assert not made.take(numbers, 0.0)
    first = next(iter(numbers))
    numbers[first].send(b"x")
    assert made.take(numbers, 0.0) == {first}
    assert not made.take(numbers, 0.0), "it is reported once, though nobody read it"
    numbers[first].send(b"y")
    assert made.take(numbers, 0.0) == {first}
    for peer in numbers.values():
        peer.send(b"x")
    found = [set(made.take(numbers, 0.0)) for _ in range(2)]
    assert max(map(len, found)) <= CONNECTIONS_PER_CHECK
    assert found[0] | found[1] == numbers.keys()
    made.close()


@linux
def test_connections_are_checked_though_libzmq_has_read_what_came(
    pairs: list[tuple[socket.socket, socket.socket]],
) -> None:
    made = Traffic(pairs[0][0].fileno())
    numbers = [own.fileno() for own, _ in pairs[1:]]
    for own, peer in pairs[1:]:
        made.add(own.fileno())
        peer.send(b"x")
        assert own.recv(1)
    found = [set(made.take(numbers, turn * TURN_S)) for turn in range(TURNS)]
    assert set().union(*found) == set(numbers)
    made.close()


@linux
def test_connections_that_come_and_go_hide_none_from_its_turn(
    pairs: list[tuple[socket.socket, socket.socket]],
) -> None:
    made = Traffic(pairs[0][0].fileno())
    numbers = list(range(1, 901))
    seen = set[int]()
    for turn in range(2 * TURNS):
        seen.update(made.take(numbers, float(turn)))
        del numbers[:10]
        numbers += range(1_000 + 10 * turn, 1_010 + 10 * turn)
    made.close()
    assert seen >= set(range(201, 901))


@linux
def test_a_number_is_readable_while_something_came_and_a_connection_is_checked_again_on_demand(
    pairs: list[tuple[socket.socket, socket.socket]],
) -> None:
    (always, always_peer), (own, peer) = pairs[:2]
    made = Traffic(always.fileno())
    made.add(own.fileno())
    made.add(own.fileno())  # a number that is reused, before its end was read
    made.take([], 0.0)
    assert made.number is not None
    poller = zmq.Poller()
    poller.register(made.number, zmq.POLLIN)
    assert not poller.poll(0)
    peer.send(b"x")
    assert poller.poll(LIMIT_MS)
    assert made.take([own.fileno()], 0.0) == {own.fileno()}
    assert not poller.poll(0)
    always_peer.send(b"x")
    assert poller.poll(LIMIT_MS)
    made.check_again(own.fileno())
    assert made.wake_number is None
    assert made.take([own.fileno()], 0.0) == {own.fileno()}
    assert made.wake_number == made.number
    made.close()
    assert made.wake_number is None


@pytest.mark.parametrize("count", [0, 3, CONNECTIONS_PER_CHECK + 10])
def test_where_the_system_reports_nothing_all_are_checked_in_turn(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr("mt4pump.publisher.received.sys.platform", "other")
    made = Traffic(0)
    made.add(1)
    assert made.wake_number is None
    found = [made.take(range(count), 0.0) for _ in range(3)]
    assert max(map(len, found)) <= CONNECTIONS_PER_CHECK
    assert {number for each in found for number in each} == set(range(count))


@linux
def test_a_number_that_is_no_connection_any_more_ends_nothing() -> None:
    own, peer = socket.socketpair()
    with own, peer, open(os.devnull, "rb") as file:  # noqa: PTH123 - a descriptor is needed
        made = Traffic(own.fileno())
        made.add(file.fileno())
        closed = os.dup(own.fileno())
        os.close(closed)
        made.add(closed)
        assert made.number is not None
        made.close()


@linux
def test_a_thread_that_waits_for_traffic_answers_handshakes_and_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zap, "QUIET_MS", LIMIT_MS)
    monkeypatch.setattr(zap, "STOP_LIMIT_S", LIMIT_MS / 1000)
    with served() as made:
        made.check_honest()
        with made.raw() as silent:
            until(lambda: made.check() and made.publisher.connections.now == 2, "both are there")
            silent.sendall(b"\x00\x04\x01abc")
            until(
                lambda: made.check() and made.publisher.subscriptions.has_subscriber(b"abcd"),
                "the subscription is read",
            )
        made.authenticator.stop()
        assert not made.authenticator.is_alive()
