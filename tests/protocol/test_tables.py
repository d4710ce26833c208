"""`protocol.toml` compared with the code that it describes."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from mt4pump import protocol
from mt4pump.client import events, liveness
from mt4pump.errors import LayoutError
from mt4pump.mt4.codes import (
    ACTION_NAMES,
    ActivationType,
    MarginLevelType,
    RequestStatus,
    SymbolDirection,
    TradeCommand,
    TradeReason,
    TradeState,
)
from mt4pump.mt4.layout import MAIL_PERSONAL, USER_RECORD
from mt4pump.mt4.record import INTERNAL, PERSONAL, PUBLIC, SECRET, Decoder, Record
from mt4pump.protocol import ContractOptions, common_fields, contract, fields_of, kinds_for
from mt4pump.protocol.contract import (
    FieldSpec,
    FieldSpecs,
    contract_from,
    plain_fields,
)
from mt4pump.pump import session
from mt4pump.pump.lifecycle import CHANGES
from mt4pump.wire import COMMON_KEYS, KINDS
from tests.reference import reference_path

PATH = Path(protocol.__file__).with_name("protocol.toml")
DOCUMENT = tomllib.loads(PATH.read_text(encoding="utf-8"))
EVERYTHING = {
    **{f"kind {kind}": fields_of(kind) for kind in KINDS},
    **{f"request {op}": specs for op, specs in contract().requests.items()},
    **{f"head {name}": specs for name, specs in contract().heads.items()},
    "common": contract().common,
}


@pytest.mark.parametrize("name", DOCUMENT["records"])
def test_a_record_has_a_note_for_every_field_that_may_be_published_and_for_no_other(name: str) -> None:
    assert DOCUMENT["records"][name].keys() == Record.known[name].names(PUBLIC, PERSONAL)


@pytest.mark.parametrize("name", DOCUMENT["records"])
def test_a_records_fields_are_what_its_decoder_gives(name: str) -> None:
    record = Record.known[name]
    decoder = Decoder(record, personal=record.names(PERSONAL))
    specs = contract().records[name]
    assert tuple(specs) == decoder.names
    python = {"int": int, "uint": int, "float": float, "str": str, "list": list, "map": dict}
    for field, value in decoder(bytes(record.size)).items():
        assert type(value) is python[specs[field].type], field


def test_a_field_without_a_note_cannot_be_published() -> None:
    notes = {name: note for name, note in DOCUMENT["records"]["OnlineRecord"].items() if name != "counter"}
    with pytest.raises(LayoutError, match="OnlineRecord: no note says what counter means"):
        contract_from({**DOCUMENT, "records": {**DOCUMENT["records"], "OnlineRecord": notes}})


def test_nothing_shared_or_grouped_is_unused() -> None:
    text = PATH.read_text(encoding="utf-8")
    assert [name for name in DOCUMENT["shared"] if f'shared = "{name}"' not in text] == []
    assert [name for name in DOCUMENT["groups"] if f'fields = "{name}"' not in text] == []
    assert [
        name for name in DOCUMENT["enumerations"] if f'enum {name}"' not in text and f'flags {name}"' not in text
    ] == []


def test_no_secret_is_in_any_table() -> None:
    published = json.dumps(everything_plain())
    hidden = {name for record in Record.known.values() for name in record.names(SECRET)}
    assert [name for name in hidden if f'"{name}"' in published] == []
    assert not USER_RECORD.names(SECRET, INTERNAL) & fields_of("user").keys()


@pytest.mark.parametrize("name", EVERYTHING)
def test_every_field_has_a_type_a_meaning_and_what_its_type_needs(name: str) -> None:
    assert list(shortcomings(EVERYTHING[name], name)) == []


def everything_plain() -> dict[str, Any]:
    """Return the whole contract as plain values."""
    return {
        "kinds": kinds_for(),
        "common": common_fields(),
        "requests": {op: plain_fields(specs) for op, specs in contract().requests.items()},
        "heads": {name: plain_fields(specs) for name, specs in contract().heads.items()},
        "codes": dict(contract().codes),
    }


def shortcomings(specs: FieldSpecs, path: str) -> list[str]:
    found: list[str] = []
    for name, spec in specs.items():
        here = f"{path}.{name}"
        found += [f"{here}: {what}" for what in _of_one(spec)]
        found += shortcomings(spec.fields, here)
        if spec.items:
            found += shortcomings({"[]": spec.items}, here)
    return found


def _of_one(spec: FieldSpec) -> list[str]:
    checks = {
        "type": spec.type in {"int", "uint", "float", "str", "bool", "list", "map", "bin", "any"},
        "meaning": bool(spec.meaning) and spec.meaning == spec.meaning.strip() and not spec.meaning.endswith("."),
        "a list has items": spec.type != "list" or spec.items is not None,
        "a map has keys or items": spec.type != "map" or bool(spec.items) != bool(spec.fields),
        "numbers": bool(spec.numbers) == spec.unit.startswith(("enum ", "flags ")),
        "when": bool(spec.when),
    }
    return [what for what, holds in checks.items() if not holds]


def test_the_listed_words_and_numbers_are_those_of_the_code() -> None:
    assert fields_of("trade")["change"].words == CHANGES
    assert fields_of("trade")["action"].words == tuple(ACTION_NAMES.values())
    states = (session.CONNECTING, session.LOGGED_IN, session.PUMPING, session.LOST, session.STOPPING)
    assert fields_of("heartbeat")["state"].words == fields_of("session")["state"].words == states
    assert (CHANGES, states, session.PUMPING) == (events.CHANGES, events.SESSION_STATES, liveness.PUMPING)
    assert tuple(name for name, spec in contract().common.items() if spec.is_required) == COMMON_KEYS
    assert contract().heads["error"]["code"].words == tuple(contract().codes)
    assert contract().kinds.keys() == KINDS.keys()
    same_names = (MarginLevelType, RequestStatus, SymbolDirection, TradeCommand, TradeReason, TradeState)
    for name, enum in {"Activation": ActivationType, **{enum.__name__: enum for enum in same_names}}.items():
        assert contract().enumerations[name] == {member.name: int(member) for member in enum}


def test_the_numbers_are_those_of_the_header() -> None:
    enums = json.loads(reference_path("reference", "mt4api", "codes.json").read_text(encoding="utf-8"))["enums"]
    tables = [{value["name"]: value["value"] for value in enum["values"]} for enum in enums]
    for name, numbers in contract().enumerations.items():
        same = [table for table in tables if numbers.items() <= table.items()]
        assert len(same) == 1, name
        assert set(same[0]) - set(numbers) <= {"TT_FLAG_NONE"}, name


def test_user_fields_decide_which_personal_fields_there_are() -> None:
    fields = kinds_for(ContractOptions(user_fields=frozenset({"email"})))["user"]["fields"]
    assert USER_RECORD.names(PERSONAL) & fields.keys() == {"email"}
    assert "when" not in fields["email"]
    assert "user_fields" in kinds_for()["user"]["fields"]["email"]["when"]


@pytest.mark.parametrize("named", ["from", "subject", "body"])
def test_mail_fields_decide_which_personal_parts_of_a_mail_there_are(named: str) -> None:
    fields = kinds_for(ContractOptions(mail_fields=frozenset({named})))["mail"]["fields"]
    assert MAIL_PERSONAL & fields.keys() == {named}
    assert "when" not in fields[named]
    assert not MAIL_PERSONAL & kinds_for(ContractOptions())["mail"]["fields"].keys()
    assert "mail_fields" in kinds_for()["mail"]["fields"][named]["when"]


def test_plugin_parameters_are_there_when_the_setting_is_on() -> None:
    assert "parameters" not in kinds_for(ContractOptions())["plugin"]["fields"]
    assert "parameters" in kinds_for(ContractOptions(plugin_parameters=True))["plugin"]["fields"]


def test_durable_kinds_and_the_suffix_are_those_of_the_settings() -> None:
    kinds = kinds_for(ContractOptions(durable=frozenset({"quote"}), topic_suffix="|"))
    assert [name for name, kind in kinds.items() if kind["durable"]] == ["quote"]
    assert kinds["trade"]["topic"] == "trade.<login>|"
    assert kinds["heartbeat"]["topic"] == "heartbeat|"
    assert {name for name, kind in kinds_for().items() if kind["durable"]} == {
        kind.name for kind in KINDS.values() if kind.durable
    }


def test_the_key_of_a_kind_is_a_field_of_its_body() -> None:
    for name, kind in kinds_for().items():
        assert not kind["key"] or kind["key"] in kind["fields"], name


def test_the_tables_are_plain_values_that_json_and_msgpack_can_write() -> None:
    plain = everything_plain()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


def test_before_holds_fields_of_the_record_any_of_which_may_be_missing() -> None:
    before = fields_of("trade")["before"]
    assert (before.partial, before.nullable) == (True, True)
    assert before.fields == contract().records["TradeRecord"]
