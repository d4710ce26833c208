"""The daemon's main thread: what a reload that goes wrong does to it, which is nothing."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from mt4pump.cli.run import _reload
from mt4pump.daemon import Daemon
from mt4pump.process.reload import ReloadWatcher
from mt4pump.settings import Settings, load


class Answers(ReloadWatcher):
    """A desk that keeps what was answered."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir)
        self.given: list[tuple[bool, str]] = []

    def answer(self, text: str, *, ok: bool) -> None:
        self.given.append((ok, text))


class Running:
    """What `_reload` needs of a daemon; its clients' folder cannot be read by any means."""

    def reload_permissions(self) -> None:
        raise ZeroDivisionError("the canary")


def settings() -> Settings:
    return load({"source": "simulator"}, {})


def fails() -> Settings:
    raise MemoryError("the canary")


@pytest.mark.parametrize(("loads", "name"), [(fails, "MemoryError"), (settings, "ZeroDivisionError")])
def test_an_error_of_our_own_ends_the_reload_and_not_the_daemon(
    loads: object, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    old, desk = settings(), Answers(tmp_path)
    kept = _reload(cast(Daemon, Running()), old, loads, desk)  # type: ignore[arg-type]
    assert kept is old
    ((ok, text),) = desk.given
    assert not ok
    assert name in text
    assert "the canary" not in text
    assert "the canary" in caplog.text  # with its traceback
