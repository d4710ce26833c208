"""What a reload takes over, what has to wait, and that wrong settings change nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from mt4pump.errors import SettingsError
from mt4pump.settings import Settings, load, reloadable, reread
from mt4pump.settings.reloading import AT_ONCE
from tests.settings.problems import SIMULATOR

CANARY = "Kanarienvogel7"


def settings(**flags: object) -> Settings:
    return load({**SIMULATOR, **flags}, {})


def test_settings_that_did_not_change_are_not_named() -> None:
    assert reloadable(settings(), settings()) == ((), ())
    assert reread(settings(), settings).text == "no setting to take over changed"


def test_symbols_are_taken_over_and_the_rest_needs_a_restart() -> None:
    new = settings(symbols="EUR*", seed="2", durable="-mail")
    assert reloadable(settings(), new) == (("symbols",), ("durable", "seed"))
    found = reread(settings(), lambda: new)
    assert (found.ok, found.text) == (True, "taken over: symbols; needs a restart: durable, seed")
    assert (found.settings.symbols, found.settings.seed) == (("EUR*",), 1)


@pytest.mark.parametrize("name", AT_ONCE)
def test_what_is_taken_over_exists(name: str) -> None:
    assert name in Settings.model_fields


def test_what_waits_for_a_restart_is_named_again_by_the_next_reload() -> None:
    first = reread(settings(), lambda: settings(seed="2", symbols="EUR*"))
    again = reread(first.settings, lambda: settings(seed="2", symbols="EUR*"))
    assert (again.changed_now, again.needs_restart) == ((), ("seed",))


def test_wrong_settings_change_nothing_and_the_answer_lists_them() -> None:
    old = settings()
    Path("mt4pump.toml").write_text('symbols = ["EUR*"]\nsed = 5\nrate = "x"\n', encoding="utf-8")
    found = reread(old, settings)
    assert found.settings is old
    assert (found.ok, found.changed_now, found.needs_restart) == (False, (), ())
    assert found.text.startswith("nothing changed: settings are wrong:\n")
    assert "did you mean seed?" in found.text
    assert "rate (mt4pump.toml, key rate)" in found.text


def test_a_file_that_is_read_again_brings_its_new_content() -> None:
    old = settings()
    Path("mt4pump.toml").write_text('symbols = ["EUR*"]\n', encoding="utf-8")
    assert reread(old, settings).settings.symbols == ("EUR*",)


def test_a_changed_secret_is_named_and_never_shown() -> None:
    found = reread(settings(password="old" + CANARY), lambda: settings(password=CANARY))
    assert found.needs_restart == ("password",)
    assert CANARY not in repr(found)


def test_any_other_error_is_not_swallowed() -> None:
    def fail() -> Settings:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        reread(settings(), fail)

    def refuse() -> Settings:
        raise SettingsError("settings are wrong:\n  x")

    assert not reread(settings(), refuse).ok
