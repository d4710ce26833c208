"""Positions: what a reader is done with, and the file that remembers it."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import msgpack
import pytest

from mt4pump.client.event import Checkpoint, Event, TopicName
from mt4pump.client.events import Heartbeat, Trade
from mt4pump.client.position import FILE_MAX_BYTES, SAVE_INTERVAL_S, Position, PositionFile, PositionTracker
from mt4pump.errors import ClientError
from tests.fuzz.client import ODD


def event(topic: str, offset: int | None) -> Event:
    body = {"epoch": 1, "seq": 1, "ts": 1} | ({} if offset is None else {"offset": offset})
    make = Heartbeat if topic == "heartbeat" else Trade
    return make(TopicName(topic), body, (topic.encode(), msgpack.packb(body)))


def tracker_at(offset: int) -> PositionTracker:
    tracker = PositionTracker()
    tracker.confirm(Checkpoint("log-1", offset))
    return tracker


def test_the_current_event_is_done_when_the_next_one_is_handed_over() -> None:
    tracker = tracker_at(3)
    tracker.hand_over(event("trade.1", 4))
    assert tracker.position(with_current=False).ahead == {}
    assert tracker.position(with_current=True).ahead == {"trade.1": 4}
    tracker.hand_over(event("trade.2", 5))
    assert tracker.position(with_current=False).ahead == {"trade.1": 4}
    tracker.abandon()
    tracker.finish()
    assert tracker.position(with_current=True).ahead == {"trade.1": 4}


def test_what_is_confirmed_need_not_be_named() -> None:
    tracker = tracker_at(3)
    for topic, offset in (("trade.1", 4), ("trade.2", 5), ("trade.3", 6)):
        tracker.hand_over(event(topic, offset))
    tracker.confirm(Checkpoint("log-1", 5))
    assert tracker.position(with_current=True) == Position("log-1", 5, {"trade.3": 6})


def test_another_journal_makes_what_was_known_void() -> None:
    tracker = tracker_at(3)
    tracker.hand_over(event("trade.1", 400))
    tracker.confirm(Checkpoint("log-2", 0))
    assert tracker.position(with_current=True) == Position("log-2", 0, {})


def test_a_heartbeats_offset_is_not_its_own() -> None:
    tracker = tracker_at(3)
    tracker.hand_over(event("heartbeat", 77))
    assert tracker.position(with_current=True) == Position("log-1", 3, {})


def test_the_file_is_written_when_due_and_gives_back_what_was_done(tmp_path: Path) -> None:
    file, tracker = PositionFile(tmp_path / "position"), PositionTracker()
    assert file.load() is None
    file.save_if_due(tracker, 0.0)
    assert file.load() is None  # nothing is known yet
    tracker = tracker_at(3)
    file.save_if_due(tracker, 100.0)
    tracker.hand_over(event("trade.1", 4))
    tracker.finish()
    file.save_if_due(tracker, 100.0 + SAVE_INTERVAL_S / 2)
    assert file.load() == Position("log-1", 3, {})
    file.save_if_due(tracker, 100.0 + SAVE_INTERVAL_S)
    assert file.load() == Position("log-1", 3, {"trade.1": 4})


def test_a_position_that_did_not_change_is_not_written_again(tmp_path: Path) -> None:
    file, tracker = PositionFile(tmp_path / "position"), tracker_at(3)
    file.save_if_due(tracker, 100.0)
    file.path.unlink()
    file.save_if_due(tracker, 200.0)
    assert file.load() is None


def test_a_write_that_fails_is_counted_and_tried_again(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    file, tracker = PositionFile(folder / "position"), tracker_at(3)
    file.save_if_due(tracker, 100.0)
    assert file.failures == 1
    folder.mkdir()
    file.save_if_due(tracker, 100.0 + SAVE_INTERVAL_S)
    assert file.load() == Position("log-1", 3, {})


def test_two_threads_may_write_at_once(tmp_path: Path) -> None:
    file = PositionFile(tmp_path / "position")
    start, trackers = Barrier(2), [tracker_at(3), tracker_at(3)]
    trackers[1].start(Position("log-1", 3, {f"trade.{login}": 4 for login in range(500)}))

    def write(tracker: PositionTracker) -> None:
        start.wait()
        for _ in range(50):
            file.save(tracker)

    threads = [Thread(target=write, args=(tracker,)) for tracker in trackers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert file.failures == 0
    assert file.load() in [tracker.position(with_current=False) for tracker in trackers]


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"x", b"5.5", b"-1", b"null", b"[]", b"{}", b"\xff\xfe", b"9" * 5_000, b"1" + b"0" * 400, b"[" * 10**6),
        *(
            b'{"log": null, "confirmed": -1}',
            b'{"confirmed": true}',
            b'{"confirmed": 1e300}',
            b'{"confirmed": NaN}',
            b'{"confirmed": 9223372036854775808}',
        ),
        *(
            b'{"confirmed": 1, "ahead": []}',
            b'{"confirmed": 1, "ahead": {"trade.1": -1}}',
            b'{"confirmed": 1, "log": 5}',
        ),
        b'{"confirmed": 1, "ahead": {"\\ud800": 3}}',
        b'{"confirmed": 1, "log": "' + b"x" * 10_000 + b'"}',
        b'{"confirmed": 1, "ahead": {"' + b"x" * 2_000 + b'": 3}}',
    ],
    ids=lambda content: repr(content[:40]),
)
def test_a_position_file_that_holds_something_else_is_a_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.position"
    path.write_bytes(content)
    with pytest.raises(ClientError, match=r"position file .*a\.position holds no position") as caught:
        PositionFile(path).load()
    assert caught.value.code == "position"
    assert len(str(caught.value)) < 2_000


def test_a_position_file_that_is_no_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ClientError, match="cannot be read"):
        PositionFile(tmp_path).load()
    with pytest.raises(ClientError, match="cannot be read"):
        PositionFile(Path("a\0b")).load()
    giant = tmp_path / "giant"
    with giant.open("wb") as file:
        file.truncate(FILE_MAX_BYTES + 1)
    with pytest.raises(ClientError, match="bytes"):
        PositionFile(giant).load()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes in folders are Unix's")
def test_a_position_file_that_is_a_pipe_does_not_wait_for_ever(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ClientError, match="no file"):
        PositionFile(pipe).load()


@pytest.mark.parametrize(
    "value",
    [
        *(*ODD, "7", {"confirmed": 1.5}, {"log": "a", "confirmed": 1, "ahead": {"t": "x"}}),
        *(Position(None, -1), Position(None, 1, {"\ud800": 1})),
    ],
    ids=lambda value: f"{value!r:.30}",
)
def test_what_is_no_position_is_refused(value: Any) -> None:
    if type(value) is int and 0 <= value < 2**63:
        assert Position.of(value).confirmed == value
        return
    with pytest.raises(ClientError, match="is no position") as caught:
        Position.of(value)
    assert caught.value.code == "position"


def test_the_very_beginning_is_a_position() -> None:
    assert Position.of(0) == Position(None, 0)
    stored = {"log": "log-1", "confirmed": 0, "ahead": {"trade.1": 0}}
    assert Position.of(stored) == Position("log-1", 0, {"trade.1": 0})


def test_a_position_says_what_it_is() -> None:
    position = Position("log-1", 5, {"trade.1": 7})
    assert Position.of(position.as_dict()) == position
    assert Position.of(9) == Position(None, 9)


def test_where_the_journal_lost_its_end_offsets_beyond_it_are_cut_to_it() -> None:
    tracker = PositionTracker()
    tracker.start(Position("log-1", 2, {"trade.1": 4, "trade.2": 9}))
    tracker.confirm(Checkpoint("log-1", 2, 5))
    assert tracker.position(with_current=False) == Position("log-1", 2, {"trade.1": 4, "trade.2": 5})
