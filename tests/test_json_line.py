"""Any value becomes one line of valid JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mt4pump.log import DEPTH_MAX, TOO_DEEP, json_line


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ({"a": math.nan, "b": [math.inf, -math.inf, 1.5]}, '{"a": null, "b": [null, null, 1.5]}'),
        ({"text": "a\nb\x1b é\udc80"}, '{"text": "a\\nb\\u001b \\u00e9\\udc80"}'),
        ({b"key": b"\xffA", 5: None}, '{"key": "\\ufffdA", "5": null}'),
        ((1, True, 2**70), "[1, true, 1180591620717411303424]"),
        (Path("a"), '"a"'),
    ],
)
def test_strange_values_have_a_plain_form(value: object, line: str) -> None:
    assert json_line(value) == line


def test_a_value_deeper_than_any_stack_is_cut_off() -> None:
    value: Any = "end"
    for _ in range(200_000):
        value = [value]
    depth, inner = 0, json.loads(json_line(value))
    while isinstance(inner, list):
        depth, inner = depth + 1, inner[0]
    assert (depth, inner) == (DEPTH_MAX, TOO_DEEP)


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()


@given(st.recursive(plain, lambda each: st.lists(each) | st.dictionaries(st.text() | st.binary(), each)))
def test_the_line_is_always_one_line_of_ascii_that_json_reads(value: object) -> None:
    line = json_line(value)
    assert line.isascii()
    assert "\n" not in line
    json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
