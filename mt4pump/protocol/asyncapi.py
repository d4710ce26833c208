"""The contract as an AsyncAPI 3 document: topics, query endpoint and gateway."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mt4pump.protocol.contract import contract, gateway_messages
from mt4pump.protocol.json_schema import Schema, message_schemas
from mt4pump.protocol.kinds import ContractOptions
from mt4pump.wire import KINDS, PROTOCOL, SESSION, Kind

MSGPACK = "application/vnd.msgpack"
JSON = "application/json"
REPLY_NAMES = {"subscribe": "subscription", "unsubscribe": "subscription"}
"""Replies of the gateway whose name differs from the action."""
UNREQUESTED = ("quote", "event", "status", "notice", "error")
"""Messages that the gateway sends without a request."""

Node = dict[str, Any]


def asyncapi(options: ContractOptions | None = None, version: str = f"{PROTOCOL}.0.0") -> Node:
    """Return the document. Channels are topics; the query endpoint is one channel of requests and one of replies."""
    messages = _messages(message_schemas(options))
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
            "version": version,
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
            **{kind.name: _topic_channel(kind, options) for kind in KINDS.values()},
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


def _messages(schemas: dict[str, Schema]) -> Node:
    def message(name: str, payload: Schema, content_type: str = MSGPACK) -> Node:
        return {name: {"name": name, "contentType": content_type, "payload": payload}}

    found: Node = {}
    for kind in KINDS:
        found |= message(kind, schemas[f"body.{kind}"])
    for op in contract().requests:
        found |= message(f"{op}_request", schemas[f"request.{op}"])
    for op in contract().requests:
        found |= message(f"{op}_head", {"anyOf": [schemas[f"head.{op}"], schemas["head.error"]]})
    for action in gateway_messages().requests:
        found |= message(f"gateway_do_{action}", schemas[f"gateway.request.{action}"], JSON)
    for name in gateway_messages().messages:
        found |= message(f"gateway_{name}", schemas[f"gateway.message.{name}"], JSON)
    return found


def _topic_channel(kind: Kind, options: ContractOptions | None) -> Node:
    suffix = options.topic_suffix if options else ""
    address = (f"{kind.name}.{{{kind.key}}}" if kind.key else kind.name) + suffix
    channel = _channel("events", contract().kinds[kind.name].meaning, {kind.name: kind.name}, address)
    if kind is SESSION:
        ends: Node = {"description": "what happened to the session", "enum": ["start", "stop", "ping"]}
    else:
        ends = {"description": f"`{kind.key}` of the event"}
    return {**channel, "parameters": {kind.key: ends}} if kind.key else channel


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
