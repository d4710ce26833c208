"""How many bytes the system received over a connection: what a peer sent, also of a message that never ends.

libzmq shows a message only when it is complete, and counts it only then against a high-water mark; so a message of
endless frames fills the memory unseen, but for this count. Linux alone tells it.
"""

from __future__ import annotations

import socket
import struct
import sys

INFO_BYTES = 192
RECEIVED_AT = 128
"""Where tcpi_bytes_received stands in Linux' struct tcp_info (since 4.1)."""
_received = struct.Struct("=Q").unpack_from


def received_bytes(number: int) -> int | None:
    """Return what came over the connection with the file descriptor ``number``; None where the system does not tell."""
    if sys.platform != "linux":
        return None
    try:
        borrowed = socket.socket(fileno=number)
    except (OSError, ValueError):
        return None
    try:
        info = borrowed.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, INFO_BYTES)
    except OSError:  # gone already; or ipc, where there is no such count
        return None
    finally:
        borrowed.detach()  # it is libzmq's to close
    return int(_received(info, RECEIVED_AT)[0]) if len(info) >= RECEIVED_AT + 8 else None
