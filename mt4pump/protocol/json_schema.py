"""The contract as JSON Schema (draft 2020-12); pure.

A body in JSON is the msgpack map; a float that JSON cannot express is ``{"$float": "NaN"}``, ``"Infinity"`` or
``"-Infinity"``. Keys that are not listed are allowed, because readers ignore them. `json_schema` returns one schema of
everything, the other functions return the schema of one message.
"""

from __future__ import annotations

from typing import Any

from mt4pump.protocol.fields import ANY, BIN, BOOL, FLOAT, IN_EVENT, INT, LIST, MAP, STR, UINT, Spec, Specs
from mt4pump.protocol.gateway import GATEWAY_MESSAGES, GATEWAY_REQUESTS
from mt4pump.protocol.kinds import COMMON_FIELDS, ContractOptions, fields_of
from mt4pump.protocol.queries import HEADS, REQUESTS
from mt4pump.wire import KINDS, PROTOCOL

DRAFT = "https://json-schema.org/draft/2020-12/schema"
NOT_A_NUMBER = {
    "type": "object",
    "properties": {"$float": {"enum": ["NaN", "Infinity", "-Infinity"]}},
    "required": ["$float"],
    "additionalProperties": False,
}
SCHEMAS: dict[str, dict[str, Any]] = {
    INT: {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    UINT: {"type": "integer", "minimum": 0, "maximum": 2**64 - 1},
    FLOAT: {"anyOf": [{"type": "number"}, NOT_A_NUMBER]},
    STR: {"type": "string"},
    BOOL: {"type": "boolean"},
    BIN: {"type": "string"},
    ANY: {},
}
NIL = {"type": "null"}


def body_schema(kind: str, options: ContractOptions | None = None) -> dict[str, Any]:
    """Return the schema of every body of ``kind``."""
    fields = {**fields_of(kind, options), **COMMON_FIELDS}
    schema = {"$schema": DRAFT, "$id": _identity(kind), "title": f"Body of {kind}", **_object(fields)}
    if of_events := [name for name, spec in fields.items() if spec.when == IN_EVENT]:
        schema |= {"if": {"required": ["snapshot"]}, "else": {"required": of_events}}
    return schema


def request_schema(op: str) -> dict[str, Any]:
    """Return the schema of a request."""
    return {"$schema": DRAFT, "$id": _identity(f"request:{op}"), "title": f"Request {op}", **_object(REQUESTS[op])}


def head_schema(name: str) -> dict[str, Any]:
    """Return the schema of a reply's head; ``error`` is that of a refusal."""
    return {"$schema": DRAFT, "$id": _identity(f"head:{name}"), "title": f"Head of {name}", **_object(HEADS[name])}


def gateway_request_schema(action: str) -> dict[str, Any]:
    """Return the schema of a message from a client of the gateway."""
    title, specs = f"Gateway request {action}", GATEWAY_REQUESTS[action]
    return {"$schema": DRAFT, "$id": _identity(f"gateway:request:{action}"), "title": title, **_object(specs)}


def gateway_message_schema(name: str) -> dict[str, Any]:
    """Return the schema of a message to a client of the gateway."""
    title, specs = f"Gateway message {name}", GATEWAY_MESSAGES[name]
    return {"$schema": DRAFT, "$id": _identity(f"gateway:message:{name}"), "title": title, **_object(specs)}


def json_schema(options: ContractOptions | None = None) -> dict[str, Any]:
    """Return one schema of the whole protocol, with a definition per message.

    Definitions are called ``body.KIND``, ``request.OP``, ``head.NAME``, ``gateway.request.ACTION`` and
    ``gateway.message.NAME``. A program refers to one of them, as ``urn:mt4pump:1#/$defs/body.trade``.
    """
    messages = {
        **{f"body.{kind}": body_schema(kind, options) for kind in KINDS},
        **{f"request.{op}": request_schema(op) for op in REQUESTS},
        **{f"head.{name}": head_schema(name) for name in HEADS},
        **{f"gateway.request.{action}": gateway_request_schema(action) for action in GATEWAY_REQUESTS},
        **{f"gateway.message.{name}": gateway_message_schema(name) for name in GATEWAY_MESSAGES},
    }
    return {
        "$schema": DRAFT,
        "$id": f"urn:mt4pump:{PROTOCOL}",
        "title": f"mt4pump, protocol {PROTOCOL}",
        "description": "$defs has one schema per message; refer to the one that you need.",
        "$defs": {FLOAT: SCHEMAS[FLOAT], **{name: _definition(schema) for name, schema in messages.items()}},
    }


def _definition(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a message without its identity, which would move the base of references."""
    definition: dict[str, Any] = _with_references({k: v for k, v in schema.items() if k not in {"$schema", "$id"}})
    return definition


def _with_references(value: Any) -> Any:
    """Return ``value`` with a reference to the definition of ``float`` instead of each copy of it."""
    if isinstance(value, list):
        return [_with_references(each) for each in value]
    if not isinstance(value, dict):
        return value
    if value.get("anyOf") == SCHEMAS[FLOAT]["anyOf"]:
        return {**{k: v for k, v in value.items() if k != "anyOf"}, "$ref": f"#/$defs/{FLOAT}"}
    return {key: _with_references(each) for key, each in value.items()}


def _identity(name: str) -> str:
    return f"urn:mt4pump:{PROTOCOL}:{name}"


def _object(specs: Specs, *, partial: bool = False) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name: _schema(spec) for name, spec in specs.items()},
    }
    required = [] if partial else [name for name, spec in specs.items() if spec.is_required]
    if required:
        schema["required"] = required
    return schema


def _schema(spec: Spec) -> dict[str, Any]:
    if spec.type == LIST:
        schema: dict[str, Any] = {"type": "array", "items": _schema(spec.items) if spec.items else {}}
    elif spec.type == MAP and spec.items:
        schema = {"type": "object", "additionalProperties": _schema(spec.items)}
    elif spec.type == MAP:
        schema = _object(spec.fields, partial=spec.partial)
    else:
        schema = dict(SCHEMAS[spec.type])
    if spec.nullable:
        schema = {"anyOf": [schema, NIL]}
    return {"description": _description(spec), **schema}


def _description(spec: Spec) -> str:
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
