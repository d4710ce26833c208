"""The connections of the query endpoint: their queued requests and unread replies, and which are closed; no sockets.

**Whose request is next.** Cheap requests (describe, and all that are refused) are answered as they come, unless an
earlier one of the same connection is queued. The others are queued. The client that has used the least working time is
next, and of its connections the one that has. A client is a CURVE key; without one it is an address.

**Which are closed.** Closing a connection never harms an honest client: its ZeroMQ library connects again by itself. So
the longest idle ones give way to new ones, and a client that holds many cannot keep others out. libzmq ignores a
connection whose ROUTING_ID another one has, for ever and silently: it looks like one that sends nothing, so those are
closed after a while (not on Windows); once the id is free, the next attempt succeeds.
"""

from __future__ import annotations

import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import zmq

from mt4pump.log import FaultCounters
from mt4pump.publisher.connections import Connections
from mt4pump.publisher.descriptors import EndpointLimits
from mt4pump.publisher.subscriptions import NO_CONNECTION
from mt4pump.query.limits import QueryOptions
from mt4pump.query.requests import ParsedRequest, RequestError
from mt4pump.wire import Body

CHECK_INTERVAL_S, SCAN_INTERVAL_S = 0.05, 1.0
"""Time between two readings of the monitor's events, and between two searches for connections to close."""
UNREAD_MIN_S = 1.0
"""How long a reply stays unread, at least, before its connection gives way to others."""


@dataclass(frozen=True, slots=True)
class QueuedRequest:
    """One request, or the error to reply. ``id_`` is what to echo, ``size`` the bytes it takes while queued."""

    routing: tuple[bytes, ...]
    id_: Body
    request: ParsedRequest | RequestError
    size: int
    since_s: float

    @property
    def is_cheap(self) -> bool:
        """Return whether it costs next to nothing."""
        return isinstance(self.request, RequestError) or self.request.op == "describe"

    @property
    def needs_snapshot(self) -> bool:
        """Return whether the pump must make a snapshot for it."""
        request = self.request
        return not isinstance(request, RequestError) and request.op == "snapshot" and request.cursor is None


@dataclass(slots=True)
class ClientWork:
    """The working time that a client has used; ``users`` are its connections with queued requests."""

    spent_s: float = 0.0
    users: int = 0


@dataclass(slots=True, eq=False)
class PeerConnection:
    """One connection: its queued requests, the replies that libzmq still holds, and one that it did not accept.

    ``number`` is its file descriptor, ``user`` the CURVE client's name, ``client`` whom it counts for, ``spent_s`` the
    working time that it has used, ``used_s`` when its last request came.
    """

    name: bytes
    number: int
    user: str
    client: str
    queue: deque[QueuedRequest] = field(default_factory=deque)
    blocked: tuple[tuple[bytes, ...], list[bytes]] | None = None
    spent_s: float = 0.0
    used_s: float = 0.0
    unread_bytes: int = 0
    unread_since_s: float = 0.0
    _unread: deque[tuple[zmq.MessageTracker, int]] = field(default_factory=deque)

    def add_unread(self, tracker: zmq.MessageTracker, size: int, now_s: float) -> None:
        """Note that libzmq holds a reply of ``size`` bytes."""
        if not self._unread:
            self.unread_since_s = now_s
        self._unread.append((tracker, size))
        self.unread_bytes += size

    def holds_unread(self, now_s: float) -> bool:
        """Return whether libzmq still holds a reply; those that it has sent are no longer counted."""
        while self._unread and self._unread[0][0].done:
            self.unread_bytes -= self._unread.popleft()[1]
            self.unread_since_s = now_s
        return bool(self._unread)


