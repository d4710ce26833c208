"""What is wrong with a file of rules, for people: the line, plain words, and what would be right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mt4pump.process.program import did_you_mean
from mt4pump.process.sources import line_of, table_lines

NOUNS = {"integer": "a whole number", "number": "a number", "boolean": "true or false"}
SHOWN_MAX = 60
RULE, KIND = "rule", "when"
TAG_PROBLEMS = frozenset({"union_tag_invalid", "union_tag_not_found"})
"""How pydantic names a kind that is unknown or missing."""
BEGIN = "begin each rule with [[rule]]"

RuleKinds = Mapping[str, type[BaseModel]]
"""The class of each kind of rule."""


def rule_problems(error: ValidationError, kinds: RuleKinds, text: str) -> Iterator[str]:
    """Yield each problem of the rules in ``text``, with the place that it is at, counted as people count."""
    problems = error.errors()
    with_wrong_parts = any(problem["loc"][:1] == (RULE,) and len(problem["loc"]) > 1 for problem in problems)
    for problem in problems:
        if problem["loc"] == (RULE,) and with_wrong_parts:
            continue  # pydantic takes a list whose parts are wrong for an empty one
        yield _line(problem, kinds, text)


def _line(problem: ErrorDetails, kinds: RuleKinds, text: str) -> str:
    match problem["loc"]:
        case ("rule",):
            single = isinstance(problem["input"], dict) and problem["type"] != "missing"
            return "[rule] is one table alone: write [[rule]]" if single else f"there is no rule: {BEGIN}"
        case ("rule", int(number)):
            place = _place(number, KIND if problem["type"] in TAG_PROBLEMS else "", text)
            return f"{place}: {_wrong_kind(problem, kinds)}"
        case ("rule", int(number), _):  # of a validator of ours
            return f"{_place(number, '', text)}: {problem['ctx']['error']}"
        case ("rule", int(number), str(kind), str(name), *item):
            return f"{_place(number, name, text)}: {_wrong_value(problem, kinds, kind, name, is_item=bool(item))}"
        case (name, *_):
            return f"{name}: means nothing here: {did_you_mean(str(name), [RULE], 'remove it')}"
    return str(problem["ctx"]["error"])  # of the file as a whole


def _place(number: int, name: str, text: str) -> str:
    """Return the rule, the line of ``name`` in it (of its own, without one), and ``name``."""
    starts = table_lines(RULE, text)
    line = ""
    if number < len(starts):  # else the rules are one array on a line, which nobody writes
        first = starts[number]
        after = starts[number + 1] if number + 1 < len(starts) else None
        own = "\n".join(text.split("\n")[first - 1 : after and after - 1])
        line = f" (line {first + max(line_of(name, own) - 1, 0)})"
    return f"rule {number + 1}{line}{name and f', {name}'}"


def _wrong_kind(problem: ErrorDetails, kinds: RuleKinds) -> str:
    all_kinds = f"write one of {', '.join(kinds)}"
    if problem["type"] == "union_tag_invalid":
        tag = problem["ctx"]["tag"]
        return f"there is no kind {tag!r}: {did_you_mean(tag, kinds, all_kinds)}"
    if problem["type"] == "union_tag_not_found":
        return f"is missing: {all_kinds}"
    return f"{_shown(problem['input'])} is no table: {BEGIN}"


def _wrong_value(problem: ErrorDetails, kinds: RuleKinds, kind: str, name: str, *, is_item: bool) -> str:
    model = kinds[kind]
    if problem["type"] == "extra_forbidden":
        names = list(model.model_fields)
        if owners := [other for other, of in kinds.items() if name in of.model_fields]:
            return f"belongs to rules of the kind {' or '.join(owners)}: one of {kind} has {', '.join(names)}"
        cure = did_you_mean(name, names, f"remove it, or write one of {', '.join(names)}")
        return f"means nothing here: {cure}"
    schema = model.model_json_schema()["properties"][name]
    if problem["type"] == "missing":
        return f"is missing: write {_right(schema)}"
    value, known = problem["input"], schema.get("enum", ())
    cure = did_you_mean(value, known) if isinstance(value, str) else ""
    return f"{_shown(value)} is not {_right(schema['items'] if is_item else schema)}{cure and f': {cure}'}"


def _right(schema: Mapping[str, Any]) -> str:
    """Return what a right value is, as ``a number above 0``."""
    if choices := schema.get("enum"):
        return " or ".join([", ".join(choices[:-1]), choices[-1]])
    if schema["type"] == "array":
        return "a list, as [1001, 1002]" if schema["items"]["type"] == "integer" else 'a list of texts, as ["…", "…"]'
    if schema["type"] == "string":
        longest = schema.get("maxLength")
        return f"text of {schema['minLength']} to {longest} characters" if longest else "text"
    noun = NOUNS[schema["type"]]
    if "exclusiveMinimum" in schema:
        return f"{noun} above {schema['exclusiveMinimum']:g}"
    return f"{noun} of at least {schema['minimum']:g}" if "minimum" in schema else noun


def _shown(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= SHOWN_MAX else text[: SHOWN_MAX - 1] + "…"
