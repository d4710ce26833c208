"""What a field of a message is: type, unit, meaning, when it is there; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

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
        meaning: What the value says, in one sentence.
        unit: Unit of a number, as ``0.01 lot`` or ``s, server clock``; ``enum NAME`` and ``flags NAME`` name a table.
        when: `ALWAYS`, or the condition under which the key is there.
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
        """Return the same field, there only on a condition."""
        return replace(self, when=when)

    def plain(self) -> dict[str, Any]:
        """Return the field as plain values for the ``describe`` reply: what has its default is left out."""
        told: dict[str, Any] = {"type": self.type, "unit": self.unit, "meaning": self.meaning}
        if not self.is_required:
            told["when"] = self.when
        if self.nullable:
            told["nullable"] = True
        if self.numbers:
            told["flags" if self.unit.startswith("flags ") else "enum"] = dict(self.numbers)
        if self.words:
            told["words"] = list(self.words)
        if self.items:
            told["items"] = self.items.plain()
        if self.fields:
            told["fields"] = plain_fields(self.fields)
        if self.partial:
            told["partial"] = True
        return told


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
