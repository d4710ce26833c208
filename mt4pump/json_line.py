"""Any value as one line of JSON that every reader accepts; pure.

JSON has no infinity and no not-a-number: they become ``null``. Bytes become text (UTF-8, wrong bytes as U+FFFD), other
strangers their ``str``. Characters beyond ASCII, and DEL, are escaped, so that the line passes through any terminal or
pipe and drives none.
"""

from __future__ import annotations

import json
import math
from typing import Any

_encode = json.JSONEncoder(separators=(", ", ": "), allow_nan=False).encode
DEPTH_MAX = 64
"""Levels of lists and maps; what lies deeper is left out with a word, so that no value can exhaust the stack."""
TOO_DEEP = "(too deep)"


def json_line(value: object) -> str:
    """Return ``value`` as one line of JSON, without the line's end."""
    try:
        line = _encode(value)  # most values are plain already, and looking first would take longer
    except (ValueError, TypeError, RecursionError):
        line = _encode(_plain(value, 0))
    return line.replace("\x7f", "\\u007f")  # JSON takes DEL as it is; it can stand in a text only


def _plain(value: object, depth: int) -> Any:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, dict | list | tuple | set | frozenset):
        return _nested(value, depth + 1)
    return str(value)


def _nested(value: Any, depth: int) -> Any:
    if depth > DEPTH_MAX:
        return TOO_DEEP
    if isinstance(value, dict):
        return {_key(key): _plain(each, depth) for key, each in value.items()}
    return [_plain(each, depth) for each in value]


def _key(key: object) -> str:
    return key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key)
