"""``mt4pump snapshot``: what is asked for, and how it is shown."""

from __future__ import annotations

import json

import pytest

from mt4pump.cli import main
from mt4pump.errors import ClientError
from tests.cli.commands import finish
from tests.cli.fake_query import FakeQuery, install_fake_query, trade
from tests.client.fake_daemon import FakeDaemon


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeQuery]:
    return install_fake_query(monkeypatch)


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


def test_nothing_is_no_table(fake: type[FakeQuery], capsys: pytest.CaptureFixture[str]) -> None:
    fake.events = []
    assert main(["snapshot", "quote"]) == 0
    shown = capsys.readouterr()
    assert not shown.out
    assert shown.err.startswith("mt4pump snapshot: 0 values of 0 topics")


def test_a_refusal_is_one_line_and_code_1(fake: type[FakeQuery], capsys: pytest.CaptureFixture[str]) -> None:
    fake.error = ClientError("forbidden", "none of these topics is allowed")
    assert main(["snapshot", "--json"]) == 1
    assert capsys.readouterr().err == "mt4pump snapshot: none of these topics is allowed\n"


@pytest.mark.parametrize("command", [("snapshot",), ("replay", "--after", "0")], ids=["snapshot", "replay"])
def test_a_topic_that_can_match_nothing_is_warned_about_once(command: tuple[str, ...]) -> None:
    with FakeDaemon() as daemon:
        code, _, error = finish(*command, "qoute.*", "--query-endpoint", daemon.query_endpoint or "")
    text = f"mt4pump {command[0]}: topic 'qoute.*' can match nothing that a daemon publishes; did you mean 'quote.*'?"
    assert (code, error.splitlines()[0], error.count("can match nothing")) == (0, text, 1)
