"""What each setting takes and refuses, and the words it refuses with."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mt4pump.settings import Settings, load
from mt4pump.settings.problems import expected
from tests.settings.problems import SIMULATOR, problem_of

SERVER = "write host:port, as mt4.example.com:443"
ENDPOINT = "write tcp://127.0.0.1:5556 or ipc:///run/mt4pump.sock"
CODE_PAGE = "write the server's code page, as cp1252, cp1251 or cp936"

REFUSED: list[tuple[str, object, str]] = [
    ("source", "simulatr", "'simulatr' is not dll or simulator; did you mean simulator?"),
    ("source", "x", "'x' is not dll or simulator"),
    ("log_level", "warn", "'warn' is not debug, info, warning or error; did you mean warning?"),
    ("log_format", "jsn", "'jsn' is not human or json; did you mean json?"),
    ("login", "abc", "'abc' is not a whole number from 1 to 2147483647"),
    ("login", "0", "'0' is not a whole number from 1 to 2147483647"),
    ("login", True, "True is not a whole number from 1 to 2147483647"),
    ("quotes", "maybe", "'maybe' is not true or false"),
    ("sndhwm", 0, "0 is not a whole number from 1 to 100000000"),
    ("sndhwm", "1.5", "'1.5' is not a whole number from 1 to 100000000"),
    ("inbox_limit", 0, "0 is not a whole number from 1 to 100000000"),
    ("heartbeat_interval_s", 0, "0 is not a number of seconds from 0.05 to 60"),
    ("linger_s", "nan", "'nan' is not a number of seconds from 0 to 60"),
    ("linger_s", math.inf, "inf is not a number of seconds from 0 to 60"),
    ("switch_interval_s", 1, "1 is not a number of seconds from 0.00001 to 0.1"),
    ("reconnect_delay_s", False, "False is not a number of seconds from 0.01 to 3600"),
    ("server_utc_offset_s", 1000, "1000 is not a whole number of seconds from -50400 to 50400 in steps of 900"),
    ("server_utc_offset_s", 51_300, "51300 is not a whole number of seconds from -50400 to 50400 in steps of 900"),
    ("speed", 0, "0 is not a number above 0, or max"),
    ("speed", "fast", "'fast' is not a number above 0, or max"),
    ("speed", "inf", "'inf' is not a number; write max for as fast as it goes"),
    ("rate", "-1", "'-1' is not a number of at least 0, or max"),
    ("rate", math.nan, "nan is not a number; write a number, or max"),
    ("seed", -1, "-1 is not a whole number of at least 0"),
    ("accounts", 0, "0 is not a whole number from 1 to 100000"),
    ("data_dir", " ", "is empty; write a path"),
    ("data_dir", 5, "5 is not text"),
    ("ticks", 5, "5 is not a list: text with commas, or an array of texts"),
    ("ticks", [5], "5 is not text"),
    ("servers", "a:b:c", f"'a:b:c' is not a server; {SERVER}"),
    ("servers", "tcp://host", f"'tcp://host' is not a server; {SERVER}"),
    ("servers", "a b", f"'a b' is not a server; {SERVER}"),
    ("servers", "a:0", f"'a:0' has port 0, which is not from 1 to 65535; {SERVER}"),
    ("servers", "a:99999", f"'a:99999' has port 99999, which is not from 1 to 65535; {SERVER}"),
    ("symbols", "!", "'!' is not a pattern; write symbols, * and ?, and ! before those to leave out"),
    ("encoding", "cp12522", "'cp12522' is no code page; did you mean cp1252?"),
    ("encoding", "klingon", f"'klingon' is no code page; {CODE_PAGE}"),
    ("encoding", "utf-16", f"'utf-16' is not a code page that contains ASCII; {CODE_PAGE}"),
    ("encoding", "rot13", f"'rot13' is no code page; {CODE_PAGE}"),
    ("user_fields", "emial", "'emial' is no field of UserRecord; did you mean email?"),
    ("user_fields", "login", "'login' is always published; user_fields is for personal fields only: leave it out"),
    ("user_fields", "password", "'password' can never be published: it is a secret, or no data at all; leave it out"),
    ("user_fields", "api_data", "'api_data' can never be published: it is a secret, or no data at all; leave it out"),
    ("pub_endpoint", "127.0.0.1:5556", f"'127.0.0.1:5556' is neither tcp:// nor ipc://; {ENDPOINT}"),
    ("pub_endpoint", "udp://127.0.0.1:1", f"'udp://127.0.0.1:1' is neither tcp:// nor ipc://; {ENDPOINT}"),
    ("pub_endpoint", "tcp://127.0.0.1", f"'tcp://127.0.0.1' has no valid host; {ENDPOINT}"),
    ("pub_endpoint", "tcp://a,b:1", f"'tcp://a,b:1' has no valid host; {ENDPOINT}"),
    (
        "pub_endpoint",
        "tcp://127.0.0.1:70000",
        f"'tcp://127.0.0.1:70000' has no port from 1 to 65535 (0 or * for any free one); {ENDPOINT}",
    ),
    ("pub_endpoint", "ipc://", f"'ipc://': a socket's path has 1 to 103 bytes; {ENDPOINT}"),
    ("pub_endpoint", "ipc://" + "é" * 60, f"'ipc://{'é' * 60}': a socket's path has 1 to 103 bytes; {ENDPOINT}"),
    ("password", "", "the value (not shown) is empty or not text; write text, in a file within quotes"),
    ("password", 123456, "the value (not shown) is empty or not text; write text, in a file within quotes"),
]


@pytest.mark.parametrize(("name", "value", "problem"), REFUSED, ids=lambda each: str(each)[:30])
def test_a_wrong_value_is_refused_with_what_would_be_right(name: str, value: object, problem: str) -> None:
    assert problem_of(name, value) == problem


TAKEN: list[tuple[str, object, object]] = [
    ("source", "SIMULATOR", "simulator"),
    ("log_level", "WARNING", "warning"),
    ("quotes", "off", False),
    ("quotes", "1", True),
    ("rate", "max", math.inf),
    ("rate", "MAX ", math.inf),
    ("rate", math.inf, math.inf),
    ("rate", "0", 0.0),
    ("server_utc_offset_s", "-3600", -3600),
    ("servers", "mt4.example.com:443,10.0.0.1, [::1]:443", ("mt4.example.com:443", "10.0.0.1", "[::1]:443")),
    ("symbols", "!XAU*", ("!XAU*",)),
    ("symbols", "[EG]*", ("[EG]*",)),
    ("encoding", "cp936", "cp936"),
    ("user_fields", "name,email", ("name", "email")),
    ("data_dir", Path("x"), Path("x")),
    ("dll_path", "a b/mtmanapi.dll", Path("a b/mtmanapi.dll")),
    ("pub_endpoint", "tcp://127.0.0.9:*", "tcp://127.0.0.9:*"),
    ("pub_endpoint", "tcp://localhost:0", "tcp://localhost:0"),
    ("pub_endpoint", "ipc:///tmp/x.sock", "ipc:///tmp/x.sock"),
    ("zmtp_heartbeat_ivl_s", "0", 0.0),
    ("faults", "drop@10,skip@5+20:3", ("drop@10", "skip@5+20:3")),
]


@pytest.mark.parametrize(("name", "text", "value"), TAKEN, ids=lambda each: str(each)[:30])
def test_a_right_value_is_taken(name: str, text: object, value: object) -> None:
    assert getattr(load({**SIMULATOR, name: text}, {}), name) == value


def test_a_wrong_fault_is_refused_in_the_simulators_own_words() -> None:
    assert "drop@10" in problem_of("faults", "drop@ten")


def test_every_wrong_item_of_a_list_is_named() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(**{**SIMULATOR, "servers": "a:0,ok,b:0"})  # type: ignore[arg-type]
    assert [error["loc"] for error in caught.value.errors()] == [("servers", 0), ("servers", 2)]


def test_a_home_sign_in_a_path_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert load({**SIMULATOR, "data_dir": "~/pump"}, {}).data_dir == tmp_path / "pump"


def test_an_item_that_is_too_long_is_cut_in_the_message() -> None:
    assert len(problem_of("login", "9" * 1000)) < 200


def test_the_data_folder_is_a_per_user_one_by_default() -> None:
    assert load(SIMULATOR, {}).data_dir.name == "mt4pump"


def test_settings_cannot_be_changed() -> None:
    settings: Any = load(SIMULATOR, {})
    with pytest.raises(ValidationError):
        settings.seed = 5


def test_settings_made_directly_ignore_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MT4PUMP_SEED", "77")
    Path(".env").write_text("MT4PUMP_SEED=78", encoding="utf-8")
    assert Settings(source="simulator").seed == 1


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_every_setting_has_a_description_a_group_and_an_expectation(name: str) -> None:
    field = Settings.model_fields[name]
    assert field.description
    assert isinstance(field.json_schema_extra, dict)
    assert expected(name)
