"""The contract as JSON Schema (draft 2020-12).

A body in JSON is the msgpack map; a float that JSON cannot express is ``{"$float": "NaN"}``, ``"Infinity"`` or
``"-Infinity"``. Keys that are not listed are allowed, because readers ignore them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mt4pump.protocol.contract import IN_EVENT, FieldSpec, FieldSpecs, contract, gateway_messages
from mt4pump.protocol.kinds import ContractOptions, fields_of
from mt4pump.wire import KINDS, PROTOCOL

Schema = dict[str, Any]
DRAFT = "https://json-schema.org/draft/2020-12/schema"
URN = f"urn:mt4pump:{PROTOCOL}"
NOT_A_NUMBER = {
    "type": "object",
    "properties": {"$float": {"enum": ["NaN", "Infinity", "-Infinity"]}},
    "required": ["$float"],
    "additionalProperties": False,
}
SCHEMAS: dict[str, Schema] = {
    "int": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    "uint": {"type": "integer", "minimum": 0, "maximum": 2**64 - 1},
    "float": {"anyOf": [{"type": "number"}, NOT_A_NUMBER]},
    "str": {"type": "string"},
    "bool": {"type": "boolean"},
    "bin": {"type": "string"},
    "any": {},
}


def json_schema(options: ContractOptions | None = None) -> Schema:
    """Return one schema of the whole protocol, with a definition per message.

    A program refers to one definition of `message_schemas`, as ``urn:mt4pump:1#/$defs/body.trade``.
    """
    definitions = {
        # without its identity, which would move the base of references
        name: _with_references({k: v for k, v in schema.items() if k not in {"$schema", "$id"}})
        for name, schema in message_schemas(options).items()
    }
    return {
        "$schema": DRAFT,
        "$id": URN,
        "title": f"mt4pump, protocol {PROTOCOL}",
        "description": "$defs has one schema per message; refer to the one that you need.",
        "$defs": {"float": SCHEMAS["float"], **definitions},
    }


def message_schemas(options: ContractOptions | None = None) -> dict[str, Schema]:
    """Return the schema of every message by name.

    Names are ``body.KIND``, ``request.OP``, ``head.OP`` (``head.error`` is that of a refusal),
    ``gateway.request.ACTION`` and ``gateway.message.NAME``.
    """
    gateway = gateway_messages()
    bodies = {kind: {**fields_of(kind, options), **contract().common} for kind in KINDS}
    return {
        **{f"body.{kind}": _message(kind, f"Body of {kind}", specs) for kind, specs in bodies.items()},
        **_messages("request", "Request", contract().requests),
        **_messages("head", "Head of", contract().heads),
        **_messages("gateway.request", "Gateway request", gateway.requests),
        **_messages("gateway.message", "Gateway message", gateway.messages),
    }


def _messages(group: str, title: str, messages: Mapping[str, FieldSpecs]) -> dict[str, Schema]:
    identity = group.replace(".", ":")
    return {
        f"{group}.{name}": _message(f"{identity}:{name}", f"{title} {name}", specs) for name, specs in messages.items()
    }


def _message(identity: str, title: str, specs: FieldSpecs) -> Schema:
    schema = {"$schema": DRAFT, "$id": f"{URN}:{identity}", "title": title, **_object(specs)}
    if of_events := [name for name, spec in specs.items() if spec.when == IN_EVENT]:
        schema |= {"if": {"required": ["snapshot"]}, "else": {"required": of_events}}
    return schema


def _with_references(value: Any) -> Any:
    """Return ``value`` with a reference to the definition of ``float`` instead of each copy of it."""
    if isinstance(value, list):
        return [_with_references(each) for each in value]
    if not isinstance(value, dict):
        return value
    if value.get("anyOf") == SCHEMAS["float"]["anyOf"]:
        return {**{k: v for k, v in value.items() if k != "anyOf"}, "$ref": "#/$defs/float"}
    return {key: _with_references(each) for key, each in value.items()}


def _object(specs: FieldSpecs, *, partial: bool = False) -> Schema:
    schema: Schema = {"type": "object", "properties": {name: _schema(spec) for name, spec in specs.items()}}
    required = [] if partial else [name for name, spec in specs.items() if spec.is_required]
    return {**schema, "required": required} if required else schema


def _schema(spec: FieldSpec) -> Schema:
    if spec.type == "list":
        schema: Schema = {"type": "array", "items": _schema(spec.items) if spec.items else {}}
    elif spec.type == "map" and spec.items:
        schema = {"type": "object", "additionalProperties": _schema(spec.items)}
    elif spec.type == "map":
        schema = _object(spec.fields, partial=spec.partial)
    else:
        schema = dict(SCHEMAS[spec.type])
    if spec.nullable:
        schema = {"anyOf": [schema, {"type": "null"}]}
    return {"description": _description(spec), **schema}


def _description(spec: FieldSpec) -> str:
    """Return meaning, unit, condition and known values; the lists are open, so no ``enum`` restricts them."""
    parts = [spec.meaning]
    if spec.unit:
        parts.append(f"unit: {spec.unit}")
    if not spec.is_required:
        parts.append(f"only when {spec.when}")
    if spec.numbers:
        parts.append(", ".join(f"{number} {name}" for name, number in spec.numbers.items()))
    if spec.words:
        parts.append("one of " + " ".join(spec.words))
    return "; ".join(parts)
