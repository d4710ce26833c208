"""What the gateway really takes and says, held against its schemas.

Private access: the gateway's table of actions, because a client can only try actions that it knows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mt4pump.protocol.contract import gateway_messages
from mt4pump.protocol.documents import message_schemas
from mt4pump.wire import KINDS
from tests.consumers.gateway.gateway_run import addresses, daemon, gateway

jsonschema = pytest.importorskip("jsonschema", reason="PyPI jsonschema is not installed (extra: test)")
websockets = pytest.importorskip("websockets", reason="PyPI websockets is not installed (extra: consumers)")

REQUESTS: tuple[dict[str, Any], ...] = (
    {"action": "subscribe", "symbols": ["EURUSD"], "id": 1},
    {"action": "subscribe", "topics": ["trade.*", "session.*", "heartbeat", "quote.GBPUSD"], "id": "two"},
    {"action": "unsubscribe", "symbols": ["EURUSD"], "topics": ["heartbeat"]},
    {"action": "resume", "topics": ["trade.*"], "offset": 0, "log": None},
    {"action": "status", "id": 5},
    {"action": "history", "symbol": "EURUSD"},
    {"action": "batch", "window_s": 0.2},
    {"action": "batch", "window_s": 0},
)
UNSUBSCRIBE = next(request for request in REQUESTS if request["action"] == "unsubscribe")
WRONG: tuple[dict[str, Any], ...] = (
    {"action": "subscribe", "symbols": "EURUSD"},
    {"action": "resume", "topics": ["trade.*"], "offset": -1},
    {"action": "batch", "window_s": "fast"},
    {"action": "history", "symbol": ["EURUSD"]},
)
SOUGHT = {"subscription", "quote", "event", "status", "resume", "batch", "history", "error"}
LIMIT_S = 60.0
OPEN = ("--anonymous", "--anonymous-topics", "*")
MESSAGES_LIMIT = 5_000
SCHEMAS = message_schemas()


def validator(schema: dict[str, Any]) -> Any:
    return jsonschema.Draft202012Validator(schema)


def name_of(message: dict[str, Any]) -> str:
    """Return which of our tables the message belongs to."""
    return "event" if "topic" in message and message["type"] in KINDS else str(message["type"])


def received(link: Any) -> Iterator[dict[str, Any]]:
    """Yield every message, those of a batch one by one."""
    for _ in range(MESSAGES_LIMIT):
        found = json.loads(link.recv(timeout=LIMIT_S))
        yield from found if isinstance(found, list) else [found]
    pytest.fail(f"{MESSAGES_LIMIT} messages, and some kind never came")


def test_all_that_a_gateway_says_fits_its_schema(tmp_path: Path) -> None:
    validators = {name: validator(SCHEMAS[f"gateway.message.{name}"]) for name in gateway_messages().messages}
    bodies = {kind: validator(SCHEMAS[f"body.{kind}"]) for kind in KINDS}
    missing, replies = set(SOUGHT), 0
    with daemon(tmp_path) as run, gateway(tmp_path, *addresses(run), *OPEN) as served:
        served.program.line("the feed is live")
        with served.connect() as link:
            for request in (*REQUESTS, *WRONG):
                if request["action"] != "unsubscribe":
                    link.send(json.dumps(request))
            for message in received(link):
                name = name_of(message)
                validators[name].validate(message)
                if name == "event":
                    bodies[message["type"]].validate({**message["data"], **snapshot_mark(message)})
                if name == "quote" and name in missing:  # only now: without its symbol no narrow quote ever comes
                    link.send(json.dumps(UNSUBSCRIBE))
                missing.discard(name)
                replies += name in {"subscription", "resume", "batch", "history", "error"} or message.get("id") == 5
                if not missing and replies >= len(REQUESTS) + len(WRONG):
                    break


def snapshot_mark(message: dict[str, Any]) -> dict[str, bool]:
    """Return what marks a body as a last value: such a one may lack what only events have."""
    return {"snapshot": True} if message.get("snapshot") else {}


def test_requests_that_the_gateway_takes_fit_their_schemas_and_others_do_not() -> None:
    for request in REQUESTS:
        validator(SCHEMAS[f"gateway.request.{request['action']}"]).validate(request)
    for request in WRONG:
        assert not validator(SCHEMAS[f"gateway.request.{request['action']}"]).is_valid(request)


def test_every_action_and_every_code_of_the_gateway_is_in_the_contract() -> None:
    protocol = pytest.importorskip("mt4pump_consumers.gateway.protocol")
    assert gateway_messages().requests.keys() == protocol._READERS.keys()  # noqa: SLF001
    texts = {value for name, value in vars(protocol).items() if name.isupper() and isinstance(value, str)}
    messages, others = gateway_messages().messages, {protocol.PUMPING, protocol.HEARTBEAT}
    codes, states = set(messages["error"]["code"].words), set(messages["status"]["feed"].words)
    assert codes | states == texts - others
