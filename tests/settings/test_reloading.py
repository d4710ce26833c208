"""When the settings file counts as changed, what is taken over, what has to wait; wrong settings change nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mt4pump.cli.run import AT_ONCE, CHECK_INTERVAL_S, FileWatch, take_over
from mt4pump.settings import Settings, load, settings_file
from tests.settings.problems import SIMULATOR

CANARY = "Kanarienvogel7"


def settings(**flags: object) -> Settings:
    return load({**SIMULATOR, **flags}, {})


def test_settings_that_did_not_change_are_not_named() -> None:
    assert take_over(settings(), settings()) == (settings(), "no setting to take over changed")


def test_symbols_are_taken_over_and_the_rest_needs_a_restart() -> None:
    new = settings(symbols="EUR*", seed="2", durable="-mail")
    found, text = take_over(settings(), new)
    assert text == "taken over: symbols; needs a restart: durable, seed"
    assert (found.symbols, found.seed) == (("EUR*",), 1)


@pytest.mark.parametrize("name", AT_ONCE)
def test_what_is_taken_over_exists(name: str) -> None:
    assert name in Settings.model_fields


def test_what_waits_for_a_restart_is_named_again_by_the_next_reload() -> None:
    first, _ = take_over(settings(), settings(seed="2", symbols="EUR*"))
    _, text = take_over(first, settings(seed="2", symbols="EUR*"))
    assert text == "no setting to take over changed; needs a restart: seed"


def test_a_file_that_is_read_again_brings_its_new_content() -> None:
    old = settings()
    Path("mt4pump.toml").write_text('symbols = ["EUR*"]\n', encoding="utf-8")
    assert take_over(old, settings())[0].symbols == ("EUR*",)


def test_a_changed_secret_is_named_and_never_shown() -> None:
    found = take_over(settings(password="old" + CANARY), settings(password=CANARY))
    assert found[1].endswith("needs a restart: password")
    assert CANARY not in repr(found)


class Watched:
    """A watch whose every check is a second after the one before."""

    def __init__(self, file: Path) -> None:
        self.now_s = 0.0
        self.watch = FileWatch(file, lambda: self.now_s)

    def checks(self, times: int) -> list[bool]:
        found = []
        for _ in range(times):
            self.now_s += CHECK_INTERVAL_S
            found.append(self.watch.has_changed())
        return found


FILE = Path("own.toml")


def test_a_change_of_the_file_is_reported_once_when_two_checks_find_the_same() -> None:
    FILE.write_text("", encoding="utf-8")
    watched = Watched(FILE)
    assert watched.checks(3) == [False] * 3
    FILE.write_text("seed = 1", encoding="utf-8")
    assert watched.checks(1) == [False]
    FILE.write_text("seed = 10", encoding="utf-8")  # the editor has not finished
    assert watched.checks(4) == [False, True, False, False]


def test_the_file_is_looked_at_no_more_than_once_an_interval() -> None:
    watched = Watched(FILE)
    FILE.write_text("seed = 1", encoding="utf-8")
    assert not any(watched.watch.has_changed() for _ in range(100))


def test_a_file_that_is_replaced_by_another_of_the_same_size_and_time_has_changed() -> None:
    FILE.write_text("seed = 1", encoding="utf-8")
    watched, before = Watched(FILE), FILE.stat()
    other = Path("other.toml")
    other.write_text("seed = 2", encoding="utf-8")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(FILE)
    assert watched.checks(3) == [False, True, False]


def test_a_missing_file_has_not_changed_and_has_when_it_is_there_again() -> None:
    FILE.write_text("seed = 1", encoding="utf-8")
    watched = Watched(FILE)
    FILE.unlink()
    assert watched.checks(3) == [False] * 3
    FILE.write_text("seed = 12", encoding="utf-8")
    assert watched.checks(3) == [False, True, False]


def test_a_file_that_appears_later_is_reported() -> None:
    watched = Watched(FILE)
    assert watched.checks(2) == [False, False]
    FILE.write_text("seed = 1", encoding="utf-8")
    assert watched.checks(3) == [False, True, False]


def test_a_path_that_no_system_takes_is_no_change() -> None:
    assert Watched(Path("a\0b")).checks(2) == [False, False]


def test_the_file_to_watch_is_the_one_that_is_read() -> None:
    assert settings_file({}, None) == Path("mt4pump.toml")
    assert settings_file({"MT4PUMP_CONFIG": "named.toml"}, None) == Path("named.toml")
    assert settings_file({"MT4PUMP_CONFIG": "named.toml"}, FILE) == FILE
    Path(".env").write_text("MT4PUMP_CONFIG=dotenv.toml\n", encoding="utf-8")
    assert settings_file({}, None) == Path("dotenv.toml")
