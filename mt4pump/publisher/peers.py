"""One connection, who is at its other end, what went wrong in its handshake, and how it is ended."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import zmq

from mt4pump.publisher.flow import BURST_BYTES, ByteFlow

CRYPTOGRAPHIC, OTHER_MECHANISM = 0x1100_0001, 0x1100_0002
"""Values of a failed handshake: ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC, …_MECHANISM_MISMATCH."""


@dataclass(frozen=True, slots=True)
class EndpointLimits:
    """How many connections a socket has at most, ``total`` and ``per_client``, and how much each may send at once.

    ``burst_bytes`` of 0: as much as it likes. With ``by_address`` a connection counts for its address until it is
    claimed; else, where clients have keys and many may come from one address, only for the total.
    """

    total: int = 1_000
    per_client: int = 250
    burst_bytes: int = BURST_BYTES
    by_address: bool = True


class Connection:
    """One open connection: who has it, when it began, and whether it is being shut out.

    ``client`` is whom it counts for: its address until it is known, then what `Connections.claim` said.
    """

    __slots__ = ("began_at", "began_s", "client", "flow", "is_closing", "is_known", "peer")

    def __init__(self, peer: str, began_s: float, began_at: int, limits: EndpointLimits) -> None:
        self.peer = peer
        self.client = peer.rpartition(":")[0] if limits.by_address else ""
        self.began_s = began_s
        self.began_at = began_at
        self.flow = ByteFlow(began_s, limits.burst_bytes)
        self.is_known = self.is_closing = False


def fault_text(event: int, value: int) -> str:
    """Return what went wrong with a handshake."""
    if event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
        return f"it ended within the handshake ({zmq.strerror(value)}): no ZeroMQ client, or a link that broke"
    if value == OTHER_MECHANISM:
        return "one side encrypts and the other does not: the client needs keys here, or must do without"
    if value == CRYPTOGRAPHIC:
        return "its messages cannot be decrypted: the client has a wrong server key"
    return f"it breaks the protocol (ZeroMQ's code {value:#x})"


def peer_of(number: int) -> str:
    """Return who is connected to the file descriptor ``number``, as ``127.0.0.1:4711``; empty where nobody is."""
    try:
        borrowed = socket.socket(fileno=number)
    except (OSError, ValueError):
        return ""
    try:
        host, port = borrowed.getpeername()[:2]
    except (OSError, ValueError):  # gone already; or ipc, where peers have no address
        return ""
    finally:
        borrowed.detach()  # it is libzmq's to close
    return f"{host}:{port}"


def shut_down(number: int, is_still_its: Callable[[], bool]) -> None:
    """Shut down a connection's descriptor ``number``, if it ``is_still_its`` once there is a duplicate of it."""
    try:
        borrowed = socket.socket(fileno=number)
    except OSError:
        return  # it is none any more
    try:
        with borrowed.dup() as own:
            if is_still_its():
                with suppress(OSError):
                    own.shutdown(socket.SHUT_RDWR)
    except OSError:  # no descriptor is left for the duplicate: all the more reason to end it
        if is_still_its():
            with suppress(OSError):
                borrowed.shutdown(socket.SHUT_RDWR)
    finally:
        borrowed.detach()  # it is libzmq's to close
