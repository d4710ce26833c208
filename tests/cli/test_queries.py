"""``mt4pump describe``, ``snapshot`` and ``replay``: what is asked, what is shown, and what is missing."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from mt4pump.cli import main
from mt4pump.client import connection_fault
from mt4pump.client.connection_fault import OTHER_SOCKET, WRONG_KEYS
from mt4pump.errors import ClientError
from mt4pump.protocol.documents import asyncapi, json_schema
from tests.cli.commands import finish
from tests.cli.fake_query import DESCRIPTION, FakeQuery, install_fake_query, trade
from tests.client.fake_daemon import FakeDaemon

SWAPPED = (OTHER_SOCKET, "swapped")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeQuery]:
    made = install_fake_query(monkeypatch)
    made.events = [trade(100, 3), trade(1001, 4), trade(100, 5)]
    return made


def rows(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_the_daemon_and_its_kinds_are_shown(fake: type[FakeQuery], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe"]) == 0
    shown = rows(capsys)
    assert "version 9.9, protocol 1" in shown
    assert "journal abc123, last offset 7, keeps 7 days or 4GiB" in shown
    assert "topic suffix \\x1f" in shown
    assert "server UTC offset +2 h" in shown
    assert "quote.<symbol> - yes 1 best bid and ask of a symbol" in shown
    assert "heartbeat - - 0 state" in shown
    assert fake.made == [("tcp://127.0.0.1:5557", None, 5.0)]


PUBLISHES, ANSWERS = "tcp://127.0.0.1:7000", "tcp://127.0.0.1:7001"


@pytest.mark.parametrize(
    ("flags", "asked"),
    [
        (("--endpoint", PUBLISHES), ANSWERS),
        (("--endpoint", ANSWERS), ANSWERS),
        (("--query-endpoint", ANSWERS), ANSWERS),
        (("--endpoint", "tcp://127.0.0.1:6000", "--query-endpoint", ANSWERS), ANSWERS),
    ],
)
def test_endpoint_is_where_the_daemon_publishes_as_in_every_command_and_may_be_where_it_answers(
    flags: tuple[str, ...], asked: str, fake: type[FakeQuery], monkeypatch: pytest.MonkeyPatch
) -> None:
    for swapped in (SWAPPED, (WRONG_KEYS, "so it is with keys")):
        monkeypatch.setattr(
            connection_fault, "connection_fault", lambda at, *_, found=swapped: ("", "") if at == ANSWERS else found
        )
        assert main(["describe", *flags]) == 0
    assert fake.made == [(asked, None, 5.0)] * 2


def test_an_address_beside_which_nothing_answers_queries_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(connection_fault, "connection_fault", lambda *_: SWAPPED)
    assert main(["describe", "--endpoint", PUBLISHES]) == 1
    assert "swapped. Nothing answers queries on the next port either: give --query-endpoint" in capsys.readouterr().err


@pytest.mark.usefixtures("fake")
def test_a_kind_is_shown_with_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "quote"]) == 0
    assert rows(capsys) == [
        "quote: best bid and ask of a symbol",
        "field type unit meaning",
        "bid float quote currency best bid",
    ]


@pytest.mark.usefixtures("fake")
def test_json_is_the_answer_as_it_came_or_only_some_kinds_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == DESCRIPTION
    assert main(["describe", "heartbeat", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["kinds"]) == ["heartbeat"]


@pytest.mark.usefixtures("fake")
def test_a_kind_that_the_daemon_does_not_know_is_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "quotes"]) == 2
    assert capsys.readouterr().err == "mt4pump: the daemon knows no kind of event 'quotes'; did you mean quote?\n"


@pytest.mark.parametrize(
    ("log", "text"),
    [
        (None, "none: nothing can be replayed"),
        ("", "could not be opened yet: the daemon's log says why, and it tries again"),
    ],
)
def test_what_a_daemon_lacks_is_shown_as_such(
    log: str | None, text: str, fake: type[FakeQuery], capsys: pytest.CaptureFixture[str]
) -> None:
    fake.description = {**DESCRIPTION, "log": log, "server_utc_offset_s": None}
    assert main(["describe"]) == 0
    shown = rows(capsys)
    assert f"journal {text}" in shown
    assert "server UTC offset not known yet" in shown


@pytest.mark.parametrize("answer", [{}, {"kinds": []}, {"kinds": {"x\n": 5}, "retention": 5, "topic_suffix": 5}])
def test_an_answer_of_another_version_does_not_break_it(
    answer: dict[str, object], fake: type[FakeQuery], capsys: pytest.CaptureFixture[str]
) -> None:
    fake.description = answer
    assert main(["describe"]) == 0
    assert main(["describe", "--json"]) == 0
    assert not capsys.readouterr().err


@pytest.mark.parametrize("command", [["describe"], ["snapshot", "--json"]], ids=" ".join)
def test_a_refusal_is_one_line_and_code_1(
    command: list[str], fake: type[FakeQuery], capsys: pytest.CaptureFixture[str]
) -> None:
    fake.error = ClientError("forbidden", "no answer\nfor this key")
    assert main(command) == 1
    assert capsys.readouterr().err == f"mt4pump {command[0]}: no answer\\nfor this key\n"


def test_the_address_comes_from_flag_or_settings(
    fake: type[FakeQuery], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MT4PUMP_QUERY_ENDPOINT", "tcp://*:7000")
    assert main(["describe", "--timeout=2"]) == 0
    assert main(["describe", "--endpoint=tcp://127.0.0.1:8000"]) == 0
    assert fake.made == [("tcp://127.0.0.1:7000", None, 2.0), ("tcp://127.0.0.1:8000", None, 5.0)]
    monkeypatch.setenv("MT4PUMP_QUERY_ENDPOINT", "none")
    assert main(["describe"]) == 2
    assert "query_endpoint: is none: this daemon answers no queries" in capsys.readouterr().err
    monkeypatch.setenv("MT4PUMP_QUERY_ENDPOINT", "tcp://127.0.0.1:*")
    assert main(["describe"]) == 2
    assert "query_endpoint: 'tcp://127.0.0.1:*' has no fixed port" in capsys.readouterr().err


@pytest.mark.usefixtures("fake")
def test_keys_that_cannot_be_read_are_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "--keys=missing.key"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("mt4pump: settings are wrong:\n  --keys: ")
    assert "missing.key" in error


@pytest.mark.parametrize(("flag", "document"), [("--asyncapi", asyncapi()), ("--json-schema", json_schema())])
def test_the_documents_of_the_contract_need_no_daemon(
    capsys: pytest.CaptureFixture[str], flag: str, document: dict[str, Any]
) -> None:
    assert main(["describe", flag]) == 0
    assert json.loads(capsys.readouterr().out) == document


def test_the_values_are_a_table_and_the_time_of_the_snapshot_is_on_standard_error(
    fake: type[FakeQuery], capsys: pytest.CaptureFixture[str]
) -> None:
    fake.events = [trade(100, None), trade(100, None), trade(1001, None)]
    assert main(["snapshot"]) == 0
    shown = capsys.readouterr()
    lines = [" ".join(line.split()) for line in shown.out.splitlines()]
    assert lines[0] == "topic seq time value"
    assert [line.split()[:2] for line in lines[1:]] == [["trade.100", "3"], ["trade.100", "3"], ["trade.1001", "3"]]
    assert "opened #5" in lines[1]
    assert shown.err == "mt4pump snapshot: 3 values of 2 topics, epoch 1000, offset 7, log abc123\n"
    assert fake.requests == [("snapshot", ["*"])]


def test_a_topic_is_requested_and_shown_by_its_whole_name(
    fake: type[FakeQuery], capsys: pytest.CaptureFixture[str]
) -> None:
    fake.events = [trade(100, None), trade(1001, None)]
    assert main(["snapshot", "trade.100", "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["topic"] == "trade.100"
    assert json.loads(line)["body"]["order"] == 5
    assert fake.requests == [("snapshot", ["trade.100"])]


@pytest.mark.usefixtures("fake")
def test_nothing_is_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["snapshot", "quote"]) == 0
    shown = capsys.readouterr()
    assert not shown.out
    assert shown.err.startswith("mt4pump snapshot: 0 values of 0 topics")


@pytest.mark.parametrize("command", [("snapshot",), ("replay", "--after", "0")], ids=["snapshot", "replay"])
def test_a_topic_that_can_match_nothing_is_warned_about_once(command: tuple[str, ...]) -> None:
    with FakeDaemon() as daemon:
        code, _, error = finish(*command, "qoute.*", "--query-endpoint", daemon.query_endpoint or "")
    text = f"mt4pump {command[0]}: topic 'qoute.*' can match nothing that a daemon publishes; did you mean 'quote.*'?"
    assert (code, error.splitlines()[0], error.count("can match nothing")) == (0, text, 1)


def test_events_are_lines_and_the_span_a_note(fake: type[FakeQuery], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "--after", "2"]) == 0
    shown = capsys.readouterr()
    assert [line.split()[1] for line in shown.out.splitlines()] == ["trade.100", "trade.1001", "trade.100"]
    assert shown.err == "mt4pump replay: 3 events, offsets 3 to 5\n"
    assert fake.requests == [("replay", ["*"], 2, None, None)]


def test_json_lines_of_exactly_the_requested_topics(fake: type[FakeQuery], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "trade.100", "--after=0", "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(each["topic"], each["body"]["offset"]) for each in found] == [("trade.100", 3), ("trade.100", 5)]
    assert fake.requests[0][1] == ["trade.100"]


def test_times_are_handed_on_as_ns(fake: type[FakeQuery]) -> None:
    assert main(["replay", "--since=2026-11-23T11:00Z", "--until=2026-11-23T12:00Z"]) == 0
    hour_ns = 3_600_000_000_000
    assert fake.requests == [("replay", ["*"], None, 1_795_431_600_000_000_000, 1_795_431_600_000_000_000 + hour_ns)]


def test_limit_ends_it(fake: type[FakeQuery], capsys: pytest.CaptureFixture[str]) -> None:
    fake.whole = False
    assert main(["replay", "trade.100", "--after=0", "--limit=2"]) == 0
    assert capsys.readouterr().err == "mt4pump replay: 2 events, offsets 3 to 5\n"


def test_missing_events_are_reported_with_code_1(fake: type[FakeQuery], capsys: pytest.CaptureFixture[str]) -> None:
    fake.whole = False
    assert main(["replay", "--after=0"]) == 1
    assert "\nmt4pump replay: not whole: events are missing" in capsys.readouterr().err


def test_an_empty_replay_is_reported(fake: type[FakeQuery], capsys: pytest.CaptureFixture[str]) -> None:
    fake.events = []
    assert main(["replay", "--after=9"]) == 0
    assert capsys.readouterr().err == "mt4pump replay: 0 events, nothing is stored there\n"


def test_an_error_midway_keeps_the_lines_before_it(fake: type[FakeQuery], capsys: pytest.CaptureFixture[str]) -> None:
    fake.error = ClientError("journal_error", "the journal cannot be read")
    assert main(["replay", "--after=0"]) == 1
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 3
    assert shown.err == "mt4pump replay: the journal cannot be read\n"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "one of the arguments --after --since is required"),
        (["--after=1", "--since=1m"], "not allowed with argument"),
        (["--after=-1"], "'-1' is not a whole number of at least 0"),
        (["--after=" + "9" * 30], "is not a whole number of at least 0"),
        (["--since=soon"], "'soon' is no time; write 10m, 2h or 1d12h"),
        (["--after=0", "--limit=0"], "'0' is not a whole number of at least 1"),
        (["--after=0", "--timeout=x"], "'x' is not a number of seconds above 0"),
    ],
)
@pytest.mark.usefixtures("fake")
def test_wrong_flags_are_code_2(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", *flags]) == 2
    assert message in capsys.readouterr().err


def test_on_a_terminal_that_shows_nothing_else_progress_is_drawn(
    fake: type[FakeQuery], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(["replay", "--after=0", "--json"]) == 0
    assert ("describe",) in fake.requests
