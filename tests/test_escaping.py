"""Foreign text: one harmless line in every log, on every screen, in every JSON line."""

from __future__ import annotations

import io
import json
import logging
import sys
from typing import Any

import pytest
from rich.console import Console

from mt4pump.cli.arguments import TopicFilter
from mt4pump.cli.format import human_event, json_event
from mt4pump.cli.queries import snapshot_table
from mt4pump.cli.stream import StreamStats
from mt4pump.cli.tail import screen
from mt4pump.client import Event
from mt4pump.client.event import TopicName
from mt4pump.log import configure, json_line, one_line
from mt4pump.wire import KINDS, Encoder
from tests.hostile import HARMLESS, HOSTILE, SURROGATE, is_harmless
from tests.isolation import logging_put_back

__all__ = ["logging_put_back"]

log = logging.getLogger("mt4pump.test")
every_hostile_text = pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)


def body(text: str) -> dict[str, Any]:
    """Return a body that has ``text`` everywhere."""
    common = {"epoch": 1, "seq": 1, "ts": 1_700_000_000_000_000_000}
    fields = dict.fromkeys(("symbol", "change", "state", "server", "topic", "reason", "order", "spread", text), text)
    return {**common, **fields, "nested": {text: [text]}}


def fail(text: str) -> None:
    """Raise what is to be logged."""
    raise ValueError(text)


@every_hostile_text
def test_hostile_text_becomes_one_harmless_line(text: str) -> None:
    escaped = one_line(text)
    assert is_harmless(escaped)
    assert len(escaped.splitlines()) == 1
    assert one_line(escaped) == escaped
    escaped.encode()


def test_a_lone_surrogate_is_escaped_too() -> None:
    assert one_line(SURROGATE) == "a\\ud800b"
    assert is_harmless(json_line(SURROGATE))


@pytest.mark.parametrize("text", HARMLESS)
def test_harmless_text_stays_as_it_is(text: str) -> None:
    assert one_line(text) == text


def test_escapes_are_written_as_in_any_language() -> None:
    assert one_line("\x1b\x9b\u202e\U000e0001\n\r\t\0") == "\\x1b\\x9b\\u202e\\U000e0001\\n\\r\\t\\x00"


@every_hostile_text
@pytest.mark.parametrize("format_", ["human", "json"])
def test_a_log_line_is_harmless_wherever_the_text_stands(
    text: str, format_: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(format=format_)
    try:
        fail(text)
    except ValueError:
        log.exception("%s", text, extra={"reason": text})
    log.info(text, extra={"reason": text, "nested": {text: [text]}})
    lines = capsys.readouterr().err.removesuffix("\n").split("\n")
    assert len(lines) == 2
    assert all(map(is_harmless, lines))


@every_hostile_text
def test_events_of_every_kind_as_text_and_as_json_are_harmless_lines(text: str) -> None:
    assert is_harmless(json_line(text))
    for topic in (f"{kind}.{text}" for kind in KINDS):
        assert is_harmless(human_event(topic, body(text))), topic
        assert is_harmless(json_event(topic, body(text))), topic
        assert json.loads(json_event(topic, body(text)))["topic"] == topic


@every_hostile_text
def test_the_tables_of_snapshot_and_tail_are_harmless(text: str) -> None:
    stats = StreamStats("tcp://127.0.0.1:5556", TopicFilter([]), 0.0)
    encoder = Encoder(1)
    encodable = text.encode("utf-8", "replace").decode()
    for topic in (f"news.{encodable}", "heartbeat"):
        stats.handle((topic.encode(), encoder.body({**body(encodable), "dropped": encodable}, 1, 1)), 1.0)
    drawn = io.StringIO()
    console = Console(file=drawn, width=300, color_system=None)
    console.print(snapshot_table([Event(TopicName(f"news.{text}"), body(text), (b"", b""))]))
    console.print(screen(stats, 2.0, 40))
    assert all(map(is_harmless, drawn.getvalue().removesuffix("\n").split("\n")))


def test_one_function_escapes_for_every_program() -> None:
    import mt4pump.client  # noqa: PLC0415 - what consumers have

    assert mt4pump.client.one_line is one_line
    assert sys.modules["mt4pump.log"].one_line is one_line
