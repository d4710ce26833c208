"""Connections that use too much are closed, counted and logged; other clients are not affected."""

from __future__ import annotations

import logging
import sys
from contextlib import ExitStack, suppress

import msgpack
import pytest
import zmq

from mt4pump.query.limits import QueryOptions
from tests.bus import LIMIT_S, until
from tests.query.endpoint import Endpoint, FakeReader, Setup, ask, serving, stored
from tests.query.test_fuzz import GREETING, READY, link_to, read_until

DESCRIBE = msgpack.packb({"op": "describe"})
REPLAY = msgpack.packb({"op": "replay", "limit": 10_000})
LARGE = 1_000
"""Events of `BODY` bytes: more than the system buffers of a connection."""
BODY = 20_000
LONG_FRAME = b"\x03" + (50_000).to_bytes(8, "big") + bytes(50_000)
"""More frames of its message are to come."""


def stalled(at: Endpoint) -> zmq.Socket[bytes]:
    """Return a connection that asks for pages and reads none: its library takes the first, and no more."""
    made = at.peer(zmq.DEALER, RCVHWM=1, RCVBUF=4_096, LINGER=0)
    for _ in range(3):
        made.send(REPLAY)
    return made


def large_pages(**options: float) -> Setup:
    made = QueryOptions(page_s=LIMIT_S, page_bytes=2**24, **options)  # type: ignore[arg-type]
    return Setup(made, reader=FakeReader(stored(LARGE, size=BODY)))


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not report what came over a connection")
@pytest.mark.parametrize("frames", [LONG_FRAME, b"\x01\x00" * 10_000], ids=["long frames", "frames without content"])
def test_a_message_that_never_ends_costs_its_sender_the_connection(
    frames: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with serving() as at, at.peer() as witness:
        assert ask(witness, op="describe").head["ok"]
        with link_to(at) as link:
            link.sendall(GREETING + READY)
            read_until(link, b"READY")
            link.setblocking(False)  # noqa: FBT003 - the standard library's
            rest = b""

            def is_closed() -> bool:
                nonlocal rest
                at.server.connections.guard()
                rest = rest or frames
                with suppress(OSError):  # nobody reads it any more
                    rest = rest[link.send(rest) :]
                return at.server.connections.senders_closed > 0

            until(is_closed, "its connection is closed")
        assert ask(witness, op="describe").head["ok"]
    assert "without an end" in caplog.text


@pytest.mark.parametrize(("size", "count"), [(10_000, 100), (0, 3_000)], ids=["long frames", "frames without content"])
def test_a_huge_message_of_many_frames_costs_its_sender_the_connection(size: int, count: int) -> None:
    with serving() as at, at.peer() as witness, at.peer(zmq.DEALER, LINGER=0) as sender:
        sender.send_multipart([b"x" * size] * count)
        until(lambda: at.server.counts["shut_out"], "it is shut out")
        assert ask(witness, op="describe").head["ok"]


@pytest.mark.skipif(sys.platform == "win32", reason="a connection takes seconds to close there")
def test_who_asks_nothing_is_closed_and_may_ask_afterwards(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with serving(Setup(QueryOptions(silent_s=0.1))) as at, at.peer(REQ_RELAXED=1, REQ_CORRELATE=1) as idle:
        until(lambda: at.server.counts["silent"], "the idle connection is closed")

        def is_answered() -> bool:
            idle.send(DESCRIBE)  # the one before may have gone to the connection that was being closed
            return bool(idle.poll(500))

        until(is_answered, "it may ask afterwards")
    assert "ROUTING_ID" in caplog.text


@pytest.mark.skipif(sys.platform == "win32", reason="a connection takes seconds to close there")
def test_a_second_connection_of_the_same_routing_id_is_served_once_the_first_is_gone() -> None:
    with serving(Setup(QueryOptions(silent_s=0.1))) as at, ExitStack() as open_sockets:

        def twin() -> zmq.Socket[bytes]:
            made = open_sockets.enter_context(at.own.socket(zmq.DEALER))
            made.setsockopt(zmq.ROUTING_ID, b"twin")
            made.connect(at.server.endpoint)
            return made

        def is_served(peer: zmq.Socket[bytes]) -> bool:
            peer.send(DESCRIBE)  # the one before may have gone to a connection that was being closed
            return bool(peer.poll(200))

        first = twin()
        until(lambda: is_served(first), "the first is served")
        before = at.server.counts["silent"]  # a busy machine may close even the first, before its request comes
        second = twin()
        second.send(DESCRIBE)
        until(lambda: at.server.counts["silent"] > before, "the one that is not served is counted")
        assert not second.poll(0)
        first.close()
        until(lambda: is_served(second), "the second is served")


def test_who_does_not_read_gives_way_to_others_of_the_same_address() -> None:
    with serving(large_pages(unread_bytes_per_client=1)) as at, stalled(at), at.peer() as reader:
        until(lambda: at.server.counts["unread_bytes"], "a page is not read")
        assert ask(reader, op="replay", limit=10).head["ok"]
        until(lambda: at.server.counts["unread"] == 1, "the one that does not read is closed")
        assert ask(reader, op="replay", limit=10).head["ok"]


def test_all_together_hold_no_more_than_may_be_unread() -> None:
    with serving(large_pages(unread_bytes=2**25, waiting_s=LIMIT_S)) as at, ExitStack() as open_sockets:
        for _ in range(6):
            open_sockets.enter_context(stalled(at))
        counts, most = at.server.counts, 0

        def are_closed() -> bool:
            nonlocal most
            most = max(most, counts["unread_bytes"])
            return counts["unread"] >= 3

        until(are_closed, "those that do not read give way")
        assert most < 2**25 + 2 * 2**24
        assert at.ask(op="describe").head["ok"]


def test_who_reads_nothing_for_long_is_closed() -> None:
    with serving(large_pages(unread_s=0.2)) as at, stalled(at):
        until(lambda: at.server.counts["unread"], "it is closed")
        until(lambda: not at.server.counts["unread_bytes"], "nothing is kept of it")


@pytest.mark.skipif(sys.platform == "win32", reason="a connection takes seconds to close there")
def test_connections_idle_for_longest_are_closed_and_may_ask_again() -> None:
    with serving(Setup(QueryOptions(connections_limit=3))) as at, ExitStack() as open_sockets:
        peers = [open_sockets.enter_context(at.peer()) for _ in range(6)]
        for peer in peers:
            assert ask(peer, op="describe").head["ok"]
        until(lambda: at.server.connections.accepted >= 9, "three are closed, and connect again")
        assert ask(peers[0], op="describe").head["ok"]
        assert ask(peers[5], op="describe").head["ok"]


def test_a_key_that_was_read_to_the_end_costs_nothing_any_more() -> None:
    # No limit in bytes: a page as large as that must be read within a second.
    setup = large_pages(unread_s=LIMIT_S, unread_bytes_per_client=2**30, unread_bytes=2**30)
    with serving(setup) as at, at.peer() as reader:
        assert len(ask(reader, op="replay", limit=10_000).topics) > 100
        until(lambda: not at.server.counts["unread_bytes"], "all is read")
        assert at.server.counts["unread"] == 0
