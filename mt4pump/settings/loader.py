"""Sources to Settings, or one error that lists everything that is wrong."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mt4pump.errors import SettingsError
from mt4pump.log import one_line
from mt4pump.settings.consistency import DISAGREEMENT, Disagreement, Settings
from mt4pump.settings.schema import is_secret
from mt4pump.settings.sources import DEFAULT, Gathered, Origin, gather
from mt4pump.settings.validators import nearest, size_text

NOT_SET = "not set"
SHOWN_MAX = 60
"""Characters of a wrong value that a message repeats."""


OR_MAX = ("speed", "rate")
"""Numbers that may also be ``max``."""


def named(error: ValidationError) -> frozenset[str]:
    """Return the settings whose own value is wrong."""
    return frozenset(str(each["loc"][0]) for each in error.errors() if each["type"] != DISAGREEMENT)


def problem_lines(
    error: ValidationError, origins: Mapping[str, Origin], without: Collection[str] = frozenset()
) -> list[str]:
    """Return the lines of ``error``, leaving out contradictions that involve settings named in ``without``."""
    lines = []
    for each in error.errors():
        if each["type"] == DISAGREEMENT:
            found: list[Disagreement] = each["ctx"]["found"]
            lines += [_line(d.names[0], origins, d.text) for d in found if not set(d.names) & set(without)]
        else:
            name = str(each["loc"][0])
            lines.append(_line(name, origins, _wrong(name, each)))
    return lines


def _line(name: str, origins: Mapping[str, Origin], text: str) -> str:
    return f"{name} ({origins[name].text if name in origins else NOT_SET}): {text}"


def _wrong(name: str, error: ErrorDetails) -> str:
    """Return what is wrong and what would be right."""
    if is_secret(name):
        return "the value (not shown) is empty or not text; write text, in a file within quotes"
    if error["type"] == "value_error":  # ours: see `mt4pump.settings.validators`
        return str(error["ctx"]["error"])
    right = expected(name, item=len(error["loc"]) > 1)
    text = f"{_shown(error['input'])} is not {right}"
    near = nearest(str(error["input"]).lower(), _schema(name).get("enum", ()))
    return f"{text}; did you mean {near}?" if near else text


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_MAX else text[: SHOWN_MAX - 1] + "…"


def expected(name: str, *, item: bool = False) -> str:
    """Return what a right value is: ``a number of seconds from 0.01 to 3600``. ``item``: of one part of a list."""
    schema = _schema(name)
    if item:
        schema = schema.get("items", {})
    if choices := schema.get("enum"):
        return " or ".join([", ".join(choices[:-1]), choices[-1]])
    noun = {
        "integer": "a whole number",
        "number": "a number",
        "boolean": "true or false",
        "array": "a list: text with commas, or an array of texts",
    }.get(schema.get("type", ""), "text")
    plain: Callable[[float], str] = _plain
    if name.endswith("_s"):
        noun += " of seconds"
    if name.endswith("_bytes"):
        noun, plain = "a size", size_text
    return noun + _bounds(schema, plain) + (", or max" if name in OR_MAX else "")


def _bounds(schema: Mapping[str, Any], plain: Callable[[float], str]) -> str:
    parts = []
    if "exclusiveMinimum" in schema:
        parts.append(f"above {schema['exclusiveMinimum']:g}")
    if "minimum" in schema and "maximum" in schema:
        parts.append(f"from {plain(schema['minimum'])} to {plain(schema['maximum'])}")
    elif "minimum" in schema:
        parts.append(f"of at least {plain(schema['minimum'])}")
    if "multipleOf" in schema:
        parts.append(f"in steps of {plain(schema['multipleOf'])}")
    return "".join(f" {part}" for part in parts)


def _plain(number: float) -> str:
    """Return a number without an exponent or a useless ``.0``."""
    return f"{number:.6f}".rstrip("0").rstrip(".")


@functools.cache
def _schemas() -> dict[str, dict[str, Any]]:
    """Return each setting's JSON schema, ``or null`` left out."""
    found = {}
    for name, schema in Settings.model_json_schema()["properties"].items():
        parts = [part for part in schema.get("anyOf", [schema]) if part.get("type") != "null"]
        found[name] = parts[0]
    return found


def _schema(name: str) -> dict[str, Any]:
    return _schemas()[name]


NOTHING: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Loaded:
    """Checked settings, and where each of them came from (every name of the schema is a key of ``origins``)."""

    settings: Settings
    origins: Mapping[str, Origin]


def load(
    flags: Mapping[str, object] = NOTHING, environ: Mapping[str, str] = os.environ, config: Path | None = None
) -> Settings:
    """Return the settings; see `read`."""
    return read(flags, environ, config).settings


def read(
    flags: Mapping[str, object] = NOTHING, environ: Mapping[str, str] = os.environ, config: Path | None = None
) -> Loaded:
    """Return the settings and their origins.

    Args:
        flags: setting name to value, as text or as the right type; None means not given.
        environ: the environment; names that start with ``MT4PUMP_`` are ours.
        config: TOML file; if None, ``MT4PUMP_CONFIG``, or ``mt4pump.toml`` in the working directory if it exists.

    Raises:
        SettingsError: the text has one line per problem: setting, origin, what is wrong, what would be right. It and
            its causes never contain the value of a secret.
    """
    gathered = gather(flags, environ, config)
    settings, wrong = _validated(gathered)
    problems = gathered.problems + wrong
    if settings is None or problems:
        raise SettingsError(_summary(problems))
    origins = {
        name: gathered.given[name].origin if name in gathered.given else DEFAULT for name in Settings.model_fields
    }
    return Loaded(settings, MappingProxyType(origins))


def setting_as_written(name: str, environ: Mapping[str, str] = os.environ, config: Path | None = None) -> Any:
    """Return the setting ``name`` before checking, whatever else is wrong: for programs that need that one alone."""
    given = gather(NOTHING, environ, config).given.get(name)
    return Settings.model_fields[name].get_default(call_default_factory=True) if given is None else given.value


def _summary(problems: Iterable[str]) -> str:
    return "\n  ".join(["settings are wrong:", *map(one_line, problems)])


def _validated(gathered: Gathered) -> tuple[Settings | None, list[str]]:
    """Return the settings, or what is wrong with the values.

    The error of pydantic holds the values, secrets too: nothing is raised while it is the current exception, so that it
    cannot become anybody's context.
    """
    values = {name: given.value for name, given in gathered.given.items()}
    origins = {name: given.origin for name, given in gathered.given.items()}
    try:
        return Settings(**values), []
    except ValidationError as error:
        wrong = named(error)
        lines = problem_lines(error, origins)
    if not wrong:
        return None, lines
    # Contradictions show only when every value is right by itself: look for them among the right ones.
    try:
        Settings(**{name: value for name, value in values.items() if name not in wrong})
    except ValidationError as error:
        lines += problem_lines(error, origins, without=wrong)
    return None, lines
