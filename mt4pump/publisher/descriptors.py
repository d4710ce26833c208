"""One connection, and what the system knows of its file descriptor: peer, bytes received and unsent, its end.

libzmq owns the descriptor: a socket is made of it only for the length of a call.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import zmq

from mt4pump.libzmq_sockets import borrow, duplicate, end_input
from mt4pump.publisher.subscriptions import NO_CONNECTION

if sys.platform == "linux":
    import fcntl
if sys.platform == "win32":
    import _winapi  # multiprocessing reads its pipes with it

CRYPTOGRAPHIC, OTHER_MECHANISM = 0x1100_0001, 0x1100_0002
"""Values of a failed handshake: ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC, …_MECHANISM_MISMATCH."""
BURST_BYTES, CURVE_BURST_BYTES = 640 * 1024, 1280 * 1024
"""Bytes that a connection may send at once: all subscriptions that it may have, with their framing."""
RESTRICTED_BURST_BYTES = 64 * 1024
"""Bytes that it may send at once if its address exceeded that limit shortly before."""
BYTES_PER_S = 64 * 1024
WAITING_LIMIT_S = 0.25
"""How long bytes may stay unread where the system does not report how many came."""
TCP_INFO, BYTES_RECEIVED_AT, TCP_INFO_BYTES = 11, 128, 136
FIRST_BYTES, PATIENCE_S = 5, 12.0
"""Of a ZMTP PONG (4, 5, 4, "PONG") they leave "NG": a frame whose length is the eight bytes behind "N"."""
DRAIN_BYTES, DRAINS_PER_CHECK = 16384, 64
"""How much is read at once after that, and how often in one check."""
UNSENT, UNREAD = 0x894B, 0x541B
"""SIOCOUTQNSD and SIOCINQ of Linux: bytes of a socket that were not sent yet, and that its owner has not read."""
INCOMPLETE_BYTES, INCOMPLETE_BYTES_PER_CLIENT, INCOMPLETE_BYTES_TOTAL = 256 * 1024, 1024 * 1024, 4 * 1024 * 1024
"""Bytes of messages without an end: of one connection, of one client, and in all.

A frame without content has 2 bytes and costs libzmq 64, so these are 8, 32 and 128 MiB of memory; a third with keys. A
subscriber's messages that wait for a busy pump count among them once it is late by `incomplete.LATE_S`."""
NOTED_BYTES = 1_024
"""Below this a connection's bytes are not added up: nearly every honest one is."""
HEARTBEAT_BYTES_PER_S, CURVE_HEARTBEAT_BYTES_PER_S = 12, 56
"""What does not count among them: a ZMTP ping per second of the peer, and its answers to the daemon's."""

ANY_FAMILY = -1
"""Python asks the system, which costs a call: only for addresses."""

_uint64 = struct.Struct("=Q").unpack_from


class ByteFlow:
    """Compares the bytes that came over one connection with a budget that grows with time.

    libzmq reads what a subscriber sends within any call of the pump, and stays in that call for as long as more
    arrives, so a flood holds up the pump and fills libzmq's memory. Linux reports the bytes. On other systems a flood
    is detected by bytes that are unread at every check for a while: a peer sends faster than libzmq reads.
    """

    __slots__ = ("_allowed", "_burst", "_checked_s", "_received", "_waiting_since_s")

    def __init__(self, now_s: float, burst_bytes: int = BURST_BYTES) -> None:
        self._allowed: float = burst_bytes
        self._burst = burst_bytes
        self._checked_s = now_s
        self._received = 0
        self._waiting_since_s: float | None = None

    @property
    def is_waiting(self) -> bool:
        """Return whether bytes were unread at the last check, where the system does not report how many came."""
        return self._waiting_since_s is not None

    def is_flood(self, number: int, received: int | None, now_s: float) -> bool:
        """Check the descriptor ``number``, over which ``received`` bytes came; return whether more than allowed."""
        if received is None:
            return self._waits_too_long(number, now_s)
        # The budget is capped at one burst above what came before: a quiet hour earns no credit for a flood.
        self._allowed = min(self._allowed + (now_s - self._checked_s) * BYTES_PER_S, self._received + self._burst)
        self._checked_s, self._received = now_s, received
        return received > self._allowed

    def _waits_too_long(self, number: int, now_s: float) -> bool:
        if not borrow(number, lambda held: held.recv(1, socket.MSG_PEEK)):  # libzmq's descriptors do not block
            self._waiting_since_s = None
            return False
        if self._waiting_since_s is None:
            self._waiting_since_s = now_s
        return now_s - self._waiting_since_s > WAITING_LIMIT_S


