"""Numbers per topic, counts of received messages, and the alerts that follow: once per change, at most one per kind.

Private access: the answer of a trial connection, because it must come at a moment of the test's choice.
"""

from __future__ import annotations

from threading import Event
from unittest.mock import MagicMock

import msgpack
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from mt4pump.cli.arguments import TopicFilter
from mt4pump.cli.stream import AlertTracker, GapDetector, StreamStats, silence
from mt4pump.client import connection_fault
from mt4pump.client.liveness import NS
from tests.bus import LIMIT_S, until
from tests.cli.fake_publisher import EPOCH, TS, Frames, heartbeat, message

A, B = b"trade.1", b"trade.2"
ENDPOINT = "tcp://127.0.0.1:5556"
GARBAGE: list[Frames] = [
    (b"quote.EURUSD", b""),
    (b"quote.EURUSD", b"\xc1"),
    (b"quote.EURUSD", msgpack.packb([1, 2])),
    (b"quote.EURUSD", msgpack.packb(5)),
    (b"quote.EURUSD", msgpack.packb({"epoch": 1, "seq": 1})),
    (b"quote.EURUSD", msgpack.packb({"epoch": "1", "seq": 1, "ts": 1})),
    (b"quote.EURUSD", msgpack.packb({"seq": 1}) + b"more"),
    (b"\xff\xfe", b"\x81\xa1"),
]


SEQUENCES = {
    "numbers in a row are no gap": ([(A, 1, 1), (A, 1, 2), (A, 1, 3)], [0, 0, 0], (0, 0, 0)),
    "nothing before the first message counts as lost": ([(A, 1, 500)], [0], (0, 0, 0)),
    "a gap shows how many are missing": ([(A, 1, 1), (A, 1, 5), (A, 1, 7)], [0, 3, 1], (2, 4, 0)),
    "an older number does not set the count back": (
        [(A, 1, 1), (A, 1, 2), (A, 1, 3), (A, 1, 3), (A, 1, 1), (A, 1, 4)],
        [0, 0, 0, -1, -1, 0],
        (0, 0, 2),
    ),
    "topics do not disturb each other": ([(A, 1, 1), (B, 1, 9), (A, 1, 2), (B, 1, 10)], [0] * 4, (0, 0, 0)),
    "a new epoch starts every topic afresh": ([(A, 1, 100), (A, 2, 3), (A, 2, 5)], [0, 0, 1], (1, 1, 0)),
}
"""Received messages (topic, epoch, seq); how many are missing before each; gaps, missed and repeats in all."""


@pytest.mark.parametrize(("received", "found", "totals"), SEQUENCES.values(), ids=SEQUENCES)
def test_gaps_of_numbers_per_topic(
    received: list[tuple[bytes, int, int]], found: list[int], totals: tuple[int, int, int]
) -> None:
    detector = GapDetector()
    assert [detector.accept(*numbered) for numbered in received] == found
    assert (detector.gaps, detector.missed, detector.repeats) == totals


@given(st.sets(st.integers(1, 60), min_size=1))
def test_missed_is_exactly_what_was_left_out_between_the_first_and_the_last(received: set[int]) -> None:
    detector = GapDetector()
    for seq in sorted(received):
        detector.accept(A, 1, seq)
    assert detector.missed == max(received) - min(received) + 1 - len(received)


def stream_stats(*words: str, with_heartbeat: bool = True) -> StreamStats:
    return StreamStats(ENDPOINT, TopicFilter(words), 0.0, with_heartbeat=with_heartbeat)


def test_a_requested_event_is_returned_and_counted() -> None:
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


def test_a_jump_in_seq_is_a_gap_of_its_topic_with_its_place() -> None:
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


def test_the_heartbeat_gives_the_state_also_when_it_was_not_requested() -> None:
    stats = stream_stats("quote.")
    assert stats.handle(heartbeat(), 1.0) is None
    assert (stats.daemon["state"], stats.heartbeat_s, stats.events) == ("pumping", 1.0, 0)


def test_the_heartbeat_is_an_event_when_requested_unless_it_is_switched_off() -> None:
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


def test_rows_are_bounded_and_the_least_recently_received_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mt4pump.cli.stream.ROWS_LIMIT", 2)
    stats = stream_stats()
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


def silence_kind(stats: StreamStats, now_s: float) -> str | None:
    alert = silence(stats, now_s)
    return alert and alert.kind


def test_after_three_seconds_without_a_message_the_alert_names_address_and_command() -> None:
    stats = stream_stats()
    assert silence(stats, 2.9) is None
    alert = silence(stats, 3.0)
    assert alert is not None
    assert ENDPOINT in alert.text
    assert "mt4pump run --source simulator" in alert.text


def test_no_guess_is_reported_while_a_trial_finds_out_and_never_longer_than_it_may_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release = Event()
    monkeypatch.setattr(connection_fault, "_answer", lambda *_: (release.wait(LIMIT_S), b"HTTP/1.1 400")[1])
    source = MagicMock(malformed=0, diagnosis=connection_fault.ConnectionDiagnosis(has_keys=False))
    source.diagnosis.handle(zmq.EVENT_CONNECTED)
    stats = stream_stats()
    try:
        stats.check(source, 1.5)
        assert stats.is_diagnosing, "it begins before the alert is due"
        assert [silence_kind(stats, now_s) for now_s in (3.0, 5.9, 6.0)] == [None, None, "nothing"]
    finally:
        release.set()

    def is_found_out() -> bool:
        stats.check(source, 2.9)
        return not stats.is_diagnosing

    until(is_found_out, "the result")
    assert silence(stats, 2.9) is None
    stats.check(source, 3.0)
    alert = silence(stats, 3.0)
    assert alert == ("connection", f"{ENDPOINT}: {connection_fault.TEXTS[connection_fault.HTTP]}")


