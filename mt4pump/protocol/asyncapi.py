"""The contract as an AsyncAPI 3 document: topics, query endpoint, and the gateway; pure."""

from __future__ import annotations

from typing import Any

from mt4pump.protocol.gateway import GATEWAY_MESSAGES, GATEWAY_REQUESTS
from mt4pump.protocol.json_schema import (
    body_schema,
    gateway_message_schema,
    gateway_request_schema,
    head_schema,
    request_schema,
)
from mt4pump.protocol.kinds import ContractOptions
from mt4pump.protocol.queries import REQUESTS
from mt4pump.wire import KINDS, PROTOCOL, SESSION, Kind

MSGPACK = "application/vnd.msgpack"
JSON = "application/json"
ANSWERS = {"subscribe": "subscription", "unsubscribe": "subscription"}
"""Replies of the gateway whose name differs from the action."""


def asyncapi(options: ContractOptions | None = None, version: str = f"{PROTOCOL}.0.0") -> dict[str, Any]:
    """Return the document. Channels are topics; the query endpoint is one channel of requests and replies."""
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
            **{kind.name: _channel(kind, options) for kind in KINDS.values()},
            **_query_channels(),
            "gateway": _gateway(),
        },
        "operations": {
            **{f"send_{name}": _send(name) for name in KINDS},
            **{op: _reply(op) for op in REQUESTS},
            **_gateway_operations(),
        },
        "components": {
            "messages": {
                **{name: _message(name, body_schema(name, options)) for name in KINDS},
                **{f"{op}_request": _message(f"{op}_request", request_schema(op)) for op in REQUESTS},
                **{f"{op}_head": _message(f"{op}_head", _head_or_refusal(op)) for op in REQUESTS},
                **_gateway_messages(),
            }
        },
    }


def _channel(kind: Kind, options: ContractOptions | None) -> dict[str, Any]:
    channel: dict[str, Any] = {
        "address": (f"{kind.name}.{{{kind.key}}}" if kind.key else kind.name)
        + (options.topic_suffix if options else ""),
        "description": kind.meaning,
        "servers": [{"$ref": "#/servers/events"}],
        "messages": {kind.name: {"$ref": f"#/components/messages/{kind.name}"}},
    }
    if kind.key:
        channel["parameters"] = {kind.key: _parameter(kind)}
    return channel


def _parameter(kind: Kind) -> dict[str, Any]:
    if kind is SESSION:
        return {"description": "what happened to the session", "enum": ["start", "stop", "ping"]}
    return {"description": f"`{kind.key}` of the event"}


def _query_channels() -> dict[str, Any]:
    return {
        "query": {
            "address": None,
            "description": "one request, one frame of msgpack",
            "servers": [{"$ref": "#/servers/query"}],
            "messages": {op: {"$ref": f"#/components/messages/{op}_request"} for op in REQUESTS},
        },
        "answers": {
            "address": None,
            "description": "the reply's head; behind it, frame by frame, topic and body of each row or event",
            "servers": [{"$ref": "#/servers/query"}],
            "messages": {op: {"$ref": f"#/components/messages/{op}_head"} for op in REQUESTS},
        },
    }


def _send(name: str) -> dict[str, Any]:
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{name}"},
        "messages": [{"$ref": f"#/channels/{name}/messages/{name}"}],
    }


def _reply(op: str) -> dict[str, Any]:
    return {
        "action": "receive",
        "channel": {"$ref": "#/channels/query"},
        "messages": [{"$ref": f"#/channels/query/messages/{op}"}],
        "reply": {
            "channel": {"$ref": "#/channels/answers"},
            "messages": [{"$ref": f"#/channels/answers/messages/{op}"}],
        },
    }


def _gateway() -> dict[str, Any]:
    return {
        "address": "/",
        "description": "one connection for both ways",
        "servers": [{"$ref": "#/servers/gateway"}],
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in _gateway_messages()},
    }


def _gateway_messages() -> dict[str, Any]:
    received = {f"gateway_do_{action}": gateway_request_schema(action) for action in GATEWAY_REQUESTS}
    sent = {f"gateway_{name}": gateway_message_schema(name) for name in GATEWAY_MESSAGES}
    return {name: _message(name, schema, JSON) for name, schema in {**received, **sent}.items()}


def _gateway_operations() -> dict[str, Any]:
    address = "#/channels/gateway"
    sent = {
        f"send_gateway_{name}": {
            "action": "send",
            "channel": {"$ref": address},
            "messages": [{"$ref": f"{address}/messages/gateway_{name}"}],
        }
        for name in ("quote", "event", "status", "notice", "error")
    }
    received = {
        f"gateway_{action}": {
            "action": "receive",
            "channel": {"$ref": address},
            "messages": [{"$ref": f"{address}/messages/gateway_do_{action}"}],
            "reply": {
                "channel": {"$ref": address},
                "messages": [
                    {"$ref": f"{address}/messages/gateway_{ANSWERS.get(action, action)}"},
                    {"$ref": f"{address}/messages/gateway_error"},
                ],
            },
        }
        for action in GATEWAY_REQUESTS
    }
    return {**sent, **received}


def _message(name: str, schema: dict[str, Any], content_type: str = MSGPACK) -> dict[str, Any]:
    return {"name": name, "contentType": content_type, "payload": schema}


def _head_or_refusal(op: str) -> dict[str, Any]:
    return {"anyOf": [head_schema(op), head_schema("error")]}