class IncompleteMessage:
    """How much libzmq keeps of a message whose end did not come; it shows only complete ones.

    ``messages`` counts those. ``size`` is the bytes that libzmq has read since the last of them was counted.
    """

    __slots__ = (
        *("_known", "_messages_seen", "_noted", "_noted_at", "_read_seen", "_received", "_seen_s"),
        *("messages", "size"),
    )

    def __init__(self, now_s: float) -> None:
        self.messages = self.size = 0
        self._messages_seen = self._read_seen = self._noted = self._known = self._received = 0
        self._noted_at: int | None = None
        self._seen_s = now_s

    @property
    def text(self) -> str:
        """Return what its sender did, and what follows."""
        return f"sends messages without an end, {self.size} bytes over this connection: it is closed"

    @property
    def is_waiting(self) -> bool:
        """Return whether ``size`` may change although nothing comes."""
        return self._received != self._known or self.size > NOTED_BYTES

    def check(self, number: int, received: int, now_s: float, heartbeat_bytes_per_s: int, emptied: int | None) -> None:
        """Update ``size`` from the ``received`` bytes of descriptor ``number``.

        ``emptied`` counts how often no message waited for the owner of the socket: only what libzmq had read before the
        last time is known to be incomplete. With None all that it has read counts.
        """
        self._received = received
        if received == self._known and self.messages == self._messages_seen and not self.size:
            return
        read = received - queued_bytes(number, UNREAD)
        if self.messages != self._messages_seen:
            self._messages_seen, self._read_seen, self._seen_s = self.messages, read, now_s
            self._noted, self._noted_at, self._known, self.size = read, emptied, read, 0
        elif emptied is None or emptied != self._noted_at:
            self._known = read if emptied is None else self._noted
            self._noted, self._noted_at = read, emptied
            heartbeats = int(heartbeat_bytes_per_s * (now_s - self._seen_s))
            self.size = max(0, self._known - self._read_seen - heartbeats)


@dataclass(frozen=True, slots=True)
class EndpointLimits:
    """How many connections a socket has at most, ``total`` and ``per_client``, and how much each may send at once.

    ``burst_bytes`` of 0: any amount. With ``by_address`` a connection counts for its address until it is claimed;
    else, where clients have keys and many may come from one address, only for the total. ``incomplete_bytes`` and the
    two after it limit messages whose end did not come, ``heartbeat_bytes_per_s`` is what each may send beside.
    """

    total: int
    per_client: int
    burst_bytes: int = BURST_BYTES
    by_address: bool = True
    incomplete_bytes: int = INCOMPLETE_BYTES
    incomplete_bytes_per_client: int = INCOMPLETE_BYTES_PER_CLIENT
    incomplete_bytes_total: int = INCOMPLETE_BYTES_TOTAL

    @property
    def heartbeat_bytes_per_s(self) -> int:
        """Return how much a peer's ZMTP heartbeats may have, which libzmq keeps to itself."""
        return HEARTBEAT_BYTES_PER_S if self.by_address else CURVE_HEARTBEAT_BYTES_PER_S


class Connection:
    """One open connection. ``client`` is whom it counts for: its address until `Connections.claim` names another."""

    __slots__ = ("began_at", "began_s", "client", "drain", "flow", "incomplete", "is_claimed", "is_closing", "peer")

    def __init__(self, peer: str, began_s: float, began_at: int, limits: EndpointLimits) -> None:
        self.peer = peer
        self.client = peer.rpartition(":")[0] if limits.by_address else ""
        self.began_s = began_s
        self.began_at = began_at
        self.flow = ByteFlow(began_s, limits.burst_bytes)
        self.incomplete = IncompleteMessage(began_s)
        self.drain: InputDrain | None = None
        self.is_claimed = self.is_closing = False


def number_of(frame: zmq.Frame) -> int:
    """Return the descriptor of the connection that a frame came over; NO_CONNECTION for what libzmq says itself."""
    try:
        return int(frame.get(zmq.SRCFD))
    except (zmq.ZMQError, ValueError, TypeError):
        return NO_CONNECTION


def user_of(frame: zmq.Frame) -> str:
    """Return the user id that ZAP gave the client; empty if there is none."""
    try:
        return str(frame.get("User-Id"))
    except (zmq.ZMQError, UnicodeDecodeError):
        return ""


