"""Texts that a server, a client or a token may hold, and that must not reach a terminal or a log as they are."""

from __future__ import annotations

import unicodedata

BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
INVISIBLE = "\u00ad\u200b\u200c\u200d\u2060\ufeff\U000e0001\U000e0041"
SEPARATORS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
CONTROLS = "".join(map(chr, (*range(0x20), *range(0x7F, 0xA0))))
HOSTILE = {
    **{f"U+{ord(char):04X}": f"a{char}b" for char in sorted({*BIDI, *INVISIBLE, *SEPARATORS, *CONTROLS})},
    "a forged line": "x\n2026-01-01 00:00:00.000 INFO    mt4pump  all is well",
    "a forged line with CR LF": "x\r\n2026-01-01T00:00:00Z CRITICAL root: disk is full",
    "colours": "\x1b[31;1mred\x1b[0m",
    "title of the window": "\x1b]0;owned\x07",
    "a clipboard write": "\x1b]52;c;cm0gLXJmIH4K\x1b\\",
    "a hyperlink": "\x1b]8;;http://evil.example\x1b\\good.example\x1b]8;;\x1b\\",
    "CSI of C1": "\x9b2J\x9d0;t\x9c",
    "an override of the order": "user\u202e1001 nimda\u202c",
    "isolates": "\u2067lle\u2066s\u2069\u2069",
    "private use": "a\ue000b",
    "backspaces": "admin\b\b\b\b\bguest",
}
SURROGATE = "a\ud800b"
"""Half a letter; apart from the others, as no report of a test can hold it."""
HARMLESS = ("EURUSD", "1\u00a0000,50", "Zürich Рубль 日本円 שלום", "👍", "C:\\new\\temp", "50 %", "a b")


def is_harmless(text: str) -> bool:
    """Return whether ``text`` is one line that drives no terminal and reads in the order that it is written in."""
    return all(char.isprintable() or unicodedata.category(char) == "Zs" for char in text)
