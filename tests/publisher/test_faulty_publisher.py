"""A faulty publisher loses, repeats, holds back and swallows just what it says and counts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import msgpack
import pytest

from mt4pump.publisher.faults import WireFaults
from mt4pump.publisher.faulty_publisher import FaultyPublisher, WireFaultCounters
from mt4pump.publisher.publisher import SocketOptions
from mt4pump.wire import FIRST
from tests.bus import ANY_PORT, SYNC, context, receive, subscriber, until

END = b"end"
BODY: bytes = msgpack.packb({"epoch": 1, "seq": 1, "ts": 1})


class Clock:
    """``now_s`` is what it shows."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Bench:
    """Sends numbered topics through a `FaultyPublisher`; ``clock`` is what it believes."""

    def __init__(self, publisher: FaultyPublisher, tally: WireFaultCounters, clock: Clock) -> None:
        self.publisher, self.tally, self.clock = publisher, tally, clock

    def send(self, count: int) -> None:
        for number in range(count):
            self.publisher.send(f"t.{number}".encode(), BODY)


@contextmanager
def bench(**faults: float) -> Iterator[tuple[Bench, list[str]]]:
    """Give a bench, and the list that holds every received topic once the block has ended."""
    got: list[str] = []
    with context() as own:
        clock, tally = Clock(), WireFaultCounters()
        publisher = FaultyPublisher(
            own, ANY_PORT, SocketOptions(linger_s=5), faults=WireFaults(), tally=tally, seed=1, clock=clock
        )
        socket = subscriber(own, publisher.endpoint, b"")
        until(lambda: publisher.read_subscriptions() or publisher.subscriptions.has_subscriber(SYNC), "a subscription")
        publisher._faults = WireFaults(**faults)
        yield Bench(publisher, tally, clock), got
        publisher._faults = WireFaults()
        publisher._release(float("inf"))
        publisher.send(END, BODY)
        publisher.close()
        while (topic := receive(socket).topic) != END.decode():
            got.append(topic)


def test_without_faults_everything_comes_once_and_in_order() -> None:
    with bench() as (made, got):
        made.send(50)
    assert got == [f"t.{number}" for number in range(50)]
    assert set(made.tally.counters().values()) == {0}


def test_what_is_dropped_is_counted_and_nothing_else_is_missing() -> None:
    with bench(drop=0.2) as (made, got):
        made.send(1000)
    assert 100 < made.tally.wire_dropped < 300
    assert len(got) == 1000 - made.tally.wire_dropped
    assert len(set(got)) == len(got)


def test_what_is_repeated_comes_twice_in_a_row() -> None:
    with bench(duplicate=0.2) as (made, got):
        made.send(1000)
    assert 100 < made.tally.wire_duplicated < 300
    twice = [first for first, second in pairwise(got) if first == second]
    assert len(twice) == made.tally.wire_duplicated == len(got) - 1000


def test_the_same_seed_gives_the_same_losses() -> None:
    runs = []
    for _ in range(2):
        with bench(drop=0.3) as (made, got):
            made.send(200)
        runs.append(got)
    assert runs[0] == runs[1]


def test_a_mute_wire_swallows_all_until_it_is_over() -> None:
    with bench(mute_s=10, mute_length_s=2) as (made, got):
        made.send(1)
        made.clock.now_s = 10.5
        made.send(5)
        made.clock.now_s = 12.5
        made.send(2)
    assert got == ["t.0", "t.0", "t.1"]
    assert made.tally.wire_muted == 5


def test_a_slow_wire_holds_messages_back_and_keeps_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mt4pump.publisher.faulty_publisher.HELD_LIMIT", 3)
    with bench(slow_s=1) as (made, got):
        made.send(5)
        assert len(made.publisher._held) == 3
        made.clock.now_s = 0.9
        made.publisher.read_subscriptions()
        assert len(made.publisher._held) == 3
        made.clock.now_s = 1.0
        made.publisher.read_subscriptions()
        assert not made.publisher._held
    assert got == ["t.0", "t.1", "t.2"]
    assert (made.tally.wire_held, made.tally.wire_overflown) == (3, 2)


def test_frames_sent_one_by_one_meet_the_faults_too() -> None:
    with bench(drop=1.0) as (made, got):
        made.publisher.send_frame(b"t.0", FIRST)
        made.publisher.send_frame(BODY)
    assert got == []
    assert made.tally.wire_dropped == 1


def test_a_full_queue_loses_and_is_counted_as_with_any_publisher() -> None:
    with context() as own:
        options = SocketOptions(linger_s=0, sndhwm=1)
        publisher = FaultyPublisher(own, ANY_PORT, options, faults=WireFaults(slow_s=1e-9), tally=WireFaultCounters())
        reader = subscriber(own, publisher.endpoint, b"")  # never reads
        until(lambda: publisher.read_subscriptions() or publisher.subscriptions.has_subscriber(SYNC), "a subscription")
        body = bytes(100_000)

        def is_full() -> bool:
            publisher.send(b"t", body)
            publisher.read_subscriptions()
            return publisher.slow.messages > 0

        until(is_full, "a full queue")
        publisher.close()
        reader.close()
