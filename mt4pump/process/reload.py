"""How a running daemon is asked to read its settings again, without signals: Windows has none for that.

Whoever asks puts ``<id>.request`` into the folder ``reload`` of the data folder; the daemon looks there a few times a
second and answers with ``<id>.result``. Files appear whole, by renaming, and only who may write to the data folder can
ask.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from mt4pump.errors import PumpError, StartError
from mt4pump.private_files import replace_file
from mt4pump.process.lock import instance_on

FOLDER, REQUEST, RESULT = "reload", ".request", ".result"
ANSWER_LIMIT_S = 10.0
POLL_S = 0.05
LOOK_S = 1.0
"""How often who waits looks whether the daemon is still there."""
FILES_PER_LOOK = 100
REQUEST_MAX_BYTES = 4_096
RESULT_MAX_BYTES = 262_144
KEPT_S = 60.0
"""How long an answer lies there for one who was too slow to fetch it."""

log = logging.getLogger(__name__)


class Request(NamedTuple):
    """One or several askings, answered together: their ids, and the processes that ask (0: did not say)."""

    ids: tuple[str, ...]
    pids: tuple[int, ...]


class Answer(NamedTuple):
    """What the daemon made of a request."""

    ok: bool
    text: str


class ReloadError(PumpError):
    """The daemon did not answer a request to reload; the text says why and what to do."""


class ReloadWatcher:
    """The daemon's side, for one thread: `poll` a few times a second, then `answer`.

    Askings that nobody waits for any more, as those left by an earlier daemon, are removed. Never raises; trouble with
    the folder is counted in ``errors`` and logged when it begins.
    """

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / FOLDER
        self._waiting: tuple[str, ...] = ()
        self._seen: deque[str] = deque(maxlen=10 * FILES_PER_LOOK)
        self.errors = 0
        self._in_trouble = False
        with self._minding("cannot be made"):
            self._folder.mkdir(mode=0o700, exist_ok=True)

    def poll(self) -> Request | None:
        """Return what was asked since the last look, if anything."""
        found: list[tuple[str, int]] = []
        with self._minding("cannot be read"):
            for path in self._files():
                age_s = time.time() - path.stat().st_mtime
                # One that cannot be removed (Windows, while a scanner has it open) must not be answered for ever.
                if path.suffix == REQUEST and path.stem not in self._seen and age_s <= ANSWER_LIMIT_S:
                    self._seen.append(path.stem)
                    found.append((path.stem, _pid_in(path)))
                if path.suffix == REQUEST or age_s > KEPT_S:
                    path.unlink(missing_ok=True)
        if not found:
            return None
        self._waiting = (*self._waiting, *(each for each, _ in found))[-FILES_PER_LOOK:]
        return Request(tuple(each for each, _ in found), tuple(pid for _, pid in found))

    def answer(self, text: str, *, ok: bool) -> None:
        """Answer all who asked since the last answer; without any, as after a signal, do nothing."""
        waiting, self._waiting = self._waiting, ()
        for each in waiting:
            with self._minding("cannot be written to"):
                _put(self._folder / (each + RESULT), {"ok": ok, "text": text})

    def _files(self) -> list[Path]:
        with os.scandir(self._folder) as entries:
            return [Path(entry.path) for entry, _ in zip(entries, range(FILES_PER_LOOK), strict=False)]

    @contextlib.contextmanager
    def _minding(self, what: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            # A file that who asked took back meanwhile; or the folder, removed by somebody: make it again.
            with contextlib.suppress(OSError):
                self._folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            self.errors += 1
            if not self._in_trouble:
                log.warning("%s %s (%s): mt4pump reload will get no answer", self._folder, what, error.strerror)
            self._in_trouble = True
        else:
            self._in_trouble = False


def ask_to_reload(
    data_dir: Path, limit_s: float = ANSWER_LIMIT_S, pause: Callable[[float], object] = time.sleep
) -> Answer:
    """Ask the daemon on ``data_dir`` to reload, and return its answer.

    Raises:
        StartError: no daemon runs on ``data_dir``.
        ReloadError: the request cannot be written, no answer came within ``limit_s``, or the daemon ended.
    """
    if (holder := instance_on(data_dir)) is None:
        raise StartError(f"no daemon runs on data_dir {data_dir}; name its folder with --data-dir")
    name = secrets.token_hex(8)
    request, result = (data_dir / FOLDER / (name + kind) for kind in (REQUEST, RESULT))
    try:
        _put(request, {"pid": os.getpid()})
    except OSError as error:
        raise ReloadError(f"cannot ask {holder.text}: {request.parent}: {error.strerror or error}") from error
    try:
        for _ in _until(time.monotonic() + limit_s, data_dir, pause):
            if (answer := _answer_in(result)) is not None:
                return answer
    finally:
        for path in (request, result):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
    if instance_on(data_dir) is None:
        raise ReloadError(f"{holder.text} ended before it answered; its log says why")
    raise ReloadError(f"{holder.text} did not answer within {limit_s:g} s; its log may say why")


def _until(deadline_s: float, data_dir: Path, pause: Callable[[float], object]) -> Iterator[None]:
    """Yield until the deadline, or until the daemon is gone; once more after that, for a last answer."""
    looked_s = time.monotonic()
    while (now_s := time.monotonic()) < deadline_s:
        yield
        pause(POLL_S)
        if now_s - looked_s >= LOOK_S:
            looked_s = now_s
            if instance_on(data_dir) is None:
                break
    yield


def _put(path: Path, content: dict[str, object]) -> None:
    """Write a file that is there whole or not at all; no ``.request`` or ``.result`` before."""
    replace_file(path, json.dumps(content).encode(), durable=False)


def _pid_in(path: Path) -> int:
    try:
        return int(str(_content(path, REQUEST_MAX_BYTES)["pid"]))
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return 0


def _answer_in(path: Path) -> Answer | None:
    try:
        content = _content(path, RESULT_MAX_BYTES)
        return Answer(bool(content["ok"]), str(content["text"]))
    except FileNotFoundError:
        return None
    except PermissionError:  # Windows, for a moment, while it is being renamed
        return None
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ReloadError(f"the answer {path} cannot be read ({error}); the daemon's log says what it did") from error


def _content(path: Path, limit_bytes: int) -> dict[str, object]:
    with path.open("rb") as file:
        content: dict[str, object] = json.loads(file.read(limit_bytes))
    return content