def fault_text(event: int, value: int) -> str:
    """Return what went wrong with a handshake."""
    if event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
        return f"it ended within the handshake ({zmq.strerror(value)}): no ZeroMQ client, or a link that broke"
    if value == OTHER_MECHANISM:
        return "one side encrypts and the other does not: the client needs keys here, or must do without"
    if value == CRYPTOGRAPHIC:
        return "its messages cannot be decrypted: the client has a wrong server key"
    return f"it breaks the protocol (ZeroMQ's code {value:#x})"


def bytes_received(number: int) -> int | None:
    """Return how many bytes came over the TCP connection ``number``; None where the system does not report it.

    Bytes of a message that is not complete yet count, too: libzmq shows, and bounds, only complete messages.
    """
    if sys.platform != "linux":
        return None
    found = borrow(number, lambda held: held.getsockopt(socket.IPPROTO_TCP, TCP_INFO, TCP_INFO_BYTES))
    if found is None or len(found) < TCP_INFO_BYTES:
        return None
    return int(_uint64(found, BYTES_RECEIVED_AT)[0])


def queued_bytes(number: int, kind: int) -> int:
    """Return how many bytes of a ``kind`` the system keeps of the descriptor ``number``; 0 where it does not report."""
    if sys.platform != "linux":
        return 0
    try:
        return int(struct.unpack("i", fcntl.ioctl(number, kind, b"\0\0\0\0"))[0])
    except OSError:
        return 0


def peer_of(number: int) -> str:
    """Return the address of the peer of the descriptor ``number``, as ``127.0.0.1:4711``; empty if there is none."""
    peer = borrow(number, lambda held: held.getpeername()[:2], ANY_FAMILY)
    return "{}:{}".format(*peer) if peer else ""  # empty with ipc, where peers have no address


class InputDrain:
    """Takes bytes that a peer sends before libzmq can read them, until libzmq closes the connection; for Windows.

    A read that waits gets the bytes before libzmq does. Without `FIRST_BYTES` of them libzmq takes text within the next
    frame for a frame's length, which exceeds ZMQ_MAXMSGSIZE: it closes the connection at that frame, or at the second
    answer to its ZMTP heartbeats. A peer that sends so that this does not help loses everything after `PATIENCE_S`:
    libzmq closes the connection when the answers are overdue.
    """

    def __init__(self, own: socket.socket) -> None:
        self._own = own
        self._patient_until_s = 0.0
        if sys.platform == "win32":
            self._waiting: _winapi.Overlapped | None = None
            self._start(FIRST_BYTES)

    def read(self) -> None:
        """Drop what has arrived, and wait for more."""
        if sys.platform == "win32":
            for _ in range(DRAINS_PER_CHECK):
                if self._waiting is None:
                    if not self._patient_until_s or time.monotonic() < self._patient_until_s:
                        return
                    self._start(DRAIN_BYTES)
                if self._waiting is None or _winapi.WaitForSingleObject(self._waiting.event, 0):
                    return
                arrived, self._waiting = self._waiting, None
                with suppress(OSError):  # a broken connection is left to libzmq
                    if arrived.GetOverlappedResult(True)[0] and not self._patient_until_s:  # noqa: FBT003 - it has no name
                        self._patient_until_s = time.monotonic() + PATIENCE_S

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


def shut_down(number: int, is_same: Callable[[], bool]) -> InputDrain | None:
    """End the connection of descriptor ``number``, if it ``is_same`` connection's once there is a duplicate of it.

    libzmq closes it when it reads the end. None (on macOS always): call it again, unless libzmq reports the end. On
    Windows libzmq aborts the process when it meets a descriptor that was shut down (WSAESHUTDOWN). There the
    connection's input is drained instead: `InputDrain.read` until libzmq reports the end, then `InputDrain.close`.
    """
    try:
        own = duplicate(number)
    except OSError:  # it is closed; or no descriptor is left for the duplicate: all the more reason to end it
        if sys.platform != "win32" and is_same():
            borrow(number, end_input)
        return None
    if not is_same():
        own.close()
        return None
    if sys.platform == "win32":
        return InputDrain(own)
    with own, suppress(OSError):
        is_filtered = end_input(own)
        for _ in range(DRAINS_PER_CHECK):  # else libzmq would first read all that the system still has for it
            if not own.recv(DRAIN_BYTES):
                return InputDrain(own) if is_filtered else None
    return None
