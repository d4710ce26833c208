"""Faults of the wire: a faulty socket does just what it counts.

Private access: the faults in force and the messages held back, because the subscription must be made without faults,
and what is held back is not yet seen anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from threading import Thread

import msgpack
import pytest
import zmq

from mt4pump.publisher.faults import FaultySocket, WireFaultCounters
from mt4pump.publisher.publisher import Publisher
from mt4pump.publisher.slow_readers import LARGE_BYTES
from mt4pump.settings import Settings
from mt4pump.settings.wire_faults import WireFaults
from mt4pump.wire import FIRST
from tests.bus import LIMIT_S, SYNC, context, receive, subscriber, until, wire_settings

END = b"end"
BODY: bytes = msgpack.packb({"epoch": 1, "seq": 1, "ts": 1})
LARGE: bytes = msgpack.packb({"epoch": 1, "seq": 1, "ts": 1, "text": "x" * LARGE_BYTES})


class Clock:
    """``now_s`` is what it shows."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class FaultyBus:
    """A `Publisher` of numbered topics on a `FaultySocket`, without faults yet; ``clock`` is what that believes."""

    def __init__(self, own: zmq.Context[zmq.Socket[bytes]], settings: Settings) -> None:
        self.tally, self.clock = WireFaultCounters(), Clock()
        self.publisher = Publisher(own, settings, socket_class=self._make_socket)

    def _make_socket(self, own: zmq.Context[zmq.Socket[bytes]], kind: int) -> FaultySocket:
        self.socket = FaultySocket(own, kind, faults=WireFaults(), tally=self.tally, clock=self.clock)
        return self.socket

    def subscriber(self, own: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
        """Return a subscriber of everything, once its subscription is known."""
        made, publisher = subscriber(own, self.publisher.endpoint, b""), self.publisher
        until(lambda: publisher.read_subscriptions() or publisher.subscriptions.has_subscriber(SYNC), "a subscription")
        return made

    def send(self, count: int, body: bytes = BODY) -> None:
        for number in range(count):
            self.publisher.send(f"t.{number}".encode(), body)


@contextmanager
def publishing(**faults: float) -> Iterator[tuple[FaultyBus, list[str]]]:
    """Give a bench, and the list that holds every received topic once the block has ended."""
    got: list[str] = []
    with context() as own:
        made = FaultyBus(own, wire_settings(linger_s=5))
        socket = made.subscriber(own)
        made.socket.faults = WireFaults(**faults)
        yield made, got
        made.socket.faults = WireFaults()
        made.clock.now_s = float("inf")
        made.publisher.send(END, BODY)
        made.publisher.close()
        while (topic := receive(socket).topic) != END.decode():
            got.append(topic)


def test_without_faults_everything_comes_once_and_in_order() -> None:
    with publishing() as (made, got):
        made.send(50)
    assert got == [f"t.{number}" for number in range(50)]
    assert made.tally == WireFaultCounters()


def test_what_is_dropped_is_counted_and_nothing_else_is_missing() -> None:
    with publishing(drop=0.2) as (made, got):
        made.send(1000)
    assert 100 < made.tally.wire_dropped < 300
    assert len(got) == 1000 - made.tally.wire_dropped
    assert len(set(got)) == len(got)


def test_what_is_repeated_comes_twice_in_a_row() -> None:
    with publishing(duplicate=0.2) as (made, got):
        made.send(1000)
    assert 100 < made.tally.wire_duplicated < 300
    twice = [first for first, second in pairwise(got) if first == second]
    assert len(twice) == made.tally.wire_duplicated == len(got) - 1000


def test_the_same_seed_gives_the_same_losses() -> None:
    runs = []
    for _ in range(2):
        with publishing(drop=0.3) as (made, got):
            made.send(200)
        runs.append(got)
    assert runs[0] == runs[1]


def test_a_mute_wire_swallows_all_until_it_is_over() -> None:
    with publishing(mute_s=10, mute_length_s=2) as (made, got):
        made.send(1)
        made.clock.now_s = 10.5
        made.send(5)
        made.clock.now_s = 12.5
        made.send(2)
    assert got == ["t.0", "t.0", "t.1"]
    assert made.tally.wire_muted == 5


def test_a_slow_wire_holds_messages_back_and_keeps_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mt4pump.publisher.faults.HELD_LIMIT", 3)
    with publishing(slow_s=1) as (made, got):
        made.send(5)
        assert len(made.socket._held) == 3  # noqa: SLF001
        made.clock.now_s = 0.9
        made.publisher.read_subscriptions()
        assert len(made.socket._held) == 3  # noqa: SLF001
        made.clock.now_s = 1.0
        made.publisher.read_subscriptions()
        assert not made.socket._held  # noqa: SLF001
    assert got == ["t.0", "t.1", "t.2"]
    assert (made.tally.wire_held, made.tally.wire_overflown) == (3, 2)


def test_frames_sent_one_by_one_meet_the_faults_too() -> None:
    with publishing(drop=1.0) as (made, got):
        made.publisher.send_frame(b"t.0", FIRST)
        made.publisher.send_frame(BODY)
    assert got == []
    assert made.tally.wire_dropped == 1


def test_what_is_held_at_the_end_is_sent_in_full() -> None:
    with context() as own:
        made = FaultyBus(own, wire_settings(linger_s=5))
        socket = made.subscriber(own)
        made.socket.faults = WireFaults(slow_s=60)
        made.send(2)
        made.send(1, LARGE)
        made.publisher.close()
        assert [receive(socket).topic for _ in range(3)] == ["t.0", "t.1", "t.0"]
    assert not made.socket._held  # noqa: SLF001


def test_it_closes_though_the_context_ends_before_all_is_sent() -> None:
    """Else whoever ends the context waits for this socket for ever."""
    own: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    made = FaultyBus(own, wire_settings(linger_s=0.2))
    made.socket.faults = WireFaults(slow_s=60)
    made.send(2)
    ending = Thread(target=own.term, daemon=True)
    ending.start()

    def is_ended() -> bool:
        try:
            made.socket.getsockopt(zmq.EVENTS)
        except zmq.ContextTerminated:
            return True
        return False

    until(is_ended, "the end of the context")
    made.publisher.close()
    ending.join(LIMIT_S)
    assert not ending.is_alive()


def test_a_large_body_meets_the_faults_and_counts_until_it_is_sent() -> None:
    with publishing(duplicate=1.0, slow_s=1) as (made, got):
        made.send(1, LARGE)
        made.publisher.maintain()
        assert made.publisher.slow.large_bytes == len(LARGE)
        made.clock.now_s = 1.0
        made.publisher.read_subscriptions()

        def is_sent() -> bool:
            made.publisher.maintain()
            return not made.publisher.slow.large_bytes

        until(is_sent, "the queue is empty")
    assert got == ["t.0", "t.0"]


@pytest.mark.parametrize("slow_s", [0.0, 1e-9])
def test_a_full_queue_loses_and_is_counted_as_with_any_socket(slow_s: float) -> None:
    with context() as own:
        made = FaultyBus(own, wire_settings(sndhwm=1))
        reader = made.subscriber(own)  # never reads
        made.socket.faults = WireFaults(slow_s=slow_s)

        def is_full() -> bool:
            made.send(1, bytes(100_000))
            made.clock.now_s += 1
            made.publisher.read_subscriptions()
            return made.publisher.slow.messages > 0

        until(is_full, "a full queue")
        assert len(made.socket._held) <= 1  # noqa: SLF001
        made.publisher.close()
        reader.close()
