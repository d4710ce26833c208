"""The contract as an AsyncAPI 3 document: topics and query endpoint; pure."""

from __future__ import annotations

from typing import Any

from mt4pump.contract.json_schema import body_schema, head_schema, request_schema
from mt4pump.contract.kinds import ContractOptions
from mt4pump.contract.queries import REQUESTS
from mt4pump.wire import KINDS, PROTOCOL, SESSION, Kind

MSGPACK = "application/vnd.msgpack"


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
        },
        "channels": {**{kind.name: _channel(kind, options) for kind in KINDS.values()}, **_query_channels()},
        "operations": {**{f"send_{name}": _send(name) for name in KINDS}, **{op: _reply(op) for op in REQUESTS}},
        "components": {
            "messages": {
                **{name: _message(name, body_schema(name, options)) for name in KINDS},
                **{f"{op}_request": _message(f"{op}_request", request_schema(op)) for op in REQUESTS},
                **{f"{op}_head": _message(f"{op}_head", _head_or_refusal(op)) for op in REQUESTS},
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


def _message(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "contentType": MSGPACK, "payload": schema}


def _head_or_refusal(op: str) -> dict[str, Any]:
    return {"anyOf": [head_schema(op), head_schema("error")]}
