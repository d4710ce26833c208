"""Connections to a bound socket, counted from libzmq's monitor events: who came, who was turned away, what failed.

An event tells no peer: the address is asked of the system when a connection is accepted, so one that is gone by then
has none in the log.

**Whose frame is it?** A frame tells the file descriptor that it came over, and descriptors are used again: a frame that
still waits when its connection has ended may carry the number of somebody else's. So each handshake gets a mark, the
number of events until then (`Connections.mark`, asked by the gatekeeper, hence the lock), which comes with every frame
of that connection. libzmq tells the end of a connection before it closes the descriptor, so whoever has the number next
has a mark beyond that end: a frame is of an open connection when no end with its number came after its mark.
"""

from __future__ import annotations

import itertools
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Lock

import zmq

from mt4pump.complaints import Complaints

EVENTS = (
    zmq.EVENT_ACCEPTED
    | zmq.EVENT_ACCEPT_FAILED
    | zmq.EVENT_CLOSED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
ALL_LIMIT_S = 0.25
"""Time for all events that wait, where a part of them is of no use: about 18,000, those of 6,000 connections."""
NEVER = 0
CRYPTOGRAPHIC, OTHER_MECHANISM = 0x1100_0001, 0x1100_0002
"""Values of a failed handshake: ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC, …_MECHANISM_MISMATCH."""

_event = struct.Struct("=Hi").unpack
_numbers = itertools.count(1)


class Connections:
    """Counters over all sockets watched one after the other. ``gone(number)`` is told each connection that ended.

    For the thread that owns the sockets; `mark` for the gatekeeper's.

    ``now`` are open connections, those amid their handshake included; ``accepted`` handshakes that succeeded,
    ``refused`` those of a key that may not enter, ``failed`` all others: no ZeroMQ, no CURVE, a wrong server key, a
    handshake that took too long. A connection's number is its file descriptor: the same for two, one after the other.
    """

    def __init__(self, complaints: Complaints, gone: Callable[[int], object] = lambda _number: None) -> None:
        self.accepted = self.refused = self.failed = 0
        self._complaints = complaints
        self._gone = gone
        self._peers: dict[int, str] = {}
        self._ended_at: dict[int, int] = {}
        self._left: set[int] = set()
        self._taken = 0
        self._lock = Lock()
        self._fault = ""
        self._listener_closed = False
        self._watched: zmq.Socket[bytes] | None = None
        self._events: zmq.Socket[bytes] | None = None

    @property
    def now(self) -> int:
        """Return how many connections are open."""
        return len(self._peers)

    def counters(self) -> dict[str, int]:
        """Return the heartbeat's ``connections``."""
        return {"now": self.now, "accepted": self.accepted, "refused": self.refused, "failed": self.failed}

    def is_open(self, number: int, mark: int | None = None) -> bool:
        """Return whether a connection of that number is open; with a ``mark``, whether the one that got it is."""
        return number in self._peers and (mark is None or self._ended_at.get(number, NEVER) <= mark)

    def numbers(self) -> tuple[int, ...]:
        """Return the numbers of the connections that are open."""
        with self._lock:
            return tuple(self._peers)

    def client_of(self, number: int) -> str:
        """Return the address of a connection."""
        return self._peers.get(number, "").rpartition(":")[0]

    def claim(self, number: int, client: str) -> bool:  # noqa: ARG002 - whom it counts for
        """Return whether a connection is open and may stay so."""
        return number in self._peers

    def shut_out(self, number: int) -> str:
        """End one connection; return who had it. libzmq has no call for that: its descriptor is shut down."""
        with self._lock:
            self._take_waiting(ALL_LIMIT_S)
            peer = self._peers.get(number)
            if peer is None:
                return ""
            with suppress(OSError, ValueError):
                borrowed = socket.socket(fileno=number)
                try:
                    borrowed.shutdown(socket.SHUT_RDWR)
                finally:
                    borrowed.detach()  # it is libzmq's to close
            return peer or "an unknown address"

    def mark(self) -> int | None:
        """Return the mark of a connection amid its handshake, None while it cannot be told; for any thread."""
        with self._lock:
            return self._taken if self._take_waiting(ALL_LIMIT_S) else None

    def watch(self, watched: zmq.Socket[bytes]) -> None:
        """Count the connections to ``watched`` from now on; before it is bound."""
        address = f"inproc://mt4pump.monitor.{next(_numbers)}"
        with self._lock:
            watched.monitor(address, EVENTS)
            self._watched = watched
            self._events = watched.context.socket(zmq.PAIR)
            self._events.setsockopt(zmq.RCVHWM, 0)  # a full one would block libzmq's own thread, and so everything
            self._events.setsockopt(zmq.LINGER, 0)
            self._events.connect(address)

    def unwatch(self) -> None:
        """Stop watching; all connections count as ended. Before the watched socket is closed."""
        with self._lock:
            if self._watched is not None and not self._watched.closed:
                self._watched.disable_monitor()  # first: libzmq would wait for a reader that is gone
            if self._events is not None:
                self._events.close(0)
            self._watched = self._events = None
            for each in (self._peers, self._ended_at, self._left):
                each.clear()
            self._fault = ""

    def look(self, limit_s: float = ALL_LIMIT_S) -> bool:
        """Take what happened since the last look; return False when that was not all, as the time was over."""
        with self._lock:
            is_all = self._take_waiting(limit_s)
            left = tuple(self._left)
            self._left.clear()
        for number in left:
            self._gone(number)
        return is_all

    def unbind(self, endpoint: str, limit_s: float) -> bool:
        """Unbind the watched socket; return whether the listener closed in time: its address is free from then on."""
        deadline_s = time.monotonic() + limit_s
        with self._lock:
            if self._watched is None or self._events is None:
                return False
            self._listener_closed = False
            self._watched.unbind(endpoint)
            while not self._listener_closed and (left_s := deadline_s - time.monotonic()) > 0:
                if self._events.poll(max(1, int(left_s * 1000))):
                    self._take_waiting(left_s)
            return self._listener_closed

    def _take_waiting(self, limit_s: float) -> bool:
        """Take events until there is none, or the time is over; return whether there is none. Under the lock."""
        events = self._events
        if events is None:
            return True
        deadline_s = time.monotonic() + limit_s
        while int(events.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            event, value = _event(bytes(events.recv_multipart(zmq.NOBLOCK)[0]))
            self._taken += 1
            self._take(event, value)
            if time.monotonic() >= deadline_s:
                return False
        return True

    def _take(self, event: int, value: int) -> None:
        if event == zmq.EVENT_ACCEPTED:
            self._peers[value] = peer_of(value)
        elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.accepted += 1
        elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self.refused += 1  # the gatekeeper told the log whom
        elif event in {zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL}:
            self._fault = fault_text(event, value)
        elif event == zmq.EVENT_DISCONNECTED:
            self._ended(value)
        elif event == zmq.EVENT_CLOSED:
            self._listener_closed = True
        elif event == zmq.EVENT_ACCEPT_FAILED:
            self.failed += 1
            self._complaints.add("accept_failed", f"a connection was not accepted: {zmq.strerror(value)}")

    def _ended(self, number: int) -> None:
        peer = self._peers.pop(number, "")
        if self._fault:  # libzmq's thread tells the fault, then at once the end of that connection
            fault, self._fault = self._fault, ""
            self.failed += 1
            self._complaints.add("handshake_failed", f"from {peer or 'an unknown address'}: {fault}")
        self._ended_at[number] = self._taken
        self._left.add(number)


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
