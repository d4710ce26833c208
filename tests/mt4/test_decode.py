"""Bytes to plain fields: never fails on a record's contents, always on its length, and never lets a secret out."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mt4pump.errors import LayoutError
from mt4pump.mt4.layout import CON_GROUP, NEWS_TOPIC_NEW, ONLINE_RECORD, SYMBOL_INFO, TRADE_RECORD, USER_RECORD
from mt4pump.mt4.record import INTERNAL, PERSONAL, SECRET, Decoder, Record, ansi_text, utf16_text

CANARY = "CANARY"


@pytest.mark.parametrize(
    ("raw", "encoding", "text"),
    [
        (b"EURUSD\0\0\0\0\0\0", "cp1252", "EURUSD"),
        (b"TWELVE_BYTES", "cp1252", "TWELVE_BYTES"),  # full: no NUL
        (b"\0garbage", "cp1252", ""),
        (b"EUR\0USD\0", "cp1252", "EUR"),
        (b"", "cp1252", ""),
        (b"caf\xe9", "cp1252", "café"),
        (b"\x81\x8d\x8f\x90\x9d", "cp1252", "\ufffd" * 5),  # the five bytes that cp1252 leaves undefined
        (b"\xcf\xf0\xe8\xe2\xe5\xf2", "cp1251", "Привет"),
        (b"\xc4\xe3\xba\xc3\0", "gbk", "你好"),
        (b"\xc4\xe3\xba", "gbk", "你\ufffd"),  # cut through the middle of a letter
        (b"ok\xff\xfe", "utf-8", "ok\ufffd\ufffd"),
    ],
)
def test_ansi_text_ends_at_nul_or_at_the_field_and_replaces_what_it_cannot_read(
    raw: bytes, encoding: str, text: str
) -> None:
    assert ansi_text(raw, encoding) == text


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("news\0rest".encode("utf-16-le"), "news"),
        ("full".encode("utf-16-le"), "full"),
        (b"", ""),
        (b"\0\0", ""),
        (b"a\0\x00\x01\0\0", "a\u0100"),  # a NUL across two letters ends nothing
        (b"a\0\x00\xd8b\0", "a\ufffdb"),  # a lone high surrogate
        (b"\x00\xdc", "\ufffd"),  # a lone low one
        (b"a\0b", "a"),  # half a unit is no letter
        ("😀".encode("utf-16-le"), "😀"),
        ("😀".encode("utf-16-le")[:2], "\ufffd"),
    ],
)
def test_utf16_text_ends_at_nul_or_at_the_field_and_replaces_what_it_cannot_read(raw: bytes, text: str) -> None:
    assert utf16_text(raw) == text


@given(st.binary(max_size=64), st.sampled_from(["cp1252", "cp1251", "gbk", "utf-8", "shift_jis", "ascii"]))
def test_no_bytes_make_text_fail_or_unfit_for_the_wire(raw: bytes, encoding: str) -> None:
    ansi_text(raw, encoding).encode()
    utf16_text(raw).encode()


@pytest.mark.parametrize("name", Record.known)
@settings(max_examples=15, deadline=None)
@example(fill=0x00)
@example(fill=0xFF)
@given(fill=st.integers(0, 255))
def test_no_contents_make_a_decoder_fail(name: str, fill: int) -> None:
    record = Record.known[name]
    fields = Decoder(record)(bytes([fill]) * record.size)
    assert fields.keys() == set(Decoder(record).names)


@settings(max_examples=50)
@given(st.binary(min_size=TRADE_RECORD.size, max_size=TRADE_RECORD.size))
def test_random_bytes_are_a_trade_record_like_any_other(data: bytes) -> None:
    assert len(Decoder(TRADE_RECORD)(data)) == len(TRADE_RECORD.names("public"))


@pytest.mark.parametrize("name", Record.known)
@pytest.mark.parametrize("difference", [-1, 1])
def test_a_wrong_length_is_refused_with_both_lengths(name: str, difference: int) -> None:
    record = Record.known[name]
    with pytest.raises(LayoutError, match=f"{name} is {record.size} bytes, got {record.size + difference}"):
        Decoder(record)(bytes(record.size + difference))


@pytest.mark.parametrize("name", Record.known)
def test_an_array_with_bytes_left_over_is_refused(name: str) -> None:
    record = Record.known[name]
    with pytest.raises(LayoutError, match=f"array of {name}: {2 * record.size + 1} bytes"):
        Decoder(record).many(bytes(2 * record.size + 1))


def test_no_data_is_no_record_but_an_empty_array() -> None:
    with pytest.raises(LayoutError):
        Decoder(TRADE_RECORD)(b"")
    assert list(Decoder(TRADE_RECORD).many(b"")) == []


def test_an_array_gives_the_same_fields_as_its_records_one_by_one() -> None:
    rows = [TRADE_RECORD.pack({"order": number, "symbol": f"S{number}"}) for number in range(5)]
    decoder = Decoder(TRADE_RECORD)
    assert list(decoder.many(b"".join(rows))) == [decoder(row) for row in rows]


def test_nan_and_infinities_come_through_as_they_are() -> None:
    fields = Decoder(SYMBOL_INFO)(SYMBOL_INFO.pack({"bid": math.nan, "ask": math.inf, "low": -math.inf}))
    assert math.isnan(fields["bid"])
    assert (fields["ask"], fields["low"]) == (math.inf, -math.inf)


def test_a_number_keeps_its_sign_and_width() -> None:
    packed = TRADE_RECORD.pack({"activation": -4, "reason": -1, "gw_open_price": -32768, "magic": 2**31 - 1})
    fields = Decoder(TRADE_RECORD)(packed)
    assert (fields["activation"], fields["reason"], fields["gw_open_price"], fields["magic"]) == (
        -4,
        -1,
        -32768,
        2**31 - 1,
    )


def test_wide_text_is_read_as_utf16() -> None:
    packed = NEWS_TOPIC_NEW.pack({"subject": "Zinsen steigen €", "category": "x" * 300})
    fields = Decoder(NEWS_TOPIC_NEW)(packed)
    assert (fields["subject"], fields["category"]) == ("Zinsen steigen €", "x" * 256)


def test_nested_records_become_lists_and_maps_with_public_fields_only() -> None:
    group = Decoder(CON_GROUP)(CON_GROUP.pack({"secmargins": [{"symbol": "EURUSD", "reserved": [1] * 7}]}))
    assert group["secmargins"][0] == {"symbol": "EURUSD", "swap_long": 0.0, "swap_short": 0.0, "margin_divider": 0.0}
    assert (len(group["secgroups"]), len(group["secmargins"])) == (32, 128)


def test_an_unknown_code_page_is_refused_at_once() -> None:
    with pytest.raises(LookupError):
        Decoder(TRADE_RECORD, "cp99999")


def test_personal_fields_come_only_when_asked_for() -> None:
    data = USER_RECORD.pack({"login": 5, "name": "Jane", "email": "jane@example.com"})
    assert "Jane" not in repr(Decoder(USER_RECORD)(data))
    asked = Decoder(USER_RECORD, personal=frozenset({"name"}))(data)
    assert asked["name"] == "Jane"
    assert "email" not in asked


@pytest.mark.parametrize("asked", ["password", "otp_secret", "secure_reserved", "api_data", "nonsense"])
def test_asking_for_anything_but_a_personal_field_gives_nothing(asked: str) -> None:
    assert Decoder(USER_RECORD, personal=frozenset({asked})).names == Decoder(USER_RECORD).names
    assert asked not in Decoder(USER_RECORD).names


def planted(record: Record, *visibilities: str) -> bytes:
    """Return a record in which every byte of the fields so marked, nested ones too, is part of a canary's name."""
    data = bytearray(record.size)
    for field in record.fields:
        if field.record:
            inner = planted(field.record, *visibilities)
            data[field.offset : field.offset + field.size] = inner * max(1, field.count)
        elif field.visibility in visibilities:
            song = (CANARY * (field.size // len(CANARY) + 1)).encode("utf-16-le" if field.kind == "u" else "ascii")
            data[field.offset : field.offset + field.size] = song[: field.size]
    return bytes(data)


@pytest.mark.parametrize("name", Record.known)
def test_a_canary_in_every_hidden_byte_is_never_decoded(name: str) -> None:
    record = Record.known[name]
    quiet = repr(Decoder(record)(bytes(record.size)))
    assert repr(Decoder(record)(planted(record, SECRET, INTERNAL, PERSONAL))) == quiet


def test_a_canary_in_the_secrets_is_not_decoded_when_every_personal_field_is_asked_for() -> None:
    everything = frozenset(USER_RECORD.by_name)
    decoder = Decoder(USER_RECORD, personal=everything)
    assert repr(decoder(planted(USER_RECORD, SECRET, INTERNAL))) == repr(decoder(bytes(USER_RECORD.size)))
    assert CANARY in repr(decoder(planted(USER_RECORD, PERSONAL)))


def test_the_canary_itself_was_planted() -> None:
    assert planted(USER_RECORD, SECRET).count(CANARY.encode()) > 20
    assert planted(CON_GROUP, SECRET).count(CANARY.encode()) == 10
    assert CANARY.encode()[:4] in planted(ONLINE_RECORD, PERSONAL)
