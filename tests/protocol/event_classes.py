"""`mt4pump/client/events.py`, written from the contract."""

from __future__ import annotations

import re
from pathlib import Path

from mt4pump.protocol import contract, fields_of
from mt4pump.protocol.contract import FieldSpec, FieldSpecs
from mt4pump.wire import KINDS

MODULE = Path(__file__).resolve().parents[2] / "mt4pump" / "client" / "events.py"
LINE_CHARS, INDENT = 120, 4
CLASS_NAMES = {"symbol": "SymbolConfig"}
"""Classes that are not named after their kind."""
NO_CLASS = {"unknown"}
ORDERS = ("trade", "activation")
"""Kinds whose bodies are order records: their common fields are in `OrderRecord`."""
OTHER_NAMES = {
    ("news", "body"): "text",
    ("mail", "body"): "text",
    ("mail", "from"): "from_",
}
"""Attributes that are not named after their field: `Event` has the name, or it is a word of Python."""
OF_EVENT = {"action", "key", "offset"}
"""Fields that are no attributes of the class of a kind: `Event` or `PROPERTIES` have them."""
TYPES = {"int": "int", "uint": "int", "float": "float", "str": "str", "bool": "bool", "bin": "bytes", "any": "Any"}
HEAD = '''\
"""What a subscriber receives: one class per kind over the decoded body, with all fields of the wire; pure.

``python -m tests.protocol`` writes this file from `mt4pump/protocol/protocol.toml`, whose notes are the comments here,
long ones shortened; units stand in brackets. A field that the body lacks reads as None.
"""

from __future__ import annotations

from typing import Any

from mt4pump.client.event import Event, EventField
'''
PROPERTIES = {
    "heartbeat": '''
    @property
    def offset(self) -> int | None:
        """Return None: a heartbeat is not stored. Its body's ``offset`` is `last_offset`."""
        return None

    @property
    def last_offset(self) -> int:
        """Return the offset of the last durable event before this heartbeat."""
        return self.body.get("offset") or 0
''',
    "news": '''
    @property
    def subject(self) -> str | None:
        """Return the headline; the API's two forms of news name it differently."""
        return self.body.get("subject", self.body.get("topic"))
''',
}
"""Attributes that are not one field of the body."""
WORDS = {"CHANGES": ("trade", "change"), "SESSION_STATES": ("session", "state")}
"""Tuples of the known values of a field."""
READ_BY_PROPERTIES = {("news", "subject"), ("news", "topic")}


def write_event_classes(module: Path, *, check: bool) -> bool:
    """Return whether ``module`` is current; write it if not, unless ``check``."""
    after = event_classes()
    current = module.is_file() and module.read_text(encoding="utf-8") == after
    if not current and not check:
        module.write_text(after, encoding="utf-8", newline="\n")
    return current


def event_classes() -> str:
    """Return the text of the module."""
    kinds = [kind for kind in KINDS if kind not in NO_CLASS]
    text = HEAD + _class("OrderRecord", "Event", "fields that every event about an order has", "", _order_fields())
    for kind in kinds:
        fields = {name: spec for name, spec in fields_of(kind).items() if name not in OF_EVENT}
        base = "Event"
        if kind in ORDERS:
            base = "OrderRecord"
            fields = {name: spec for name, spec in fields.items() if name not in _order_fields()}
        text += _class(_class_name(kind), base, contract().kinds[kind].meaning, kind, fields)
        text += PROPERTIES.get(kind, "")
    rows = "".join(f'    "{kind}": {_class_name(kind)},\n' for kind in kinds)
    last = '"""The class of each kind; a kind that is not here is a plain `Event`."""'
    text += f"\n\nCLASSES: dict[str, type[Event]] = {{\n{rows}}}\n{last}\n"
    return text + "".join(_words(name, *place) for name, place in WORDS.items())


def _words(name: str, kind: str, key: str) -> str:
    words = ", ".join(f'"{word}"' for word in fields_of(kind)[key].words)
    return f'{name} = ({words})\n"""Values of `{_class_name(kind)}.{key}`; a later version may have more."""\n'


def _class_name(kind: str) -> str:
    return CLASS_NAMES.get(kind, kind.title())


def _order_fields() -> FieldSpecs:
    first, second = (fields_of(kind) for kind in ORDERS)
    return {name: spec for name, spec in first.items() if second.get(name) == spec and name not in OF_EVENT}


def _class(name: str, base: str, meaning: str, kind: str, fields: FieldSpecs) -> str:
    own = ((key, spec) for key, spec in fields.items() if (kind, key) not in READ_BY_PROPERTIES)
    lines = (_field(kind, key, spec) for key, spec in own)
    head = f'\n\nclass {name}({base}):\n    """{meaning[0].upper()}{meaning[1:]}."""\n\n    __slots__ = ()\n'
    return head + "".join(f"    {line}\n" for line in lines)


def _field(kind: str, key: str, spec: FieldSpec) -> str:
    """Return the line of one field: its attribute, and what it means."""
    name = OTHER_NAMES.get((kind, key), key)
    given = "" if name == key else f'"{key}"'
    is_optional = spec.nullable or not spec.is_required
    code = f"{name} = EventField[{_type(spec)}{' | None' if is_optional else ''}]({given})"
    unit = f" [{spec.unit}]" if spec.unit else ""
    whole, first = (" ".join(text.split()) + unit for text in (spec.meaning, re.split("[;,(:]", spec.meaning)[0]))
    for meaning in (whole, first):  # the rest of a long one is in PROTOCOL
        if len(line := f"{code}  # {meaning}") + INDENT <= LINE_CHARS:
            return line
    return code


def _type(spec: FieldSpec) -> str:
    if spec.type == "list":
        return f"list[{_type(spec.items) if spec.items else 'Any'}]"
    if spec.type == "map":
        return f"dict[str, {_type(spec.items) if spec.items else 'Any'}]"
    return TYPES[spec.type]
