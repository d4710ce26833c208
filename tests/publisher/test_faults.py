"""Faults of the wire: read from text, refused with a cure; a faulty publisher does just what it counts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import msgpack
import pytest

from mt4pump.publisher.faults import (
    EXAMPLES,
    FaultyPublisher,
    WireFaultCounters,
    WireFaults,
    parse_wire_fault,
    wire_faults_of,
)
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


class FaultyBus:
    """Sends numbered topics through a `FaultyPublisher`; ``clock`` is what it believes."""

    def __init__(self, publisher: FaultyPublisher, tally: WireFaultCounters, clock: Clock) -> None:
        self.publisher, self.tally, self.clock = publisher, tally, clock

    def send(self, count: int) -> None:
        for number in range(count):
            self.publisher.send(f"t.{number}".encode(), BODY)


@contextmanager
def publishing(**faults: float) -> Iterator[tuple[FaultyBus, list[str]]]:
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
        yield FaultyBus(publisher, tally, clock), got
        publisher._faults = WireFaults()
        publisher._release(float("inf"))
        publisher.send(END, BODY)
        publisher.close()
        while (topic := receive(socket).topic) != END.decode():
            got.append(topic)


def test_without_faults_everything_comes_once_and_in_order() -> None:
    with publishing() as (made, got):
        made.send(50)
    assert got == [f"t.{number}" for number in range(50)]
    assert set(made.tally.counters().values()) == {0}


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
    with publishing(drop=1.0) as (made, got):
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


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("drop=1%", {"drop": 0.01}),
        (" DUPLICATE = 0.5% ", {"duplicate": 0.005}),
        ("restart=30s", {"restart_s": 30}),
        ("restart=2m", {"restart_s": 120}),
        ("mute=60s", {"mute_s": 60, "mute_length_s": 5}),
        ("mute=4", {"mute_s": 4, "mute_length_s": 2}),
        ("mute=60s:1500ms", {"mute_s": 60, "mute_length_s": 1.5}),
        ("slow=200ms", {"slow_s": 0.2}),
    ],
)
def test_a_fault_is_read_from_its_text(text: str, fault: dict[str, float]) -> None:
    assert parse_wire_fault(text) == fault


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("dorp=1%", "did you mean drop"),
        ("explode=1", "drop=1%, duplicate=1%, restart=30s"),
        ("drop", "cannot be read; write drop=1%: this share"),
        ("drop=1", "is no share"),
        ("drop=0%", "is no share"),
        ("drop=101%", "is no share"),
        ("drop=1.2.3%", "could not convert"),
        ("drop=1%:5s", "cannot be read"),
        ("restart=5%", "is a share, not a time"),
        ("restart=10ms", "not from 1 to 86400 seconds"),
        ("slow=61s", "not from 0.001 to 60 seconds"),
        ("mute=5s:5s", "does not fit"),
        ("mute=5s:0s", "does not fit"),
        ("", "there is no wire fault ''"),
    ],
)
def test_a_wrong_text_is_refused_with_what_to_write(text: str, cure: str) -> None:
    with pytest.raises(ValueError, match=cure):
        parse_wire_fault(text)


def test_every_example_can_be_read() -> None:
    assert all(parse_wire_fault(text) for text, _ in EXAMPLES.values())


def test_all_together_and_none() -> None:
    found = wire_faults_of(text for text, _ in EXAMPLES.values())
    assert found == WireFaults(0.01, 0.01, 30, 60, 5, 0.2)
    assert found.touch_messages
    assert not wire_faults_of(["restart=30s"]).touch_messages
    assert wire_faults_of([]) == WireFaults()


def test_a_fault_is_named_once() -> None:
    with pytest.raises(ValueError, match="wire fault drop is named twice"):
        wire_faults_of(["drop=1%", "drop=2%"])


def test_a_mute_wire_is_silent_at_its_times_and_no_other() -> None:
    faults = wire_faults_of(["mute=10s:2s"])
    silent = [elapsed_s for elapsed_s in range(35) if faults.is_mute(elapsed_s)]
    assert silent == [10, 11, 20, 21, 30, 31]
    assert not any(WireFaults().is_mute(elapsed_s) for elapsed_s in range(5))
