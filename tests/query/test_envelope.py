"""Envelopes of every kind of socket that may ask."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mt4pump.query.envelope import FRAMES_LIMIT, HOP_BYTES, Letter, opened


@pytest.mark.parametrize(
    ("frames", "letter"),
    [
        ([b"", b"ask"], Letter((b"",), b"ask")),
        ([b"ask"], Letter((), b"ask")),
        ([b"\0\0\0\1", b"", b"ask"], Letter((b"\0\0\0\1", b""), b"ask")),
        ([b"proxy", b"peer", b"", b"ask"], Letter((b"proxy", b"peer", b""), b"ask")),
        ([b"", b""], Letter((b"",), b"")),
        ([b""], Letter((), b"")),
        ([], Letter((), None)),
        ([b"a", b"b"], Letter((), None)),
        ([b"", b"a", b"b"], Letter((b"",), None)),
        ([b"ask", b""], Letter((b"ask", b""), None)),
        ([b"x" * (HOP_BYTES + 1), b"", b"ask"], Letter((), None)),
        ([b"a"] * FRAMES_LIMIT, Letter((), None)),
        ([*[b"hop"] * 8, b"", b"ask"], Letter((*[b"hop"] * 8, b""), b"ask")),
        ([*[b"hop"] * 8, b"", b"ask", b"more"], Letter((*[b"hop"] * 8, b""), None)),
        ([*[b"hop"] * 9, b"", b"ask"], Letter((), None)),
    ],
    ids=str,
)
def test_an_envelope_is_opened(frames: list[bytes], letter: Letter) -> None:
    assert opened(frames) == letter


@given(st.lists(st.binary(max_size=300), max_size=FRAMES_LIMIT))
def test_no_frames_upset_it(frames: list[bytes]) -> None:
    hops, payload = opened(frames)
    assert list(hops) == frames[: len(hops)]
    assert payload is None or [*hops, payload] == frames
