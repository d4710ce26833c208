"""Fields of a record: names and types from the layout, units and meanings from the notes; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mt4pump.errors import LayoutError
from mt4pump.mt4.record import PERSONAL, PUBLIC, Field, Record
from mt4pump.protocol.enumerations import NUMBERS
from mt4pump.protocol.notes import NOTES

INT, UINT, FLOAT, STR, BOOL, LIST, MAP, BIN, ANY = "int", "uint", "float", "str", "bool", "list", "map", "bin", "any"
TYPES = (INT, UINT, FLOAT, STR, BOOL, LIST, MAP, BIN, ANY)
"""``int`` is signed 64 bit, ``uint`` unsigned 64 bit, ``float`` IEEE double (NaN and infinities included)."""

ALWAYS = "always"
IN_EVENT = "the body is an event and no row of a snapshot"


@dataclass(frozen=True, slots=True)
class Spec:
    """One field, or one element of a list or map.

    Attributes:
        type: One of `TYPES`.
        meaning: What the value is, in one phrase.
        unit: Unit of a number, as ``0.01 lot`` or ``s, server clock``; ``enum NAME`` and ``flags NAME`` name a table.
        when: `ALWAYS`, or the condition under which the key is present.
        nullable: Whether the value may be nil.
        numbers: The known numbers by name, where the unit is an enumeration or a mask of flags. Others may come.
        words: The known words of a text. Others may come in a later version.
        items: What a list holds, or a map whose keys are not fixed.
        fields: The keys of a map that has fixed ones.
        partial: Whether any of ``fields`` may be missing.
    """

    type: str
    meaning: str
    unit: str = ""
    when: str = ALWAYS
    nullable: bool = False
    numbers: Mapping[str, int] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    items: Spec | None = None
    fields: Mapping[str, Spec] = field(default_factory=dict)
    partial: bool = False

    @property
    def is_required(self) -> bool:
        """Return whether every message has the key, events and snapshots alike."""
        return self.when == ALWAYS

    @property
    def is_in_every_event(self) -> bool:
        """Return whether every event has the key."""
        return self.when in {ALWAYS, IN_EVENT}

    def only(self, when: str) -> Spec:
        """Return the same field, present only under a condition."""
        return replace(self, when=when)

    def plain(self) -> dict[str, Any]:
        """Return the field as plain values for the ``describe`` reply: a default value is omitted."""
        plain: dict[str, Any] = {"type": self.type, "unit": self.unit, "meaning": self.meaning}
        if not self.is_required:
            plain["when"] = self.when
        if self.nullable:
            plain["nullable"] = True
        if self.numbers:
            plain["flags" if self.unit.startswith("flags ") else "enum"] = dict(self.numbers)
        if self.words:
            plain["words"] = list(self.words)
        if self.items:
            plain["items"] = self.items.plain()
        if self.fields:
            plain["fields"] = plain_fields(self.fields)
        if self.partial:
            plain["partial"] = True
        return plain


Specs = Mapping[str, Spec]
"""Fields by name, in the order in which a document lists them."""


def plain_fields(specs: Specs) -> dict[str, Any]:
    """Return each field's `Spec.plain`."""
    return {name: spec.plain() for name, spec in specs.items()}


def fixed(meaning: str, fields: Specs, **more: Any) -> Spec:
    """Return a map with fixed keys."""
    return Spec(MAP, meaning, fields=fields, **more)


def each(meaning: str, items: Spec, **more: Any) -> Spec:
    """Return a map whose keys are text and not fixed; every value is ``items``."""
    return Spec(MAP, meaning, items=items, **more)


def rows_of(meaning: str, items: Spec, **more: Any) -> Spec:
    """Return a list of ``items``."""
    return Spec(LIST, meaning, items=items, **more)


TYPE_OF_LETTER = {
    **dict.fromkeys("bhiq", INT),
    **dict.fromkeys("BHIQ", UINT),
    **dict.fromkeys("fd", FLOAT),
    **dict.fromkeys("su", STR),
}
"""What a decoded field is, by its kind in `mt4pump.mt4.record`."""


def record_fields(record: Record, personal: frozenset[str] = frozenset()) -> dict[str, Spec]:
    """Return the fields that a `mt4pump.mt4.decode.Decoder` of ``record`` gives, in its order.

    Raises LayoutError when a field has no note, so no field is published without one.
    """
    notes = dict(_notes_of(record))
    shown = record.names(PUBLIC) | (record.names(PERSONAL) & personal)
    if missing := shown - notes.keys():
        raise LayoutError(f"{record.name}: no note says what {', '.join(sorted(missing))} means")
    return {field.name: _spec(field, *notes[field.name]) for field in record.fields if field.name in shown}


def _notes_of(record: Record) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield name, (unit, meaning) of each noted field. A colon in a unit (``1:n``) is no separator."""
    for row in NOTES[record.name]:
        name, _, rest = row.partition(":")
        unit, _, meaning = rest.strip().partition(": ") if not rest.startswith(":") else ("", "", rest[1:])
        yield name, (unit.strip(), meaning.strip())


def numbers_of(unit: str) -> Mapping[str, int]:
    """Return the numbers that ``enum NAME`` or ``flags NAME`` stands for; none for any other unit."""
    kind, _, name = unit.partition(" ")
    return NUMBERS[name] if kind in {"enum", "flags"} else {}


def _spec(field: Field, unit: str, meaning: str) -> Spec:
    if field.record:
        nested = Spec(MAP, meaning, fields=record_fields(field.record))
        return Spec(LIST, meaning, items=nested) if field.count else nested
    letter = TYPE_OF_LETTER[field.kind]
    if field.count and letter != STR:
        return Spec(LIST, meaning, unit, items=Spec(letter, meaning, unit))
    return Spec(letter, meaning, unit, numbers=numbers_of(unit))
