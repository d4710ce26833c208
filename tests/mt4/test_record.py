"""Rows to offsets as a C compiler lays them out, and values to bytes."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mt4pump.errors import LayoutError
from mt4pump.mt4.layout import CON_PLUGIN, SYMBOL_INFO, TRADE_RECORD, USER_RECORD
from mt4pump.mt4.record import INTERNAL, PUBLIC, SECRET, Decoder, Field, Record, format_of


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the records that a test makes out of the real registry."""
    monkeypatch.setattr(Record, "known", dict(Record.known))


def offsets(record: Record) -> dict[str, int]:
    return {field.name: field.offset for field in record.fields}


def test_members_are_aligned_to_their_own_size() -> None:
    record = Record("R", 24, "public b: a\npublic i: b\npublic b: c\npublic d: d")
    assert offsets(record) == {"a": 0, "b": 4, "c": 8, "d": 16}


def test_a_packed_record_has_no_gaps() -> None:
    record = Record("R", 14, "public b: a\npublic i: b\npublic b: c\npublic d: d", packed=True)
    assert offsets(record) == {"a": 0, "b": 1, "c": 5, "d": 6}


def test_the_end_is_padded_to_the_widest_member() -> None:
    assert Record("R", 16, "public d: a\npublic b: b").struct.size == 16


def test_a_nested_record_brings_its_alignment() -> None:
    Record("Inner", 16, "public d: x\npublic b: y")
    outer = Record("Outer", 40, "public b: a\npublic Inner*2: pair")
    assert offsets(outer) == {"a": 0, "pair": 8}
    assert outer.by_name["pair"].size == 32


@pytest.mark.parametrize("size", [4, 7, 12])
def test_rows_that_do_not_add_up_to_the_size_are_refused(size: int) -> None:
    with pytest.raises(LayoutError, match=r"Wrong: rows end at 8, the record is \d+ bytes"):
        Record("Wrong", size, "public i: a b")
    assert "Wrong" not in Record.known


def test_a_row_without_a_known_visibility_is_refused() -> None:
    with pytest.raises(LayoutError, match="no such visibility: publc i: a"):
        Record("Wrong", 4, "publc i: a")


def test_a_format_reads_only_the_named_members_and_spans_the_whole_record() -> None:
    names = frozenset({"symbol", "bid"})
    reader = struct.Struct(format_of(SYMBOL_INFO, names))
    assert reader.size == SYMBOL_INFO.size
    assert reader.unpack(SYMBOL_INFO.pack({"symbol": "EURUSD", "bid": 1.5, "ask": 2.5})) == (
        b"EURUSD".ljust(12, b"\0"),
        1.5,
    )


def test_a_format_of_no_members_steps_over_everything() -> None:
    assert struct.unpack(format_of(SYMBOL_INFO, frozenset()), bytes(SYMBOL_INFO.size)) == ()


def test_packing_an_unknown_name_is_refused_with_the_name() -> None:
    with pytest.raises(LayoutError, match="TradeRecord has no field lots, ticket"):
        TRADE_RECORD.pack({"ticket": 1, "lots": 2, "order": 3})


def test_fields_left_out_are_zero() -> None:
    assert TRADE_RECORD.pack({}) == bytes(TRADE_RECORD.size)


def test_text_is_cut_to_the_field_and_bytes_go_in_as_they_are() -> None:
    packed = SYMBOL_INFO.pack({"symbol": "A_NAME_THAT_IS_TOO_LONG"})
    assert packed[:12] == b"A_NAME_THAT_"
    assert SYMBOL_INFO.pack({"symbol": b"\xff\xfe"})[:3] == b"\xff\xfe\0"


def test_a_letter_outside_the_code_page_is_replaced_and_does_not_fail() -> None:
    assert USER_RECORD.pack({"name": "Ж"}, "cp1252")[USER_RECORD.by_name["name"].offset] == ord("?")


def test_nested_values_are_packed_or_taken_as_bytes() -> None:
    packed = CON_PLUGIN.pack({"file": "x.dll", "info": {"name": "X", "version": 7}})
    raw = CON_PLUGIN.by_name["info"].record
    assert raw is not None
    assert CON_PLUGIN.pack({"file": "x.dll", "info": raw.pack({"name": "X", "version": 7})}) == packed


def test_names_by_visibility_do_not_overlap() -> None:
    assert not USER_RECORD.names(PUBLIC) & USER_RECORD.names(SECRET, INTERNAL)
    assert USER_RECORD.names(PUBLIC, SECRET) == USER_RECORD.names(PUBLIC) | USER_RECORD.names(SECRET)


def test_a_record_shows_its_name_and_size() -> None:
    assert repr(TRADE_RECORD) == "<Record TradeRecord 224 bytes>"


CP1252 = st.characters(codec="cp1252", exclude_characters="\0")
NOT_NUL = st.characters(codec="utf-16-le", exclude_characters="\0", exclude_categories=["Cs"])
LIMITS = {letter: 8 * struct.calcsize(f"<{letter}") for letter in "bBhiIq"}


def values_of(field: Field) -> st.SearchStrategy[Any]:
    """Return what may stand in one field: everything its type holds."""
    one: st.SearchStrategy[Any]
    if field.record:
        one = record_values(field.record)
        return st.lists(one, min_size=field.count, max_size=field.count) if field.count else one
    if field.kind == "s":
        return st.text(CP1252, max_size=field.size)
    if field.kind == "u":
        return st.text(NOT_NUL, max_size=field.count // 2)
    if field.kind in "df":
        one = st.floats(width=64 if field.kind == "d" else 32, allow_nan=False)
    else:
        bits = LIMITS[field.kind]
        signed = field.kind.islower()
        one = st.integers(-(1 << bits - 1) if signed else 0, (1 << bits - 1 if signed else 1 << bits) - 1)
    return st.lists(one, min_size=field.count, max_size=field.count) if field.count else one


def record_values(record: Record) -> st.SearchStrategy[dict[str, Any]]:
    """Return values for every public field of ``record``."""
    return st.fixed_dictionaries(
        {field.name: values_of(field) for field in record.fields if field.visibility == PUBLIC}
    )


SMALL = sorted(set(Record.known) - {"ConGroup", "ConSymbol"})


@pytest.mark.parametrize("name", SMALL)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_what_is_packed_is_decoded_again(name: str, data: st.DataObject) -> None:
    record = Record.known[name]
    values = data.draw(record_values(record))
    assert Decoder(record)(record.pack(values)) == values


@pytest.mark.parametrize("name", ["ConGroup", "ConSymbol"])
def test_the_large_records_come_back_member_by_member(name: str) -> None:
    record = Record.known[name]
    decoder = Decoder(record)
    zero = decoder(record.pack({}))
    for field in record.fields:
        if field.visibility == PUBLIC:
            value = sample(field)
            assert decoder(record.pack({field.name: value})) == {**zero, field.name: value}


def sample(field: Field) -> Any:
    """Return a value that differs from zero in every element of ``field``."""
    if field.record:
        one = {inner.name: sample(inner) for inner in field.record.fields if inner.visibility == PUBLIC}
        return [one] * field.count if field.count else one
    if field.kind == "s":
        return "x" * field.size
    return [index + 1 for index in range(field.count)] if field.count else 7
