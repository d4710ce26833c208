"""What users get wrong, and what the programs say: in the user's words, with the place and what to do."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from mt4pump_consumers.archive.__main__ import run as archive
from mt4pump_consumers.gateway.__main__ import run as gateway
from mt4pump_consumers.gateway.new_token import run as new_token
from mt4pump_consumers.metrics.__main__ import run as metrics
from mt4pump_consumers.monitor.__main__ import run as monitor
from mt4pump_consumers.nats_bridge.__main__ import run as nats

from mt4pump.cli import main
from tests.isolation import logging_put_back, nothing_set

__all__ = ["logging_put_back", "nothing_set"]

PROGRAMS: dict[str, Callable[[], int]] = {
    "mt4pump": main,
    "gateway": gateway,
    "monitor": monitor,
    "metrics": metrics,
    "nats": nats,
    "archive": archive,
    "new_token": new_token,
}


class Mistake(NamedTuple):
    """A command line, or settings in a file or the environment; the exit code; and parts of what is said."""

    words: str
    code: int
    parts: tuple[str, ...]
    file: str = ""
    variables: tuple[str, str] | None = None


WINDOWS_PATH = "write a path in single quotes: 'C:\\folder\\file'"
WINDOWS_FILE = '\na = "C:\\Users"\n'
TAB_PATH = 'keys = "C:\\trading\\new.client"\n'
RULES = '[[rule]]\nname = "big"\nwhen = "volume"\nlots = 5\n'
NO_PEM = "SSL_CERT_FILE own.toml cannot be used (it holds no certificate that can be read): name a PEM file"
NO_FILE = (
    "SSL_CERT_FILE nofile cannot be used (No such file or directory): name a PEM file of certificates, or unset it"
)
NO_FOLDER = "SSL_CERT_DIR nofile cannot be used (no such folder): name a folder of PEM certificates with the names that"
TIME = "is no time; write 10m, 2h or 1d12h for so long ago, or a time as"
MISTAKES = (
    # commands and flags
    Mistake("mt4pump tial", 2, ("there is no command 'tial'; did you mean mt4pump tail?",)),
    Mistake("mt4pump tail --cuont 3", 2, ("there is no flag --cuont; did you mean --count?",)),
    Mistake("mt4pump tail --count x", 2, ("--count: 'x' is not a whole number of at least 1", "tail --help")),
    Mistake("mt4pump tail --for never", 2, ("--for: 'never' is not a number of seconds above 0",)),
    Mistake("mt4pump keygen clinet alice", 2, ("invalid choice: 'clinet'", "keygen --help")),
    Mistake("mt4pump keygen client ../a --topics * --server s", 2, ("'../a' is no client's name: letters, digits",)),
    Mistake("mt4pump keygen client alice --topics *", 2, ("--server",)),
    Mistake("mt4pump keygen client a --topics * --server s.key", 2, ("no file s.key; correct", "mt4pump keygen")),
    Mistake("mt4pump bench --events x", 2, ("--events", "'x'", "bench --help")),
    Mistake("mt4pump service install deamon", 1, ("there is no program deamon; there are daemon, gateway",)),
    Mistake("mt4pump replay trade --since yesterdaay", 2, ("'yesterdaay' " + TIME, "or yesterday")),
    Mistake("mt4pump replay trade --since 1d12x", 2, ("'1d12x' " + TIME,)),
    Mistake("mt4pump play nofile", 3, ("nofile cannot be read: No such file or directory",)),
    Mistake("gateway --prot 3", 2, ("there is no flag --prot; did you mean --port?",)),
    Mistake("archive qury", 2, ("there is no command 'qury'; did you mean query?",)),
    Mistake("archive query select", 2, ("there is no archive at archive; give --path",)),
    Mistake("archive gaps --path own.toml", 2, ("there is no archive at own.toml; give --path",), "a = 1\n"),
    Mistake("archive query select --store clickhouse://h/d", 2, ("query reads the files of --path; ask a database",)),
    Mistake("archive verify --store mysql://h/d", 2, ("write the store as postgresql://user@host", "clickhouse://")),
    Mistake("archive verify --store clickhouse://u:secret@h/d", 2, ("a password does not belong into the address",)),
    Mistake("archive import nofile", 2, ("nofile cannot be read (No such file or directory): name a tick file",)),
    Mistake("archive import own.toml", 2, ("tick file own.toml",), "a = 1\n"),
    Mistake("archive import nofile --server-code ../x", 2, ("'../x' is not 1 to 64 letters, digits, - and _",)),
    Mistake("archive bars EURUSD 1x", 2, ("'1x' is no width of a bar; write 10s, 1m, 4h or 1d",)),
    Mistake("archive query select --fromat csv", 2, ("there is no flag --fromat; did you mean --format?",)),
    Mistake("archive import ticks.csv --timezoen UTC", 2, ("there is no flag --timezoen; did you mean --timezone?",)),
    Mistake("archive gaps trade", 2, ("mt4pump-archive gaps: 1 word(s) too many",)),
    Mistake("new_token alice quote.* --topics x", 2, ("there is no flag --topics; new_token --help lists all",)),
    Mistake("new_token", 2, ("required: name, topics",)),
    # addresses
    Mistake("mt4pump tail --endpoint 127.0.0.1:5556", 2, ("--endpoint", "neither tcp:// nor ipc://; write tcp://127")),
    Mistake("mt4pump tail --endpoint tcp://127.0.0.1", 2, ("--endpoint: 'tcp://127.0.0.1' has no valid host",)),
    Mistake("mt4pump describe --endpoint tcp://127.0.0.1:99999", 2, ("no port from 1 to 65535",)),
    Mistake("mt4pump snapshot --endpoint http://127.0.0.1:9", 2, ("'http://127.0.0.1:9' is neither tcp:// nor",)),
    Mistake("mt4pump describe --endpoint tcp://127.0.0.1:9", 1, ("tcp://127.0.0.1:9: the connection was refused",)),
    Mistake(
        "mt4pump run --source simulator --pub-endpoint 5556", 2, ("pub_endpoint (flag --pub-endpoint)", "write tcp")
    ),
    Mistake("mt4pump run --source simulator --pub-endpoint tcp://1.2.3.4:5", 2, ("plain text", "mt4pump keygen")),
    Mistake("metrics --endpoint tcp://127.0.0.1", 3, ("'tcp://127.0.0.1' is no address", "tcp://127.0.0.1:5556")),
    Mistake(
        "nats --servers http://localhost:4222", 2, ("servers (flag --servers): write a server as nats://host:4222",)
    ),
    Mistake("monitor --webhook ftp://x", 2, ("webhook (flag --webhook): give a whole address, as https://",)),
    # keys and files
    Mistake(
        "mt4pump tail --keys nofile", 2, ("--keys: key file nofile cannot be read (No such file", "mt4pump keygen")
    ),
    Mistake("metrics --keys nofile", 3, ("key file nofile cannot be read (No such file or directory); make it",)),
    Mistake("mt4pump tail --keys own.toml", 2, ("own.toml has no server_key: add it",), "public_key = 'x'\n"),
    Mistake("gateway --tokens nofile", 3, ("token file nofile cannot be read (No such file", "new_token")),
    Mistake("monitor --rules nofile", 2, ("rules (flag --rules): there is no file nofile; correct the path",)),
    Mistake(
        "mt4pump run --config nofile.toml", 2, ("config (--config): there is no file nofile.toml; correct the path",)
    ),
    Mistake(
        "monitor --rules own.toml --store s.db --webhook https://h/x",
        3,
        (NO_PEM,),
        RULES,
        ("SSL_CERT_FILE", "own.toml"),
    ),
    Mistake("archive --store clickhouses://h/d", 3, (NO_FILE,), variables=("SSL_CERT_FILE", "nofile")),
    Mistake("archive --store clickhouse://h/d?secure=true", 3, (NO_FILE,), variables=("SSL_CERT_FILE", "nofile")),
    Mistake("archive --store clickhouses://h/d", 3, (NO_FOLDER,), variables=("SSL_CERT_DIR", "nofile")),
    Mistake("archive verify --store clickhouses://h/d", 3, (NO_PEM,), "a = 1\n", ("SSL_CERT_FILE", "own.toml")),
    # values
    Mistake("mt4pump check --source mt5", 2, ("source (flag --source): 'mt5' is not dll or simulator",)),
    Mistake("metrics --port 99999", 2, ("port (flag --port): '99999' is not a whole number from 0 to 65535",)),
    Mistake("metrics --topics ,", 2, ("topics (flag --topics): is empty; write a list that is not empty",)),
    Mistake("monitor --view scren", 2, ("view (flag --view): 'scren' is not auto, live, lines, json or log",)),
    Mistake("archive --store mysql://u@h/d", 2, ("store (flag --store): write the store as postgresql://user@host",)),
    Mistake("archive --store clickhouse://h", 2, ("write the store as", "clickhouse://user@host:8123/database")),
    Mistake("archive --store clickhouse://u:secret@h/d", 2, ("a password does not belong", "give store-password")),
    Mistake("archive --store postgresql://h/d --max-bytes 1GB", 2, ("for a database give keep_days",)),
    Mistake("archive --store clickhouse://127.0.0.1:9/d", 3, ("clickhouse://127.0.0.1/d cannot be used",)),
    Mistake("archive --metrics-host 0.0.0.0", 2, ("is open to other machines: give a loopback address",)),
    Mistake("archive --path own.toml", 3, ("own.toml",), "a = 1\n"),
    Mistake("archive --max-bytes 5XB", 2, ("'5XB' is no size; write a number of bytes, or one with a unit, as 500MB",)),
    Mistake("gateway", 2, ("nobody could log in: give tokens, jwt-secret or jwt-public-key, or set anonymous",)),
    Mistake("gateway --anonymous --host 0.0.0.0", 2, ("0.0.0.0 is open to other machines: give tls-certificate",)),
    # settings files and the environment
    *(
        Mistake(f"{name} --config own.toml", 2, ("own.toml is not TOML at line 2", WINDOWS_PATH), WINDOWS_FILE)
        for name in ("mt4pump check", "gateway", "monitor", "metrics", "nats", "archive")
    ),
    Mistake("gateway --config own.toml", 2, ("keys (own.toml line 1", "(U+0009); in TOML " + WINDOWS_PATH), TAB_PATH),
    *(
        Mistake(f"{name} --config own.toml", 2, ("(U+000A); in TOML " + WINDOWS_PATH,), f'{key} = "C:\\new\\file"\n')
        for name, key in {
            "mt4pump check": "dll_path",
            "gateway": "tokens",
            "monitor": "rules",
            "metrics": "tls_key",
            "nats": "credentials",
            "archive": "path",
        }.items()
    ),
    Mistake("metrics --config own.toml", 2, ("prot (own.toml line 2): no such", "mean port?"), "\nprot = 1"),
    Mistake("monitor --config own.toml", 2, ("view (own.toml line 1, key view): 'x' is not auto",), "view = 'x'\n"),
    Mistake("mt4pump run --config own.toml", 2, ("[daemon]", "at the top"), "[daemon]\nlogin = 1\n"),
    Mistake("metrics", 2, ("did you mean MT4PUMP_METRICS_PORT?",), variables=("MT4PUMP_METRICS_PROT", "1")),
    Mistake("archive", 2, ("did you mean MT4PUMP_ARCHIVE_STORE?",), variables=("MT4PUMP_ARCHIVE_STOR", "x")),
    Mistake("mt4pump run", 2, ("did you mean MT4PUMP_LOGIN?",), variables=("MT4PUMP_LOGINN", "1")),
    Mistake("mt4pump run", 2, ("MT4PUMP_SYMBOLS): begins as a JSON array",), variables=("MT4PUMP_SYMBOLS", '["EUR*"')),
)
WARNINGS = (
    (
        "mt4pump tail EURUSD --for 0.1",
        "'EURUSD' can match nothing that a daemon publishes; did you mean 'quote.EURUSD'?",
    ),
    ("mt4pump tail qoute.* --for 0.1", "did you mean 'quote.*'?"),
    ("mt4pump replay trde --after 0", "did you mean 'trade.*'?"),
    ("new_token alice qoute.*", "did you mean 'quote.*'?"),
    ("mt4pump keygen client alice --topics trade.1001 --server nope.key", "exact topics need"),
)


@pytest.fixture(autouse=True)
def long_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a trial connection as long as a busy machine takes; a refusal ends it at once."""
    monkeypatch.setattr("mt4pump.cli.arguments.TRIAL_S", 30.0)
    monkeypatch.setattr("mt4pump_consumers.archive.database.START_LIMIT_S", 0.0)


