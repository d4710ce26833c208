"""Values as plain JSON and back: ``{"$float": "NaN"}`` for what JSON cannot write, ``{"$hex": "00ff"}`` for bytes."""

from __future__ import annotations

import math
from typing import Any

NAMES = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def plain(value: Any) -> Any:
    """Return ``value`` as JSON can write it."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}
    if isinstance(value, bytes):
        return {"$hex": value.hex()}
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value


def unplain(value: Any) -> Any:
    """Return what `plain` made of it."""
    if isinstance(value, dict):
        if value.keys() == {"$float"}:
            return NAMES[value["$float"]]
        if value.keys() == {"$hex"}:
            return bytes.fromhex(value["$hex"])
        return {key: unplain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [unplain(each) for each in value]
    return value
