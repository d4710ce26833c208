"""Subscribers that do not read: noticed, counted, harmless to others, and bounded in memory.

Private access: the send past full queues, because a queue that is full at moments of the clock cannot be had from a
real reader.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq

from mt4pump.publisher.publisher import Publisher
from mt4pump.publisher.slow_readers import SlowReaders
from mt4pump.wire import FIRST
from tests.bus import LIMIT_MS, context, subscriber, until, wire_settings
from tests.cli.commands import environment

Context = zmq.Context[zmq.Socket[bytes]]
Socket = zmq.Socket[bytes]
BODY_BYTES = 4_000
"""Large: the system itself takes up to some megabytes before anything is full."""
SMALL_BUFFER_BYTES = 4_096
END = b"end"


def stalled(own: Context, endpoint: str, *prefixes: bytes) -> Socket:
    """Return a SUB with the smallest queues there are, that nobody reads."""
    socket: Socket = own.socket(zmq.SUB)
    socket.setsockopt(zmq.RCVHWM, 1)
    socket.setsockopt(zmq.RCVBUF, SMALL_BUFFER_BYTES)
    for prefix in prefixes:
        socket.setsockopt(zmq.SUBSCRIBE, prefix)
    socket.connect(endpoint)
    return socket


def await_topics(made: Publisher, *topics: bytes) -> None:
    """Read subscriptions until every topic has a subscriber."""

    def all_known() -> bool:
        made.read_subscriptions()
        return all(map(made.subscriptions.has_subscriber, topics))

    until(all_known, "all subscribed")


@contextmanager
def publishing(sndhwm: int) -> Iterator[tuple[Publisher, Context]]:
    with context() as own, context() as other:
        made = Publisher(own, wire_settings(sndhwm=sndhwm))
        yield made, other
        made.close()


def body(number: int) -> bytes:
    return b"%08d" % number + b"x" * BODY_BYTES


def numbers(made: Publisher, socket: Socket) -> list[int]:
    """Return the numbers of all messages up to an end that is sent until it comes: a full queue loses it, too."""
    found: list[int] = []

    def is_read() -> bool:
        made.send(b"q", END)
        while socket.poll(5):
            content = socket.recv_multipart()[1]
            if content == END:
                return True
            found.append(int(content[:8]))
        return False

    until(is_read, "the end")
    return found


def test_each_run_of_losses_begins_with_a_message_that_is_counted() -> None:
    with publishing(sndhwm=10) as (made, other):
        stalled_reader = stalled(other, made.endpoint, b"q", b"mark")
        await_topics(made, b"mark")
        counted: list[int] = []
        for number in range(3_000):
            made.send(b"q", body(number))
            if len(counted) < made.slow.messages:
                counted.append(number)
        assert made.slow.messages == len(counted)
        assert made.slow.moments >= 1
        assert made.slow.last_ts > 0
        received = numbers(made, stalled_reader)
        lost = set(range(3_000)) - set(received)
        assert received == sorted(received)
        assert lost
        assert {number for number in lost if number - 1 not in lost} <= set(counted)


def test_without_a_slow_reader_nothing_is_counted_and_nothing_lost() -> None:
    with publishing(sndhwm=100_000) as (made, other):
        reader = subscriber(other, made.endpoint, b"q", b"mark")
        await_topics(made, b"mark")
        for number in range(3_000):
            made.send(b"q", body(number))
        assert made.sent == 3_000
        assert numbers(made, reader) == list(range(3_000))
        assert made.slow == SlowReaders()


def test_the_others_lose_nothing() -> None:
    with publishing(sndhwm=200) as (made, other):
        stalled_reader = [stalled(other, made.endpoint, b"q", b"stalled_reader%d" % number) for number in range(5)]
        keen = [subscriber(other, made.endpoint, b"q", b"keen%d" % number) for number in range(2)]
        await_topics(made, *(b"stalled_reader%d" % number for number in range(5)), b"keen0", b"keen1")
        received: list[list[int]] = [[], []]
        for number in range(4_000):
            made.send(b"q", body(number))
            if number % 50 == 49:  # never further behind than a quarter of the queue
                for socket, found in zip(keen, received, strict=True):
                    while len(found) <= number:
                        assert socket.poll(LIMIT_MS), "a message is missing"
                        found.append(int(socket.recv_multipart()[1][:8]))
        assert received == [list(range(4_000))] * 2
        assert made.slow.messages >= 1
        assert all(len(numbers(made, socket)) < 4_000 for socket in stalled_reader)


def test_a_reader_of_other_topics_is_not_asked() -> None:
    with publishing(sndhwm=10) as (made, other):
        stalled_reader = stalled(other, made.endpoint, b"q", b"mark")
        await_topics(made, b"mark")
        for number in range(3_000):
            made.send(b"q", body(number))
        counted = made.slow.messages
        for number in range(3_000):
            made.send(b"other", body(number))
        assert made.slow.messages == counted >= 1
        stalled_reader.close(0)


def test_a_queue_that_has_room_again_is_neither_passed_over_nor_counted() -> None:
    """Nobody's queue is full any more when the message is sent again: it goes to everybody."""
    with publishing(sndhwm=10) as (made, other):
        keen = subscriber(other, made.endpoint, b"q", b"keen")
        await_topics(made, b"keen")
        for number in range(3):
            made.resend(b"q", body(number))
        assert made.slow == SlowReaders()
        assert numbers(made, keen) == [0, 1, 2]