@pytest.fixture(autouse=True)
def usual_authorities(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave only the authorities that a mistake names."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)


def run(words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run a program with these words; return its exit code and all that it says."""
    name, *rest = words.split()
    monkeypatch.setattr(sys, "argv", [name, *rest])
    try:
        code = PROGRAMS[name]()
    except SystemExit as end:
        code = int(end.code or 0)
    shown = capsys.readouterr()
    return code, shown.out + shown.err


@pytest.mark.parametrize("mistake", MISTAKES, ids=[f"{number}-{each.words}" for number, each in enumerate(MISTAKES)])
def test_a_mistake_is_named_with_its_place_and_cure(
    mistake: Mistake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if mistake.file:
        Path("own.toml").write_text(mistake.file, encoding="utf-8")
        Path("own.toml").chmod(0o600)
    if mistake.variables:
        monkeypatch.setenv(*mistake.variables)
    code, text = run(mistake.words, monkeypatch, capsys)
    assert [part for part in mistake.parts if part not in text] == [], text
    assert (code, "Traceback" in text, "Errno" in text) == (mistake.code, False, False), text


@pytest.mark.parametrize(("words", "warning"), WARNINGS)
def test_a_name_that_can_match_nothing_is_warned_about(
    words: str, warning: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert warning in run(words, monkeypatch, capsys)[1]


LOGGING = {
    "gateway": "gateway --anonymous --port 0 --keys nofile",
    "monitor": "monitor --keys nofile",
    "metrics": "metrics --keys nofile",
    "nats": "nats --keys nofile",
    "archive": "archive --keys nofile",
}


@pytest.mark.parametrize("name", LOGGING)
def test_every_consumer_logs_json_of_the_daemons_shape(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = run(f"{LOGGING[name]} --log-format json", monkeypatch, capsys)
    lines = [json.loads(line) for line in text.splitlines()]
    assert (code, len(lines) > 0) == (3, True)
    for line in lines:
        assert list(line)[:4] == ["ts", "level", "logger", "message"]
        assert re.fullmatch(r"[0-9-]{10}T[0-9:]{8}\.[0-9]{3}Z", line["ts"])
        assert line["level"] in {"debug", "info", "warning", "error"}


def test_the_table_has_forty_mistakes_and_every_program() -> None:
    assert len(set(MISTAKES)) == len(MISTAKES) >= 40
    assert {mistake.words.split()[0] for mistake in MISTAKES} == set(PROGRAMS)
