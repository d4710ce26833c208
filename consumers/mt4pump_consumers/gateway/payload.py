"""One message in every form that a client may need, each made at most once and shared by all clients; pure.

A WebSocket frame from a server has no mask, so its bytes are the same for everybody. Compressed ones are, too, as the
gateway negotiates ``server_no_context_takeover``.
"""

from __future__ import annotations

from collections.abc import Sequence

from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode

PLAIN = 0
"""Window bits of a client without permessage-deflate."""
COMPRESS_FROM_BYTES = 300
"""Shorter messages are sent as they are: without context they hardly shrink, and the client would pay for it."""
DEFLATE = {"level": 3, "memLevel": 6}


def frame(text: bytes, bits: int = PLAIN) -> bytes:
    """Return ``text`` as one frame; ``bits`` is the window size that the client negotiated."""
    whole = Frame(Opcode.TEXT, text)
    if bits == PLAIN or len(text) < COMPRESS_FROM_BYTES:
        return whole.serialize(mask=False)
    deflate = PerMessageDeflate(
        remote_no_context_takeover=True,
        local_no_context_takeover=True,
        remote_max_window_bits=15,
        local_max_window_bits=bits,
        compress_settings=DEFLATE,
    )
    return whole.serialize(mask=False, extensions=[deflate])


class Payload:
    """``text`` is the JSON; ``key`` is set where a newer payload of the same key makes this one worthless."""

    __slots__ = ("_frames", "key", "text")

    def __init__(self, text: bytes, key: str = "") -> None:
        self.text, self.key = text, key
        self._frames: dict[int, bytes] = {}

    def frame(self, bits: int) -> bytes:
        """Return the frame for clients with this window."""
        made = self._frames.get(bits)
        if made is None:
            made = self._frames[bits] = frame(self.text, bits)
        return made


def joined(payloads: Sequence[Payload], bits: int, *, batch: bool) -> bytes:
    """Return the bytes of all ``payloads``: a frame each, or one frame with an array of them."""
    if batch:
        return frame(b"[" + b",".join([payload.text for payload in payloads]) + b"]", bits)
    if len(payloads) == 1:
        return payloads[0].frame(bits)
    return b"".join([payload.frame(bits) for payload in payloads])
