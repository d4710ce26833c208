"""Positions: what a reader is done with, and the file that remembers it."""

from __future__ import annotations

from pathlib import Path
from threading import Barrier, Thread

import msgpack
import pytest

from mt4pump.client.events import Event, Heartbeat, TopicName, Trade
from mt4pump.client.notices import Checkpoint
from mt4pump.client.position import SAVE_INTERVAL_S, Position, PositionFile, PositionTracker
from mt4pump.errors import ClientError


def event(topic: str, offset: int | None) -> Event:
    body = {"epoch": 1, "seq": 1, "ts": 1} | ({} if offset is None else {"offset": offset})
    make = Heartbeat if topic == "heartbeat" else Trade
    return make(TopicName(topic), body, (topic.encode(), msgpack.packb(body)))


def bookmark_at(offset: int) -> PositionTracker:
    bookmark = PositionTracker()
    bookmark.confirm(Checkpoint("log-1", offset))
    return bookmark


def test_the_event_in_hand_is_done_when_the_next_one_is_taken() -> None:
    bookmark = bookmark_at(3)
    bookmark.take(event("trade.1", 4))
    assert bookmark.position(with_current=False).ahead == {}
    assert bookmark.position(with_current=True).ahead == {"trade.1": 4}
    bookmark.take(event("trade.2", 5))
    assert bookmark.position(with_current=False).ahead == {"trade.1": 4}
    bookmark.abandon()
    bookmark.finish()
    assert bookmark.position(with_current=True).ahead == {"trade.1": 4}


def test_what_is_confirmed_need_not_be_named() -> None:
    bookmark = bookmark_at(3)
    for topic, offset in (("trade.1", 4), ("trade.2", 5), ("trade.3", 6)):
        bookmark.take(event(topic, offset))
    bookmark.confirm(Checkpoint("log-1", 5))
    assert bookmark.position(with_current=True) == Position("log-1", 5, {"trade.3": 6})


def test_another_journal_makes_what_was_known_void() -> None:
    bookmark = bookmark_at(3)
    bookmark.take(event("trade.1", 400))
    bookmark.confirm(Checkpoint("log-2", 0))
    assert bookmark.position(with_current=True) == Position("log-2", 0, {})


def test_a_heartbeats_offset_is_not_its_own() -> None:
    bookmark = bookmark_at(3)
    bookmark.take(event("heartbeat", 77))
    assert bookmark.position(with_current=True) == Position("log-1", 3, {})


def test_the_file_is_written_when_due_and_gives_back_what_was_done(tmp_path: Path) -> None:
    file, bookmark = PositionFile(tmp_path / "position"), PositionTracker()
    assert file.load() is None
    file.save_if_due(bookmark, 0.0)
    assert file.load() is None  # nothing is known yet
    bookmark = bookmark_at(3)
    file.save_if_due(bookmark, 100.0)
    bookmark.take(event("trade.1", 4))
    bookmark.finish()
    file.save_if_due(bookmark, 100.0 + SAVE_INTERVAL_S / 2)
    assert file.load() == Position("log-1", 3, {})
    file.save_if_due(bookmark, 100.0 + SAVE_INTERVAL_S)
    assert file.load() == Position("log-1", 3, {"trade.1": 4})


def test_a_position_that_did_not_change_is_not_written_again(tmp_path: Path) -> None:
    file, bookmark = PositionFile(tmp_path / "position"), bookmark_at(3)
    file.save_if_due(bookmark, 100.0)
    file.path.unlink()
    file.save_if_due(bookmark, 200.0)
    assert file.load() is None


def test_a_write_that_fails_is_counted_and_tried_again(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    file, bookmark = PositionFile(folder / "position"), bookmark_at(3)
    file.save_if_due(bookmark, 100.0)
    assert file.failures == 1
    folder.mkdir()
    file.save_if_due(bookmark, 100.0 + SAVE_INTERVAL_S)
    assert file.load() == Position("log-1", 3, {})


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"log": 5, "confirmed": 1}', '{"log": null, "confirmed": -1}', "x"])
def test_a_file_without_a_position_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "position"
    path.write_text(text)
    with pytest.raises(ClientError, match=r"position file .* holds no position"):
        PositionFile(path).load()


def test_a_file_that_is_no_text_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "position"
    path.write_bytes(b"\xff\xfe{")
    with pytest.raises(ClientError, match=r"position file .* holds no position"):
        PositionFile(path).load()


def test_two_threads_may_write_at_once(tmp_path: Path) -> None:
    file = PositionFile(tmp_path / "position")
    start, bookmarks = Barrier(2), [bookmark_at(3), bookmark_at(3)]
    bookmarks[1].start(Position("log-1", 3, {f"trade.{login}": 4 for login in range(500)}))

    def write(bookmark: PositionTracker) -> None:
        start.wait()
        for _ in range(50):
            file.save(bookmark)

    threads = [Thread(target=write, args=(bookmark,)) for bookmark in bookmarks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert file.failures == 0
    assert file.load() in [bookmark.position(with_current=False) for bookmark in bookmarks]


@pytest.mark.parametrize(
    "value", [-1, True, "7", None, {"confirmed": 1.5}, {"log": "a", "confirmed": 1, "ahead": {"t": "x"}}]
)
def test_what_is_no_position_is_refused(value: object) -> None:
    with pytest.raises(ClientError, match="is no position"):
        Position.of(value)  # type: ignore[arg-type]


def test_the_very_beginning_is_a_position() -> None:
    assert Position.of(0) == Position(None, 0)
    stored = {"log": "log-1", "confirmed": 0, "ahead": {"trade.1": 0}}
    assert Position.of(stored) == Position("log-1", 0, {"trade.1": 0})


def test_a_position_says_what_it_is() -> None:
    position = Position("log-1", 5, {"trade.1": 7})
    assert Position.of(position.as_dict()) == position
    assert Position.of(9) == Position(None, 9)
