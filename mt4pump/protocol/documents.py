"""The contract as JSON Schema (draft 2020-12), and as an AsyncAPI 3 document of topics, query endpoint and gateway.

A body in JSON is the msgpack map; a float that JSON cannot express is ``{"$float": "NaN"}``, ``"Infinity"`` or
``"-Infinity"``. Keys that are not listed are allowed, because readers ignore them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mt4pump.protocol.contract import IN_EVENT, FieldSpec, FieldSpecs, contract, fields_of, gateway_messages
from mt4pump.wire import KINDS, PROTOCOL, SESSION, Kind

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
MSGPACK = "application/vnd.msgpack"
JSON = "application/json"
REPLY_NAMES = {"subscribe": "subscription", "unsubscribe": "subscription"}
"""Replies of the gateway whose name differs from the action."""
UNREQUESTED = ("quote", "event", "status", "notice", "error")
"""Messages that the gateway sends without a request."""
Node = dict[str, Any]


def json_schema() -> Schema:
    """Return one schema of the whole protocol, with a definition per message.

    A program refers to one definition of `message_schemas`, as ``urn:mt4pump:1#/$defs/body.trade``.
    """
    definitions = {
        # without its identity, which would move the base of references
        name: _with_references({k: v for k, v in schema.items() if k not in {"$schema", "$id"}})
        for name, schema in message_schemas().items()
    }
    return {
        "$schema": DRAFT,
        "$id": URN,
        "title": f"mt4pump, protocol {PROTOCOL}",
        "description": "$defs has one schema per message; refer to the one that you need.",
        "$defs": {"float": SCHEMAS["float"], **definitions},
    }


def message_schemas() -> dict[str, Schema]:
    """Return the schema of every message by name.

    Names are ``body.KIND``, ``request.OP``, ``head.OP`` (``head.error`` is that of a refusal),
    ``gateway.request.ACTION`` and ``gateway.message.NAME``.
    """
    gateway = gateway_messages()
    bodies = {kind: {**fields_of(kind), **contract().common} for kind in KINDS}
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


def asyncapi() -> Node:
    """Return the document. Channels are topics; the query endpoint is one channel of requests and one of replies."""
    messages = _components(message_schemas())
    ops = contract().requests
    query = _channel("query", "one request, one frame of msgpack", {op: f"{op}_request" for op in ops})
    answers = _channel(
        "query",
        "the reply's head; behind it, frame by frame, topic and body of each row or event",
        {op: f"{op}_head" for op in ops},
    )
    gateway = {name: name for name in messages if name.startswith("gateway_")}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "mt4pump",
            "version": f"{PROTOCOL}.0.0",
            "description": "MetaTrader 4 pump events on ZeroMQ; two frames per message: topic, msgpack map.",
        },
        "defaultContentType": MSGPACK,
        "servers": {
            "events": {"host": "127.0.0.1:5556", "protocol": "zmq", "description": "PUB: connect a SUB socket"},
            "query": {"host": "127.0.0.1:5557", "protocol": "zmq", "description": "ROUTER: connect a REQ or DEALER"},
            "gateway": {
                "host": "127.0.0.1:8765",
                "protocol": "ws",
                "description": "mt4pump-gateway: JSON texts; with batches on, arrays of them",
            },
        },
        "channels": {
            **{kind.name: _topic_channel(kind) for kind in KINDS.values()},
            "query": query,
            "answers": answers,
            "gateway": _channel("gateway", "one connection for both ways", gateway, "/"),
        },
        "operations": {
            **{f"send_{name}": _operation("send", name, name) for name in KINDS},
            **{op: _operation("receive", "query", op, reply=("answers", [op])) for op in ops},
            **{f"send_gateway_{name}": _operation("send", "gateway", f"gateway_{name}") for name in UNREQUESTED},
            **{f"gateway_{action}": _gateway_request(action) for action in gateway_messages().requests},
        },
        "components": {"messages": messages},
    }


def _components(schemas: dict[str, Schema]) -> Node:
    ops, gateway = contract().requests, gateway_messages()
    payloads = {
        **{kind: schemas[f"body.{kind}"] for kind in KINDS},
        **{f"{op}_request": schemas[f"request.{op}"] for op in ops},
        **{f"{op}_head": {"anyOf": [schemas[f"head.{op}"], schemas["head.error"]]} for op in ops},
        **{f"gateway_do_{action}": schemas[f"gateway.request.{action}"] for action in gateway.requests},
        **{f"gateway_{name}": schemas[f"gateway.message.{name}"] for name in gateway.messages},
    }
    types = {name: JSON if name.startswith("gateway_") else MSGPACK for name in payloads}
    return {name: {"name": name, "contentType": types[name], "payload": payloads[name]} for name in payloads}


def _topic_channel(kind: Kind) -> Node:
    address = f"{kind.name}.{{{kind.key}}}" if kind.key else kind.name
    channel = _channel("events", contract().kinds[kind.name].meaning, {kind.name: kind.name}, address)
    if not kind.key:
        return channel
    key: Node = {"description": f"`{kind.key}` of the event"}
    if kind is SESSION:
        key = {"description": "what happened to the session", "enum": ["start", "stop", "ping"]}
    return {**channel, "parameters": {kind.key: key}}


def _channel(server: str, description: str, messages: dict[str, str], address: str | None = None) -> Node:
    """Return a channel; ``messages`` are the names of components by their names in the channel."""
    return {
        "address": address,
        "description": description,
        "servers": [_reference("servers", server)],
        "messages": {name: _reference("components", "messages", message) for name, message in messages.items()},
    }


def _operation(action: str, channel: str, message: str, reply: tuple[str, Iterable[str]] | None = None) -> Node:
    operation: Node = {"action": action, **_messages_of(channel, [message])}
    return {**operation, "reply": _messages_of(*reply)} if reply else operation


def _gateway_request(action: str) -> Node:
    replies = [f"gateway_{REPLY_NAMES.get(action, action)}", "gateway_error"]
    return _operation("receive", "gateway", f"gateway_do_{action}", reply=("gateway", replies))


def _messages_of(channel: str, messages: Iterable[str]) -> Node:
    return {
        "channel": _reference("channels", channel),
        "messages": [_reference("channels", channel, "messages", message) for message in messages],
    }


def _reference(*path: str) -> Node:
    return {"$ref": "#/" + "/".join(path)}