def test_a_moment_begins_after_a_second_without(monkeypatch: pytest.MonkeyPatch) -> None:
    with publishing(sndhwm=10) as (made, _):
        now = [100.0]
        monkeypatch.setattr("mt4pump.publisher.publisher.time.monotonic", lambda: now[0])
        for step in (0.0, 0.5, 0.9, 1.0, 0.1):
            now[0] += step
            made._send_past_full_queues(b"q", lambda: made.send_frame(b"x"))  # noqa: SLF001
        assert (made.slow.messages, made.slow.moments) == (5, 2)


def test_the_sends_of_the_hot_loop_give_the_same() -> None:
    with publishing(sndhwm=200) as (made, other):
        stalled_reader = stalled(other, made.endpoint, b"q", b"mark")
        keen = subscriber(other, made.endpoint, b"q", b"keen")
        await_topics(made, b"mark", b"keen")
        received: list[int] = []
        for number in range(2_000):
            try:
                made.send_frame(b"q", FIRST)
            except made.full:
                made.resend(b"q", body(number))
            else:
                made.send_frame(body(number))
            while number % 50 == 49 and len(received) <= number:
                assert keen.poll(LIMIT_MS), "a message is missing"
                received.append(int(keen.recv_multipart()[1][:8]))
        assert received == list(range(2_000))
        assert made.slow.messages >= 1
        assert len(numbers(made, stalled_reader)) < 2_000


def test_sending_never_waits_even_without_the_flag() -> None:
    with publishing(sndhwm=10) as (made, other):
        stalled_reader = stalled(other, made.endpoint, b"q", b"mark")
        await_topics(made, b"mark")

        def flood() -> None:
            for number in range(3_000):
                made.send_frame(b"q", zmq.SNDMORE)
                made.send_frame(body(number))

        with pytest.raises(zmq.Again):
            flood()
        stalled_reader.close(0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory means other things elsewhere")
def test_the_memory_of_a_hundred_stalled_subscribers_is_what_the_formula_says() -> None:
    subscribers, sndhwm, body_bytes, messages = 100, 1_000, 2_000, 6_000
    handles = subscribers * sndhwm * 2 * 64
    contents, buffers = sndhwm * (body_bytes + 60), subscribers * 60 * 1024
    command = [sys.executable, "-m", "tests.stalled", *map(str, (subscribers, sndhwm, body_bytes, messages))]
    with (
        subprocess.Popen(
            command,
            env=environment(),
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
        context() as other,
    ):
        assert process.stdout
        assert process.stdin
        endpoint = process.stdout.readline().strip()
        stalled_reader = [stalled(other, endpoint, b"quote.") for _ in range(subscribers - 1)]
        stalled_reader.append(stalled(other, endpoint, b"quote.", b"last"))
        growth, slow = map(int, process.stdout.readline().split())
        process.stdin.close()
        assert process.wait(40) == 0
    assert slow >= 1
    # What the process had freed before, as 100 handshakes' buffers, is used first and is no growth.
    assert 0.9 * handles < growth < 1.5 * (handles + contents + buffers)
    assert growth < subscribers * sndhwm * body_bytes / 4  # a content is kept once, not once per subscriber
