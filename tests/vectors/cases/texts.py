"""Texts that go wrong easily, by code page."""

from __future__ import annotations

TEXTS = {
    "cp1252": "Zürich €5",
    "cp1251": "Рубль",
    "cp1250": "Łódź",
    "cp1253": "Ελλάς",
    "cp1254": "İstanbul",
    "cp1255": "שלום",
    "cp1256": "دولار",
    "cp932": "日本円",
    "shift_jis": "円相場",
    "cp936": "人民币",
    "cp949": "원화",
    "cp950": "臺幣",
    "utf-8": "Δ€ 👍",
}
"""A text of at most 12 bytes in its own code page."""

BROKEN = {
    "cp1252": b"a\x81b\x8dc",
    "cp1251": b"a\x98b",
    "cp932": b"abc\x83",
    "shift_jis": b"\xfd\xfe",
    "cp936": b"ab\xff\xffc",
    "utf-8": b"caf\xc3",
}
"""Bytes that are no text in their code page: a letter that it lacks, or half of one."""
