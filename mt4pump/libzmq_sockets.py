"""The system's sockets beneath libzmq's: borrowed for a call, and protected from what makes libzmq abort the process.

libzmq holds back the input of a connection while a queue is full. It aborts (`Assertion failed: !_io_error`, its issue
3937) if its poller reports such a connection, and then a ZMTP heartbeat is due or is read amid that input.

On Linux the poller reports a connection that breaks. With resets dropped, a peer that resets is one that is silent: the
heartbeats end its connection. A peer that ends its connection as usual is seen at once, as before. On Windows the
poller reports urgent data, which no ZeroMQ program sends. In line with other data it ends its own connection only.
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
"""How many bytes of a packet are kept: all, or none of its payload (Linux never cuts the headers)."""


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


def duplicate(number: int) -> socket.socket:
    """Return a duplicate of libzmq's descriptor ``number``, as non-blocking as libzmq left it. Raises OSError."""
    copied = socket.dup(number)
    try:
        return socket.socket(fileno=copied)  # socket.dup(), the method, would make libzmq's descriptor block
    except OSError:
        socket.close(copied)
        raise


def protect(own: socket.socket, *, ignores_resets: bool = True) -> bool:
    """Protect the connection ``own``, or all to it if it listens; return True. Only TCP is. Raises OSError.

    Resets need not be ignored where libzmq never holds back input.
    """
    if sys.platform == "win32":
        own.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    elif sys.platform == "linux" and ignores_resets:
        if own.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL) == socket.IPPROTO_TCP:
            _attach_filter(own, ALL)
    return True


def end_input(own: socket.socket) -> bool:
    """Let libzmq read the end of the connection ``own``; return whether data is filtered out before it. Raises OSError.

    The output stays open: where both directions end, the poller on Linux reports a break.
    """
    is_filtered = False
    if sys.platform == "linux":
        with suppress(OSError):
            _attach_filter(own, HEADERS)
            is_filtered = True
    own.shutdown(socket.SHUT_RD)
    return is_filtered


def _attach_filter(own: socket.socket, kept_bytes: int) -> None:
    instructions = ((LOAD_BYTE, 0, FLAGS_AT), (JUMP_IF_ANY, 1, RESET), (RETURN, 0, 0), (RETURN, 0, kept_bytes))
    program = array("B", b"".join(struct.pack("=HBBI", code, 0, no, value) for code, no, value in instructions))
    own.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(instructions), program.buffer_info()[0]))
