"""Sizes in bytes as people write them: ``500MB``, ``4GiB``; pure."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field

UNITS = {
    "": 1,
    "B": 1,
    **{f"{letter}B": 1000**power for power, letter in enumerate("KMGTP", 1)},
    **{f"{letter}iB": 1024**power for power, letter in enumerate("KMGTP", 1)},
}
_KNOWN = {unit.upper(): factor for unit, factor in UNITS.items()}
_BINARY = tuple(reversed([(unit, factor) for unit, factor in UNITS.items() if "i" in unit]))
MIB, PIB = 1024**2, 1024**5


def byte_size(value: object) -> object:
    """Return text as a number of bytes; anything else as it is. Units are read in any letters; KiB is 1024, KB 1000."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([A-Za-z]*)", value.strip())
    factor = _KNOWN.get(match[2].upper()) if match else None
    if match is None or factor is None:
        raise ValueError(f"{value!r} is no size; write a number of bytes, or one with a unit, as 500MB or 4GiB")
    return int(match[1]) * factor if match[1].isdigit() else int(float(match[1]) * factor)


def size_text(size_bytes: float) -> str:
    """Return a number of bytes in the largest binary unit that divides it: ``4GiB``; else the number itself."""
    whole = int(size_bytes)
    for unit, factor in _BINARY:
        if whole >= factor and whole % factor == 0:
            return f"{whole // factor}{unit}"
    return str(whole)


# The bounds stand before the validator that runs before them: only so does pydantic's schema show them.
ByteSize = Annotated[int, Field(ge=MIB, le=PIB), BeforeValidator(byte_size)]
