"""The event classes are what the contract makes, with every field, and their types are known to a type checker."""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_type

import pytest

from mt4pump.client import Activation, Heartbeat, Mail, News, Quote, Trade
from mt4pump.client.event import EventField, TopicName
from mt4pump.client.events import CLASSES
from mt4pump.protocol import fields_of
from mt4pump.wire import KINDS
from tests.protocol.event_classes import MODULE, event_classes, write_event_classes

OTHER_NAMES = {
    ("news", "body"): "text",
    ("news", "topic"): "subject",
    ("mail", "body"): "text",
    ("mail", "from"): "from_",
    ("heartbeat", "offset"): "last_offset",
}
"""Fields whose name is taken by `Event`, or is a word of Python."""


def test_every_kind_but_the_unknown_has_a_class() -> None:
    assert set(KINDS) - set(CLASSES) <= {"unknown"}


@pytest.mark.parametrize("kind", CLASSES)
def test_every_field_of_the_wire_is_an_attribute(kind: str) -> None:
    for name in fields_of(kind):
        event = CLASSES[kind](TopicName(f"{kind}.value"), {name: "value"}, (b"", b""))
        assert getattr(event, OTHER_NAMES.get((kind, name), name)) == "value", name


@pytest.mark.parametrize("kind", CLASSES)
def test_every_attribute_is_a_field_of_the_wire(kind: str) -> None:
    fields = {
        name for owner in CLASSES[kind].__mro__ for name, value in vars(owner).items() if isinstance(value, EventField)
    }
    assert fields <= {OTHER_NAMES.get((kind, name), name) for name in fields_of(kind)}


def test_the_module_is_what_the_contract_makes() -> None:
    assert write_event_classes(MODULE, check=True), "run python -m tests.protocol"


def test_a_module_that_is_out_of_date_is_written_again(tmp_path: Path) -> None:
    module = tmp_path / "events.py"
    assert not write_event_classes(module, check=True)
    assert not module.exists()
    assert not write_event_classes(module, check=False)
    assert module.read_text(encoding="utf-8") == event_classes()
    assert write_event_classes(module, check=True)


def test_a_type_checker_sees_the_fields() -> None:
    body: dict[str, Any] = {"bid": 1.5, "order": 7, "conv_rates": [1.0], "from": "support", "offset": 9}
    given = body, (b"", b"")
    assert assert_type(Quote(TopicName("quote.EURUSD"), *given).bid, float) == 1.5
    assert assert_type(Quote(TopicName("quote.EURUSD"), *given).spread, int | None) is None
    assert assert_type(Trade(TopicName("trade.1"), *given).conv_rates, list[float]) == [1.0]
    assert assert_type(Trade(TopicName("trade.1"), *given).before, dict[str, Any] | None) is None
    assert assert_type(Activation(TopicName("activation.1"), *given).order, int) == 7
    assert assert_type(Mail(TopicName("mail.1"), *given).from_, str | None) == "support"


def test_the_offset_of_a_heartbeat_is_not_its_own() -> None:
    heartbeat = Heartbeat(TopicName("heartbeat"), {"offset": 9}, (b"", b""))
    assert (heartbeat.offset, heartbeat.last_offset) == (None, 9)
    assert Heartbeat(TopicName("heartbeat"), {}, (b"", b"")).last_offset == 0


def test_either_form_of_a_news_has_a_subject() -> None:
    for name in ("subject", "topic"):
        assert News(TopicName("news.1"), {name: "a headline"}, (b"", b"")).subject == "a headline"
    assert News(TopicName("news.1"), {}, (b"", b"")).subject is None
