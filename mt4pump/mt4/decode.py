"""Record bytes to plain fields, text included; pure. Secrets are never even unpacked.

A `Decoder` reads just the fields that may be published: its ``struct`` format steps over every other byte. Text is cut
at the first NUL (a full field has none) and decoded with the configured code page; undecodable bytes become U+FFFD.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable, Collection, Iterator
from functools import lru_cache
from typing import Any

from mt4pump.errors import LayoutError
from mt4pump.mt4.record import PERSONAL, PUBLIC, Field, Record, format_of

NAMES_KEPT, NAME_BYTES = 4096, 16
"""Texts of fields up to `NAME_BYTES` that are remembered decoded."""

Fields = dict[str, Any]
"""Field values under their MT4 names: int, float, str, list, or nested dicts."""


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
