"""What a record of the Manager API is: fields at offsets, each with its visibility; pure.

A row of a record is ``"visibility type: name name …"``: ``public`` (may be published), ``personal`` (only when
``user_fields`` or ``mail_fields`` names it), ``secret`` (never leaves the bytes), ``internal`` (padding, pointers,
plugin data). A row without ``public`` is never published, so a new field stays hidden until somebody decides otherwise.

Types: a ``struct`` letter, with a count before it for arrays (``2d``); ``12s`` ANSI text, ``256u`` UTF-16 text of 256
units, ``16r`` raw bytes; or the name of another record with a count (``ConGroupSec*32``).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mt4pump.errors import LayoutError

PUBLIC, PERSONAL, SECRET, INTERNAL = "public", "personal", "secret", "internal"
VISIBILITIES = (PUBLIC, PERSONAL, SECRET, INTERNAL)


@dataclass(frozen=True, slots=True)
class Field:
    """One member of a record. ``size`` and ``offset`` are bytes; ``count`` is array elements, 0 for a single value."""

    name: str
    visibility: str
    kind: str
    count: int
    offset: int
    size: int
    record: Record | None

    @property
    def format(self) -> str:
        """Return the ``struct`` format of the member's own bytes (nested records as raw bytes)."""
        if self.kind in "sur" or self.record:
            return f"{self.size}s"
        return f"{self.count or ''}{self.kind}"


class Record:
    """Layout of one struct: the same on 32 and 64 bit Windows, little-endian.

    ``size`` is the size that the header's compiler gives it; rows that add up to anything else are refused here, and a
    test pins every offset.
    """

    known: dict[str, Record] = {}  # noqa: RUF012 - the registry that nested rows look names up in

    def __init__(self, name: str, size: int, rows: str, *, packed: bool = False) -> None:
        self.name = name
        self.size = size
        self.packed = packed
        self.align = 1
        self.fields = tuple(self._place(rows))
        end = self.fields[-1].offset + self.fields[-1].size
        if -(-end // self.align) * self.align != size:
            raise LayoutError(f"{name}: rows end at {end}, the record is {size} bytes")
        self.by_name = {field.name: field for field in self.fields}
        self.struct = struct.Struct(format_of(self, {field.name for field in self.fields}))
        Record.known[name] = self

    def __repr__(self) -> str:
        return f"<Record {self.name} {self.size} bytes>"

    def _place(self, rows: str) -> list[Field]:
        """Return the rows' fields at their offsets, as a C compiler lays them out."""
        fields, offset = [], 0
        for row in map(str.strip, rows.strip().splitlines()):
            head, _, names = row.partition(":")
            visibility, kind = head.split()
            if visibility not in VISIBILITIES:
                raise LayoutError(f"{self.name}: no such visibility: {row}")
            kind, count, size, align, nested = _measure(kind)
            align = 1 if self.packed else align
            self.align = max(self.align, align)
            for name in names.split():
                offset = -(-offset // align) * align
                fields.append(Field(name, visibility, kind, count, offset, size, nested))
                offset += size
        return fields

    def names(self, *visibilities: str) -> frozenset[str]:
        """Return the names of the fields of these visibilities."""
        return frozenset(field.name for field in self.fields if field.visibility in visibilities)

    def pack(self, values: Mapping[str, Any], encoding: str = "cp1252") -> bytes:
        """Return the record's bytes; fields that ``values`` lacks are zero.

        Text is encoded and shortened to the field (a full field has no NUL, as in the API); ``bytes`` are copied.
        """
        if unknown := values.keys() - self.by_name.keys():
            raise LayoutError(f"{self.name} has no field {', '.join(sorted(unknown))}")
        flat: list[Any] = []
        for field in self.fields:
            flat.extend(_flatten(field, values.get(field.name), encoding))
        return self.struct.pack(*flat)


def format_of(record: Record, names: set[str] | frozenset[str], *, arrays_as_bytes: bool = False) -> str:
    """Return the ``struct`` format that reads just ``names`` and steps over every other byte."""
    parts, position = ["<"], 0
    for field in record.fields:
        if field.name in names:
            if field.offset > position:
                parts.append(f"{field.offset - position}x")
            parts.append(f"{field.size}s" if arrays_as_bytes and field.count else field.format)
            position = field.offset + field.size
    if record.size > position:
        parts.append(f"{record.size - position}x")
    return "".join(parts)


def _measure(kind: str) -> tuple[str, int, int, int, Record | None]:
    """Return kind letter, count, size, alignment and nested record of a row's type."""
    if kind[0].isupper() and len(kind) > 1:
        name, _, times = kind.partition("*")
        nested = Record.known[name]
        return "struct", int(times or 0), nested.size * int(times or 1), nested.align, nested
    letter, count = kind[-1], int(kind[:-1] or 0)
    if letter == "u":
        return letter, count, 2 * count, 2, None
    if letter in "sr":
        return letter, count, count, 1, None
    size = struct.calcsize("<" + letter)
    return letter, count, size * max(1, count), size, None


def _flatten(field: Field, value: Any, encoding: str) -> list[Any]:
    """Return ``value`` as the arguments that the field's format takes."""
    if field.record:
        rows = value or ()
        if not field.count:
            rows = (value,) if value else ()
        return [b"".join(row if isinstance(row, bytes) else field.record.pack(row, encoding) for row in rows)]
    if field.kind in "sur":
        if isinstance(value, str):
            value = value.encode("utf-16-le" if field.kind == "u" else encoding, "replace")
        return [(value or b"")[: field.size]]
    if field.count:
        return [*(value or ()), *([0] * (field.count - len(value or ())))]
    return [0 if value is None else value]  # not `value or 0`: minus zero is a price, too
