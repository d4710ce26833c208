"""The contract as tables of PROTOCOL.md, between markers.

A marker is ``<!-- table: NAME -->`` and ends at ``<!-- end -->``; the text between them is replaced. Names: ``kinds``,
``common``, ``numbers``, ``codes``, ``kind KIND``, ``request OP``, ``head OP``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from mt4pump.protocol import contract, fields_of
from mt4pump.protocol.contract import IN_EVENT, FieldSpec, FieldSpecs, topic_form
from mt4pump.wire import KINDS
from tests.protocol.checking import is_in_every_event

DOCUMENT = Path(__file__).resolve().parents[2] / "mt4pump" / "PROTOCOL.md"
TABLE = re.compile(r"(<!-- table: (?P<name>[a-z ]+) -->\n).*?(<!-- end -->)", re.DOTALL)
FIELD_COLUMNS = ("key", "type", "unit", "meaning")
SAME_AS = {"activation": "trade"}
"""Kinds with the rows of another kind: their tables list only the differences."""


def write_tables(document: Path, *, check: bool) -> bool:
    """Return whether the tables of ``document`` are current; write those that are not, unless ``check``."""
    before = document.read_text(encoding="utf-8")
    after = filled(before)
    if after != before and not check:
        document.write_text(after, encoding="utf-8", newline="\n")
    return after == before


def filled(document: str) -> str:
    """Return ``document`` with every marked table written again; raises KeyError for an unknown table."""
    return TABLE.sub(lambda found: found[1] + table(found["name"]) + found[3], document)


def table(name: str) -> str:
    """Return one table, including its line ends."""
    group, _, member = name.partition(" ")
    if group == "kind":
        return _lines(FIELD_COLUMNS, _kind_rows(member))
    if group in {"request", "head"}:
        messages = contract().requests if group == "request" else contract().heads
        return _lines(FIELD_COLUMNS, _field_rows(messages[member]))
    return {"kinds": _kinds, "common": _common, "numbers": _numbers, "codes": _codes}[name]()


def _kind_rows(kind: str) -> Iterator[tuple[str, ...]]:
    fields = fields_of(kind)
    if kind in SAME_AS:
        same = fields_of(SAME_AS[kind])
        shared = [name for name in fields if same.get(name) == fields[name]]
        yield (f"`{shared[0]}` … `{shared[-1]}`", "", "", f"the same {len(shared)} keys as of `{SAME_AS[kind]}`")
        fields = {name: spec for name, spec in fields.items() if name not in shared}
    yield from _field_rows(fields)


def _field_rows(specs: FieldSpecs, above: str = "") -> Iterator[tuple[str, ...]]:
    """Yield the row of each field, then the rows of its nested fields."""
    for name, spec in specs.items():
        path = above + name
        meaning = spec.meaning if is_in_every_event(spec) else f"*only when {spec.when}:* {spec.meaning}"
        if spec.when == IN_EVENT:
            meaning = f"(not in snapshots) {meaning}"
        if len(spec.words) > 1:
            meaning += ": " + " ".join(f"`{word}`" for word in spec.words)
        yield f"`{path}`", _type(spec) + (" or nil" if spec.nullable else ""), spec.unit, meaning
        if not spec.partial:  # fields of a partial map are those of the record beside it
            yield from _field_rows((spec.items or spec).fields, path + ("[]." if spec.type == "list" else "."))


def _type(spec: FieldSpec) -> str:
    return f"{spec.type} of {spec.items.type}" if spec.items else spec.type


def _kinds() -> str:
    rows = (
        (
            f"`{topic_form(kind)}`",
            " ".join(str(int(code)) for code in kind.codes) or "none",
            "by default" if kind.durable else "no",
            "yes" if contract().kinds[kind.name].snapshot else "no",
            contract().kinds[kind.name].meaning,
        )
        for kind in KINDS.values()
    )
    return _lines(("topic", "pump codes", "durable", "snapshot", "event"), rows)


def _common() -> str:
    return _lines(FIELD_COLUMNS, _field_rows(contract().common))


def _numbers() -> str:
    enumerations = contract().enumerations.items()
    rows = ((name, ", ".join(f"{value} {word}" for word, value in numbers.items())) for name, numbers in enumerations)
    return _lines(("name", "numbers"), rows)


def _codes() -> str:
    return _lines(("code", "meaning"), ((f"`{code}`", meaning) for code, meaning in contract().codes.items()))


def _lines(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    marked = (head, ("---",) * len(head), *rows)
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in marked)
