"""A TOML file of ours, read within bounds: settings, rules, tokens."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from mt4pump.private_files import changeable_by_others

BYTES_MAX = 4 * 1024 * 1024


def read_toml(path: Path, *, is_chosen: bool = True) -> dict[str, Any]:
    """Return what stands in the file; raises ValueError that names it, what is wrong and what to do.

    Refused are files that other users may change: they say where secrets go and who may read what. The text repeats
    nothing of the file, which may hold secrets. ``is_chosen``: somebody named it; False for one in the working folder.
    """
    if fault := changeable_by_others(path, is_chosen=is_chosen):
        raise ValueError(f"{path} is not used: {fault}")
    try:
        with path.open("rb") as file:
            content = file.read(BYTES_MAX + 1)
        if len(content) <= BYTES_MAX:
            return tomllib.loads(content.decode("utf-8-sig"))  # Windows' editors write a mark at the start
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}; make it readable") from error
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text; save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"at line \d+, column \d+", str(error))
        raise ValueError(f"{path} is no TOML {place[0] if place else 'at its end'}; correct it there") from None
    except RecursionError:
        raise ValueError(f"{path} has brackets too deep to be read; correct it") from None
    except ValueError:  # int()'s limit, which tomllib does not say
        raise ValueError(f"{path} has a number too long to be read; correct it") from None
    raise ValueError(f"{path} has more than {BYTES_MAX} bytes; is it the right file?")
