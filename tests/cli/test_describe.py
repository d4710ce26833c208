"""``mt4pump describe``: what the daemon says it publishes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mt4pump.cli import main
from mt4pump.client import connection_fault
from mt4pump.client.connection_fault import OTHER_SOCKET, WRONG_KEYS
from mt4pump.errors import ClientError
from mt4pump.protocol.documents import asyncapi, json_schema
from tests.cli.fake_query import DESCRIPTION, FakeQuery, install_fake_query

SWAPPED = (OTHER_SOCKET, "swapped")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeQuery]:
    return install_fake_query(monkeypatch)


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


def test_a_daemon_without_a_journal_is_shown_as_such(fake: type[FakeQuery], capsys: pytest.CaptureFixture[str]) -> None:
    fake.description = {**DESCRIPTION, "log": None, "server_utc_offset_s": None}
    assert main(["describe"]) == 0
    shown = rows(capsys)
    assert "journal none: nothing can be replayed" in shown
    assert "server UTC offset not known yet" in shown


@pytest.mark.parametrize("answer", [{}, {"kinds": []}, {"kinds": {"x\n": 5}, "retention": 5, "topic_suffix": 5}])
def test_an_answer_of_another_version_does_not_break_it(
    answer: dict[str, object], fake: type[FakeQuery], capsys: pytest.CaptureFixture[str]
) -> None:
    fake.description = answer
    assert main(["describe"]) == 0
    assert main(["describe", "--json"]) == 0
    assert not capsys.readouterr().err


def test_a_refusal_is_one_line_and_code_1(fake: type[FakeQuery], capsys: pytest.CaptureFixture[str]) -> None:
    fake.error = ClientError("forbidden", "no answer\nfor this key")
    assert main(["describe"]) == 1
    assert capsys.readouterr().err == "mt4pump describe: no answer\\nfor this key\n"


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


def test_a_journal_that_is_not_open_yet_is_not_called_none(
    fake: type[FakeQuery], capsys: pytest.CaptureFixture[str]
) -> None:
    fake.description = {**DESCRIPTION, "log": ""}
    assert main(["describe"]) == 0
    assert "journal could not be opened yet: the daemon's log says why, and it tries again" in rows(capsys)
