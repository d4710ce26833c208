"""What is counted of what arrives: events, gaps, repeats, garbage, restarts, rates."""

from __future__ import annotations

import msgpack
import pytest

from mt4pump.cli.stats import StreamStats
from mt4pump.cli.topic_filter import TopicFilter
from tests.cli.speaker import EPOCH, TS, Frames, heartbeat, message

GARBAGE: list[Frames] = [
    [],
    [b"quote.EURUSD"],
    [b"a", b"b", b"c"],
    [b"quote.EURUSD", b""],
    [b"quote.EURUSD", b"\xc1"],
    [b"quote.EURUSD", msgpack.packb([1, 2])],
    [b"quote.EURUSD", msgpack.packb(5)],
    [b"quote.EURUSD", msgpack.packb({"epoch": 1, "seq": 1})],
    [b"quote.EURUSD", msgpack.packb({"epoch": "1", "seq": 1, "ts": 1})],
    [b"quote.EURUSD", msgpack.packb({"seq": 1}) + b"more"],
    [b"\xff\xfe", b"\x81\xa1"],
]


def stream_stats(*words: str, **options: bool | int) -> StreamStats:
    return StreamStats(TopicFilter(words), 0.0, **options)  # type: ignore[arg-type]


def test_an_event_that_was_asked_for_is_returned_and_counted() -> None:
    stats = stream_stats("quote.")
    event = stats.handle(message("quote.EURUSD", bid=1.5), 1.0)
    assert event is not None
    assert event.topic == "quote.EURUSD"
    assert event.body == {"bid": 1.5, "epoch": EPOCH, "seq": 1, "ts": TS}
    assert (stats.events, stats.rows["quote.EURUSD"].count) == (1, 1)


def test_a_longer_topic_with_the_same_beginning_is_not_an_event() -> None:
    stats = stream_stats("trade.100")
    assert stats.handle(message("trade.1001"), 1.0) is None
    assert (stats.events, stats.garbage, stats.rows) == (0, 0, {})


@pytest.mark.parametrize("frames", GARBAGE)
def test_garbage_is_counted_and_described_and_nothing_else(frames: Frames) -> None:
    stats = stream_stats()
    assert stats.handle(frames, 1.0) is None
    assert (stats.events, stats.garbage) == (0, 1)
    assert stats.last_garbage
    assert stats.has_received


def test_a_jump_in_seq_is_a_gap_of_its_topic_and_says_where() -> None:
    stats = stream_stats()
    for seq in (5, 6, 9, 10):
        stats.handle(message("quote.A", seq), 1.0)
    stats.handle(message("quote.B", 3), 1.0)
    assert (stats.sequence.gaps, stats.sequence.missed) == (1, 2)
    assert stats.last_gap == "2 of quote.A before seq 9"
    assert (stats.rows["quote.A"].gaps, stats.rows["quote.A"].missed) == (1, 2)
    assert (stats.rows["quote.B"].gaps, stats.rows["quote.B"].missed) == (0, 0)


def test_a_number_that_came_before_is_a_repeat() -> None:
    stats = stream_stats()
    for seq in (5, 5, 4):
        stats.handle(message("quote.A", seq), 1.0)
    assert (stats.sequence.repeats, stats.sequence.missed, stats.rows["quote.A"].missed) == (2, 0, 0)


def test_a_new_epoch_is_a_restart_and_no_gap() -> None:
    stats = stream_stats()
    stats.handle(message("quote.A", 5), 1.0)
    stats.handle(message("quote.A", 1, epoch=EPOCH + 1), 1.0)
    stats.handle(message("quote.B", 9, epoch=EPOCH + 1), 1.0)
    stats.handle(message("quote.C", 3, epoch=EPOCH), 1.0)  # a straggler
    assert (stats.restarts, stats.epoch, stats.sequence.missed) == (1, EPOCH + 1, 0)


def test_the_heartbeat_tells_the_state_also_when_it_was_not_asked_for() -> None:
    stats = stream_stats("quote.")
    assert stats.handle(heartbeat(), 1.0) is None
    assert (stats.daemon["state"], stats.heartbeat_s, stats.events) == ("pumping", 1.0, 0)


def test_the_heartbeat_is_an_event_when_asked_for_unless_it_is_switched_off() -> None:
    assert stream_stats().handle(heartbeat(), 1.0) is not None
    assert stream_stats("heartbeat").handle(heartbeat(), 1.0) is not None
    assert stream_stats(with_heartbeat=False).handle(heartbeat(), 1.0) is None


def test_rates_are_measured_over_whole_windows() -> None:
    stats = stream_stats()
    for seq in range(1, 11):
        stats.handle(message("quote.A", seq), 0.5)
    stats.measure(0.9)
    assert stats.rate == 0
    stats.measure(2.0)
    assert (stats.rate, stats.rows["quote.A"].rate) == (5.0, 5.0)
    stats.measure(4.0)
    assert (stats.rate, stats.rows["quote.A"].rate) == (0.0, 0.0)


def test_rows_are_bounded_and_the_least_recently_received_is_dropped() -> None:
    stats = stream_stats(rows_limit=2)
    for topic in ("a", "b", "a", "c"):
        stats.handle(message(topic), 1.0)
    assert list(stats.rows) == ["a", "c"]
    assert (stats.forgotten, stats.events) == (1, 4)


def test_the_most_active_rows_are_chosen_and_shown_by_topic() -> None:
    stats = stream_stats()
    for topic, count in (("z", 3), ("a", 1), ("m", 2)):
        for seq in range(1, count + 1):
            stats.handle(message(topic, seq), 0.5)
    stats.measure(1.0)
    stats.handle(message("new"), 2.0)
    assert [row.topic for row in stats.most_active(2)] == ["m", "z"]
    assert [row.topic for row in stats.most_active(9)] == ["a", "m", "new", "z"]
    assert stats.most_active(-3) == []
