"""``mt4pump replay``: from where to where, what is shown, and how a gap in it is reported."""

from __future__ import annotations

import json
import sys

import pytest

from mt4pump.cli import main
from mt4pump.errors import ClientError
from tests.cli.fake_query import FakeQuery, install_fake_query, trade


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeQuery]:
    made = install_fake_query(monkeypatch)
    made.events = [trade(100, 3), trade(1001, 4), trade(100, 5)]
    return made


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
