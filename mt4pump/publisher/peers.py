"""One connection, who is at its other end, what went wrong in its handshake, and how it is ended."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import zmq

from mt4pump.publisher.flow import BURST_BYTES, ByteFlow

if sys.platform == "win32":
    import _winapi  # multiprocessing reads its pipes with it

CRYPTOGRAPHIC, OTHER_MECHANISM = 0x1100_0001, 0x1100_0002
"""Values of a failed handshake: ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC, …_MECHANISM_MISMATCH."""
DRAIN_BYTES, DRAINS_PER_CHECK = 8192, 64
"""How much of a connection that is to close is read at once, and how often in one check; on Windows."""


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

    __slots__ = ("began_at", "began_s", "client", "drain", "flow", "is_closing", "is_known", "peer")

    def __init__(self, peer: str, began_s: float, began_at: int, limits: EndpointLimits) -> None:
        self.peer = peer
        self.client = peer.rpartition(":")[0] if limits.by_address else ""
        self.began_s = began_s
        self.began_at = began_at
        self.flow = ByteFlow(began_s, limits.burst_bytes)
        self.drain: InputDrain | None = None
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


def duplicate(number: int) -> socket.socket:
    """Return a duplicate of libzmq's descriptor ``number``, as non-blocking as libzmq left it. Raises OSError."""
    copied = socket.dup(number)
    try:
        return socket.socket(fileno=copied)  # socket.dup(), the method, would make libzmq's descriptor block
    except OSError:
        socket.close(copied)
        raise


class InputDrain:
    """Reads what a peer sends before libzmq can, until libzmq closes the connection; for Windows.

    A read that waits gets the bytes before libzmq does. Without the first byte an encrypted stream cannot be decrypted:
    libzmq closes the connection at the next bytes. Without the rest no ZMTP heartbeat arrives: libzmq closes the
    connection when one is overdue.
    """

    def __init__(self, own: socket.socket) -> None:
        self._own = own
        if sys.platform == "win32":
            self._waiting: _winapi.Overlapped | None = None
            self._start(1)

    def read(self) -> None:
        """Drop what has arrived, and wait for more."""
        if sys.platform == "win32":
            for _ in range(DRAINS_PER_CHECK):
                if self._waiting is None or _winapi.WaitForSingleObject(self._waiting.event, 0):
                    return
                arrived, self._waiting = self._waiting, None
                with suppress(OSError):  # a broken connection is left to libzmq
                    if arrived.GetOverlappedResult(True)[0]:  # noqa: FBT003 - it has no name
                        self._start(DRAIN_BYTES)

    def close(self) -> None:
        """Close the duplicate: only then does the peer see the end."""
        if sys.platform == "win32" and self._waiting is not None:
            self._waiting.cancel()
            with suppress(OSError):
                self._waiting.GetOverlappedResult(True)  # noqa: FBT003
            self._waiting = None
        self._own.close()

    def _start(self, size: int) -> None:
        if sys.platform == "win32":
            with suppress(OSError):
                self._waiting, _ = _winapi.ReadFile(self._own.fileno(), size, overlapped=True)


def shut_down(number: int, is_still_its: Callable[[], bool]) -> InputDrain | None:
    """End the connection of descriptor ``number``, if it ``is_still_its`` once there is a duplicate of it.

    On Windows libzmq aborts the process when it meets a descriptor that was shut down (WSAESHUTDOWN). There the
    connection's input is drained instead: `InputDrain.read` until libzmq reports the end, then `InputDrain.close`.
    """
    try:
        own = duplicate(number)
    except OSError:  # it is none any more; or no descriptor is left for the duplicate: all the more reason to end it
        if sys.platform != "win32" and is_still_its():
            _shut_down_itself(number)
        return None
    if not is_still_its():
        own.close()
        return None
    if sys.platform == "win32":
        return InputDrain(own)
    with own, suppress(OSError):
        own.shutdown(socket.SHUT_RDWR)
    return None


def _shut_down_itself(number: int) -> None:
    try:
        borrowed = socket.socket(fileno=number)
    except OSError:
        return
    with suppress(OSError):
        borrowed.shutdown(socket.SHUT_RDWR)
    borrowed.detach()  # it is libzmq's to close
