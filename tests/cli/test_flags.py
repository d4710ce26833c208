"""Flags made from the schema."""

from __future__ import annotations

from pathlib import Path

import pytest

from mt4pump.process.arguments import ProgramParser, add_settings, given_settings
from mt4pump.process.settings import is_boolean, is_list
from mt4pump.process.sources import flag_name
from mt4pump.settings import Settings


def given(*arguments: str) -> dict[str, object]:
    parser = ProgramParser("mt4pump run", None)
    add_settings(parser, Settings)
    return given_settings(parser.read(arguments))


def test_flags_that_were_not_given_are_absent() -> None:
    assert given() == {}


@pytest.mark.parametrize("name", [name for name in Settings.model_fields if not is_boolean(Settings, name)])
def test_every_setting_has_a_flag_that_takes_text_as_it_is(name: str) -> None:
    wanted = ("a", "b") if is_list(Settings, name) else "a,b"
    assert given(flag_name(name), "a,b") == {name: wanted}
    assert given(f"{flag_name(name)}=a,b") == {name: wanted}


@pytest.mark.parametrize("name", [name for name in Settings.model_fields if is_boolean(Settings, name)])
def test_every_truth_has_a_flag_and_its_opposite(name: str) -> None:
    flag = flag_name(name)
    assert given(flag) == {name: True}
    assert given(flag.replace("--", "--no-", 1)) == {name: False}


def test_lists_take_several_words_commas_and_repeats() -> None:
    found = given("--symbols", "EUR*,GBP*", "!GBPX", "--ticks", "a.csv", "b.csv", "--symbols=USD*")
    assert found == {"symbols": ("EUR*", "GBP*", "!GBPX", "USD*"), "ticks": ("a.csv", "b.csv")}


def test_negative_numbers_need_no_special_form() -> None:
    assert given("--server-utc-offset-s", "-3600") == {"server_utc_offset_s": "-3600"}


def test_config_is_a_path_and_no_setting() -> None:
    parser = ProgramParser("mt4pump run", None)
    add_settings(parser, Settings)
    args = parser.read(["--config", "a.toml"])
    assert args.config == Path("a.toml")
    assert given_settings(args) == {}
