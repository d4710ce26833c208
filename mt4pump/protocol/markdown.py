"""The contract as tables of a Markdown document, between markers; pure.

A marker is ``<!-- table: NAME -->`` and ends at ``<!-- end -->``; the text between them is replaced. Names: ``kinds``,
``common``, ``numbers``, ``codes``, ``kind KIND``, ``request OP``, ``head OP``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from mt4pump.protocol.enumerations import NUMBERS
from mt4pump.protocol.fields import IN_EVENT, LIST, MAP, Spec, Specs
from mt4pump.protocol.kinds import COMMON_FIELDS, WITHOUT_SNAPSHOT, fields_of, topic_form
from mt4pump.protocol.queries import BAD, HEADS, REQUESTS
from mt4pump.wire import KINDS

TABLE = re.compile(r"(<!-- table: (?P<name>[a-z ]+) -->\n).*?(<!-- end -->)", re.DOTALL)
SAME_AS = {"activation": "trade"}
"""Kinds with the rows of another kind: their tables list only the differences."""


def filled(document: str) -> str:
    """Return ``document`` with every marked table written again; raises KeyError for an unknown table."""
    return TABLE.sub(lambda found: found[1] + table(found["name"]) + found[3], document)


def table(name: str) -> str:
    """Return one table, including its line ends."""
    first, _, second = name.partition(" ")
    if first == "kind":
        rows = _kind_rows(second)
    elif first in {"request", "head"}:
        rows = _field_rows((REQUESTS if first == "request" else HEADS)[second])
    else:
        return {"kinds": _kinds, "common": _common, "numbers": _numbers, "codes": _codes}[name]()
    return _lines(("key", "type", "unit", "meaning"), rows)


def _kind_rows(kind: str) -> Iterator[tuple[str, ...]]:
    fields = fields_of(kind)
    if kind in SAME_AS:
        same = fields_of(SAME_AS[kind])
        shared = [name for name in fields if same.get(name) == fields[name]]
        yield (f"`{shared[0]}` … `{shared[-1]}`", "", "", f"the same {len(shared)} keys as of `{SAME_AS[kind]}`")
        fields = {name: spec for name, spec in fields.items() if name not in shared}
    yield from _field_rows(fields)


def _field_rows(specs: Specs, above: str = "") -> Iterator[tuple[str, ...]]:
    """Yield the row of each field, then the rows of its nested fields."""
    for name, spec in specs.items():
        path = above + name
        kind = _type(spec) + (" or nil" if spec.nullable else "")
        meaning = spec.meaning if spec.is_in_every_event else f"*only when {spec.when}:* {spec.meaning}"
        if spec.when == IN_EVENT:
            meaning = f"(not in snapshots) {meaning}"
        if spec.words and len(spec.words) > 1:
            meaning += ": " + " ".join(f"`{word}`" for word in spec.words)
        yield f"`{path}`", kind, spec.unit, meaning
        if spec.partial:
            continue  # its fields are those of the record beside it
        inner = spec.items if spec.type in {LIST, MAP} and spec.items else spec
        mark = {True: "[].", False: "."}[spec.type == LIST]
        yield from _field_rows(inner.fields, path + mark)


def _type(spec: Spec) -> str:
    if spec.items is None:
        return spec.type
    return f"list of {spec.items.type}" if spec.type == LIST else f"map of {spec.items.type}"


def _kinds() -> str:
    rows = (
        (
            f"`{topic_form(kind)}`",
            " ".join(str(int(code)) for code in kind.codes) or "none",
            "by default" if kind.durable else "no",
            "no" if kind.name in WITHOUT_SNAPSHOT else "yes",
            kind.meaning,
        )
        for kind in KINDS.values()
    )
    return _lines(("topic", "pump codes", "durable", "snapshot", "event"), rows)


def _common() -> str:
    return _lines(("key", "type", "unit", "meaning"), _field_rows(COMMON_FIELDS))


def _numbers() -> str:
    rows = (
        (name, ", ".join(f"{value} {word}" for word, value in numbers.items())) for name, numbers in NUMBERS.items()
    )
    return _lines(("name", "numbers"), rows)


def _codes() -> str:
    return _lines(("code", "meaning"), ((f"`{code}`", meaning) for code, meaning in BAD.items()))


def _lines(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    marked = (head, ("---",) * len(head), *rows)
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in marked)
