"""The bus contract: topics, bodies, and what is refused as not ours."""

from __future__ import annotations

import math
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mt4pump.client.checks import event_body
from mt4pump.errors import FrameError
from mt4pump.wire import (
    COMMON_KEYS,
    HEARTBEAT,
    KINDS,
    NEWS,
    QUOTE,
    TRADE,
    Encoder,
    Kind,
    kind_of,
    topic_of,
)

EPOCH = 1_700_000_000_000
BODY = {"epoch": EPOCH, "seq": 1, "ts": 2}

EVENTS: list[tuple[Kind, object, bytes, dict[str, Any]]] = [
    (QUOTE, "EURUSD", b"quote.EURUSD", {"symbol": "EURUSD", "bid": 1.1, "ask": 1.2}),
    (TRADE, 1001, b"trade.1001", {"order": 5, "before": None, "conv_rates": [1.0, 0.0]}),
    (NEWS, 2**32 - 1, b"news.4294967295", {"topic": "Überraschung", "body": None}),
    (KINDS["group"], "demo\\forex", b"group.demo\\forex", {"group": "demo\\forex"}),
    (KINDS["symbol"], "#ÖL.m", "symbol.#ÖL.m".encode(), {"symbol": "#ÖL.m", "sessions": [{"quote": [{"open": 1}]}]}),
    (HEARTBEAT, "", b"heartbeat", {"state": "pumping", "counts": {"quote": 3}}),
]
"""One table for both directions."""

every_event = pytest.mark.parametrize(("kind", "key", "topic", "fields"), EVENTS, ids=[row[0].name for row in EVENTS])


@every_event
def test_a_topic_is_the_kind_a_dot_and_the_key(kind: Kind, key: object, topic: bytes, fields: dict[str, Any]) -> None:
    del fields
    assert topic_of(kind, key) == topic
    assert kind_of(topic) == kind.name


@every_event
def test_a_body_comes_back_with_the_common_keys(kind: Kind, key: object, topic: bytes, fields: dict[str, Any]) -> None:
    del kind, key
    packed = Encoder(EPOCH).body(fields, 7, 9)
    assert event_body(topic, packed) == {**fields, "epoch": EPOCH, "seq": 7, "ts": 9}


def test_packing_does_not_change_the_fields_it_was_given() -> None:
    fields = {"a": 1}
    Encoder(EPOCH).body(fields, 1, 1)
    assert fields == {"a": 1}


def test_the_common_keys_win_over_fields_of_the_same_name() -> None:
    packed = Encoder(EPOCH).body({"seq": "x", "ts": "x", "epoch": "x"}, 1, 2)
    assert msgpack.unpackb(packed) == {"epoch": EPOCH, "seq": 1, "ts": 2}


def test_text_and_bytes_stay_text_on_the_wire_also_with_a_lone_surrogate() -> None:
    assert msgpack.unpackb(Encoder(EPOCH).body({"comment": "a\ud800b"}, 1, 2))["comment"] == "a?b"


def test_numbers_at_their_limits_and_no_numbers_travel() -> None:
    fields = {"a": 2**63 - 1, "b": -(2**63), "c": 2**64 - 1, "d": math.inf, "e": math.nan, "f": 1.12345}
    body = msgpack.unpackb(Encoder(EPOCH).body(fields, 1, 2))
    assert math.isnan(body["e"])
    assert {**body, "e": 0} == {**fields, **BODY, "e": 0}


def test_one_bad_value_does_not_spoil_the_next_body() -> None:
    encoder = Encoder(EPOCH)
    with pytest.raises(TypeError):
        encoder.body({"a": object()}, 1, 2)
    assert msgpack.unpackb(encoder.body({}, 1, 2)) == BODY


def test_kinds_have_the_names_topics_and_durability_that_the_contract_gives_them() -> None:
    assert list(KINDS) == [
        *("quote", "trade", "user", "online", "margin", "symbol", "group", "request"),
        *("activation", "news", "mail", "plugin", "session", "unknown", "heartbeat"),
    ]
    assert {name for name, kind in KINDS.items() if not kind.durable} == {"quote", "unknown", "heartbeat"}
    assert [name for name, kind in KINDS.items() if not kind.key] == ["heartbeat"]


@pytest.mark.parametrize("topic", [b"", b".", b"quote", b"quote.", b"\xff\xfe.x"])
def test_the_kind_of_any_topic_is_text(topic: bytes) -> None:
    assert isinstance(kind_of(topic), str)


def packed(value: object) -> bytes:
    made: bytes = msgpack.packb(value)
    return made


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not msgpack"),
        (b"\xc1", "not msgpack"),
        (packed(BODY)[:-1], "not msgpack"),
        (packed(BODY) + b"\0", "not msgpack"),
        (b"\xdd\xff\xff\xff\xff", "not msgpack"),
        (b"\xa2\xff\xfe", "not msgpack"),
        (packed([1, 2, 3]), "not a map with epoch, seq and ts"),
        (packed(5), "not a map"),
        (packed({}), "not a map"),
        (packed({"epoch": 1, "seq": 1}), "not a map"),
        (packed({"epoch": 1, "seq": "1", "ts": 1}), "impossible epoch, seq"),
        (packed({"epoch": 1, "seq": 1.0, "ts": 1}), "impossible epoch, seq"),
        (packed({1: 2}), "not msgpack"),
    ],
)
def test_what_is_not_a_message_of_ours_is_refused_with_the_reason(body: bytes, reason: str) -> None:
    with pytest.raises(FrameError, match=reason):
        event_body(b"x", body)


def test_keys_that_a_reader_does_not_know_are_no_reason_to_refuse() -> None:
    assert event_body(b"x", packed({**BODY, "later": {"deep": [1]}}))["later"] == {"deep": [1]}


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_garbage_is_refused_or_read_but_never_breaks_the_reader(topic: bytes, packed_body: bytes) -> None:
    try:
        body = event_body(topic, packed_body)
    except FrameError:
        return
    assert all(isinstance(body[key], int) for key in COMMON_KEYS)


def test_deeply_nested_garbage_is_refused() -> None:
    with pytest.raises(FrameError):
        event_body(b"x", b"\x91" * 100_000)


def test_text_that_is_no_text_is_packed_with_a_question_mark_and_harms_nothing_after_it() -> None:
    encoder = Encoder(1)
    assert msgpack.unpackb(encoder.body({"comment": "a\ud800b"}, 1, 2))["comment"] == "a?b"
    assert msgpack.unpackb(encoder.body({"comment": "ab"}, 2, 3)) == {"comment": "ab", "epoch": 1, "seq": 2, "ts": 3}
