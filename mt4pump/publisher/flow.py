"""How much each connection sends, asked of the system, so that a flood is seen even while libzmq is busy with it.

libzmq takes what a subscriber sends within whatever call the pump makes next, and stays in that call for as long as
more arrives: a flood holds the pump, and what it brings is kept without a bound. So the gatekeeper's thread looks at
how many bytes came over each connection, and one that sends more than a subscriber can have reason to is shut out.

Linux tells the bytes (TCP_INFO). Elsewhere it is seen whether bytes wait to be read, at every look for a while: they
do when somebody sends faster than libzmq takes it.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable

BURST_BYTES, CURVE_BURST_BYTES = 640 * 1024, 1280 * 1024
"""What a connection may send at once: all subscriptions that it may have, with what is around each of them."""
SUSPECT_BURST_BYTES = 64 * 1024
"""What it may send at once where its client went beyond that shortly before."""
BYTES_PER_S = 64 * 1024
WAITING_LIMIT_S = 0.25
"""How long bytes may wait to be read where the system does not tell how many came."""
IS_LINUX = sys.platform == "linux"
TCP_INFO, BYTES_RECEIVED_AT, TCP_INFO_BYTES = 11, 128, 136

_uint64 = struct.Struct("=Q").unpack_from


class Flow:
    """What one connection sent so far, against a budget that grows with time."""

    __slots__ = ("_allowed", "_burst", "_looked_s", "_waiting_since_s")

    def __init__(self, now_s: float, burst_bytes: float = BURST_BYTES) -> None:
        self._allowed = self._burst = float(burst_bytes)
        self._looked_s = now_s
        self._waiting_since_s: float | None = None

    def is_flood(self, number: int, now_s: float) -> bool:
        """Look at the descriptor ``number``; return whether more came over it than may."""
        received = bytes_received(number)
        if received is None:
            return self._waits_too_long(number, now_s)
        # The budget counts up to the bytes that came: what was not used in a quiet hour is no credit for a flood.
        self._allowed = min(self._allowed + (now_s - self._looked_s) * BYTES_PER_S, received + self._burst)
        self._looked_s = now_s
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
    """Return what ``ask`` gets of a socket that is libzmq's; None when it is none any more."""
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
