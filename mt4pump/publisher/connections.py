"""Connections to a bound socket, from libzmq's monitor events: counted, limited, and shut out one by one.

An event tells no peer: the address is asked of the system when a connection is accepted, so one that is gone by then
has none in the log.

**Whose frame is it?** A frame tells the file descriptor that it came over, and descriptors are used again: a frame that
still waits when its connection has ended may carry the number of somebody else's. So each handshake gets a mark, the
number of events until then (`Connections.mark`, asked by the gatekeeper, hence the lock), which comes with every frame
of that connection. libzmq tells the end of a connection before it closes the descriptor, so whoever has the number next
has a mark beyond that end: a frame is of an open connection when no end with its number came after its mark.

**Shutting out.** libzmq has no call that ends one connection, so its descriptor is shut down, and libzmq sees it end.
The descriptor may be closed and used again meanwhile. Therefore it is duplicated first; if no event has told the end of
the connection by then, the duplicate is of that connection and no other, and is what is shut down.

**Bounds.** The events wait in a queue without a bound, since a full one would block libzmq's own thread. So nothing may
fill it faster than it is emptied: failed attempts to accept, of which libzmq makes a hundred thousand a second while no
descriptor is left, are not among the events (`mt4pump.publisher.descriptors` sees that state), and the gatekeeper's
thread takes the events, too, so that they are taken while the pump is busy.
"""

from __future__ import annotations

import itertools
import struct
import time
from collections import Counter
from collections.abc import Callable
from threading import Lock

import zmq

from mt4pump.log import FaultCounters
from mt4pump.publisher.flow import SUSPECT_BURST_BYTES, Flow
from mt4pump.publisher.peers import Connection, ConnectionLimits, fault_text, peer_of, shut_down

