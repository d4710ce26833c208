"""Record bytes to plain fields, text included; pure. Secrets are never even unpacked.

A `Decoder` reads just the fields that may be published: its ``struct`` format steps over every other byte. Text is cut
at the first NUL (a full field has none) and decoded with the configured code page; undecodable bytes become U+FFFD.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable, Iterator
from typing import Any

from mt4pump.errors import LayoutError
from mt4pump.record import PERSONAL, PUBLIC, Field, Record, format_of

Fields = dict[str, Any]
"""Field values under their MT4 names: int, float, str, list, or nested dicts."""


def ansi_text(raw: bytes, encoding: str) -> str:
    """Return the text of a fixed char field in code page ``encoding``. Never fails."""
    return raw.partition(b"\0")[0].decode(encoding, "replace")


def utf16_text(raw: bytes) -> str:
    """Return the text of a fixed UTF-16LE field. Never fails; a lone surrogate becomes U+FFFD."""
    end = 0
    while end + 1 < len(raw) and raw[end : end + 2] != b"\0\0":
        end += 2
    return raw[:end].decode("utf-16-le", "replace")


class Decoder:
    """Turns the bytes of one kind of record into its publishable fields.

    ``personal`` names the personal fields that may be published as well; a name that is not a personal field of the
    record is ignored here (the settings refuse it).
    """

    def __init__(self, record: Record, encoding: str = "cp1252", personal: frozenset[str] = frozenset()) -> None:
        codecs.lookup(encoding)
        self.record = record
        allowed = record.names(PUBLIC) | (record.names(PERSONAL) & personal)
        self._struct = struct.Struct(format_of(record, allowed))
        shown = [field for field in record.fields if field.name in allowed]
        self.names = tuple(field.name for field in shown)
        self._steps = tuple(_steps(shown, encoding))
        self._flat = all(field.slots == 1 for field in shown)

    def __call__(self, data: bytes) -> Fields:
        """Return the fields of ``data``; raises LayoutError when its length is not the record's."""
        if len(data) != self.record.size:
            msg = f"{self.record.name} is {self.record.size} bytes, got {len(data)}"
            raise LayoutError(msg)
        return self._fields(self._struct.unpack(data))

    def many(self, data: bytes) -> Iterator[Fields]:
        """Yield the fields of each record of an array; raises LayoutError when bytes are left over."""
        if len(data) % self.record.size:
            msg = f"array of {self.record.name}: {len(data)} bytes is not a multiple of {self.record.size}"
            raise LayoutError(msg)
        return map(self._fields, self._struct.iter_unpack(data))

    def _fields(self, values: tuple[Any, ...]) -> Fields:
        if not self._flat:
            return {name: convert(values[start:stop]) for name, start, stop, convert in self._steps}
        fields = dict(zip(self.names, values, strict=True))
        for name, start, _, convert in self._steps:
            if convert is not _first:
                fields[name] = convert(values[start : start + 1])
        return fields


Convert = Callable[[tuple[Any, ...]], Any]


def _steps(shown: list[Field], encoding: str) -> Iterator[tuple[str, int, int, Convert]]:
    """Yield name, slice of the unpacked tuple, and conversion of each shown field."""
    start = 0
    for field in shown:
        yield field.name, start, start + field.slots, _conversion(field, encoding)
        start += field.slots


def _first(values: tuple[Any, ...]) -> Any:
    return values[0]


def _conversion(field: Field, encoding: str) -> Convert:
    """Return what turns the field's unpacked values into its plain value."""
    if field.record:
        nested = Decoder(field.record, encoding)
        if field.count:
            return lambda values: list(nested.many(values[0]))
        return lambda values: nested(values[0])
    if field.kind == "s":
        return lambda values: ansi_text(values[0], encoding)
    if field.kind == "u":
        return lambda values: utf16_text(values[0])
    return list if field.count else _first
