"""Envelopes of every kind of socket that may ask."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mt4pump.query.server import FRAMES_LIMIT, HOP_BYTES, Envelope, opened


@pytest.mark.parametrize(
    ("frames", "letter"),
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
        ([b"x" * (HOP_BYTES + 1), b"", b"ask"], Envelope((), None)),
        ([b"a"] * FRAMES_LIMIT, Envelope((), None)),
        ([*[b"hop"] * 8, b"", b"ask"], Envelope((*[b"hop"] * 8, b""), b"ask")),
        ([*[b"hop"] * 8, b"", b"ask", b"more"], Envelope((*[b"hop"] * 8, b""), None)),
        ([*[b"hop"] * 9, b"", b"ask"], Envelope((), None)),
    ],
    ids=str,
)
def test_an_envelope_is_opened(frames: list[bytes], letter: Envelope) -> None:
    assert opened(frames) == letter


@given(st.lists(st.binary(max_size=300), max_size=FRAMES_LIMIT))
def test_no_frames_upset_it(frames: list[bytes]) -> None:
    hops, payload = opened(frames)
    assert list(hops) == frames[: len(hops)]
    assert payload is None or [*hops, payload] == frames
