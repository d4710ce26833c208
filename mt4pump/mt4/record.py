"""What a record of the Manager API is (fields at offsets, each with its visibility), and its bytes to fields; pure.

A row of a record is ``"visibility type: name name …"``: ``public`` (may be published), ``personal`` (only when
``user_fields`` or ``mail_fields`` names it), ``secret`` (never leaves the bytes), ``internal`` (padding, pointers,
plugin data). A row without ``public`` is never published, so a new field stays hidden until somebody decides otherwise.

Types: a ``struct`` letter, with a count before it for arrays (``2d``); ``12s`` ANSI text, ``256u`` UTF-16 text of 256
units, ``16r`` raw bytes; or the name of another record with a count (``ConGroupSec*32``).

A `Decoder` reads just the fields that may be published: its ``struct`` format steps over every other byte, so secrets
are never even unpacked. Text is cut at the first NUL (a full field has none) and decoded with the configured code page;
undecodable bytes become U+FFFD.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mt4pump.errors import LayoutError

PUBLIC, PERSONAL, SECRET, INTERNAL = "public", "personal", "secret", "internal"
VISIBILITIES = (PUBLIC, PERSONAL, SECRET, INTERNAL)
NAMES_KEPT, NAME_BYTES = 4096, 16
"""Texts of fields up to `NAME_BYTES` that are remembered decoded."""
Fields = dict[str, Any]
"""Field values under their MT4 names: int, float, str, list, or nested dicts."""


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
        self.struct = struct.Struct(format_of(self, self.by_name))
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


def format_of(record: Record, names: Collection[str], *, arrays_as_bytes: bool = False) -> str:
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
        rows = [value] if value and not field.count else value or ()
        return [b"".join(row if isinstance(row, bytes) else field.record.pack(row, encoding) for row in rows)]
    if field.kind in "sur":
        if isinstance(value, str):
            value = value.encode("utf-16-le" if field.kind == "u" else encoding, "replace")
        return [(value or b"")[: field.size]]
    if field.count:
        return [*(value or ()), *([0] * (field.count - len(value or ())))]
    return [0 if value is None else value]  # not `value or 0`: minus zero is a price, too


def ansi_text(raw: bytes, encoding: str) -> str:
    """Return the text of a fixed char field in code page ``encoding``. Never fails."""
    return raw.partition(b"\0")[0].decode(encoding, "replace")


def text_reader(encoding: str) -> Callable[[bytes], str]:
    """Return `ansi_text` for one code page; plain ASCII, which most fields are, skips the page's table."""
    if bytes(range(1, 128)).decode(encoding, "replace") != bytes(range(1, 128)).decode("ascii"):
        return lambda raw: ansi_text(raw, encoding)

    def read(raw: bytes) -> str:
        text = raw.partition(b"\0")[0]
        return str(text, "ascii") if text.isascii() else text.decode(encoding, "replace")

    return read


def utf16_text(raw: bytes) -> str:
    """Return the text of a fixed UTF-16LE field. Never fails; a lone surrogate becomes U+FFFD."""
    end = raw.find(b"\0\0")
    while end % 2 and end > 0:  # a NUL unit starts at an even byte
        end = raw.find(b"\0\0", end + 1)
    return raw[: end if end >= 0 else len(raw) & ~1].decode("utf-16-le", "replace")


class Decoder:
    """Turns the bytes of one kind of record into its publishable fields.

    ``personal`` names the personal fields that may be published as well; a name that is not a personal field of the
    record is ignored here (the settings refuse it).
    """

    def __init__(self, record: Record, encoding: str = "cp1252", personal: Collection[str] = ()) -> None:
        codecs.lookup(encoding)
        self.record = record
        allowed = record.names(PUBLIC) | record.names(PERSONAL).intersection(personal)
        shown = [field for field in record.fields if field.name in allowed]
        self.names = tuple(field.name for field in shown)
        # One value per field: arrays and nested records come as bytes, and only those and texts are touched again.
        self._struct = struct.Struct(format_of(record, allowed, arrays_as_bytes=True))
        self._conversions = tuple((field.name, convert) for field in shown if (convert := _conversion(field, encoding)))

    def __call__(self, data: bytes) -> Fields:
        """Return the fields of ``data``; raises LayoutError when its length is not the record's."""
        if len(data) != self.record.size:
            raise LayoutError(f"{self.record.name} is {self.record.size} bytes, got {len(data)}")
        return self._fields(self._struct.unpack(data))

    def many(self, data: bytes | memoryview) -> Iterator[Fields]:
        """Yield the fields of each record of an array; raises LayoutError when bytes are left over."""
        if len(data) % self.record.size:
            raise LayoutError(f"array of {self.record.name}: {len(data)} bytes is not a multiple of {self.record.size}")
        return map(self._fields, self._struct.iter_unpack(data))

    def _fields(self, values: tuple[Any, ...]) -> Fields:
        fields = dict(zip(self.names, values, strict=True))
        for name, convert in self._conversions:
            fields[name] = convert(fields[name])
        return fields


def _conversion(field: Field, encoding: str) -> Callable[[bytes], Any] | None:
    """Return what turns the field's bytes into its plain value; None for a number, which is one already."""
    if field.record:
        nested = Decoder(field.record, encoding)
        return (lambda raw: list(nested.many(raw))) if field.count else nested
    if field.kind == "s":
        read = text_reader(encoding)
        # Names of symbols, groups, currencies: few, and the same ones all the time.
        return lru_cache(NAMES_KEPT)(read) if field.size <= NAME_BYTES else read
    if field.kind == "u":
        return utf16_text
    if field.count:
        unpack = struct.Struct("<" + field.format).unpack
        return lambda raw: list(unpack(raw))
    return None
