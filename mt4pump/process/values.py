"""Values that settings of several programs hold: lists, paths, sizes, hosts, patterns of symbols."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from mt4pump.process.endpoints import PORT_MAX

NONE = "none"
LOOPBACK_NAMES = frozenset({"localhost", "ip6-localhost"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_JSON_LIST = re.compile(r'\s*\[\s*["\]]')
"""Start of a JSON array of texts. ``[DJI30]`` is a symbol and ``[::1]:443`` a server, in a list with commas."""


def text_list(value: object) -> object:
    """Return text as a tuple, read as a JSON array or split at commas; anything else as it is. Raises ValueError."""
    if not isinstance(value, str):
        return value
    if _JSON_LIST.match(value):
        try:
            return tuple(json.loads(value))
        except (ValueError, RecursionError):
            raise ValueError('begins as a JSON array and is none; write ["a", "b"], or a,b') from None
    return tuple(part for piece in value.split(",") if (part := piece.strip()))


def lower(value: object) -> object:
    """Return text in lower case."""
    return value.strip().lower() if isinstance(value, str) else value


def none_or_text(value: object) -> object:
    """Return ``none`` as None: how a thing is switched off in files and variables that know only text."""
    return None if isinstance(value, str) and value.strip().lower() == NONE else value


def path(value: object) -> object:
    """Return text as a path, ``~`` expanded."""
    if isinstance(value, str):
        if not value.strip():
            raise ValueError("is empty; write a path")
        if control := _CONTROL.search(value):  # TOML reads "C:\trading\new" as C:, a tab, rading, a newline, ew
            quotes = r"in TOML write a path in single quotes: 'C:\folder\file'"
            cure = quotes if control[0] in "\b\t\n\f\r" and control.end() < len(value) else "remove it"
            raise ValueError(f"has a control character (U+{ord(control[0]):04X}); {cure}")
        try:
            return Path(value).expanduser()
        except RuntimeError as error:  # no home folder to put for ~
            raise ValueError(f"{value!r} cannot be expanded: {error}; write the whole path") from None
    return value


def is_loopback(host: str) -> bool:
    """Return whether only programs of this machine reach ``host``. Interface names count as open to others."""
    try:
        return ipaddress.ip_address(host.partition("%")[0].removeprefix("::ffff:")).is_loopback
    except ValueError:
        return host.lower() in LOOPBACK_NAMES


PathValue = Annotated[Path, BeforeValidator(path)]
Seconds = Annotated[float, Field(allow_inf_nan=False)]
Port = Annotated[int, Field(ge=0, le=PORT_MAX)]
LogLevel = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(lower)]
LogFormat = Annotated[Literal["human", "json"], BeforeValidator(lower)]

BINARY_UNITS = {f"{letter}iB": 1024**power for power, letter in enumerate("KMGTP", 1)}
DECIMAL_UNITS = {f"{letter}B": 1000**power for power, letter in enumerate("KMGTP", 1)}
UNITS = {unit.upper(): factor for unit, factor in {"": 1, "B": 1, **DECIMAL_UNITS, **BINARY_UNITS}.items()}
MIB, PIB = 1024**2, 1024**5


def byte_size(value: object) -> object:
    """Return text as a number of bytes; anything else as it is. Units are read in any letters; KiB is 1024, KB 1000.

    Not pydantic's ``ByteSize``: it raises OverflowError for a long number, and its schema shows no bounds.
    """
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([A-Za-z]*)", value.strip())
    factor = UNITS.get(match[2].upper()) if match else None
    if match is None or factor is None:
        raise ValueError(f"{value!r} is no size; write a number of bytes, or one with a unit, as 500MB or 4GiB")
    return int(match[1]) * factor if match[1].isdigit() else int(float(match[1]) * factor)


def size_text(size_bytes: float) -> str:
    """Return a number of bytes in the largest binary unit that divides it: ``4GiB``; else the number itself."""
    whole = int(size_bytes)
    for unit, factor in reversed(BINARY_UNITS.items()):
        if whole >= factor and whole % factor == 0:
            return f"{whole // factor}{unit}"
    return str(whole)


# The bounds stand before the validator that runs before them: only so does pydantic's schema show them.
ByteSize = Annotated[int, Field(ge=MIB, le=PIB), BeforeValidator(byte_size)]


class SymbolFilter:
    """Shell patterns (``EUR*``, ``??JPY``, ``[!X]*``); one that begins with ``!`` excludes.

    A symbol is selected when a pattern includes it and none excludes it; excludes alone leave all the others in.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        patterns = [pattern.strip() for pattern in patterns]
        self._excluded = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
        self._included = [pattern for pattern in patterns if not pattern.startswith("!")] or ["*"]

    def selects(self, symbol: str) -> bool:
        """Return whether ``symbol`` is selected."""
        if any(fnmatchcase(symbol, pattern) for pattern in self._excluded):
            return False
        return any(fnmatchcase(symbol, pattern) for pattern in self._included)
