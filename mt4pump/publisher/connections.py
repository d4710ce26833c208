"""Connections to a bound socket, from libzmq's monitor events: counted, limited, and closed one by one.

Descriptors are reused: how a frame's connection is identified, how one is closed and what bounds the queue of events
is in ARCHITECTURE, "The publishing socket".
"""

from __future__ import annotations

import itertools
import struct
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import Lock

import zmq

from mt4pump.libzmq_sockets import borrow, protect
from mt4pump.log import FaultCounters
from mt4pump.publisher.descriptors import (
    RESTRICTED_BURST_BYTES,
    ByteFlow,
    Connection,
    EndpointLimits,
    fault_text,
    peer_of,
    shut_down,
)
from mt4pump.publisher.received import IncompleteMessages, RestrictedAddresses, Traffic

EVENTS = zmq.EVENT_LISTENING | zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED
EVENTS |= zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
MADE = {zmq.EVENT_LISTENING, zmq.EVENT_ACCEPTED}
ALL_LIMIT_S = 0.25
"""Longest time for reading all waiting events: enough for about 18,000, those of 6,000 connections."""
LOCK_LIMIT_S = 0.002
"""How long one thread holds the lock while it reads events."""
YIELD_S = 0.0005
NEVER = 0
UNCLAIMED_GRACE_S = 1.0
"""Beyond the limit, a connection that has sent nothing for this long is closed in favour of a new one."""

READABLE = int(zmq.POLLIN)  # an enum costs more than the call

_event = struct.Struct("=Hi").unpack
_numbers = itertools.count(1)


