"""Events as lines of text."""

from __future__ import annotations

import json
import math
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mt4pump.cli.format import age_text, clock_text, command_text, human_event, json_event, lots_text, summary
from tests.cli.fake_publisher import TS

TRADE = {
    "order": 77,
    "login": 5,
    "symbol": "EURUSD",
    "digits": 5,
    "cmd": 1,
    "volume": 150,
    "open_price": 1.1,
    "close_price": 1.2,
    "profit": -3.5,
    "change": "opened",
}
SNAPSHOT_ROW = {name: value for name, value in TRADE.items() if name != "change"} | {"snapshot": True}


@pytest.mark.parametrize(
    ("topic", "body", "text"),
    [
        (
            "quote.EURUSD",
            {"bid": 1.1, "ask": 1.10015, "spread": 15, "digits": 5},
            "bid 1.10000  ask 1.10015  spread 15",
        ),
        ("quote.EURUSD", {"bid": 1.1, "ask": None, "spread": 15}, "bid 1.1  ask -  spread 15"),
        ("trade.5", TRADE, "opened  #77  EURUSD  sell  1.50 lots  at 1.10000  profit -3.5"),
        ("trade.5", {**TRADE, "change": "closed"}, "closed  #77  EURUSD  sell  1.50 lots  at 1.20000  profit -3.5"),
        (
            "trade.5",
            {**TRADE, "change": "modified", "ended": True, "profit": 0.0},
            "modified (ended)  #77  EURUSD  sell  1.50 lots  at 1.10000",
        ),
        ("trade.5", {**TRADE, "cmd": 6, "change": "balance", "profit": 100.0}, "balance  #77  balance 100.0"),
        ("trade.5", {**SNAPSHOT_ROW, "profit": 0.0}, "open  #77  EURUSD  sell  1.50 lots  at 1.10000"),
        ("trade.5", SNAPSHOT_ROW, "open  #77  EURUSD  sell  1.50 lots  at 1.10000  profit -3.5"),
        ("trade.5", {**SNAPSHOT_ROW, "cmd": 2}, "pending  #77  EURUSD  buy limit  1.50 lots  at 1.10000"),
        (
            "trade.5",
            {**TRADE, "change": "closed", "profit": 0.0},
            "closed  #77  EURUSD  sell  1.50 lots  at 1.20000  profit 0.0",
        ),
        ("online.5", {"snapshot": True, "login": 5, "group": None}, "login=5 group=-"),
        ("trade.5", {"action": "add", "cmd": 99}, "add  #-  -  cmd 99  - lots  at -"),
        ("heartbeat", {"state": "lost", "server": "x", "extra": 1}, "state=lost server=x"),
        (
            "group.a",
            {"group": "a", "secmargins": [1, 2], "seq": 1, "epoch": 1, "ts": 1},
            "group=a secmargins=(2 values)",
        ),
        ("news.1", {"topic": "a\nb\x1b[31m"}, "topic=a\\nb\\x1b[31m"),
    ],
)
def test_the_most_important_values_come_first(topic: str, body: dict[str, Any], text: str) -> None:
    assert summary(topic, body) == text


def test_a_long_summary_is_cut() -> None:
    assert len(summary("group.x", {f"field{number}": "x" * 100 for number in range(500)})) == 100


def test_a_human_line_has_time_topic_and_values() -> None:
    line = human_event("quote.EURUSD", {"bid": 1.5, "ask": 2.5, "spread": 1, "ts": TS})
    assert line == f"{clock_text(TS)} quote.EURUSD     bid 1.5  ask 2.5  spread 1"


@pytest.mark.parametrize("ts", [None, "x", -(10**30), 10**30, [1]])
def test_a_time_that_is_none_shows_dashes(ts: object) -> None:
    assert clock_text(ts) == "--:--:--.---"


def test_a_json_line_is_topic_and_body_with_null_for_what_json_lacks() -> None:
    body = {"login": 5, "margin_level": math.inf, "raw": b"\xff", "time": msgpack.Timestamp(1)}
    line = json_event("margin.5", body)
    assert line.startswith('{"topic": "margin.5", "body": {"login": 5, "margin_level": null, ')
    assert json.loads(line)["body"]["raw"] == "�"


def test_a_field_called_topic_stays_beside_the_events_own() -> None:
    line = json_event("news.5", {"topic": "headline"})
    assert json.loads(line) == {"topic": "news.5", "body": {"topic": "headline"}}


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0.0 s"), (0.04, "0.0 s"), (9.9, "9.9 s"), (59, "59 s"), (300, "5 min"), (9000, "2 h")]
)
def test_ages_are_short(seconds: float, text: str) -> None:
    assert age_text(seconds) == text


def test_commands_and_lots_are_in_words() -> None:
    assert [command_text(cmd) for cmd in (0, 2, 7, None)] == ["buy", "buy limit", "credit", "cmd -"]
    assert [lots_text(volume) for volume in (1, 100, "x")] == ["0.01", "1.00", "x"]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(), each, max_size=3),
    max_leaves=5,
)
names = st.sampled_from(["bid", "ask", "digits", "cmd", "volume", "change", "order", "state", "ts", "symbol"])


@given(st.sampled_from(["quote.A", "trade.5", "heartbeat", "x", ""]), st.dictionaries(names | st.text(), values))
def test_no_body_whatever_breaks_a_line(topic: str, body: dict[str, Any]) -> None:
    assert len(human_event(topic, body).splitlines()) == 1
    assert isinstance(json.loads(json_event(topic, body)), dict)
