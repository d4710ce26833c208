"""What a reader is told besides the events: once per change, at most one line per kind."""

from __future__ import annotations

from mt4pump.cli.alerts import AlertTracker, silence, totals
from mt4pump.cli.stats import NS, StreamStats
from mt4pump.cli.topic_filter import TopicFilter
from tests.cli.speaker import EPOCH, TS, heartbeat, message

ENDPOINT = "tcp://127.0.0.1:5556"


def stream_stats(*words: str) -> StreamStats:
    return StreamStats(TopicFilter(words), 0.0)


def silence_kind(stats: StreamStats, now_s: float) -> str | None:
    note = silence(stats, ENDPOINT, now_s)
    return note and note.kind


def test_after_three_seconds_of_nothing_it_says_where_and_how_to_start_the_daemon() -> None:
    stats = stream_stats()
    assert silence(stats, ENDPOINT, 2.9) is None
    note = silence(stats, ENDPOINT, 3.0)
    assert note is not None
    assert ENDPOINT in note.text
    assert "mt4pump run --source simulator" in note.text


def test_events_without_any_heartbeat_are_doubted() -> None:
    stats = stream_stats()
    stats.handle(message("quote.A"), 2.0)
    stats.handle(message("quote.A", 2, ts=TS + NS), 3.0)
    assert silence_kind(stats, 4.9) is None
    assert silence_kind(stats, 5.0) == "no heartbeat"


def test_garbage_alone_is_doubted_too() -> None:
    stats = stream_stats()
    stats.handle([b"junk"], 2.0)
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


def test_after_a_last_heartbeat_it_says_that_the_daemon_stopped() -> None:
    stats = stream_stats()
    stats.handle(heartbeat(state="stopping"), 1.0)
    note = silence(stats, ENDPOINT, 5.0)
    assert note is not None
    assert "the daemon stopped" in note.text


def test_a_daemon_that_has_nothing_on_the_topics_is_told_from_a_silent_one() -> None:
    stats = stream_stats("trade.5")
    stats.handle(heartbeat(), 2.5)
    assert silence_kind(stats, 3.0) == "no event"
    stats.handle(message("trade.5"), 3.0)
    assert silence_kind(stats, 3.1) is None


def test_each_change_is_noted_once() -> None:
    stats, watch = stream_stats(), AlertTracker()
    stats.handle(heartbeat(1), 0.0)
    assert [note.text for note in watch.check(stats, ENDPOINT, 0.1)] == [
        f"daemon is pumping (mt4.example.com:443, epoch {EPOCH})"
    ]
    assert watch.check(stats, ENDPOINT, 0.2) == []
    for seq in (1, 4, 4, 9):
        stats.handle(message("quote.A", seq), 0.3)
    stats.handle([b"junk"], 0.3)
    stats.handle(heartbeat(1, epoch=EPOCH + 7, state="connecting"), 0.3)
    assert [(note.kind, note.text) for note in watch.check(stats, ENDPOINT, 0.4)] == [
        ("gap", "missed 6 messages (total 6), the last: 4 of quote.A before seq 9"),
        ("repeat", "1 messages came again (total 1)"),
        ("garbage", "1 messages are not mt4pump's, the last: a message has 2 frames, this one has 1"),
        ("restart", f"the daemon was restarted (epoch {EPOCH + 7})"),
        ("state", f"daemon is connecting (mt4.example.com:443, epoch {EPOCH + 7})"),
    ]
    assert watch.check(stats, ENDPOINT, 0.5) == []


def test_silence_is_noted_once_and_again_after_it_was_broken() -> None:
    stats, watch = stream_stats(), AlertTracker()
    kinds = []
    for now_s in (1.0, 3.0, 4.0, 60.0):
        kinds += [note.kind for note in watch.check(stats, ENDPOINT, now_s)]
    stats.handle(heartbeat(), 61.0)
    stats.handle(message("quote.A"), 61.0)
    for now_s in (61.5, 64.0, 65.0):
        kinds += [note.kind for note in watch.check(stats, ENDPOINT, now_s)]
    assert kinds == ["nothing", "state", "late"]


def test_totals_are_one_line() -> None:
    stats = stream_stats()
    for seq in (1, 4, 4):
        stats.handle(message("quote.A", seq), 1.0)
    stats.handle([b"junk"], 1.0)
    assert totals(stats, 2.0) == (
        "received 3 events on 1 topics in 2.0 s, 2/s; missed 2 in 1 gaps, repeats 1, garbage 1, daemon restarts 0"
    )
