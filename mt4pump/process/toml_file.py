"""Reads TOML files within bounds."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from mt4pump.private_files import changeable_by_others

FILE_BYTES_MAX = 4 * 1024 * 1024
INTEGER_BITS_MAX = 64


def read_toml(path: Path, bytes_max: int = FILE_BYTES_MAX) -> dict[str, Any]:
    """Return what stands in the file; errors as of `toml_and_text`."""
    return toml_and_text(path, bytes_max)[0]


def toml_and_text(path: Path, bytes_max: int = FILE_BYTES_MAX, *, is_chosen: bool = True) -> tuple[dict[str, Any], str]:
    """Return what stands in the file, and its text; raises ValueError that names it, what is wrong and what to do.

    Refused are files that other users may change: they say where secrets go and who may read what. The error repeats
    nothing of the file, which may hold secrets. ``is_chosen``: somebody named it; False for one in the working folder.
    """
    if fault := changeable_by_others(path, is_chosen=is_chosen):
        raise ValueError(fault)
    try:
        with path.open("rb") as file:
            content = file.read(bytes_max + 1)
        text = content.decode("utf-8-sig")  # Windows' editors write a byte order mark
        if len(content) <= bytes_max:
            return tomllib.loads(text), text
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}; correct the path") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror or error}); make it readable") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text; save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not TOML {_place_and_cure(str(error), text)}") from None
    except (ValueError, RecursionError):  # tomllib's, which it does not document
        raise ValueError(f"{path} has a number too long or brackets too deep to be read; correct it") from None
    raise ValueError(f"{path} has more than {bytes_max} bytes; is it the right file?")


def line_of(key: str, text: str) -> int:
    """Return the number of the line on which the TOML ``text`` sets the top-level ``key``, 0 if it is not found."""
    found = re.search(rf"^[ \t]*[\"']?{re.escape(key)}[\"']?[ \t]*=", text, re.MULTILINE)
    return text.count("\n", 0, found.start()) + 1 if found else 0


def is_oversized(value: object) -> bool:
    """Return whether ``value`` holds a whole number that TOML does not have: Python reads it and cannot show it."""
    if isinstance(value, list):
        return any(map(is_oversized, value))
    return isinstance(value, int) and value.bit_length() > INTEGER_BITS_MAX


def _place_and_cure(message: str, text: str) -> str:
    """Return where TOML ends, by tomllib's ``message``, the rest of which may quote the file, and what to write."""
    place = re.search(r"at line (\d+), column \d+", message)
    if place is None:
        return "at its end; write name = value, text in quotes"
    line = text.splitlines()[int(place[1]) - 1 : int(place[1])]
    if line and "\\" in line[0]:
        return rf"{place[0]}; write a path in single quotes: 'C:\folder\file'"
    return f"{place[0]}; write name = value, text in quotes"
