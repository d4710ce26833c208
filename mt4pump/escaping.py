"""Foreign text as one harmless line: for the logs of all programs, for terminals, for messages; pure.

Servers, clients and tokens write parts of what we show. Nothing in it may begin a new line, drive the terminal, or
change the order in which the rest of the line is read.
"""

from __future__ import annotations

import unicodedata

SHOWN_SEPARATOR = "Zs"
"""Category of spaces: ``isprintable`` refuses all but U+0020, and the others are harmless."""
MNEMONICS = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


class _Escapes(dict[int, str]):
    """Code point to what stands for it; filled as characters come."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        if char.isprintable() or unicodedata.category(char) == SHOWN_SEPARATOR:
            return char  # not kept: the table has only what is escaped, some thousand code points at most
        self[code] = text = MNEMONICS.get(char) or escape_of(code)
        return text


def escape_of(code: int) -> str:
    r"""Return a code point as ``\x1b``, ``\u202e`` or ``\U000e0001``."""
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_ESCAPES = _Escapes()


def one_line(text: str) -> str:
    r"""Return ``text`` with all that is not printable escaped, as ``\x1b``.

    That is: control characters (C0, DEL, C1), line and paragraph separators, characters of format (bidirectional
    marks, embeddings, overrides and isolates, zero-width ones, tags), lone surrogates, what is private or unassigned.
    """
    return text if text.isprintable() else text.translate(_ESCAPES)
