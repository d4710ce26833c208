"""Bodies of snapshots: a packed row with four entries more is what the plain row would have been."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mt4pump.query.replies import SnapshotBodies, longer_map, packed_head, refused
from mt4pump.query.requests import RequestError

COMMON = {"epoch": 5, "ts": 2**60, "snapshot": True}


def made(row: bytes | dict[str, Any], seq: int = 3) -> dict[str, Any]:
    body: dict[str, Any] = msgpack.unpackb(SnapshotBodies(5, 2**60).body(row, seq))
    return body


@pytest.mark.parametrize("count", [0, 1, 11, 12, 15, 16, 100, 65_531, 65_532, 65_536])
def test_a_packed_row_and_a_plain_one_give_the_same_body(count: int) -> None:
    fields = {f"f{number}": number for number in range(count)}
    assert made(msgpack.packb(fields)) == made(fields) == {**fields, **COMMON, "seq": 3}


@given(st.dictionaries(st.text(min_size=1), st.integers(0, 9) | st.text()), st.integers(0, 2**63))
def test_any_row_keeps_its_fields(fields: dict[str, Any], seq: int) -> None:
    rest = {key: value for key, value in fields.items() if key not in {*COMMON, "seq"}}
    assert made(msgpack.packb(rest), seq) == {**rest, **COMMON, "seq": seq}


def test_a_row_with_a_time_of_its_own_keeps_it() -> None:
    assert made({"bid": 1.5, "ts": 77})["ts"] == 77


def test_text_that_is_no_unicode_is_replaced() -> None:
    assert made({"comment": "\ud800"})["comment"] == "?"


@pytest.mark.parametrize("packed", [b"", b"\x90", b"\xc0", b"\xde\x00", b"abc"])
def test_a_row_that_is_no_map_is_not_made_into_one(packed: bytes) -> None:
    with pytest.raises(ValueError, match="no msgpack map"):
        longer_map(packed, b"")


def test_a_refusal_says_its_code_and_why() -> None:
    reply = refused(RequestError("busy", "ask again"))
    assert msgpack.unpackb(packed_head(reply.head)) == {"ok": False, "code": "busy", "error": "ask again"}
    assert reply.events == 0
