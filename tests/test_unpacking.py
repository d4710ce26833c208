"""Foreign msgpack: a bounded cost for any bytes, and one error for all that is wrong."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mt4pump.errors import FrameError
from mt4pump.query.requests import REQUEST
from mt4pump.wire import MESSAGE, UnpackLimits, unpack, unpack_map, unpack_stream

SIZE = 65_536
NILS = b"\xc0" * SIZE


def padded(head: bytes) -> bytes:
    return (head + NILS)[:SIZE]


def long_list(count: int, entries: bytes) -> bytes:
    return b"\xdd" + count.to_bytes(4, "big") + entries


COSTLY = {
    "nested lists of 65,000": padded(long_list(65_000, b"") * 1_000),
    "nested lists of 1,024": padded(b"\xdc\x04\x00" * 1_000),
    "nested lists of 256": padded(b"\xdc\x01\x00" * 1_000),
    "nested lists in a map": padded(b"\x81\xa2op" + long_list(65_000, b"") * 1_000),
    "nested maps": padded((b"\xdf\x00\x00\x75\x30\xa1a") * 900),
    "empty maps": long_list(65_000, b"\x80" * 65_000),
    "empty lists": long_list(65_000, b"\x90" * 65_000),
    "empty lists in lists": b"\x9f" * 4_000 + b"\x90" * 60_000,
    "lists of maps": long_list(250, (b"\xdc\x01\x00" + b"\x80" * 256) * 250),
    "extensions": long_list(21_000, b"\xd4\x05\xff" * 21_000),
    "depth": b"\x81\xa0" * 32_000,
    "nested lists of 65,535 in 16 bits": padded(b"\xdc\xff\xff" * 20_000),
    "nested maps of 65,535 in 16 bits": padded(b"\xde\xff\xff\xa1a" * 13_000),
    "lists and maps in turn": padded((long_list(65_000, b"") + b"\xdf\x00\x00\x75\x30\xa1a") * 500),
    "lists of 15 in lists of 15": padded(b"\x9f" * 60_000),
    "texts that claim 4 GiB": long_list(1_000, b"\xdb\xff\xff\xff\xff" * 10_000),
    "bytes that claim 4 GiB": long_list(1_000, b"\xc6\xff\xff\xff\xff" * 10_000),
    "extensions that claim 4 GiB": long_list(1_000, b"\xc9\xff\xff\xff\xff\x05" * 10_000),
    "times": long_list(10_000, b"\xd6\xff\x00\x00\x00\x01" * 10_000),
    "a map of many keys": b"\xdf\x00\x00\x4e\x20" + b"".join(msgpack.packb(f"{n}") + b"\xc0" for n in range(9_000)),
}
WRONG = {
    "nothing": b"",
    "a reserved byte": b"\xc1",
    "cut off": b"\x82\xa1a",
    "more behind it": b"\xc0\xc0",
    "text that is none": b"\xa1\xff",
    "a key that is a number": b"\x81\x01\xc0",
    "a key that is a list": b"\x81\x90\xc0",
    "a key that is a map": b"\x81\x80\xc0",
    "a time that is none": b"\xc7\x05\xff12345",
    "a time beyond all": b"\xd7\xff" + b"\xff" * 8,
    "too deep": b"\x91" * 5_000 + b"\xc0",
}


def peak_bytes(packed: bytes, limits: UnpackLimits) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(FrameError):
            unpack(packed, limits)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("packed", COSTLY.values(), ids=COSTLY)
def test_a_costly_request_is_refused_before_it_costs_half_a_megabyte(packed: bytes) -> None:
    assert len(packed) <= SIZE + 5
    assert peak_bytes(packed, REQUEST) < 2**19


@pytest.mark.parametrize("name", ["nested lists of 65,000", "nested lists in a map", "depth"])
def test_a_costly_message_is_refused_before_it_costs_more_than_what_an_honest_one_may(name: str) -> None:
    assert peak_bytes(COSTLY[name], MESSAGE) < 2**20


def test_the_values_of_a_large_message_are_counted() -> None:
    packed = long_list(1_000, (b"\xdc\x04\x00" + b"\x80" * 1_024) * 1_000)
    with pytest.raises(FrameError, match="more than 262144 values"):
        unpack(packed)


@pytest.mark.parametrize("packed", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("limits", [MESSAGE, REQUEST])
@pytest.mark.parametrize("padding", [0, 600, 70_000])
def test_what_is_no_message_is_one_error(packed: bytes, limits: UnpackLimits, padding: int) -> None:
    text = b"\xdb" + padding.to_bytes(4, "big") + b"x" * padding
    with pytest.raises(FrameError):
        unpack(b"\x92" + text + packed if padding else packed, limits)


@given(packed=st.binary(max_size=2_000), limits=st.sampled_from([MESSAGE, REQUEST, replace(MESSAGE, values=10)]))
def test_any_bytes_are_a_value_or_one_error(packed: bytes, limits: UnpackLimits) -> None:
    with suppress(FrameError):
        unpack(packed, limits)


HONEST: list[Any] = [
    None,
    {"op": "describe"},
    {"op": "snapshot", "topics": [f"quote.{n:03}" for n in range(256)], "id": 2**64 - 1},
    {"op": "replay", "topics": ["ܓܕܗܘܙ" * 10] * 15},
    {"key": {"in": [{"a": [1.5, None, True]}]}},
]


@pytest.mark.parametrize("value", HONEST)
def test_an_honest_request_is_unpacked_as_it_was_packed(value: object) -> None:
    assert unpack(msgpack.packb(value), REQUEST) == value


def test_an_honest_message_is_unpacked_whatever_its_size() -> None:
    for value in (
        {"seqs": {f"trade.{login}": login for login in range(10_000)}},
        {"list": [{"name": "x" * 80}] * 1_024},
        {"body": "x" * 2**24},
        {"ext": msgpack.ExtType(5, b"abc"), "long": [msgpack.ExtType(5, b"abc")] * 500, "text": "x" * 70_000},
    ):
        assert unpack(msgpack.packb(value)) == value


def test_a_key_that_comes_twice_is_refused_in_a_request() -> None:
    twice = b"\x82\xa2op\x01\xa2op\x02"
    with pytest.raises(FrameError, match="'op' comes twice"):
        unpack(twice, REQUEST)
    assert unpack(twice) == {"op": 2}


@pytest.mark.parametrize("packed", [b"\xc0", b"\x90", b"\x81\xc4\x01a\xc0", b"\x01", b"\xa1a"])
def test_what_is_no_map_with_text_keys_is_refused_as_one(packed: bytes) -> None:
    with pytest.raises(FrameError):
        unpack_map(packed)


SMALL = UnpackLimits(list_entries=8, map_entries=8, values=20)


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


@pytest.mark.parametrize("size", [1, 7, 900])
def test_a_stream_gives_its_values_and_drops_the_one_that_is_cut_off(size: int) -> None:
    values = [[1, [b"topic", b"body"], 5], {"messages": 2}] * 50
    packed = b"".join(map(msgpack.packb, values))
    assert list(unpack_stream(pieces(packed, size), SMALL, 1_000)) == values
    assert list(unpack_stream(pieces(packed[:-1], size), SMALL, 1_000)) == values[:-1]


@pytest.mark.parametrize(
    "packed",
    [
        *(COSTLY[name] for name in ("nested lists of 65,000", "empty maps", "extensions", "depth")),
        *(b"\x98" + (b"\x98" + b"\xc0" * 8) * 8, b"\xc1", b"\xc5\x07\xd0" + b"x" * 2_000),
    ],
)
def test_a_stream_ends_at_the_first_value_beyond_its_limits(packed: bytes) -> None:
    made = unpack_stream(pieces(b"\x01" + packed + NILS, 100), SMALL, 1_000)
    assert next(made) == 1
    with pytest.raises(FrameError):
        list(made)


def test_values_behind_each_other_are_counted_each_for_itself() -> None:
    packed = msgpack.packb([1] * 8) * 1_000
    assert sys.getsizeof(packed) > 8_000
    assert len(list(unpack_stream([packed[:900], packed[900:1_800]], SMALL, 1_000))) == 200
