"""Garbage of every kind against a live server: after each piece it still describes itself, and no thread has died.

Private access: the snapshots that the server holds, because that their number is bounded shows only in memory.
"""

from __future__ import annotations

import socket as plain
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import msgpack
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mt4pump.query.limits import QueryOptions
from mt4pump.query.requests import CODES
from tests.bus import LIMIT_MS, LIMIT_S
from tests.fuzz.query import fuzz, fuzz_directly, options_of
from tests.query.endpoint import Endpoint, FakePump, FakeReader, Setup, accounts, ask, serving, stored

FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
GREETING = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x00NULL" + b"\0" * 16 + b"\0" + b"\0" * 31
READY = b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03REQ"
"""What a ZMTP 3.0 peer without security sends before its first message."""


class Target:
    """A server under fire, and a well-behaved REQ peer beside it."""

    def __init__(self, at: Endpoint, witness: zmq.Socket[bytes]) -> None:
        self.at = at
        self._witness = witness

    def still_works(self) -> None:
        head = ask(self._witness, op="describe", id="witness").head
        assert (head["ok"], head["id"]) == (True, "witness")
        assert self.at.server.is_alive()

    def heads(self, frames: Sequence[bytes], replies: int = 1) -> list[Any]:
        """Send ``frames`` from a new DEALER and return what else than envelopes comes first in its replies."""
        with self.at.peer(zmq.DEALER, LINGER=0) as peer:
            peer.send_multipart(frames)
            return [self._head(peer, frames) for _ in range(replies)]

    @staticmethod
    def _head(peer: zmq.Socket[bytes], frames: Sequence[bytes]) -> Any:
        assert peer.poll(int(LIMIT_S * 1000)), f"no answer to {frames!r}"
        got = peer.recv_multipart()
        routing = 0
        while routing < len(got) and routing < len(frames) and got[routing] == frames[routing]:
            routing += 1
        return msgpack.unpackb(got[routing])


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with fired_at() as made:
        yield made


@contextmanager
def fired_at() -> Iterator[Target]:
    options = QueryOptions(max_request_bytes=4_096, snapshot_wait_s=0.2)
    made = Setup(options, FakePump(accounts(30)), FakeReader(stored(50)))
    with serving(made) as at, at.peer() as witness:
        yield Target(at, witness)


def check(head: Any) -> None:
    """Check that ``head`` is a reply, or an error with its reason."""
    assert isinstance(head, dict)
    assert head["ok"] is True or (head["ok"] is False and head["code"] in CODES and head["error"])
    assert head.get("code") != "internal_error"


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=80)
    | st.binary(max_size=80)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=20))
    | st.builds(msgpack.Timestamp, st.integers(0, 2**33), st.integers(0, 999_999_999))
)
values = st.recursive(scalars, lambda some: st.lists(some) | st.dictionaries(st.text(), some), max_leaves=15)
KEYS = ["op", "id", "topics", "cursor", "limit", "values", "after", "to", "since", "until"]
ops = st.sampled_from(["describe", "snapshot", "replay", "Snapshot", ""])
maps = st.fixed_dictionaries({"op": ops | values}, optional=dict.fromkeys(KEYS[1:], values))


@FUZZ
@given(payload=st.binary(max_size=6_000))
def test_any_bytes_are_answered(target: Target, payload: bytes) -> None:
    (head,) = target.heads([b"", payload])
    check(head)
    target.still_works()


@FUZZ
@given(request=maps)
def test_any_map_is_answered(target: Target, request: dict[str, Any]) -> None:
    (head,) = target.heads([b"", msgpack.packb(request)])
    check(head)
    target.still_works()


@FUZZ
@given(frames=st.lists(st.binary(max_size=300), min_size=1, max_size=30))
def test_any_frames_are_answered(target: Target, frames: list[bytes]) -> None:
    (head,) = target.heads(frames)
    check(head)
    target.still_works()


