"""A daemon is asked to reload by files, and answers by files; nobody waits for ever."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from mt4pump.errors import StartError
from mt4pump.process.lock import DataFolderLock
from mt4pump.process.reload import (
    ANSWER_LIMIT_S,
    FOLDER,
    KEPT_S,
    Answer,
    ReloadError,
    ReloadWatcher,
    Request,
    ask_to_reload,
)
from tests.bus import LIMIT_S, until

PAUSE = threading.Event().wait


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """Give a data folder that a daemon (we) holds."""
    with DataFolderLock(tmp_path):
        yield tmp_path


@pytest.fixture
def asking() -> Iterator[ThreadPoolExecutor]:
    """Give threads to ask from."""
    with ThreadPoolExecutor(4) as pool:
        yield pool


def polled(desk: ReloadWatcher) -> Request:
    """Return the next request."""
    found: list[Request] = []

    def look() -> bool:
        found.extend(filter(None, [desk.poll()]))
        return bool(found)

    until(look, "asked")
    return found[0]


def ask(pool: ThreadPoolExecutor, data: Path) -> Future[Answer]:
    """Ask in a thread."""
    return pool.submit(ask_to_reload, data, LIMIT_S, lambda _s: PAUSE(0.002))


def left_in(data: Path) -> list[str]:
    return sorted(path.name for path in (data / FOLDER).iterdir())


@pytest.mark.parametrize("answer", [Answer(ok=True, text="taken over: symbols"), Answer(ok=False, text="settings ü")])
def test_who_asks_gets_the_answer_and_nothing_stays_behind(
    data: Path, asking: ThreadPoolExecutor, answer: Answer
) -> None:
    desk = ReloadWatcher(data)
    answered = ask(asking, data)
    request = polled(desk)
    assert request.pids == (os.getpid(),)
    desk.answer(answer.text, ok=answer.ok)
    assert answered.result(LIMIT_S) == answer
    assert (left_in(data), desk.poll(), desk.errors) == ([], None, 0)


def test_several_at_once_all_get_an_answer(data: Path, asking: ThreadPoolExecutor) -> None:
    desk = ReloadWatcher(data)
    answers = [ask(asking, data) for _ in range(4)]
    asked = 0
    while asked < len(answers):
        asked += len(polled(desk).ids)
        desk.answer("done", ok=True)
    assert [each.result(LIMIT_S) for each in answers] == [Answer(ok=True, text="done")] * 4
    assert left_in(data) == []


def test_nothing_asked_is_nothing_to_answer(data: Path) -> None:
    desk = ReloadWatcher(data)
    assert desk.poll() is None
    desk.answer("after a signal", ok=True)
    assert left_in(data) == []


def test_no_daemon_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"no daemon runs on data_dir .*; name its folder with --data-dir"):
        ask_to_reload(tmp_path)


def test_a_daemon_that_does_not_answer_is_waited_for_no_longer_than_the_limit(data: Path) -> None:
    ReloadWatcher(data)
    with pytest.raises(ReloadError, match=f"pid {os.getpid()}.* did not answer within 0.05 s; its log may say why"):
        ask_to_reload(data, 0.05)
    assert left_in(data) == []


def test_a_daemon_that_ends_meanwhile_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mt4pump.process.reload.LOOK_S", 0.01)
    held = DataFolderLock(tmp_path)
    ReloadWatcher(tmp_path)

    def pause(seconds: float) -> None:
        held.close()
        PAUSE(seconds)

    with pytest.raises(ReloadError, match="ended before it answered"):
        ask_to_reload(tmp_path, LIMIT_S, pause)


def test_a_daemon_without_a_desk_cannot_be_asked(data: Path) -> None:
    with pytest.raises(ReloadError, match="cannot ask mt4pump"):
        ask_to_reload(data)


def test_a_result_that_is_garbage_is_told(data: Path, asking: ThreadPoolExecutor) -> None:
    desk = ReloadWatcher(data)
    answered = ask(asking, data)
    (name,) = polled(desk).ids
    (data / FOLDER / f"{name}.result").write_bytes(b"\xff{")
    with pytest.raises(ReloadError, match="cannot be read"):
        answered.result(LIMIT_S)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff", b"[]", b'{"pid": []}', b"[" * 4_000])
def test_a_request_that_is_garbage_is_answered_all_the_same(data: Path, content: bytes) -> None:
    desk = ReloadWatcher(data)
    (data / FOLDER / "x.request").write_bytes(content)
    assert desk.poll() == Request(("x",), (0,))
    desk.answer("done", ok=True)
    assert json.loads((data / FOLDER / "x.result").read_bytes()) == {"ok": True, "text": "done"}


def test_a_request_that_nobody_waits_for_any_more_is_removed_unanswered(data: Path) -> None:
    (data / FOLDER).mkdir()
    old_s = time.time() - ANSWER_LIMIT_S - 1
    path = data / FOLDER / "x.request"
    path.touch()
    os.utime(path, (old_s, old_s))
    assert ReloadWatcher(data).poll() is None
    assert left_in(data) == []


def test_an_answer_that_nobody_fetched_is_removed_in_the_end(data: Path) -> None:
    desk = ReloadWatcher(data)
    path = data / FOLDER / "x.result"
    path.touch()
    desk.poll()
    assert left_in(data) == ["x.result"]
    old_s = time.time() - KEPT_S - 1
    os.utime(path, (old_s, old_s))
    desk.poll()
    assert left_in(data) == []


def test_a_request_that_cannot_be_removed_is_answered_once(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = ReloadWatcher(data)
    (data / FOLDER / "x.request").touch()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "in use")

    monkeypatch.setattr(Path, "unlink", refuse)
    assert desk.poll() is not None
    assert desk.poll() is None
    assert desk.errors == 2


def test_trouble_with_the_folder_is_counted_and_logged_when_it_begins(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FOLDER).touch()
    with caplog.at_level(logging.WARNING):
        desk = ReloadWatcher(tmp_path)
        for _ in range(3):
            assert desk.poll() is None
    assert desk.errors == 4
    assert len(caplog.records) == 1
    assert "mt4pump reload will get no answer" in caplog.text


def test_a_folder_that_somebody_removed_comes_back(data: Path, asking: ThreadPoolExecutor) -> None:
    desk = ReloadWatcher(data)
    (data / FOLDER).rmdir()
    assert desk.poll() is None
    answered = ask(asking, data)
    polled(desk)
    desk.answer("done", ok=True)
    assert answered.result(LIMIT_S).ok
