"""The golden vectors: what is stored is what the daemon publishes, byte for byte, and records are what the API has."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest

from mt4pump.mt4.codes import ACTION_NAMES
from mt4pump.mt4.record import SECRET, Record
from mt4pump.pump.lifecycle import CHANGES
from mt4pump.wire import KINDS, PROTOCOL, kind_of
from tests.protocol.checking import faults_of
from tests.pump.harness import EPOCH
from tests.reference import api_layout
from tests.vectors.case import Case
from tests.vectors.cases import CASES
from tests.vectors.make import FOLDER, document, text_of
from tests.vectors.plain import plain, unplain
from tests.vectors.rig import run

LEAST = 200
FILES = sorted(CASES)
STORED: dict[str, dict[str, Any]] = {
    name: json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")) for name in FILES
}
EVERY = [(name, each) for name in FILES for each in STORED[name]["cases"]]
MESSAGES = [(name, each["name"], message) for name, each in EVERY for message in each["messages"]]


def case_of(stored: dict[str, Any]) -> Case:
    return Case(stored["name"], stored["settings"], stored["setup"], stored["steps"])


@pytest.mark.parametrize("name", FILES)
def test_the_daemon_publishes_the_stored_bytes(name: str) -> None:
    wrong = []
    for stored in STORED[name]["cases"]:
        want = [(message["topic"], message["body"]) for message in stored["messages"]]
        if [(topic.hex(), body.hex()) for topic, body in run(case_of(stored))] != want:
            wrong.append(stored["name"])
    assert wrong == []


@pytest.mark.parametrize("name", FILES)
@pytest.mark.not_under_wine("is about files, documents and packages: the host looks at them")
def test_the_stored_file_is_what_the_script_writes(name: str) -> None:
    text = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
    assert text_of(document(name, CASES[name])) == text, "run python -m tests.vectors.make"


def test_the_files_are_those_of_the_cases_and_of_this_protocol() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.json")) == FILES
    assert {(each["protocol"], each["epoch"]) for each in STORED.values()} == {(PROTOCOL, EPOCH)}


def test_there_are_enough_and_each_has_a_name_of_its_own() -> None:
    assert len(EVERY) >= LEAST
    for name in FILES:
        names = [each["name"] for each in STORED[name]["cases"]]
        assert len(names) == len(set(names)), name


def test_every_kind_every_change_and_every_action_is_among_them() -> None:
    bodies = [(kind_of(bytes.fromhex(message["topic"])), message["json"]) for _, _, message in MESSAGES]
    assert {kind for kind, _ in bodies} >= KINDS.keys() - {"heartbeat"}
    assert any(kind.startswith("heartbeat") for kind, _ in bodies)
    assert {body["change"] for kind, body in bodies if kind == "trade"} == set(CHANGES)
    for kind in ("user", "symbol"):
        assert {body["action"] for its, body in bodies if its == kind} == set(ACTION_NAMES.values())
    assert {body["before"] is None for kind, body in bodies if kind == "trade"} == {True, False}
    assert {body.get("synthetic") for _, body in bodies} == {True, None}


def test_a_trade_case_that_is_named_after_a_change_ends_in_it() -> None:
    wrong = []
    for stored in STORED["trade"]["cases"]:
        change, colon, _ = stored["name"].partition(": ")
        rest_is_new = stored["name"] == "closed: in part, the rest is a new order"
        want = "opened" if rest_is_new else change
        if colon and change in CHANGES and stored["messages"][-1]["json"]["change"] != want:
            wrong.append(stored["name"])
    assert wrong == []


def test_json_and_bytes_say_the_same() -> None:
    for name, about, message in MESSAGES:
        body = msgpack.unpackb(bytes.fromhex(message["body"]))
        assert plain(body) == message["json"], (name, about)
        assert plain(unplain(message["json"])) == message["json"], (name, about)
        assert bytes.fromhex(message["topic"]).decode() == message["text"], (name, about)


def test_every_body_keeps_the_contract() -> None:
    for name, about, message in MESSAGES:
        suffix = next((text for text in ("|", ";", "\x1f") if message["text"].endswith(text)), "")
        kind = message["text"].removesuffix(suffix).partition(".")[0]
        partial = name in {"user", "heartbeat"} or (name == "plugin" and "parameter" in about)
        faults = [fault for fault in faults_of(kind, unplain(message["json"])) if not partial or "missing" not in fault]
        assert faults == [], (name, about)


def test_seq_and_offset_take_64_bits_in_no_kind_before_they_need_them() -> None:
    """So that a decoder that makes big integers of 64-bit formats gives one type for them in all kinds."""
    for name, about, message in MESSAGES:
        packed = bytes.fromhex(message["body"])
        body = msgpack.unpackb(packed)
        for key in ("seq", "offset"):
            if 0 <= body.get(key, 2**32) < 2**32:
                assert msgpack.packb(key) + msgpack.packb(body[key]) in packed, (name, about, key)
        for key in ("epoch", "ts"):
            assert body[key] < 2**32 or msgpack.packb(key) + b"\xcf" in packed, (name, about, key)


def test_no_secret_is_in_any_message() -> None:
    secrets = {name for record in Record.known.values() for name in record.names(SECRET)}
    for name, about, message in MESSAGES:
        assert not secrets & set(keys_of(message["json"])), (name, about)
        assert b"hidden" not in bytes.fromhex(message["body"]), (name, about)


def keys_of(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from keys_of(each)


def test_the_records_are_what_the_header_lays_out() -> None:
    """Packed a second time by the offsets of the reference, knowing nothing of our tables."""
    structs = api_layout()
    checked = 0
    for name, stored in EVERY:
        for record in records_of([*stored["setup"], *stored["steps"]]):
            own = bytearray(structs[record["record"]]["size"]["x86"])
            lay_out(
                structs,
                record["record"],
                unplain(record["fields"]),
                into=own,
                start=0,
                encoding=stored["settings"]["encoding"],
            )
            assert own.hex() == record["hex"], (name, stored["name"], record["record"])
            checked += 1
    assert checked >= LEAST


def records_of(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict) and "hex" in value:
        yield value
        return
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from records_of(each)


def lay_out(
    structs: dict[str, Any], name: str, values: dict[str, Any], *, into: bytearray, start: int, encoding: str
) -> None:
    """Write ``values`` of struct ``name`` at ``start``."""
    members = {member["name"]: member for member in structs[name]["fields"]}
    for field, value in values.items():
        member = members[field]
        at = start + member["offset_x86"]
        assert member["offset_x64"] == member["offset_x86"]
        count = (member["array"] or [1])[0]
        size = member["size"] // count
        if member["kind"] == "struct":
            for place, nested in enumerate(value if isinstance(value, list) else [value]):
                inner = member["ctypes"].partition(" ")[0]
                lay_out(structs, inner, nested, into=into, start=at + place * size, encoding=encoding)
        elif member["kind"].endswith("_text"):
            raw = value if isinstance(value, bytes) else value.encode(text_encoding(member["kind"], encoding))
            assert len(raw) <= member["size"], (name, field)
            into[at : at + len(raw)] = raw
        else:
            for place, number in enumerate(value if isinstance(value, list) else [value]):
                struct.pack_into("<" + letter_of(member, size), into, at + place * size, number)


def text_encoding(kind: str, encoding: str) -> str:
    return "utf-16-le" if kind.startswith("utf16") else encoding


def letter_of(member: dict[str, Any], size: int) -> str:
    """Return the ``struct`` letter of one element, by the reference's own type."""
    if member["kind"] == "real":
        return {4: "f", 8: "d"}[size]
    letter = {1: "b", 2: "h", 4: "i", 8: "q"}[size]
    return letter.upper() if "uint" in member["ctypes"] or "ubyte" in member["ctypes"] else letter


@pytest.mark.parametrize("value", [math.inf, -math.inf, 1.5, -0.0, 2**64 - 1, b"\x00\xff", None, "text", True])
def test_plain_json_gives_the_value_back(value: object) -> None:
    written = json.loads(json.dumps(plain({"key": [value]}), allow_nan=False))
    back = unplain(written)["key"][0]
    assert (type(back), repr(back)) == (type(value), repr(value))


def test_plain_json_gives_no_number_back() -> None:
    assert math.isnan(unplain(json.loads(json.dumps(plain(math.nan)))))
