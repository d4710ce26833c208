"""The SUB socket: whatever a message has behind its two frames, the two come."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import zmq

from mt4pump.client.connection import BATCH, SubConnection
from mt4pump.client.event import Frames
from tests.client.fake_daemon import LIMIT_S

Sender = zmq.Socket[bytes]


@pytest.fixture
def ends() -> Iterator[tuple[Sender, SubConnection]]:
    """A publisher, and a connection that is subscribed to it."""
    context: zmq.Context[Sender] = zmq.Context()
    sender = context.socket(zmq.XPUB)
    sender.setsockopt(zmq.SNDHWM, 0)
    sender.bind("inproc://here")
    connection = SubConnection(context, "inproc://here", None, 100_000)
    connection.subscribe({b"quote."})
    subscriptions = {b"\x01quote.", b"\x01heartbeat"}
    while subscriptions:
        assert sender.poll(int(LIMIT_S * 1000)), "never subscribed"
        subscriptions.discard(sender.recv())
    yield sender, connection
    connection.close()
    context.destroy(linger=0)


def read(connection: SubConnection, count: int) -> list[Frames]:
    messages: list[Frames] = []
    deadline_s = time.monotonic() + LIMIT_S
    while len(messages) < count:
        assert time.monotonic() < deadline_s, f"{len(messages)} of {count}"
        messages += connection.read()
    return messages


def numbered(count: int, *more: bytes) -> list[list[bytes]]:
    return [[b"quote.E", b"%d" % number, *more] for number in range(count)]


@pytest.mark.parametrize("more", [[b"later"], [b"later", b"", b"more"]])
def test_frames_of_later_versions_are_ignored(ends: tuple[Sender, SubConnection], more: list[bytes]) -> None:
    sender, connection = ends
    for frames in numbered(5, *more):
        sender.send_multipart(frames)
    assert read(connection, 5) == [(b"quote.E", b"%d" % number) for number in range(5)]
    assert connection.malformed == 0


def test_the_first_longer_message_of_a_reader_is_seen_at_once(ends: tuple[Sender, SubConnection]) -> None:
    sender, connection = ends
    for frames in (*numbered(3), *numbered(3, b"later"), *numbered(3)):
        sender.send_multipart(frames)
        assert read(connection, 1) == [(frames[0], frames[1])]
    assert connection.malformed == 0


def test_a_longer_message_at_the_end_of_a_batch_leaves_the_next_batch_whole(ends: tuple[Sender, SubConnection]) -> None:
    sender, connection = ends
    for frames in (*numbered(BATCH - 1), *numbered(1, b"later"), *numbered(3)):
        sender.send_multipart(frames)
    messages = read(connection, BATCH + 3)
    assert messages[-4:] == [(b"quote.E", b"%d" % number) for number in (0, 0, 1, 2)]


def test_a_message_of_one_frame_is_a_fault(ends: tuple[Sender, SubConnection]) -> None:
    sender, connection = ends
    connection.read_whole_messages()
    sender.send(b"quote.E")
    sender.send_multipart([b"quote.E", b"body"])
    assert read(connection, 1) == [(b"quote.E", b"body")]
    assert connection.malformed == 1


@pytest.mark.parametrize("is_slow", [False, True])
def test_a_connection_shows_when_all_that_was_there_is_read(ends: tuple[Sender, SubConnection], is_slow: bool) -> None:  # noqa: FBT001
    sender, connection = ends
    if is_slow:
        connection.read_whole_messages()
    for frames in numbered(3):
        sender.send_multipart(frames)
    read(connection, 3)
    connection.read()
    assert connection.is_drained
