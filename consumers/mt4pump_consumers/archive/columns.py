"""The columns of each kind, derived from the protocol's contract, and events as Arrow tables; pure.

A column has the name of the wire. Beside each time stands a timestamp: ``ts_utc`` for ``ts``, ``<name>_server`` for
seconds of the server's clock (without a zone, because that clock is the server's local time).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mt4pump.client import Event
from mt4pump.protocol import common_fields, contract, fields_of
from mt4pump.protocol.contract import FieldSpec

GAPS, QUOTE, TICK = "gaps", "quote", "tick"
NOT_IN_JOURNAL = frozenset({GAPS, QUOTE, TICK})
"""Kinds that the daemon's journal does not have."""
EVENT_KINDS = tuple(kind for kind in contract().kinds if kind != "heartbeat")
SCHEMA_VERSION = "1"
TOPIC, EXTRA = "event_topic", "extra"
"""``extra``: JSON of what has no column, or does not fit into it: a newer daemon's fields."""
LAST_TIME_S = 253_402_300_800  # the year 10000
SERVER_CLOCK = "s, server clock"
UTC = pa.timestamp("ns", "UTC")
MISFITS = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, UnicodeError)
SIMPLE = {"int": pa.int64(), "uint": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "str": pa.string()}
GAP_COLUMNS = {
    **dict.fromkeys(("kind", TOPIC), pa.string()),
    **dict.fromkeys(("epoch", "from_seq", "to_seq"), pa.int64()),
    "why": pa.string(),
    "ts": pa.int64(),
    "ts_utc": UTC,
}
TICK_COLUMNS = {
    "symbol": pa.string(),
    "bid": pa.float64(),
    "ask": pa.float64(),
    "digits": pa.int64(),
    "ts": pa.int64(),
    "ts_utc": UTC,
    "source": pa.string(),
}
"""Ticks that were imported from files; ``source`` is the file's name."""
OWN_COLUMNS = {GAPS: GAP_COLUMNS, TICK: TICK_COLUMNS}
SORTED_BY = {QUOTE: ("ts", TOPIC, "seq"), GAPS: ("ts", TOPIC, "from_seq"), TICK: ("ts", "symbol")}
DURABLE_SORTED_BY = ("log", "offset", "ts", TOPIC, "seq")


def sort_columns(kind: str) -> tuple[str, ...]:
    """Return the columns that files of ``kind`` are sorted by."""
    return SORTED_BY.get(kind, DURABLE_SORTED_BY)


@cache
def schema_of(kind: str) -> pa.Schema:
    """Return the columns of a kind; its metadata name the version of the layout."""
    if kind in OWN_COLUMNS:
        columns = OWN_COLUMNS[kind]
    else:
        common = {name: SIMPLE[str(spec["type"])] for name, spec in common_fields().items() if name != "snapshot"}
        columns = {TOPIC: pa.string(), "log": pa.string(), **common, "ts_utc": UTC}
        for name, spec in fields_of(kind).items():
            columns[name] = _type(spec)
            if spec.unit == SERVER_CLOCK:
                columns[f"{name}_server"] = pa.timestamp("ms")
        columns[EXTRA] = pa.string()
    return pa.schema(columns.items(), {"mt4pump.kind": kind, "mt4pump.schema": SCHEMA_VERSION})


def _type(spec: FieldSpec) -> pa.DataType:
    if spec.type == "list" and spec.items is not None:
        return pa.list_(_type(spec.items))
    if spec.type == "map" and spec.fields and not spec.partial:
        return pa.struct([(name, _type(field)) for name, field in spec.fields.items()])
    return SIMPLE.get(spec.type, pa.string())  # see `_json_names`


def table_of(kind: str, events: Sequence[Event], log: str | None) -> pa.Table:
    """Return ``events`` of one kind as a table; ``log`` is what their offsets refer to."""
    schema, wire = schema_of(kind), _wire_type(kind)
    bodies = [event.body for event in events]
    extras: dict[int, dict[str, Any]] = {}
    try:
        arrays = pa.array(bodies, wire).flatten()
    except MISFITS:
        arrays = [_array([body.get(field.name) for body in bodies], field, extras) for field in wire]
    columns = {field.name: array for field, array in zip(wire, arrays, strict=True)}
    for name in _json_names(kind):
        maps = [body.get(name) for body in bodies]
        columns[name] = pa.array([None if one is None else _json(one) for one in maps], pa.string())
    known = {*columns, "snapshot"}
    for name in {key for layout in set(map(tuple, bodies)) for key in layout} - known:
        for number, body in enumerate(bodies):
            if name in body:
                extras.setdefault(number, {})[str(name)] = body[name]
    columns[TOPIC] = pa.array([event.topic for event in events], pa.string())
    columns["synthetic"] = pc.fill_null(columns["synthetic"], fill_value=False)
    has_offset = columns["offset"].is_valid()
    columns["log"] = pc.if_else(has_offset, pa.scalar(log, pa.string()), pa.scalar(None, pa.string()))
    if extras:
        columns[EXTRA] = pa.array([_json(extras[n]) if n in extras else None for n in range(len(events))], pa.string())
    return _completed(columns, schema)


def gap_table(gaps: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Return rows of the gaps dataset as a table."""
    rows = list(gaps)
    schema = schema_of(GAPS)
    return _completed({n: pa.array([row.get(n) for row in rows]) for n in schema.names if n != "ts_utc"}, schema)


def tick_table(**columns: Sequence[Any]) -> pa.Table:
    """Return imported ticks as a table; each of `TICK_COLUMNS` is given but ``ts_utc``."""
    return _completed({name: pa.array(values, TICK_COLUMNS[name]) for name, values in columns.items()}, schema_of(TICK))


def _completed(columns: dict[str, pa.Array], schema: pa.Schema) -> pa.Table:
    """Return the table of ``schema``; columns that are missing are derived from the others, or null."""
    rows = len(columns["ts"])
    arrays = []
    for field in schema:
        name = field.name
        if name == "ts_utc":
            array = columns["ts"].cast(UTC)
        elif name in columns:
            array = columns[name]
        elif name.endswith("_server"):
            seconds = columns[name.removesuffix("_server")]
            is_time = pc.and_(pc.greater_equal(seconds, 0), pc.less(seconds, LAST_TIME_S))
            array = pc.if_else(is_time, seconds, pa.scalar(None, pa.int64())).cast(pa.timestamp("s"))
        else:
            array = pa.nulls(rows, field.type)
        arrays.append(array if array.type == field.type else array.cast(field.type))
    return pa.table(arrays, schema=schema)


@cache
def _wire_type(kind: str) -> pa.StructType:
    schema = schema_of(kind)
    names = {**common_fields(), **fields_of(kind)}
    return pa.struct([schema.field(name) for name in names if name != "snapshot" and name not in _json_names(kind)])


@cache
def _json_names(kind: str) -> frozenset[str]:
    """Return the fields that are maps of changing keys: they are stored as JSON."""
    return frozenset(
        name for name, spec in fields_of(kind).items() if spec.type == "map" and _type(spec) == pa.string()
    )


def _array(values: list[Any], field: pa.Field, extras: dict[int, dict[str, Any]]) -> pa.Array:
    """Return ``values`` as an array; what does not fit is null there, and kept in ``extras``."""
    found = []
    for number, value in enumerate(values):
        kept = value
        try:
            pa.scalar(value, field.type)
        except MISFITS:
            extras.setdefault(number, {})[field.name] = value
            kept = None
        found.append(kept)
    return pa.array(found, field.type)


def _json(value: object) -> str:
    return json.dumps(value, default=repr, ensure_ascii=True)
