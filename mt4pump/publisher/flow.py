"""How many bytes each connection sends, read from the system, so that a flood is detected while libzmq is busy with it.

libzmq reads what a subscriber sends within any call of the pump, and stays in that call for as long as more arrives.
So a flood holds up the pump, and libzmq buffers it without a bound. Therefore the ZAP thread checks how many bytes came
over each connection and closes one that sends more than a subscriber needs to.

Linux reports the bytes (TCP_INFO). On other systems a flood is detected by unread bytes at every check for a while:
these exist when a peer sends faster than libzmq reads.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable

BURST_BYTES, CURVE_BURST_BYTES = 640 * 1024, 1280 * 1024
"""Bytes that a connection may send at once: all subscriptions that it may have, with their framing."""
RESTRICTED_BURST_BYTES = 64 * 1024
"""Bytes that it may send at once if its address exceeded that limit shortly before."""
BYTES_PER_S = 64 * 1024
WAITING_LIMIT_S = 0.25
"""How long bytes may stay unread where the system does not report how many came."""
IS_LINUX = sys.platform == "linux"
TCP_INFO, BYTES_RECEIVED_AT, TCP_INFO_BYTES = 11, 128, 136

_uint64 = struct.Struct("=Q").unpack_from


class ByteFlow:
    """Compares what one connection sent with a budget that grows with time."""

    __slots__ = ("_allowed", "_burst", "_checked_s", "_waiting_since_s")

    def __init__(self, now_s: float, burst_bytes: float = BURST_BYTES) -> None:
        self._allowed = self._burst = float(burst_bytes)
        self._checked_s = now_s
        self._waiting_since_s: float | None = None

    def is_flood(self, number: int, now_s: float) -> bool:
        """Check the descriptor ``number``; return whether more bytes came over it than allowed."""
        received = bytes_received(number)
        if received is None:
            return self._waits_too_long(number, now_s)
        # The budget is capped at one burst above what came: a quiet hour earns no credit for a flood.
        self._allowed = min(self._allowed + (now_s - self._checked_s) * BYTES_PER_S, received + self._burst)
        self._checked_s = now_s
        return received > self._allowed

    def _waits_too_long(self, number: int, now_s: float) -> bool:
        if not has_waiting(number):
            self._waiting_since_s = None
            return False
        if self._waiting_since_s is None:
            self._waiting_since_s = now_s
        return now_s - self._waiting_since_s > WAITING_LIMIT_S


def bytes_received(number: int) -> int | None:
    """Return how many bytes came over the TCP connection ``number``; None where the system does not report it.

    Bytes of a message that is not complete yet count, too: libzmq shows, and bounds, only complete messages.
    """
    if not IS_LINUX:
        return None
    found = _borrow(number, lambda held: held.getsockopt(socket.IPPROTO_TCP, TCP_INFO, TCP_INFO_BYTES))
    if found is None or len(found) < TCP_INFO_BYTES:
        return None
    return int(_uint64(found, BYTES_RECEIVED_AT)[0])


def has_waiting(number: int) -> bool:
    """Return whether bytes wait to be read from the descriptor ``number``, which does not block."""
    return bool(_borrow(number, lambda held: held.recv(1, socket.MSG_PEEK)))


def _borrow(number: int, ask: Callable[[socket.socket], bytes]) -> bytes | None:
    """Return what ``ask`` reads from a socket of libzmq's; None if the descriptor is closed."""
    try:
        held = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=number)
    except OSError:
        return None
    try:
        return ask(held)
    except OSError:
        return None
    finally:
        held.detach()