EVENTS = (
    zmq.EVENT_ACCEPTED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
ALL_LIMIT_S = 0.25
"""Time for all events that wait, where a part of them is of no use: about 18,000, those of 6,000 connections."""
TURN_LIMIT_S = 0.002
"""How long a thread that takes events keeps the other one waiting."""
YIELD_S = 0.0005
NEVER = 0
FLOWS_PER_LOOK = 64
"""Connections whose flow is looked at in one turn of the gatekeeper's thread, unless the pump is late."""
LATE_S = 0.1
"""A pump that has not looked for so long may be held by a flood."""
SUSPECT_S, SUSPECTS_LIMIT = 10.0, 10_000
UNKNOWN_GRACE_S = 1.0
"""A connection that has sent nothing for so long gives way to a new one where there are too many."""

_event = struct.Struct("=Hi").unpack
_numbers = itertools.count(1)


class Connections:
    """Counters over all sockets watched one after the other. ``gone(number)`` is told each connection that ended.

    For the thread that owns the sockets; `mark` and `guard` for the gatekeeper's.

    ``now`` are open connections, those amid their handshake included; ``accepted`` handshakes that succeeded,
    ``refused`` those of a key that may not enter, ``failed`` all others: no ZeroMQ, no CURVE, a wrong server key, a
    handshake that took too long. ``over_limit`` are connections that were closed because there were too many, and
    ``shut_out`` those closed for what they sent. A connection's number is its file descriptor: the same for two, one
    after the other.
    """

    def __init__(
        self,
        fault_counters: FaultCounters,
        gone: Callable[[int], object] = lambda _number: None,
        limits: ConnectionLimits | None = None,
        endpoint: str = "events",
    ) -> None:
        self.accepted = self.refused = self.failed = self.over_limit = self.shut_out_count = 0
        self.limits = limits or ConnectionLimits()
        self._endpoint = endpoint
        self._fault_counters = fault_counters
        self._gone = gone
        self._open: dict[int, Connection] = {}
        self._by_client: Counter[str] = Counter()
        self._kept = 0
        self._doomed: list[tuple[int, Connection]] = []
        self._ended_at: dict[int, int] = {}
        self._left: set[int] = set()
        self._flooders: dict[int, int] = {}
        self._suspect_until_s: dict[str, float] = {}
        self._next_flow = 0
        self._looked_s = time.monotonic()
        self._taken = 0
        self._lock = Lock()
        self._fault = ""
        self._watched: zmq.Socket[bytes] | None = None
        self._events: zmq.Socket[bytes] | None = None

    @property
    def now(self) -> int:
        """Return how many connections are open."""
        return len(self._open)

    def counters(self) -> dict[str, int]:
        """Return the heartbeat's ``connections``."""
        return {
            "now": self.now,
            "accepted": self.accepted,
            "refused": self.refused,
            "failed": self.failed,
            "limit": self.limits.total,
            "over_limit": self.over_limit,
            "shut_out": self.shut_out_count,
        }

    def is_open(self, number: int, mark: int | None = None) -> bool:
        """Return whether a connection of that number is open; with a ``mark``, whether the one that got it is."""
        found = self._open.get(number)
        return (
            found is not None and not found.is_closing and (mark is None or self._ended_at.get(number, NEVER) <= mark)
        )

    def mark(self) -> int | None:
        """Return the mark of a connection amid its handshake, None while it cannot be told; for any thread."""
        deadline_s = time.monotonic() + ALL_LIMIT_S
        while True:
            with self._lock:
                if self._take_waiting(TURN_LIMIT_S):
                    return self._taken
            if time.monotonic() >= deadline_s:
                return None
            time.sleep(YIELD_S)  # a lock is not fair: without it the pump would wait for the end of this loop

    def claim(self, number: int, client: str) -> bool:
        """Note that the connection is ``client``'s; return False, and shut it out, where that has too many."""
        with self._lock:
            found = self._open.get(number)
            if found is None or found.is_closing:
                return False
            if found.is_known:
                return True
            found.is_known = True
            if client and client != found.client:
                self._by_client[found.client] -= 1
                self._by_client[client] += 1
                found.client = client
            if self._is_over_limit(found.client):
                self._refuse(number, found)
                return False
            return True

    def client_of(self, number: int) -> str:
        """Return whom the connection counts for."""
        found = self._open.get(number)
        return found.client if found else ""

    def shut_out(self, number: int, *, is_suspect: bool = True) -> str:
        """End one connection, at once or at a later look; return who had it.

        Of a suspect's address new connections may send little at once, for a while.
        """
        with self._lock:
            found = self._open.get(number)
            if found is None or found.is_closing:
                return ""
            self.shut_out_count += 1
            if is_suspect:
                self._suspect(found, time.monotonic())
            self._doom(number, found)
            self._shut_doomed()
            return found.peer

    def shut_out_client(self, client: str) -> None:
        """End all connections that are known to be of ``client``."""
        for number, each in tuple(self._open.items()):
            if each.is_known and each.client == client:
                self.shut_out(number)

    def numbers(self) -> tuple[int, ...]:
        """Return the numbers of the connections that are open."""
        with self._lock:
            return tuple(number for number, each in self._open.items() if not each.is_closing)

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
            for each in (self._open, self._by_client, self._doomed, self._ended_at, self._left, self._flooders):
                each.clear()
            self._kept = 0
            self._fault = ""

    def look(self, limit_s: float = ALL_LIMIT_S) -> bool:
        """Take what happened since the last look; return False when that was not all, as the time was over."""
        with self._lock:
            self._looked_s = time.monotonic()
            is_all = self._take_waiting(limit_s)
            if is_all and self._doomed:
                self._shut_doomed()
            left = tuple(self._left)
            self._left.clear()
        for number in left:
            self._gone(number)
        return is_all

    def guard(self) -> None:
        """Take events and hold the limits while the owner of the socket is busy; for the gatekeeper's thread."""
        with self._lock:
            is_all = self._take_waiting(TURN_LIMIT_S)
            self._look_at_flows()
            if is_all and self._doomed:
                self._shut_doomed()

    def has_flooded(self, number: int, mark: int | None) -> bool:
        """Return whether the connection that got ``mark`` was shut out for a flood, and forget that it was."""
        began_at = self._flooders.get(number)
        if began_at is None or mark is None or mark < began_at or mark > self._ended_at.get(number, mark):
            return False
        return self._flooders.pop(number, None) is not None

    def relieve(self) -> None:
        """End the connections that have sent nothing yet: the process has no file descriptor left."""
        with self._lock:
            for number, each in tuple(self._open.items()):
                if not each.is_known and not each.is_closing:
                    self._refuse(number, each)
            if self._take_waiting(TURN_LIMIT_S):
                self._shut_doomed()

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
            self._began(value)
        elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.accepted += 1
        elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self.refused += 1  # the gatekeeper told the log whom
        elif event in {zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL}:
            self._fault = fault_text(event, value)
        elif event == zmq.EVENT_DISCONNECTED:
            self._ended(value)

    def _began(self, number: int) -> None:
        now_s = time.monotonic()
        made = self._open[number] = Connection(peer_of(number), now_s, self._taken, self.limits)
        if self._suspect_until_s and now_s < self._suspect_until_s.get(made.peer.rpartition(":")[0], 0.0):
            made.flow = Flow(now_s, SUSPECT_BURST_BYTES)
        self._kept += 1
        self._by_client[made.client] += 1
        if self._is_over_limit(made.client):
            self._refuse(*self._gives_way(now_s, number, made, made.client))
        elif self._kept > self.limits.total:
            self._refuse(*self._gives_way(now_s, number, made))

    def _look_at_flows(self) -> None:
        """Shut out who sends more than a subscriber can have reason to; some connections at each turn, or all."""
        if not self.limits.burst_bytes:
            return
        now_s = time.monotonic()
        numbers = tuple(self._open)
        if len(numbers) > FLOWS_PER_LOOK and now_s - self._looked_s < LATE_S:
            first = self._next_flow % len(numbers)
            self._next_flow = first + FLOWS_PER_LOOK
            numbers = numbers[first : first + FLOWS_PER_LOOK]
        for number in numbers:
            each = self._open[number]
            if not each.is_closing and each.flow.is_flood(number, now_s):
                self.shut_out_count += 1
                self._flooders[number] = each.began_at
                self._suspect(each, now_s)
                text = f"{each.peer or 'a local client'} sends more than a subscriber may: its connection is closed"
                self._fault_counters.record("flood", text)
                self._doom(number, each)

    def _suspect(self, connection: Connection, now_s: float) -> None:
        """Let a client's next connections send little at once, for a while."""
        if len(self._suspect_until_s) >= SUSPECTS_LIMIT:
            self._suspect_until_s.clear()
        self._suspect_until_s[connection.peer.rpartition(":")[0]] = now_s + SUSPECT_S

    def _is_over_limit(self, client: str) -> bool:
        return bool(client) and self._by_client[client] > self.limits.per_client

    def _gives_way(
        self, now_s: float, number: int, newest: Connection, client: str | None = None
    ) -> tuple[int, Connection]:
        """Return the oldest connection, of ``client`` if given, that has sent nothing for a while, else the newest."""
        for other, each in self._open.items():  # in the order in which they came
            if now_s - each.began_s < UNKNOWN_GRACE_S:
                break
            if not each.is_known and not each.is_closing and client in {None, each.client}:
                return other, each
        return number, newest

    def _refuse(self, number: int, connection: Connection) -> None:
        """Close a connection that is one too many."""
        self.over_limit += 1
        text = (
            f"a connection from {connection.peer or 'an unknown address'} to the {self._endpoint} endpoint is closed: "
            f"at most {self.limits.total} may be open, {self.limits.per_client} of one client"
        )
        self._fault_counters.record("too_many_connections", text)
        self._doom(number, connection)

    def _doom(self, number: int, connection: Connection) -> None:
        connection.is_closing = True
        self._let_go(connection)
        self._doomed.append((number, connection))

    def _let_go(self, connection: Connection) -> None:
        self._kept -= 1
        self._by_client[connection.client] -= 1
        if not self._by_client[connection.client]:
            del self._by_client[connection.client]

    def _shut_doomed(self) -> None:
        """Shut down what is to end and still open; under the lock. What cannot be told now waits for the next look."""
        waiting, self._doomed = self._doomed, []
        for number, connection in waiting:
            if self._open.get(number) is connection and not self._shut_down(number, connection):
                self._doomed.append((number, connection))

    def _shut_down(self, number: int, connection: Connection) -> bool:
        """Shut down a connection's descriptor; return False where that must be tried again."""
        is_told = True

        def is_still_its() -> bool:
            nonlocal is_told
            is_told = self._take_waiting(TURN_LIMIT_S)
            return is_told and self._open.get(number) is connection

        shut_down(number, is_still_its)
        return is_told

    def _ended(self, number: int) -> None:
        connection = self._open.pop(number, None)
        if connection is not None and not connection.is_closing:
            self._let_go(connection)
        if self._fault:  # libzmq's thread tells the fault, then at once the end of that connection
            fault, self._fault = self._fault, ""
            self.failed += 1
            peer = connection.peer if connection else ""
            self._fault_counters.record("handshake_failed", f"from {peer or 'an unknown address'}: {fault}")
        self._ended_at[number] = self._taken
        self._left.add(number)
