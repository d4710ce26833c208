"""What each setting takes and refuses, and the words it refuses with."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mt4pump.process.settings import expected
from mt4pump.process.values import byte_size, size_text
from mt4pump.settings import Settings, load
from mt4pump.settings.validators import POSSIBLE, SUFFIXES, USUAL, suffix_text, topic_suffix
from mt4pump.wire import KINDS
from tests.settings.problems import SIMULATOR, problem_of

SERVER = "write host:port, as mt4.example.com:443"
ENDPOINT = "write tcp://127.0.0.1:5556 or ipc:///run/mt4pump.sock"
CODE_PAGE = "write the server's code page, as cp1252, cp1251 or cp936"
DURABLE = "quote, trade, user, online, margin, symbol, group, request, activation, news, mail, plugin, session"
SIZE = "write a number of bytes, or one with a unit, as 500MB or 4GiB"
SUFFIX = "write one of | ; , or a control character as \\x1f, or none"

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
    ("server_code", "a/b", "'a/b' is not 1 to 64 ASCII letters, digits, - and _; write it as broker-live1"),
    ("server_code", "../x", "'../x' is not 1 to 64 ASCII letters, digits, - and _; write it as broker-live1"),
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
    ("mail_fields", "bdoy", "'bdoy' is no field of MailBox; did you mean body?"),
    ("mail_fields", "to", "'to' is always published; mail_fields is for personal fields only: leave it out"),
    ("mail_fields", "reserved", "'reserved' can never be published: it is a secret, or no data at all; leave it out"),
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
    ("query_endpoint", "off", f"'off' is neither tcp:// nor ipc://; {ENDPOINT}"),
    ("query_endpoint", 5557, "5557 is not text"),
    ("durable", "trades", "'trades' is no kind of event; did you mean trade?"),
    ("durable", "+quotes", "'+quotes' is no kind of event; did you mean +quote?"),
    ("durable", "xyz", f"'xyz' is no kind of event; choose from {DURABLE}"),
    ("durable", "heartbeat", f"'heartbeat' is never stored; choose from {DURABLE}"),
    ("durable", "+unknown", f"'+unknown' is never stored; choose from {DURABLE}"),
    (
        "durable",
        "trade,+quote",
        "'trade' stands beside '+quote'; write either the whole list, or + and - before every kind",
    ),
    ("durable", "+mail,-mail", "'mail' is both added and left out; write it once"),
    ("durable", 5, "5 is not a list: text with commas, or an array of texts"),
    ("journal", "maybe", "'maybe' is not true or false"),
    ("journal_synchronous", "ful", "'ful' is not off, normal, full or extra; did you mean full?"),
    ("journal_synchronous", False, "False is not off, normal, full or extra"),
    ("journal_max_age_s", "-1", "'-1' is not a number of seconds from 0 to 3155760000"),
    ("journal_max_bytes", "4 gigs", f"'4 gigs' is no size; {SIZE}"),
    ("journal_max_bytes", "4G", f"'4G' is no size; {SIZE}"),
    ("journal_max_bytes", "-4GiB", f"'-4GiB' is no size; {SIZE}"),
    ("journal_max_bytes", "", f"'' is no size; {SIZE}"),
    ("journal_max_bytes", "9" * 19, f"'{'9' * 19}' is no size; {SIZE}"),
    ("journal_max_bytes", "1kB", "1000 is not a size from 1MiB to 1PiB"),
    ("journal_max_bytes", 5, "5 is not a size from 1MiB to 1PiB"),
    ("journal_max_bytes", True, "True is not a size from 1MiB to 1PiB"),
    ("reconcile_interval_s", "-1", "'-1' is not a number of seconds from 0 to 86400"),
    ("topic_suffix", "x", f"'x' cannot end topics; {SUFFIX}"),
    ("topic_suffix", "||", f"'||' cannot end topics; {SUFFIX}"),
    ("topic_suffix", ".", f"'.' cannot end topics; {SUFFIX}"),
    ("topic_suffix", "\\x41", f"{chr(39)}\\\\x41{chr(39)} cannot end topics; {SUFFIX}"),
    ("topic_suffix", "\\x00", f"{chr(39)}\\\\x00{chr(39)} cannot end topics; {SUFFIX}"),
    ("topic_suffix", "\0", f"{chr(39)}\\x00{chr(39)} cannot end topics; {SUFFIX}"),
    ("topic_suffix", "esc", f"'esc' cannot end topics; {SUFFIX}"),
    ("topic_suffix", 5, "5 is not text"),
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
    ("mail_fields", "from, subject,body", ("from", "subject", "body")),
    ("data_dir", Path("x"), Path("x")),
    ("dll_path", "a b/mtmanapi.dll", Path("a b/mtmanapi.dll")),
    ("pub_endpoint", "tcp://127.0.0.9:*", "tcp://127.0.0.9:*"),
    ("pub_endpoint", "tcp://localhost:0", "tcp://localhost:0"),
    ("pub_endpoint", "ipc:///tmp/x.sock", "ipc:///tmp/x.sock"),
    ("zmtp_heartbeat_ivl_s", "0", 0.0),
    ("faults", "drop@10,skip@5+20:3", ("drop@10", "skip@5+20:3")),
    ("query_endpoint", "None", None),
    ("query_endpoint", "tcp://127.0.0.1:*", "tcp://127.0.0.1:*"),
    ("durable", "session, TRADE", ("trade", "session")),
    ("durable", ["trade"], ("trade",)),
    ("durable", [], ()),
    ("durable", "+quote,-mail,-news", tuple(name for name in POSSIBLE if name not in {"mail", "news"})),
    ("durable", "-mail", tuple(name for name in USUAL if name != "mail")),
    ("durable", "+trade", USUAL),
    ("journal", "off", False),
    ("journal_synchronous", "FULL", "full"),
    ("journal_max_age_s", "0", 0.0),
    ("journal_max_bytes", "4GiB", 4 * 1024**3),
    ("journal_max_bytes", "500MB", 500_000_000),
    ("journal_max_bytes", " 1.5 gib ", 3 * 1024**3 // 2),
    ("journal_max_bytes", "4294967296", 1024**2 * 4096),
    ("journal_max_bytes", 5_000_000, 5_000_000),
    ("reconcile_interval_s", "0", 0.0),
    ("topic_suffix", "|", "|"),
    ("topic_suffix", ",", ","),
    ("topic_suffix", "US", "\x1f"),
    ("topic_suffix", "\\x1F", "\x1f"),
    ("topic_suffix", "\\u001f", "\x1f"),
    ("topic_suffix", "\x1f", "\x1f"),
    ("topic_suffix", "\n", "\n"),
    ("topic_suffix", "\\x09", "\t"),
    ("topic_suffix", "none", ""),
    ("topic_suffix", "", ""),
]


@pytest.mark.parametrize(("name", "text", "value"), TAKEN, ids=lambda each: str(each)[:30])
def test_a_right_value_is_taken(name: str, text: object, value: object) -> None:
    assert getattr(load({**SIMULATOR, name: text}, {}), name) == value


def test_what_is_stored_by_default_is_what_the_contract_calls_durable() -> None:
    assert load(SIMULATOR, {}).durable == tuple(name for name, kind in KINDS.items() if kind.durable)


@pytest.mark.parametrize("size_bytes", [1, 1000, 1023, 1024, 1536, 5_000_000, 1024**2, 4 * 1024**3, 1024**5])
def test_a_size_as_it_is_shown_is_taken_as_the_same_size(size_bytes: int) -> None:
    assert byte_size(size_text(size_bytes)) in {size_bytes, str(size_bytes)}


@pytest.mark.parametrize("suffix", ["", *sorted(SUFFIXES)])
def test_a_suffix_as_it_is_shown_is_taken_as_the_same_suffix(suffix: str) -> None:
    assert suffix_text(suffix).isprintable()
    assert topic_suffix(suffix_text(suffix)) == suffix


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
    assert expected(Settings, name)
