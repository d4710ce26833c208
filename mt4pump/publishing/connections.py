"""Connections to a bound socket, counted from libzmq's monitor events: who came, who was turned away, what failed.

Read by the thread that owns the socket. An event tells no peer: the address is asked of the system when a connection is
accepted, so one that is gone by then has none in the log.
"""

from __future__ import annotations

import itertools
import socket
import struct
from collections.abc import Callable

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
EVENTS_PER_LOOK = 1_000
CRYPTOGRAPHIC, OTHER_MECHANISM = 0x1100_0001, 0x1100_0002
"""Values of a failed handshake: ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC, …_MECHANISM_MISMATCH."""

_event = struct.Struct("=Hi").unpack
_numbers = itertools.count(1)


class Connections:
    """Counters over all sockets watched one after the other. ``gone(number)`` is told each connection that ended.

    ``now`` are open connections, those amid their handshake included; ``accepted`` handshakes that succeeded,
    ``refused`` those of a key that may not enter, ``failed`` all others: no ZeroMQ, no CURVE, a wrong server key, a
    handshake that took too long. A connection's number is its file descriptor: the same for two, one after the other.
    """

    def __init__(self, complaints: Complaints, gone: Callable[[int], object] = lambda _number: None) -> None:
        self.accepted = self.refused = self.failed = 0
        self._complaints = complaints
        self._gone = gone
        self._peers: dict[int, str] = {}
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

    def is_open(self, number: int) -> bool:
        """Return whether that connection is open."""
        return number in self._peers

    def watch(self, watched: zmq.Socket[bytes]) -> None:
        """Count the connections to ``watched`` from now on; before it is bound."""
        address = f"inproc://mt4pump.monitor.{next(_numbers)}"
        watched.monitor(address, EVENTS)
        self._watched = watched
        self._events = watched.context.socket(zmq.PAIR)
        self._events.setsockopt(zmq.RCVHWM, 0)  # a full one would block libzmq's own thread, and with it everything
        self._events.setsockopt(zmq.LINGER, 0)
        self._events.connect(address)

    def unwatch(self) -> None:
        """Stop watching; all connections count as ended. Before the watched socket is closed."""
        if self._watched is not None and not self._watched.closed:
            self._watched.disable_monitor()  # first: libzmq would wait for a reader that is gone
        if self._events is not None:
            self._events.close(0)
        self._watched = self._events = None
        self._peers.clear()
        self._fault = ""

    def look(self) -> None:
        """Take what happened since the last look, a bounded lot."""
        events = self._events
        if events is None:
            return
        for _ in range(EVENTS_PER_LOOK):
            if not int(events.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                break
            event, value = _event(bytes(events.recv_multipart(zmq.NOBLOCK)[0]))
            self._take(event, value)

    def wait_for_closed_listener(self, limit_s: float) -> bool:
        """Return whether the listener closed in time: its address is free from then on."""
        self._listener_closed = False
        events = self._events
        while events is not None and not self._listener_closed and events.poll(int(limit_s * 1000)):
            self.look()
        return self._listener_closed

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
        self._gone(number)


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
