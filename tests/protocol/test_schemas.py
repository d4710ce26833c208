"""The JSON Schema and the AsyncAPI document of the contract."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from mt4pump.protocol.contract import contract, gateway_messages
from mt4pump.protocol.documents import asyncapi, json_schema, message_schemas
from mt4pump.wire import KINDS, kind_of
from tests.bus import decode_frames
from tests.live import running

jsonschema = pytest.importorskip("jsonschema", reason="PyPI jsonschema is not installed (extra: test)")

GATEWAY_SENT = ("quote", "event", "status", "notice", "error")
SCHEMAS = message_schemas()
ONLINE = {"counter": 1, "login": 5, "group": "demo", "action": "add", "epoch": 1, "seq": 1, "ts": 1}


def validator(schema: dict[str, Any]) -> Any:
    return jsonschema.Draft202012Validator(schema)


def test_the_whole_contract_is_one_valid_schema_with_a_definition_per_message() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$defs"].keys() == {
        "float",
        *(f"body.{kind}" for kind in KINDS),
        *(f"request.{op}" for op in contract().requests),
        *(f"head.{name}" for name in contract().heads),
        *(f"gateway.request.{action}" for action in gateway_messages().requests),
        *(f"gateway.message.{name}" for name in gateway_messages().messages),
    }
    for definition in schema["$defs"].values():
        jsonschema.Draft202012Validator.check_schema(definition)
        assert "$id" not in definition
    assert {*references_in(schema)} == {"#/$defs/float"}


@pytest.mark.parametrize("counter", [1, "1"])
def test_a_definition_of_the_whole_schema_takes_what_the_schema_of_the_message_takes(counter: object) -> None:
    body = {**ONLINE, "counter": counter}
    whole = validator({**json_schema(), "$ref": "#/$defs/body.online"})
    assert whole.is_valid(body) is validator(SCHEMAS["body.online"]).is_valid(body) is (counter == 1)


@pytest.mark.parametrize(("bid", "is_valid"), [(1.1, True), ({"$float": "NaN"}, True), ({"$float": "one"}, False)])
def test_a_definition_of_the_whole_schema_resolves_its_floats(bid: object, is_valid: bool) -> None:  # noqa: FBT001
    quote = {"symbol": "X", "digits": 5, "bid": bid, "ask": 1.0, "spread": None, "time": 0, "high": 0.0, "low": 0.0}
    whole = validator({**json_schema(), "$ref": "#/$defs/body.quote"})
    assert whole.is_valid({**quote, "direction": 0, "epoch": 1, "seq": 1, "ts": 1}) is is_valid


def test_bodies_of_a_simulated_broker_fit_their_schemas(tmp_path: Path) -> None:
    validators = {kind: validator(SCHEMAS[f"body.{kind}"]) for kind in KINDS if kind != "heartbeat"}
    with running(tmp_path, source="simulator", rate=2000.0, accounts=60, user_fields=("name",)) as run:
        run.next(lambda message: message.topic.startswith("trade.") and message.body["change"] == "closed", limit_s=60)
    checked = 0
    for frames in run.frames:
        topic, body = decode_frames(frames)
        if (kind := kind_of(topic)) in validators:
            validators[kind].validate(body)
            checked += 1
    assert checked


@pytest.mark.parametrize(
    ("change", "is_valid"),
    [
        ({}, True),
        ({"a key of a later version": 1}, True),
        ({"offset": 2**63}, True),
        ({"offset": -1}, False),
        ({"login": "5"}, False),
        ({"login": None}, False),
        ({"action": None}, False),
    ],
)
def test_a_schema_takes_what_is_right_and_nothing_else(change: dict[str, Any], is_valid: bool) -> None:  # noqa: FBT001
    assert validator(SCHEMAS["body.online"]).is_valid({**ONLINE, **change}) is is_valid


def test_an_event_needs_its_action_and_a_row_of_a_snapshot_does_not() -> None:
    row = {name: value for name, value in ONLINE.items() if name != "action"}
    assert not validator(SCHEMAS["body.online"]).is_valid(row)
    assert validator(SCHEMAS["body.online"]).is_valid({**row, "snapshot": True})


@pytest.mark.parametrize("bid", [1.1, math.nan, {"$float": "NaN"}, {"$float": "-Infinity"}])
def test_a_price_that_is_no_number_fits(bid: object) -> None:
    quote = {"symbol": "X", "digits": 5, "bid": bid, "ask": 1.0, "spread": None, "time": 0, "high": 0.0, "low": 0.0}
    assert validator(SCHEMAS["body.quote"]).is_valid({**quote, "direction": 0, "epoch": 1, "seq": 1, "ts": 1})
    assert not validator(SCHEMAS["body.quote"]).is_valid({**quote, "bid": {"$float": "one"}, "direction": 0})


def test_requests_and_refusals_have_schemas() -> None:
    assert validator(SCHEMAS["request.replay"]).is_valid({"op": "replay", "topics": ["trade."], "after": 5})
    assert not validator(SCHEMAS["request.replay"]).is_valid({"op": "replay", "after": -5})
    refusal = {"ok": False, "code": "busy", "error": "ask again"}
    assert validator(SCHEMAS["head.error"]).is_valid(refusal)
    assert not validator(SCHEMAS["head.replay"]).is_valid(refusal)


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = asyncapi()
    references = list(references_in(document))
    assert references
    for reference in references:
        place: Any = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def references_in(value: object) -> list[str]:
    if isinstance(value, list):
        return [found for each in value for found in references_in(each)]
    if not isinstance(value, dict):
        return []
    own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
    return own + [found for each in value.values() for found in references_in(each)]


def test_the_asyncapi_document_has_every_topic_and_every_request() -> None:
    document = asyncapi()
    assert document["channels"].keys() == {*KINDS, "query", "answers", "gateway"}
    assert document["channels"]["trade"]["address"] == "trade.{login}"
    assert document["channels"]["heartbeat"]["address"] == "heartbeat"
    sent = {*(f"send_{kind}" for kind in KINDS), *(f"send_gateway_{name}" for name in GATEWAY_SENT)}
    received = {*contract().requests, *(f"gateway_{action}" for action in gateway_messages().requests)}
    assert document["operations"].keys() == sent | received