class RequestScheduler:
    """The queued requests of all connections, and the order in which they are handled."""

    def __init__(self, options: QueryOptions) -> None:
        self._options = options
        self._clients: dict[str, ClientWork] = {}
        self._active: dict[PeerConnection, None] = {}
        self._clock_s = self._client_clock_s = 0.0
        self.waiting = self.waiting_cheap = self.waiting_bytes = 0

    def add(self, connection: PeerConnection, request: QueuedRequest) -> bool:
        """Queue a request; return False where its connection, or all together, have too many."""
        options, queue = self._options, connection.queue
        size = sum(each.size for each in queue) + request.size
        if len(queue) >= options.waiting_limit or (queue and size > options.waiting_bytes):
            return False
        if self.waiting_bytes + request.size > options.waiting_bytes_total:
            return False
        if not queue:
            self._activate(connection)
        queue.append(request)
        self.waiting += 1
        self.waiting_cheap += request.is_cheap
        self.waiting_bytes += request.size
        return True

    def first(self, is_ready: Callable[[PeerConnection, QueuedRequest], bool]) -> PeerConnection | None:
        """Return the connection that is next of those that are ready and can take a reply, None if there is none."""
        for connection in sorted(self._active, key=self._order):
            if connection.blocked is None and is_ready(connection, connection.queue[0]):
                return connection
        return None

    def take(self, connection: PeerConnection) -> QueuedRequest:
        """Remove and return the first request of the connection that is next."""
        self._clock_s = max(self._clock_s, connection.spent_s)
        self._client_clock_s = max(self._client_clock_s, self._clients[connection.client].spent_s)
        return self._pop(connection)

    def late(self, before_s: float) -> Iterable[tuple[PeerConnection, QueuedRequest]]:
        """Remove and yield the requests that are queued since before ``before_s``."""
        for connection in tuple(self._active):
            while connection.queue and connection.queue[0].since_s < before_s:
                yield connection, self._pop(connection)

    def spend(self, connection: PeerConnection, work_s: float) -> None:
        """Count working time for a connection and its client."""
        connection.spent_s += work_s
        if client := self._clients.get(connection.client):
            client.spent_s += work_s

    def remove(self, connection: PeerConnection) -> int:
        """Forget the requests of a connection that ended; return how many they were."""
        count = len(connection.queue)
        while connection.queue:
            self._pop(connection)
        return count

    def _order(self, connection: PeerConnection) -> tuple[bool, float, float]:
        client = self._clients[connection.client]
        return not connection.queue[0].is_cheap, client.spent_s, connection.spent_s

    def _activate(self, connection: PeerConnection) -> None:
        """Add a connection to those served: what it did not use before gives it no right to more now."""
        client = self._clients.setdefault(connection.client, ClientWork())
        if not client.users:
            client.spent_s = max(client.spent_s, self._client_clock_s)
        client.users += 1
        connection.spent_s = max(connection.spent_s, self._clock_s)
        self._active[connection] = None

    def _pop(self, connection: PeerConnection) -> QueuedRequest:
        request = connection.queue.popleft()
        self.waiting -= 1
        self.waiting_cheap -= request.is_cheap
        self.waiting_bytes -= request.size
        if not connection.queue:
            del self._active[connection]
            client = self._clients[connection.client]
            client.users -= 1
            if not client.users and len(self._clients) > self._options.connections_limit:
                del self._clients[connection.client]
        return request


