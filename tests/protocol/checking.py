"""Compares a message with the contract: undeclared keys, missing keys, wrong types."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mt4pump.protocol import contract, fields_of
from mt4pump.protocol.contract import ALWAYS, IN_EVENT, FieldSpec, FieldSpecs
from mt4pump.wire import Body

LIMITS = {"int": (-(2**63), 2**63 - 1), "uint": (0, 2**64 - 1)}


def faults_of(kind: str, body: Body) -> list[str]:
    """Return every fault of a body of ``kind``, as text."""
    return list(_map_faults(kind, body, {**fields_of(kind), **contract().common}, snapshot="snapshot" in body))


def head_faults(name: str, head: Body, specs: FieldSpecs) -> list[str]:
    """Return every fault of a head of the query endpoint, as text."""
    return list(_map_faults(name, head, specs, snapshot=False))


def is_in_every_event(spec: FieldSpec) -> bool:
    """Return whether every event has the key."""
    return spec.when in {ALWAYS, IN_EVENT}


def _map_faults(path: str, values: Body, specs: FieldSpecs, *, snapshot: bool, partial: bool = False) -> Iterator[str]:
    yield from (f"{path}.{name} is not declared" for name in values.keys() - specs.keys())
    for name, spec in specs.items():
        if name in values:
            yield from _faults(f"{path}.{name}", values[name], spec)
        elif not partial and (spec.is_required or (is_in_every_event(spec) and not snapshot)):
            yield f"{path}.{name} is missing"


def _faults(path: str, value: Any, spec: FieldSpec) -> Iterator[str]:
    if value is None:
        if not spec.nullable:
            yield f"{path} is nil"
    elif not _is_of(value, spec.type):
        yield f"{path} is {value!r:.60}, not {spec.type}"
    elif spec.type == "list":
        assert spec.items
        for position, item in enumerate(value):
            yield from _faults(f"{path}[{position}]", item, spec.items)
    elif spec.type == "map" and spec.items:
        for key, item in value.items():
            yield from _faults(f"{path}[{key!r}]", item, spec.items)
    elif spec.type == "map":
        yield from _map_faults(path, value, spec.fields, snapshot=False, partial=spec.partial)


def _is_of(value: object, kind: str) -> bool:
    if kind in LIMITS:
        low, high = LIMITS[kind]
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
    types: dict[str, type] = {"float": float, "str": str, "bool": bool, "list": list, "map": dict}
    return kind not in types or isinstance(value, types[kind])
