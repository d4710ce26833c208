"""Who asks, and in which envelope the answer goes back; pure.

A REQ socket puts an empty frame before its payload, a DEALER need not; proxies and REQ_CORRELATE put more frames before
the empty one. The answer carries the same frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

HOPS_LIMIT = 8
"""Frames before the empty one, at most."""
HOP_BYTES = 255
"""What libzmq allows for the name of a peer."""
FRAMES_LIMIT = HOPS_LIMIT + 3
"""More than any request has: what comes after these frames of a message is read and forgotten."""


class Letter(NamedTuple):
    """A message taken apart. ``payload`` is None when the message is not one frame in an envelope."""

    hops: tuple[bytes, ...]
    payload: bytes | None


def opened(frames: Sequence[bytes]) -> Letter:
    """Return envelope and payload of the frames that followed the peer's name."""
    head = list(frames[: HOPS_LIMIT + 1])
    if b"" not in head or len(frames) == 1:
        return Letter((), frames[0] if len(frames) == 1 else None)
    end = head.index(b"") + 1
    hops = tuple(head[:end])
    if any(len(hop) > HOP_BYTES for hop in hops):
        return Letter((), None)
    return Letter(hops, frames[end] if len(frames) == end + 1 else None)