class ServedConnections:
    """The connections that sent a request, by routing id. ``counts`` are the heartbeat's, kept up to date here."""

    def __init__(
        self,
        options: QueryOptions,
        scheduler: RequestScheduler,
        fault_counters: FaultCounters,
        counts: dict[str, int],
        limits: EndpointLimits,
    ) -> None:
        self.monitored = Connections(fault_counters, limits, self._forget, endpoint="query")
        self._options = options
        self._scheduler = scheduler
        self._fault_counters = fault_counters
        self._counts = counts
        self._by_name: dict[bytes, PeerConnection] = {}
        self._silent_since_s: dict[int, float] = {}
        self._unread: list[PeerConnection] = []
        self._unread_by_client = Counter[str]()
        self._check_at_s = self._scan_at_s = 0.0

    def find(self, name: bytes, number: int, user: str) -> PeerConnection | None:
        """Return the connection that a message came over, None where it is not to be served."""
        found = self._by_name.get(name)
        if found is None or found.number != number:
            if found is not None:
                self.remove(found)
            if number != NO_CONNECTION:
                self.monitored.read_events()  # its first event may still wait
                if not self.monitored.claim(number, user):
                    return None
            client = f"key {user}" if user else self.monitored.client_of(number)
            found = self._by_name[name] = PeerConnection(name, number, user, client)
        else:
            self.monitored.note_message(number)
        found.used_s = time.monotonic()
        return found

    def remove(self, connection: PeerConnection) -> None:
        """Forget a connection that ended, with its queued requests."""
        self._counts["dropped"] += self._scheduler.remove(connection)
        if self._by_name.get(connection.name) is connection:
            del self._by_name[connection.name]

    def disconnect(self, number: int, text: str) -> None:
        """Close a connection for what it sent."""
        if peer := self.monitored.disconnect(number):
            self._counts["shut_out"] += 1
            self._fault_counters.record("query_shut_out", f"the query connection from {peer} is closed: {text}")

    def blocked(self) -> Iterator[PeerConnection]:
        """Yield the connections with a reply that libzmq did not accept yet."""
        return (each for each in tuple(self._by_name.values()) if each.blocked is not None)

    def refresh(self) -> None:
        """Count what is unread, and close the worst where a client, or all together, have too much of it."""
        now_s, options = time.monotonic(), self._options
        self._unread = [each for each in self._by_name.values() if each.holds_unread(now_s) or each.blocked is not None]
        by_client = self._unread_by_client = Counter[str]()
        for each in self._unread:
            by_client[each.client] += each.unread_bytes + (sum(map(len, each.blocked[1])) if each.blocked else 0)
        self._counts["unread_bytes"] = by_client.total()
        for client, size in by_client.items():
            if size >= options.unread_bytes_per_client:
                self._close_oldest_unread([each for each in self._unread if each.client == client])
        if by_client.total() >= options.unread_bytes:
            self._close_oldest_unread(self._unread)

    def has_room(self, connection: PeerConnection) -> bool:
        """Return whether another page to ``connection`` is within all bounds, as of the last `refresh`."""
        return (
            not connection.holds_unread(time.monotonic())
            and self._unread_by_client[connection.client] < self._options.unread_bytes_per_client
            and self._unread_by_client.total() < self._options.unread_bytes
        )

    def has_room_for_short(self, connection: PeerConnection) -> bool:
        """Return whether another short reply to ``connection`` is within its bound."""
        if connection.unread_bytes >= self._options.unread_bytes_short:
            connection.holds_unread(time.monotonic())
        return connection.unread_bytes < self._options.unread_bytes_short

    def maintain(self) -> None:
        """Read the monitor's events and close the connections beyond a bound; cheap when called often."""
        now_s = time.monotonic()
        if now_s < self._check_at_s:
            return
        self._check_at_s = now_s + CHECK_INTERVAL_S
        is_all = self.monitored.read_events(CHECK_INTERVAL_S)
        numbers = self.monitored.numbers()
        self._counts["connections"] = len(numbers)
        if is_all and now_s >= self._scan_at_s:
            self._scan_at_s = now_s + SCAN_INTERVAL_S
            self._scan(set(numbers), now_s)

    def _forget(self, number: int) -> None:
        """Forget a connection that ended; its number may be another one's already."""
        self._silent_since_s.pop(number, None)
        if not self.monitored.is_open(number):
            for each in [each for each in self._by_name.values() if each.number == number]:
                self.remove(each)

    def _scan(self, open_numbers: set[int], now_s: float) -> None:
        for connection in tuple(self._by_name.values()):
            if connection.number != NO_CONNECTION and connection.number not in open_numbers:
                self.remove(connection)
        for number in self._silent_since_s.keys() - open_numbers:
            del self._silent_since_s[number]
        self.refresh()
        for connection in self._unread:
            if now_s - connection.unread_since_s >= self._options.unread_s:
                self._close_unread(connection)
        if sys.platform != "win32":  # there a connection takes seconds to close: a request sent meanwhile would be lost
            self._close_silent(open_numbers, now_s)
        self._close_idle()

    def _close_oldest_unread(self, connections: list[PeerConnection]) -> None:
        oldest = min(connections, key=lambda each: each.unread_since_s)
        if time.monotonic() - oldest.unread_since_s >= UNREAD_MIN_S:
            self._close_unread(oldest)

    def _close_unread(self, connection: PeerConnection) -> None:
        peer = self.monitored.disconnect(connection.number, is_offender=False)
        self.remove(connection)
        self._counts["unread"] += 1
        text = f"the query connection from {peer or 'an unknown address'} is closed: it does not read its reply"
        self._fault_counters.record("query_unread", text)

    def _close_silent(self, open_numbers: set[int], now_s: float) -> None:
        served = {each.number for each in self._by_name.values()}
        for number in open_numbers:
            if number in served:
                self._silent_since_s.pop(number, None)
                continue
            if now_s - self._silent_since_s.setdefault(number, now_s) < self._options.silent_s:
                continue
            if peer := self.monitored.disconnect(number, is_offender=False):
                self._counts["silent"] += 1
                text = (
                    f"the query connection from {peer} sent no request for {self._options.silent_s:g} s and is closed: "
                    "it is idle, or its ROUTING_ID is another connection's, so that no request arrives: set none"
                )
                self._fault_counters.record("query_silent", text)

    def _close_idle(self) -> None:
        """Close the longest idle connections where there are too many."""
        options, connections = self._options, tuple(self._by_name.values())
        by_client = Counter(each.client for each in connections)
        for each in sorted(connections, key=lambda each: each.used_s):
            is_idle = not (each.queue or each.unread_bytes or each.blocked) and each.number != NO_CONNECTION
            is_over = len(self._by_name) > options.connections_limit
            if is_idle and (is_over or by_client[each.client] > options.connections_per_client):
                by_client[each.client] -= 1
                self._counts["over_limit"] += 1
                self.monitored.disconnect(each.number, is_offender=False)
                self.remove(each)
