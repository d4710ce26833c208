"""Any value as one line of JSON that every reader accepts; pure.

JSON has no infinity and no not-a-number: they become ``null``. Bytes become text (UTF-8, wrong bytes as U+FFFD), other
strangers their ``str``. Characters beyond ASCII are escaped, so that the line passes through any terminal or pipe.
"""

from __future__ import annotations

import json
import math
from typing import Any

DEPTH_MAX = 64
"""Levels of lists and maps; what lies deeper becomes its ``str``, so that no value can exhaust the stack."""


def json_line(value: object) -> str:
    """Return ``value`` as one line of JSON, without the line's end."""
    return json.dumps(_plain(value, 0), separators=(", ", ": "), allow_nan=False)


def _plain(value: object, depth: int) -> Any:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if depth < DEPTH_MAX and isinstance(value, dict):
        return {_key(key): _plain(each, depth + 1) for key, each in value.items()}
    if depth < DEPTH_MAX and isinstance(value, list | tuple | set | frozenset):
        return [_plain(each, depth + 1) for each in value]
    return str(value)


def _key(key: object) -> str:
    return key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key)
