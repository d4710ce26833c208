r"""The character that ends every topic, as a setting: itself, or written as ``\x1f``; pure."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

VISIBLE = "|;,"
"""What no key of MT4 is likely to hold and every shell and file can write."""
CONTROLS = frozenset(map(chr, (*range(1, 32), 127)))
"""NUL is none of them: it ends a text in too many languages."""
UNIT_SEPARATOR = "us"
"""The one name: of U+001F, which exists to end parts of a text."""


def topic_suffix(text: str) -> str:
    """Return the character that ``text`` stands for; empty and ``none`` are no suffix."""
    if text in CONTROLS or (len(text) == 1 and text in VISIBLE):
        return text
    word = text.strip().lower()
    if word in {"", "none"}:
        return ""
    escaped = re.fullmatch(r"\\x([0-9a-f]{2})|\\u00([0-9a-f]{2})", word)
    found = chr(int(escaped[1] or escaped[2], 16)) if escaped else "\x1f" if word == UNIT_SEPARATOR else ""
    if found in CONTROLS or (found and found in VISIBLE):
        return found
    raise ValueError(f"{text!r} cannot end topics; write one of | ; , or a control character as \\x1f, or none")


def suffix_text(suffix: str) -> str:
    r"""Return a checked suffix as one would write it: ``\x1f`` for a control character, ``none`` for no suffix."""
    if not suffix:
        return "none"
    return suffix if suffix in VISIBLE else f"\\x{ord(suffix):02x}"


TopicSuffix = Annotated[str, AfterValidator(topic_suffix)]
