"""The daemon's main thread: which settings it takes over, and that an error in doing so does not end it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import cast

import pytest

from mt4pump.cli.run import CHECK_INTERVAL_S, FileWatch, Reloading
from mt4pump.daemon import Daemon
from mt4pump.log import FaultCounters
from mt4pump.settings import Settings, load


class Running:
    """What `Reloading` needs of a daemon."""

    def __init__(self, keys_fault: Exception | None = None) -> None:
        self.fault_counters = FaultCounters(logging.getLogger(__name__))
        self.selected: list[tuple[str, ...]] = []
        self.reads_of_keys = 0
        self._keys_fault = keys_fault

    def reload_permissions(self) -> None:
        self.reads_of_keys += 1
        if self._keys_fault is not None:
            raise self._keys_fault

    def select(self, symbols: tuple[str, ...]) -> None:
        self.selected.append(symbols)


class Scene:
    """A settings file, the settings read from it, and a clock that each check moves past the next look."""

    def __init__(self, load_again: Callable[[], Settings] | None = None, keys_fault: Exception | None = None) -> None:
        self.file, self.now_s, self.hangup = Path("mt4pump.toml"), 0.0, Event()
        self.file.write_text("", encoding="utf-8")
        self.running = Running(keys_fault)
        watch = FileWatch(self.file, lambda: self.now_s)
        self.reloading = Reloading(settings(), load_again or settings, watch, self.hangup)

    def check(self, times: int = 1) -> None:
        for _ in range(times):
            self.now_s += CHECK_INTERVAL_S
            self.reloading.check(cast(Daemon, self.running))


def settings() -> Settings:
    return load({"source": "simulator"}, {})


def fails() -> Settings:
    raise MemoryError("the canary")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_symbols_of_a_changed_file_are_taken_over_once() -> None:
    scene = Scene()
    scene.check(3)
    assert scene.running.selected == []
    scene.file.write_text('symbols = ["EUR*"]', encoding="utf-8")
    scene.check(5)
    assert scene.running.selected == [("EUR*",)]
    assert scene.reloading.settings.symbols == ("EUR*",)
    assert (scene.running.reads_of_keys, scene.running.fault_counters.counts) == (0, {})


def test_wrong_settings_are_logged_and_counted_once_and_change_nothing(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    before = scene.reloading.settings
    scene.file.write_text('symbols = ["EUR*"]\nsed = 5\nrate = "x"\n', encoding="utf-8")
    scene.check(5)
    assert scene.reloading.settings is before
    assert scene.running.selected == []
    assert scene.running.fault_counters.counts == {"settings_refused": 1}
    (record,) = [each for each in caplog.records if each.levelname == "ERROR"]
    assert "reload: nothing changed: settings are wrong:" in record.getMessage()
    assert "did you mean seed?" in record.getMessage()
    assert "rate (mt4pump.toml line 3, key rate)" in record.getMessage()
    scene.file.write_text('symbols = ["EUR*"]\n', encoding="utf-8")
    scene.check(5)
    assert scene.running.selected == [("EUR*",)]


def test_a_hangup_reads_settings_and_keys_at_once_even_if_the_settings_are_wrong() -> None:
    scene = Scene()
    scene.file.write_text('symbols = ["EUR*"]\n', encoding="utf-8")
    scene.hangup.set()
    scene.reloading.check(cast(Daemon, scene.running))
    assert (scene.running.selected, scene.running.reads_of_keys) == ([("EUR*",)], 1)
    assert not scene.hangup.is_set()
    scene.file.write_text("sed = 5\n", encoding="utf-8")
    scene.hangup.set()
    scene.reloading.check(cast(Daemon, scene.running))
    assert scene.running.reads_of_keys == 2


@pytest.mark.parametrize(("load_again", "keys_fault"), [(fails, None), (settings, ZeroDivisionError("the canary"))])
def test_an_error_of_our_own_ends_the_reload_and_not_the_daemon(
    load_again: Callable[[], Settings], keys_fault: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene(load_again, keys_fault)
    before = scene.reloading.settings
    scene.hangup.set()
    scene.check()
    assert scene.reloading.settings is before
    assert scene.running.fault_counters.counts == {"internal_error": 1}
    assert "the canary" in caplog.text  # with its traceback
