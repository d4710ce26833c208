"""What pydantic found wrong, in our words: one line per problem, and never the value of a secret; pure."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mt4pump.settings.agreement import Disagreement
from mt4pump.settings.schema import DISAGREEMENT, Settings, is_secret
from mt4pump.settings.sizes import size_text
from mt4pump.settings.sources import Origin
from mt4pump.settings.values import nearest

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
    if error["type"] == "value_error":  # ours: see `mt4pump.settings.values`
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
