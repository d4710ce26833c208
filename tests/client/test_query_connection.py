"""Requests and replies on a socket: an answer goes with its question, or nowhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
import zmq

from mt4pump.client.query import Ask, QueryConnection, QueryError, Reply
from tests.client.fake_daemon import LIMIT_S

ASK = Ask("describe", {})
Router = zmq.Socket[bytes]


@pytest.fixture
def ends() -> Iterator[tuple[Router, QueryConnection]]:
    """A query endpoint, and a connection to it."""
    context: zmq.Context[Router] = zmq.Context()
    context.setsockopt(zmq.LINGER, 0)
    router = context.socket(zmq.ROUTER)
    router.bind("tcp://127.0.0.1:*")
    connection = QueryConnection(context, router.getsockopt_string(zmq.LAST_ENDPOINT), None)
    yield router, connection
    connection.close()
    context.destroy(linger=0)


def asked(router: Router, number: int) -> bytes:
    """Return who sent request ``number``, which is the next one."""
    assert router.poll(int(LIMIT_S * 1000)), "nothing came"
    peer, payload = router.recv_multipart()
    assert msgpack.unpackb(payload)["id"] == number
    return peer


def say(router: Router, peer: bytes, **head: Any) -> None:
    router.send_multipart([peer, msgpack.packb(head)])


def received(connection: QueryConnection) -> Reply:
    deadline_s = time.monotonic() + LIMIT_S
    while (reply := connection.receive()) is None:
        assert time.monotonic() < deadline_s, "no answer"
        connection.socket.poll(100)
    return reply


def test_requests_that_are_answered_share_one_connection(ends: tuple[Router, QueryConnection]) -> None:
    router, connection = ends
    peers = set()
    for number in (1, 2):
        connection.send(number, ASK, 0.0)
        peers.add(peer := asked(router, number))
        say(router, peer, ok=True, id=number)
        assert received(connection).head["id"] == number
    assert len(peers) == 1


def test_a_request_that_is_given_up_leaves_its_connection_behind(ends: tuple[Router, QueryConnection]) -> None:
    router, connection = ends
    connection.send(1, ASK, 0.0)
    before = asked(router, 1)
    connection.send(2, ASK, 0.0)
    assert asked(router, 2) != before


@pytest.mark.parametrize("is_ok", [True, False])
def test_what_is_said_to_another_request_is_skipped(ends: tuple[Router, QueryConnection], *, is_ok: bool) -> None:
    router, connection = ends
    connection.send(5, ASK, 0.0)
    peer = asked(router, 5)
    say(router, peer, ok=is_ok, id=4, code="busy", error="refused by the test")
    say(router, peer, ok=True, id=5)
    assert received(connection).head["id"] == 5


@pytest.mark.parametrize("number", [1, None])
def test_a_refusal_ends_the_request_whether_or_not_it_names_it(
    ends: tuple[Router, QueryConnection], number: int | None
) -> None:
    router, connection = ends
    connection.send(1, ASK, 0.0)
    say(router, asked(router, 1), ok=False, id=number, code="busy", error="refused by the test")
    with pytest.raises(QueryError, match="refused by the test") as caught:
        received(connection)
    assert (caught.value.code, connection.number) == ("busy", None)


def test_to_reconnect_ends_the_request(ends: tuple[Router, QueryConnection]) -> None:
    _, connection = ends
    connection.send(1, ASK, 0.0)
    connection.reconnect()
    assert connection.number is None


@pytest.mark.parametrize("frame", [b"\xc1", msgpack.packb([1]), msgpack.packb({"id": 1})])
def test_what_is_no_reply_is_refused_and_ends_the_request(ends: tuple[Router, QueryConnection], frame: bytes) -> None:
    router, connection = ends
    connection.send(1, ASK, 0.0)
    router.send_multipart([asked(router, 1), frame])
    with pytest.raises(QueryError, match="gave no reply of this protocol") as caught:
        received(connection)
    assert (caught.value.code, connection.number) == ("bad_reply", None)


@pytest.mark.parametrize(("endpoint", "is_wanted"), [("tcp://127.0.0.1:1", 0), ("tcp://[::1]:1", 1)])
def test_ipv6_is_on_for_its_addresses(endpoint: str, is_wanted: int) -> None:
    with zmq.Context() as context:
        connection = QueryConnection(context, endpoint, None)
        assert connection.socket.getsockopt(zmq.IPV6) == is_wanted
        connection.close()