def test_events_without_any_heartbeat_are_reported() -> None:
    stats = stream_stats()
    stats.handle(message("quote.A"), 2.0)
    stats.handle(message("quote.A", 2, ts=TS + NS), 3.0)
    assert silence_kind(stats, 4.9) is None
    assert silence_kind(stats, 5.0) == "no heartbeat"


def test_garbage_alone_is_reported_too() -> None:
    stats = stream_stats()
    stats.handle((b"junk", b""), 2.0)
    assert silence_kind(stats, 2.9) is None
    assert silence_kind(stats, 3.0) == "no heartbeat"


def test_a_reader_that_is_behind_does_not_blame_the_daemon() -> None:
    stats = stream_stats()
    for seq, now_s in ((1, 0.0), (2, 10.0), (3, 20.0)):  # one second of the stream takes twenty to read
        stats.handle(message("quote.A", seq, ts=TS + seq * NS // 3), now_s)
        assert silence_kind(stats, now_s) is None
    stats.handle(heartbeat(ts=TS + NS), 20.0)
    stats.handle(message("quote.A", 4, ts=TS + 2 * NS), 40.0)
    assert silence_kind(stats, 40.0) is None


def test_a_heartbeat_is_late_after_three_of_its_own_intervals() -> None:
    stats = stream_stats()
    for seq, now_s in ((1, 0.0), (2, 20.0)):
        stats.handle(heartbeat(seq, ts=TS + int(now_s) * NS), now_s)
    stats.handle(message("quote.A", ts=TS + 20 * NS), 20.0)
    assert silence_kind(stats, 79.0) is None
    assert silence_kind(stats, 80.0) == "late"


def test_after_a_last_heartbeat_the_alert_says_that_the_daemon_stopped() -> None:
    stats = stream_stats()
    stats.handle(heartbeat(state="stopping"), 1.0)
    alert = silence(stats, 5.0)
    assert alert is not None
    assert "the daemon stopped" in alert.text


def test_a_daemon_without_events_of_the_topics_is_distinguished_from_a_silent_one() -> None:
    stats = stream_stats("trade.5")
    stats.handle(heartbeat(), 2.5)
    assert silence_kind(stats, 3.0) == "no event"
    stats.handle(message("trade.5"), 3.0)
    assert silence_kind(stats, 3.1) is None


def test_each_change_is_reported_once() -> None:
    stats = stream_stats()
    tracker = AlertTracker(stats)
    stats.handle(heartbeat(1), 0.0)
    assert [alert.text for alert in tracker.check(0.1)] == [f"daemon is pumping (mt4.example.com:443, epoch {EPOCH})"]
    assert tracker.check(0.2) == []
    for seq in (1, 4, 4, 9):
        stats.handle(message("quote.A", seq), 0.3)
    stats.handle((b"junk", b"\x05"), 0.3)
    stats.handle(heartbeat(1, epoch=EPOCH + 7, state="connecting"), 0.3)
    assert [(alert.kind, alert.text) for alert in tracker.check(0.4)] == [
        ("gap", "missed 6 messages (total 6), the last: 4 of quote.A before seq 9"),
        ("repeat", "1 messages were repeated (total 1)"),
        ("garbage", "1 messages are not mt4pump's, the last: the body of b'junk' is not a map with epoch, seq and ts"),
        ("restart", f"the daemon was restarted (epoch {EPOCH + 7})"),
        ("state", f"daemon is connecting (mt4.example.com:443, epoch {EPOCH + 7})"),
    ]
    assert tracker.check(0.5) == []


def test_silence_is_reported_once_and_again_after_an_event() -> None:
    stats = stream_stats()
    tracker = AlertTracker(stats)
    kinds = []
    for now_s in (1.0, 3.0, 4.0, 60.0):
        kinds += [alert.kind for alert in tracker.check(now_s)]
    stats.handle(heartbeat(), 61.0)
    stats.handle(message("quote.A"), 61.0)
    for now_s in (61.5, 64.0, 65.0):
        kinds += [alert.kind for alert in tracker.check(now_s)]
    assert kinds == ["nothing", "state", "late"]


def test_totals_are_one_line() -> None:
    stats = stream_stats()
    for seq in (1, 4, 4):
        stats.handle(message("quote.A", seq), 1.0)
    stats.handle((b"junk", b""), 1.0)
    assert stats.totals(2.0) == (
        "received 3 events on 1 topics in 2.0 s, 2/s; missed 2 in 1 gaps, repeats 1, garbage 1, daemon restarts 0"
    )


def test_a_heartbeat_is_believed_also_where_its_epoch_is_smaller() -> None:
    stats = stream_stats("quote.")
    stats.handle(heartbeat(), 1.0)
    stats.handle(message("quote.EURUSD", epoch=EPOCH - 1), 1.0)
    assert (stats.epoch, stats.restarts) == (EPOCH, 0)
    stats.handle(heartbeat(epoch=EPOCH - 1), 2.0)
    assert (stats.epoch, stats.restarts) == (EPOCH - 1, 1)
