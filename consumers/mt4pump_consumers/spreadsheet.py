"""Foreign text in CSV: no spreadsheet takes it for a formula. Clients write comments, and others open the file."""

from __future__ import annotations

import json
import re

from mt4pump.client import one_line

FORMULA_START = re.compile(
    r"""(?:(?<=[,;|:"'])|^)(?=\s*["']*\s*[=+\-@\uff1d\uff0b\uff0d\uff20\u2212])|(?<=\s)(?=[=+@\uff1d\uff0b\uff20])"""
)
"""Where a cell could begin with a formula: at the start, behind what may part or quote cells, behind a space."""
JSON_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"')
FORMULA_CHARACTER = re.compile(r"(?<!\w)[=+\-@]")
"""What a formula in a text of ASCII could begin with."""


def harmless(text: str) -> str:
    """Return text that no spreadsheet takes for a formula, whatever it takes for the separator of cells.

    Where `;` parts cells, ``x;=1+1`` is two of them, and quotes do not count. So an apostrophe, which makes a text of a
    cell, stands before each character that could begin a formula at the beginning of a cell; control characters are
    escaped.
    """
    return FORMULA_START.sub("'", one_line(text))


def harmless_json(text: str) -> str:
    """Return the JSON of a list or map with the same value, in which no text has a character that begins a formula."""

    def escaped(found: re.Match[str]) -> str:
        return FORMULA_CHARACTER.sub(lambda sign: f"\\u{ord(sign[0]):04x}", found[0])

    return JSON_TEXT.sub(escaped, json.dumps(json.loads(text)))  # ASCII, so that no full-width sign is left


def harmless_cell(text: str) -> str:
    """Return `harmless_json` of a list or map in JSON, `harmless` of any other text."""
    if text[:1] in {"{", "["}:
        try:
            return harmless_json(text)
        except (ValueError, RecursionError):  # a text that only begins like one
            pass
    return harmless(text)
