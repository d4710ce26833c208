"""Frames to requests: an error names the key, the value received, and what to write instead."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mt4pump.query.limits import QueryOptions
from mt4pump.query.requests import (
    CODES,
    EVERY_TOPIC,
    FRAMES_LIMIT,
    ROUTING_BYTES,
    Cursor,
    Envelope,
    ParsedRequest,
    RequestError,
    parse_envelope,
    parse_request,
    request_id,
    shown,
    unpack_request,
)
from mt4pump.wire import NUMBER_MAX, outermost

OPTIONS = QueryOptions(max_request_bytes=65_536, max_prefixes=256, page_rows=500, limit_rows=10_000)
TOKEN = "0123456789abcdef" * 2


def parsed(payload: bytes) -> ParsedRequest:
    fields = unpack_request(payload, OPTIONS)
    request_id(fields)
    return parse_request(fields, OPTIONS)


def request(**fields: Any) -> ParsedRequest:
    return parsed(msgpack.packb(fields))


def refusal(payload: bytes) -> RequestError:
    with pytest.raises(RequestError) as caught:
        parsed(payload)
    return caught.value


def test_describe_needs_nothing_else() -> None:
    assert request(op="describe") == ParsedRequest("describe")


def test_a_snapshot_asks_for_everything_by_default() -> None:
    assert request(op="snapshot") == ParsedRequest("snapshot", EVERY_TOPIC, 500)


def test_a_snapshot_takes_what_it_is_given() -> None:
    asked = request(op="snapshot", topics=["quote.", b"trade.1"], cursor=f"{TOKEN}.17", limit=9, values=False)
    assert asked == ParsedRequest("snapshot", (b"quote.", b"trade.1"), 9, Cursor(TOKEN, 17), values=False)


def test_a_replay_takes_what_it_is_given() -> None:
    asked = request(op="replay", topics=["trade."], after=5, to=9, since=1, until=NUMBER_MAX, limit=10_000)
    assert asked == ParsedRequest("replay", (b"trade.",), 10_000, after=5, to=9, since=1, until=NUMBER_MAX)


def test_nil_is_as_good_as_nothing() -> None:
    empty = dict.fromkeys(("topics", "after", "to", "since", "until", "limit"))
    assert request(op="replay", **empty) == request(op="replay")
    assert request(op="snapshot", cursor=None, values=None) == request(op="snapshot")


@pytest.mark.parametrize("topics", [[], [""], ["", "quote."], [b""]])
def test_an_empty_prefix_is_everything(topics: list[Any]) -> None:
    assert request(op="snapshot", topics=topics).topics == EVERY_TOPIC


def test_keys_that_are_not_known_are_ignored() -> None:
    assert request(op="describe", colour="blue", nested={"a": [1, {"b": None}]}) == ParsedRequest("describe")


@pytest.mark.parametrize(
    ("fields", "key", "came"),
    [
        ({"op": None}, "op", "missing"),
        ({}, "op", "missing"),
        ({"op": 1}, "op", "1"),
        ({"op": b"describe"}, "op", "b'describe'"),
        ({"op": ["describe"]}, "op", "list"),
        ({"op": "snapshot", "topics": "quote."}, "topics", "'quote.'"),
        ({"op": "snapshot", "topics": {"a": 1}}, "topics", "a map of 1"),
        ({"op": "snapshot", "topics": ["a", 7]}, "topics[1]", "7"),
        ({"op": "snapshot", "topics": [None]}, "topics[0]", "nil"),
        ({"op": "snapshot", "topics": [["a"]]}, "topics[0]", "a list of 1"),
        ({"op": "snapshot", "topics": ["x" * 1025]}, "topics[0]", "'xxx"),
        ({"op": "snapshot", "topics": ["x"] * 257}, "topics", "257"),
        ({"op": "snapshot", "cursor": 5}, "cursor", "5"),
        ({"op": "snapshot", "cursor": ""}, "cursor", "''"),
        ({"op": "snapshot", "cursor": TOKEN}, "cursor", TOKEN[:8]),
        ({"op": "snapshot", "cursor": f"{TOKEN}.-1"}, "cursor", TOKEN[:8]),
        ({"op": "snapshot", "cursor": f"{TOKEN}.1\n"}, "cursor", TOKEN[:8]),
        ({"op": "snapshot", "cursor": f"{TOKEN}.{10**9}"}, "cursor", TOKEN[:8]),
        ({"op": "snapshot", "cursor": f"{TOKEN}.１"}, "cursor", TOKEN[:8]),  # noqa: RUF001 - a digit that is not ours
        ({"op": "snapshot", "values": 1}, "values", "1"),
        ({"op": "snapshot", "limit": 0}, "limit", "0"),
        ({"op": "snapshot", "limit": -3}, "limit", "-3"),
        ({"op": "snapshot", "limit": 10_001}, "limit", "10001"),
        ({"op": "snapshot", "limit": True}, "limit", "True"),
        ({"op": "snapshot", "limit": 5.0}, "limit", "5.0"),
        ({"op": "snapshot", "limit": float("nan")}, "limit", "nan"),
        ({"op": "snapshot", "limit": "5"}, "limit", "'5'"),
        ({"op": "replay", "after": -1}, "after", "-1"),
        ({"op": "replay", "after": NUMBER_MAX + 1}, "after", str(NUMBER_MAX + 1)),
        ({"op": "replay", "after": 1.5}, "after", "1.5"),
        ({"op": "replay", "after": False}, "after", "False"),
        ({"op": "replay", "to": "9"}, "to", "'9'"),
        ({"op": "replay", "since": float("inf")}, "since", "inf"),
        ({"op": "replay", "since": msgpack.Timestamp(5, 0)}, "since", "Timestamp"),
        ({"op": "replay", "until": msgpack.ExtType(5, b"x")}, "until", "ExtType"),
        ({"op": "describe", "id": [1]}, "id", "a list of 1"),
        ({"op": "describe", "id": {}}, "id", "a map of 0"),
        ({"op": "describe", "id": "x" * 65}, "id", "'xxx"),
        ({"op": "describe", "id": "ü" * 33}, "id", "'ü"),
        ({"op": "describe", "id": msgpack.Timestamp(1)}, "id", "Timestamp"),
    ],
    ids=str,
)
def test_a_wrong_value_is_named_with_what_came(fields: dict[str, Any], key: str, came: str) -> None:
    refused = refusal(msgpack.packb(fields))
    assert refused.code == "bad_request"
    assert f"`{key}`" in str(refused)
    assert came in str(refused)
    assert "use " in str(refused)


def test_an_op_that_is_not_known_has_its_own_code() -> None:
    refused = refusal(msgpack.packb({"op": "delete"}))
    assert refused.code == "unknown_op"
    assert "'delete'" in str(refused)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"GET / HTTP/1.1\r\n",
        b"\x80\x80",
        msgpack.packb(5),
        msgpack.packb([{"op": "describe"}]),
        msgpack.packb({1: 2}),
        msgpack.packb({b"op": "describe"}),
        msgpack.packb({"op": "describe"})[:-1],
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\x81\xa2op\xa2\xff\xff",
        b"\x82\xa2op\xa8describe\xa2op\xa8snapshot",
        b"\x81\x81\xa1a\x01\x02",
        b"\x81\x91\x01\x02",
        b"\x91" * 60_000 + b"\x01",
        b"\x81\xa1a" * 20_000 + b"\x01",
        b"\xd6\xff\x00",
        b"\xc7\x05\xff12345",
    ],
    ids=lambda payload: repr(payload[:20]),
)
def test_what_is_no_map_with_text_keys_is_a_bad_request(payload: bytes) -> None:
    refused = refusal(payload)
    assert refused.code == "bad_request"
    assert 10 < len(str(refused)) < 250


def test_too_many_frames_are_a_bad_request() -> None:
    with pytest.raises(RequestError, match="not one frame"):
        unpack_request(None, OPTIONS)


def test_a_request_that_is_too_large_says_how_large_it_may_be() -> None:
    refused = refusal(b"x" * 65_537)
    assert refused.code == "too_large"
    assert "65537" in str(refused)
    assert "65536" in str(refused)


@pytest.mark.parametrize("name", [None, True, 0, -5, 2**64 - 1, 1.5, "a" * 64, b"\xff" * 64, ""])
def test_any_scalar_may_be_an_id(name: object) -> None:
    assert request_id(unpack_request(msgpack.packb({"op": "x", "id": name}), OPTIONS)) == {"id": name}


def test_without_an_id_none_is_echoed() -> None:
    assert request_id({"op": "describe"}) == {}


@pytest.mark.parametrize(
    ("prefixes", "kept"),
    [
        ([], ()),
        ([b"a", b"a"], (b"a",)),
        ([b"trade.1001", b"trade.", b"quote.E"], (b"quote.E", b"trade.")),
        ([b"b", b"", b"a"], (b"",)),
        ([b"a", b"a!", b"aa", b"b"], (b"a", b"b")),
    ],
)
def test_only_the_outermost_prefixes_are_kept(prefixes: list[bytes], kept: tuple[bytes, ...]) -> None:
    assert outermost(prefixes) == kept


@given(st.lists(st.binary(max_size=4), max_size=20), st.binary(max_size=6))
def test_the_outermost_prefixes_mean_the_same_topics(prefixes: list[bytes], topic: bytes) -> None:
    assert topic.startswith(outermost(prefixes)) == topic.startswith(tuple(prefixes))


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def outcome(payload: bytes) -> ParsedRequest | RequestError:
    """Return what ``payload`` asks for, or why it is refused; nothing else may come out of it."""
    try:
        return parsed(payload)
    except RequestError as refused:
        return refused


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_refusal(payload: bytes) -> None:
    got = outcome(payload)
    assert not isinstance(got, RequestError) or got.code in CODES


KNOWN_KEYS = st.sampled_from(["op", "id", "topics", "cursor", "limit", "values", "after", "to", "since", "until"])


@given(st.sampled_from(["describe", "snapshot", "replay"]), st.dictionaries(KNOWN_KEYS | st.text(), anything))
def test_no_values_raise_anything_but_a_refusal(op: str, fields: dict[str, Any]) -> None:
    got = outcome(msgpack.packb({"op": op, **fields}))
    if isinstance(got, RequestError):
        assert got.code in CODES
        assert len(str(got)) < 300
    else:
        assert got.op == "describe" or 1 <= got.limit <= OPTIONS.limit_rows


@given(anything)
def test_whatever_came_is_shown_in_a_few_characters(value: object) -> None:
    assert len(shown(value)) < 80


@pytest.mark.parametrize(
    ("frames", "envelope"),
    [
        ([b"", b"ask"], Envelope((b"",), b"ask")),
        ([b"ask"], Envelope((), b"ask")),
        ([b"\0\0\0\1", b"", b"ask"], Envelope((b"\0\0\0\1", b""), b"ask")),
        ([b"proxy", b"peer", b"", b"ask"], Envelope((b"proxy", b"peer", b""), b"ask")),
        ([b"", b""], Envelope((b"",), b"")),
        ([b""], Envelope((), b"")),
        ([], Envelope((), None)),
        ([b"a", b"b"], Envelope((), None)),
        ([b"", b"a", b"b"], Envelope((b"",), None)),
        ([b"ask", b""], Envelope((b"ask", b""), None)),
        ([b"x" * (ROUTING_BYTES + 1), b"", b"ask"], Envelope((), None)),
        ([b"a"] * FRAMES_LIMIT, Envelope((), None)),
        ([*[b"route"] * 8, b"", b"ask"], Envelope((*[b"route"] * 8, b""), b"ask")),
        ([*[b"route"] * 8, b"", b"ask", b"more"], Envelope((*[b"route"] * 8, b""), None)),
        ([*[b"route"] * 9, b"", b"ask"], Envelope((), None)),
    ],
    ids=str,
)
def test_an_envelope_is_split_from_its_payload(frames: list[bytes], envelope: Envelope) -> None:
    assert parse_envelope(frames) == envelope


@given(st.lists(st.binary(max_size=300), max_size=FRAMES_LIMIT))
def test_any_frames_are_an_envelope_and_perhaps_a_payload(frames: list[bytes]) -> None:
    routing, payload = parse_envelope(frames)
    assert list(routing) == frames[: len(routing)]
    assert payload is None or [*routing, payload] == frames