VALID = [
    msgpack.packb({"op": "describe", "id": 7}),
    msgpack.packb({"op": "snapshot", "topics": ["user.", b"trade."], "limit": 20, "values": True, "id": "a"}),
    msgpack.packb({"op": "snapshot", "cursor": "0123456789abcdef" * 2 + ".5"}),
    msgpack.packb({"op": "replay", "topics": ["trade.1001"], "after": 3, "to": 40, "since": 1, "limit": 10}),
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Return a good request with some bytes changed, cut out, or doubled."""
    payload = bytearray(draw(st.sampled_from(VALID)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(payload)))
        change = draw(st.sampled_from(["set", "cut", "put", "double"]))
        if change == "set" and place < len(payload):
            payload[place] = draw(st.integers(0, 255))
        elif change == "cut":
            del payload[place : place + draw(st.integers(1, 9))]
        elif change == "put":
            payload[place:place] = draw(st.binary(min_size=1, max_size=9))
        else:
            payload[place:place] = payload[: draw(st.integers(1, 40))]
    return bytes(payload)


@FUZZ
@given(payload=mutated())
def test_good_requests_gone_bad_are_answered(target: Target, payload: bytes) -> None:
    (head,) = target.heads([b"", payload])
    check(head)
    target.still_works()


@contextmanager
def link_to(at: Endpoint) -> Iterator[plain.socket]:
    """Give a plain TCP connection to the endpoint."""
    host, _, port = at.server.endpoint.removeprefix("tcp://").rpartition(":")
    with plain.create_connection((host, int(port)), LIMIT_S) as link:
        yield link


def read_until(link: plain.socket, mark: bytes) -> None:
    """Read until ``mark`` came."""
    received = b""
    while mark not in received:
        more = link.recv(4_096)
        assert more, f"hung up after {received!r}"
        received += more


@settings(FUZZ, max_examples=100)
@given(start=st.sampled_from([b"", GREETING, GREETING[:20], GREETING + READY]), garbage=st.binary(max_size=500))
def test_garbage_on_the_wire_itself_hurts_nobody(target: Target, start: bytes, garbage: bytes) -> None:
    with link_to(target.at) as link, suppress(OSError):  # libzmq may hang up first
        link.sendall(start)
        if start.endswith(READY):  # only a peer that waited for it may send messages
            read_until(link, b"READY")
        link.sendall(garbage)
    target.still_works()


def test_a_hand_made_peer_is_answered_so_such_garbage_does_reach_the_socket(target: Target) -> None:
    with link_to(target.at) as link:
        link.sendall(GREETING + READY)
        read_until(link, b"READY")
        link.sendall(b"\x01\x00\x00\x07garbage")
        read_until(link, b"bad_request")
    target.still_works()


def test_a_flood_of_requests_by_two_peers_is_answered_alternately(target: Target) -> None:
    with target.at.peer(zmq.DEALER, LINGER=0) as one, target.at.peer(zmq.DEALER, LINGER=0) as other:
        for peer in (one, other):
            for number in range(500):
                peer.send_multipart([b"", msgpack.packb({"op": "describe", "id": number})])
        for peer in (one, other):
            last = -1
            while peer.poll(500 if last >= 0 else LIMIT_MS):
                number = msgpack.unpackb(peer.recv_multipart()[1])["id"]
                assert number > last
                last = number
            assert last >= 0
    target.still_works()


def test_peers_that_come_and_go_leave_nothing_behind(target: Target) -> None:
    for number in range(100):
        with target.at.peer(zmq.DEALER, LINGER=0) as peer:
            peer.send_multipart([b"", VALID[number % len(VALID)]])
    target.still_works()
    assert len(target.at.server._handler.snapshots) <= QueryOptions().snapshots_held  # noqa: SLF001


def test_the_long_fuzzer_works_in_a_short_run() -> None:
    lines: list[str] = []
    options = ["--count", "300", "--connections", "2", "--rounds", "2", "--quiet-s", "0.2", "--nice", "0"]
    assert fuzz(options_of(options), lines.append).mb
    assert fuzz_directly(3_000, 1, lines.append).mb
    words = [["150", "answered"], ["300", "answered"], ["300", "queries,"], ["memory", "after"], ["round", "1:"]]
    assert [line.split()[:2] for line in lines[:5]] == words
    assert lines[2] == "300 queries, internal errors: 0"
