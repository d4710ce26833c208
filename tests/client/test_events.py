"""The event classes have every field that the protocol describes."""

from __future__ import annotations

import pytest

from mt4pump.client.event import EventField, TopicName
from mt4pump.client.events import CLASSES
from mt4pump.protocol import fields_of
from mt4pump.wire import KINDS

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
    assert fields <= set(fields_of(kind))