class Connections:
    """Counts and limits connections, over all sockets that it was attached to.

    ``gone(number)`` is called for each connection that ended. For the thread that owns the sockets; the ZAP thread
    calls `generation`, `guard` and `wake_number`.

    ``now`` are open connections, those amid their handshake included; ``accepted`` handshakes that succeeded,
    ``refused`` those of a key that may not enter, ``failed`` all others: no ZeroMQ, no CURVE, a wrong server key, a
    handshake that took too long. ``over_limit`` are connections that were closed because there were too many, and
    ``shut_out_count`` those closed for what they sent or did not read, or for lost permissions; ``senders_closed`` of
    these for bytes that libzmq does not show. A connection's number is its file descriptor, which is reused.
    """

    def __init__(
        self,
        fault_counters: FaultCounters,
        limits: EndpointLimits,
        gone: Callable[[int], object],
        endpoint: str = "events",
    ) -> None:
        self.accepted = self.refused = self.failed = self.over_limit = self.shut_out_count = self.senders_closed = 0
        self.limits = limits
        self._endpoint, self._protect = endpoint, partial(protect, ignores_resets=endpoint == "query")
        self._fault_counters = fault_counters
        self._forget_connection = gone
        self._open: dict[int, Connection] = {}
        self._by_client: Counter[str] = Counter()
        self._kept = self._events_read = 0
        self._closing: list[tuple[int, Connection]] = []
        self._ended_at: dict[int, int] = {}
        self._left: set[int] = set()
        self._flooders: dict[int, int] = {}
        self.incomplete = IncompleteMessages()
        self._restricted = RestrictedAddresses()
        self._lock = Lock()
        self._fault = ""
        self._unresolved = 0  # handshakes of which no result was reported yet
        self._unclaimed = 0  # open connections that have sent nothing yet
        self._counted: zmq.Socket[bytes] | None = None
        self._events: zmq.Socket[bytes] | None = None
        self._traffic: Traffic | None = None
        self._is_all_read = True

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

    def is_open(self, number: int, generation: int | None = None) -> bool:
        """Return whether a connection of that number, and of that ``generation`` if given, is open."""
        if (found := self._open.get(number)) is None or found.is_closing:
            return False
        return generation is None or self._ended_at.get(number, NEVER) <= generation

    def generation(self) -> int | None:
        """Return the generation of a connection within its handshake, None while it is unknown; for any thread."""
        deadline_s = time.monotonic() + ALL_LIMIT_S
        while True:
            with self._lock:
                if self._read_waiting(LOCK_LIMIT_S):
                    return self._events_read
            if time.monotonic() >= deadline_s:
                return None
            time.sleep(YIELD_S)  # a lock is not fair: without it the pump would wait for the end of this loop

    def claim(self, number: int, client: str) -> bool:
        """Assign the connection of a message to ``client``; close it and return False if that client has too many."""
        with self._lock:
            found = self._open.get(number)
            if found is None or found.is_closing:
                return False
            found.incomplete.messages += 1
            if found.is_claimed:
                return True
            found.is_claimed = True
            self._unclaimed -= 1
            if client and client != found.client:
                self._by_client[found.client] -= 1
                self._by_client[client] += 1
                found.client = client
            if self._is_over_limit(found.client):
                self._refuse(number, found)
                return False
            return True

    def note_message(self, number: int) -> None:
        """Note that a complete message came over a connection that was claimed before."""
        if found := self._open.get(number):
            found.incomplete.messages += 1

    def client_of(self, number: int) -> str:
        """Return the client that the connection counts for."""
        found = self._open.get(number)
        return found.client if found else ""

    def disconnect(self, number: int, *, is_offender: bool = True) -> str:
        """Close one connection, now or at the next check; return its peer for the log, empty if it was not open.

        With ``is_offender``, new connections from its address get a smaller burst for a while.
        """
        with self._lock:
            found = self._open.get(number)
            if found is None or found.is_closing:
                return ""
            self.shut_out_count += 1
            if is_offender:
                self._restricted.add(found.peer, time.monotonic())
            self._close_later(number, found)
            self._shut_down_closing()
            return found.peer or "an unknown address"

    def disconnect_client(self, client: str) -> None:
        """Close all connections that are assigned to ``client``."""
        for number, each in tuple(self._open.items()):
            if each.is_claimed and each.client == client:
                self.disconnect(number)

    def numbers(self) -> tuple[int, ...]:
        """Return the numbers of the connections that are open."""
        with self._lock:
            return tuple(number for number, each in self._open.items() if not each.is_closing)

    def attach(self, counted: zmq.Socket[bytes]) -> None:
        """Count the connections to ``counted`` from now on; before it is bound."""
        address = f"inproc://mt4pump.monitor.{next(_numbers)}"
        with self._lock:
            counted.monitor(address, EVENTS)
            self._counted = counted
            self._events = counted.context.socket(zmq.PAIR)
            self._events.setsockopt(zmq.RCVHWM, 0)  # a full queue would block libzmq's own thread
            self._events.setsockopt(zmq.LINGER, 0)
            self._events.connect(address)
            self._traffic = Traffic(int(self._events.FD))

    def detach(self) -> None:
        """Stop counting, before the socket is closed; all connections count as ended."""
        with self._lock:
            if self._counted is not None and not self._counted.closed:
                with suppress(zmq.ContextTerminated):  # then there is no monitor, and the sockets must be closed
                    self._counted.disable_monitor()  # first, else libzmq waits for a closed reader
            if self._traffic is not None:
                self._traffic.close()
            if self._events is not None:
                self._events.close(0)
            self._counted = self._events = self._traffic = None
            for connection in self._open.values():
                if connection.drain is not None:
                    connection.drain.close()
            for each in (self._open, self._by_client, self._closing, self._ended_at, self._left, self._flooders):
                each.clear()
            self._kept = self._unresolved = self._unclaimed = 0
            self.incomplete, self._fault = IncompleteMessages(), ""

    def read_events(self, limit_s: float = ALL_LIMIT_S) -> bool:
        """Handle the events since the last call; return False when the time was over before all were read."""
        with self._lock:
            is_all = self._read_waiting(limit_s)
            if is_all and self._closing:
                self._shut_down_closing()
            left = tuple(self._left)
            self._left.clear()
        for number in left:
            self._forget_connection(number)
        return is_all

    def guard(self) -> None:
        """Read events and enforce the limits while the owner of the socket is busy; for the ZAP thread."""
        with self._lock:
            is_all = self._read_waiting(LOCK_LIMIT_S)
            self._check_flows()
            if is_all and self._closing:
                self._shut_down_closing()

    def wake_number(self) -> int | None:
        """Return a descriptor that is readable when `guard` has work; None: call it every few ms."""
        traffic = self._traffic  # read once: another thread detaches
        return None if traffic is None or self._closing or not self._is_all_read else traffic.wake_number

    def has_flooded(self, number: int, generation: int | None) -> bool:
        """Return whether the connection that got ``generation`` was closed for a flood, and forget that it was."""
        began_at = self._flooders.get(number)
        if began_at is None or generation is None:
            return False
        is_its = began_at <= generation <= self._ended_at.get(number, generation)
        return is_its and self._flooders.pop(number, None) is not None

    def close_unclaimed(self) -> None:
        """Close the connections that have sent nothing yet, because the process has no file descriptor left."""
        with self._lock:
            for number, each in tuple(self._open.items()):
                if not each.is_claimed and not each.is_closing:
                    self._refuse(number, each)
            if self._read_waiting(LOCK_LIMIT_S):
                self._shut_down_closing()

    def _read_waiting(self, limit_s: float) -> bool:
        """Read events until none waits or the time is over; return whether none waits. The caller holds the lock."""
        events = self._events
        if events is None:
            return True
        deadline_s = time.monotonic() + limit_s
        self._is_all_read = False
        while int(events.getsockopt(zmq.EVENTS)) & READABLE:
            event, value = _event(bytes(events.recv_multipart(zmq.NOBLOCK)[0]))
            self._events_read += 1
            self._handle(event, value)
            if time.monotonic() >= deadline_s:
                return False
        self._is_all_read = True
        return True

    def _handle(self, event: int, value: int) -> None:
        if event in MADE and not borrow(value, self._protect) and event == zmq.EVENT_LISTENING:
            self._fault_counters.record("unprotected", "see THREAT_MODEL, 'Resets'")
        if event == zmq.EVENT_ACCEPTED:
            self._handle_accepted(value)
        elif event == zmq.EVENT_DISCONNECTED:
            self._handle_disconnected(value)
        elif event != zmq.EVENT_LISTENING:
            self._unresolved = max(0, self._unresolved - 1)  # two results may be reported of one that is refused
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self.accepted += 1
            elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                self.refused += 1  # the authenticator has logged the client
            else:
                self._fault = fault_text(event, value)

    def _handle_accepted(self, number: int) -> None:
        now_s = time.monotonic()
        made = self._open[number] = Connection(peer_of(number), now_s, self._events_read, self.limits)
        if self._restricted.has(made.peer, now_s):
            made.flow = ByteFlow(now_s, RESTRICTED_BURST_BYTES)
        if self._traffic is not None:
            self._traffic.add(number)
        self._kept += 1
        self._unresolved += 1
        self._unclaimed += 1
        self._by_client[made.client] += 1
        if self._is_over_limit(made.client):
            self._refuse(*self._oldest_unclaimed(now_s, number, made, made.client))
        elif self._kept > self.limits.total:
            self._refuse(*self._oldest_unclaimed(now_s, number, made))

    def _check_flows(self) -> None:
        """Close connections that send more than a client needs to."""
        now_s, traffic = time.monotonic(), self._traffic
        if traffic is None:
            return
        for number in traffic.take(self._open.keys(), now_s):
            if (each := self._open[number]).is_closing:
                continue
            if fault := self.incomplete.fault(number, each, now_s, self.limits):
                self._flooders[number] = each.began_at
                self._restricted.add(each.peer, now_s)
                self._close_sender(number, each, *fault)
            elif each.flow.is_waiting or each.incomplete.is_waiting:
                traffic.check_again(number)
        while found := self.incomplete.excess(self.limits):
            self._close_sender(*found, "incomplete_message", found[1].incomplete.text)

    def _close_sender(self, number: int, connection: Connection, name: str, text: str) -> None:
        self.shut_out_count += 1
        self.senders_closed += 1
        self._fault_counters.record(name, f"{connection.peer or 'a local client'} {text}")
        self._close_later(number, connection)

    def _is_over_limit(self, client: str) -> bool:
        return bool(client) and self._by_client[client] > self.limits.per_client

    def _oldest_unclaimed(
        self, now_s: float, number: int, newest: Connection, client: str | None = None
    ) -> tuple[int, Connection]:
        """Return the oldest connection, of ``client`` if given, that has sent nothing for a while, else the newest."""
        for other, each in self._open.items():  # in the order in which they came
            if now_s - each.began_s < UNCLAIMED_GRACE_S:
                break
            if not each.is_claimed and not each.is_closing and client in {None, each.client}:
                return other, each
        return number, newest

    def _refuse(self, number: int, connection: Connection) -> None:
        """Close a connection that exceeds the limit."""
        self.over_limit += 1
        text = (
            f"a connection from {connection.peer or 'an unknown address'} to the {self._endpoint} endpoint is closed: "
            f"at most {self.limits.total} may be open, {self.limits.per_client} of one client"
        )
        self._fault_counters.record("too_many_connections", text)
        self._close_later(number, connection)

    def _close_later(self, number: int, connection: Connection) -> None:
        connection.is_closing = True
        self.incomplete.forget(number)
        self._uncount(connection)
        self._closing.append((number, connection))

    def _uncount(self, connection: Connection) -> None:
        self._kept -= 1
        self._by_client[connection.client] -= 1
        if not self._by_client[connection.client]:
            del self._by_client[connection.client]

    def _shut_down_closing(self) -> None:
        """Shut down the connections that are to close, again until libzmq reports their end."""
        self._closing = [(number, each) for number, each in self._closing if self._open.get(number) is each]
        for number, each in tuple(self._closing):
            if each.drain is not None:
                each.drain.read()
            else:
                each.drain = shut_down(number, partial(self._is_current, number, each))

    def _is_current(self, number: int, connection: Connection) -> bool:
        return self._read_waiting(LOCK_LIMIT_S) and self._open.get(number) is connection

    def _handle_disconnected(self, number: int) -> None:
        connection = self._open.pop(number, None)
        if connection is not None:
            if connection.drain is not None:
                connection.drain.close()
            self.incomplete.forget(number)
            self._unclaimed -= not connection.is_claimed
            if not connection.is_closing:
                self._uncount(connection)
        fault, self._fault = self._fault, ""  # libzmq reports a fault, then at once the end of that connection
        if not fault and self._unresolved > self._unclaimed:  # nor does it report that it refused ZMTP 1 or 2
            self._unresolved = self._unclaimed
            fault = "it does not speak ZMTP 3: no ZeroMQ client, or one older than ZeroMQ 4"
        if fault:
            self.failed += 1
            peer = connection.peer if connection else ""
            self._fault_counters.record("handshake_failed", f"from {peer or 'an unknown address'}: {fault}")
        self._ended_at[number] = self._events_read
        self._left.add(number)
