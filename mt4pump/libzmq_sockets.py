"""The system's sockets beneath libzmq's: borrowed for a call, and protected from what makes libzmq abort the process.

That (`Assertion failed: !_io_error`, its issue 3937) happens when its poller reports a connection whose input it holds
back, because a queue is full, and then a ZMTP heartbeat is due, or is read amid that input. On Linux the poller reports
a connection that breaks. With resets dropped, a peer that resets is one that is silent: the heartbeats end its
connection. A peer that ends its connection as usual is seen at once, as before. On Windows it reports urgent data,
which no ZeroMQ program sends; in line with the other data they end only their own connection.
"""

from __future__ import annotations

import socket
import struct
import sys
from array import array
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")

SO_ATTACH_FILTER = 26
LOAD_BYTE, JUMP_IF_ANY, RETURN = 0x30, 0x45, 0x06
"""Instructions of the classic BPF: linux/filter.h."""
FLAGS_AT, RESET = 13, 0x04
"""Of a TCP header: RFC 9293, section 3.1."""
ALL, HEADERS = 0x7FFF_FFFF, 1
"""How many bytes of a packet are kept: its payload as well, or its headers only."""


def borrow(number: int, use: Callable[[socket.socket], T], family: int = socket.AF_INET) -> T | None:
    """Return what ``use`` returns of libzmq's descriptor ``number``; None if it is closed, or ``use`` fails."""
    try:
        held = socket.socket(family, socket.SOCK_STREAM, 0, fileno=number)
    except (OSError, ValueError):
        return None
    try:
        return use(held)
    except OSError:
        return None
    finally:
        held.detach()


def protect(number: int, *, ignores_resets: bool = True) -> bool:
    """Protect the connection ``number``, or all to it if it listens; return whether that is done.

    Resets need not be ignored where libzmq never holds back input.
    """

    def apply(held: socket.socket) -> bool:
        if sys.platform == "win32":
            held.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        elif ignores_resets:
            _attach_filter(held, ALL)
        return True

    return bool(borrow(number, apply))


def end_input(own: socket.socket) -> None:
    """Let libzmq read the end of the connection ``own``, and nothing more. Raises OSError.

    Its output stays open: where both directions end, the poller on Linux reports a break.
    """
    with suppress(OSError):  # without it libzmq reads on until nothing comes for a moment
        _attach_filter(own, HEADERS)
    own.shutdown(socket.SHUT_RD)


def _attach_filter(own: socket.socket, kept_bytes: int) -> None:
    if sys.platform != "linux":
        return
    instructions = ((LOAD_BYTE, 0, FLAGS_AT), (JUMP_IF_ANY, 1, RESET), (RETURN, 0, 0), (RETURN, 0, kept_bytes))
    program = array("B", b"".join(struct.pack("=HBBI", code, 0, no, value) for code, no, value in instructions))
    own.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(instructions), program.buffer_info()[0]))
