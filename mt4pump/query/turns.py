"""Whose request is next: what waits, by connection and client, within bounds; pure.

Cheap requests (`describe`, and all that is refused) are answered as they come, unless an earlier one of the same
connection waits. The others wait here. The client that has used the least working time is next, and of its connections
the one that has. A client is a CURVE key; without one it is an address.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from mt4pump.query.limits import QueryOptions
from mt4pump.query.replies import OutgoingReply
from mt4pump.query.requests import DescribeRequest, Request, SnapshotQuery


class Tracker(Protocol):
    """Tells whether libzmq has passed a message on."""

    @property
    def done(self) -> bool:
        """Return whether nothing of it is left in libzmq."""


class WaitingRequest:
    """One request, or the refusal that it gets. ``hops`` is its envelope, ``size`` what it takes while it waits."""

    __slots__ = ("hops", "name", "request", "since_s", "size")

    def __init__(
        self,
        hops: tuple[bytes, ...],
        name: dict[str, object],
        request: Request | OutgoingReply,
        size: int,
        since_s: float,
    ) -> None:
        self.hops = hops
        self.name = name
        self.request = request
        self.size = size
        self.since_s = since_s

    @property
    def is_cheap(self) -> bool:
        """Return whether it costs next to nothing."""
        return isinstance(self.request, (DescribeRequest, OutgoingReply))

    @property
    def wants_cut(self) -> bool:
        """Return whether the pump must cut its state for it."""
        return isinstance(self.request, SnapshotQuery) and self.request.cursor is None


class Share:
    """The working time that a client, or a connection, has used."""

    __slots__ = ("spent_s", "users")

    def __init__(self) -> None:
        self.spent_s = 0.0
        self.users = 0


class WaitingRequests(Share):
    """One connection: ``waiting`` requests, the replies that libzmq still holds, and one that it did not even take.

    ``number`` is its file descriptor, ``user`` the CURVE client's name, ``client`` the share that it counts for.
    """

    __slots__ = ("_unread", "blocked", "client", "name", "number", "unread_bytes", "unread_since_s", "user", "waiting")

    def __init__(self, name: bytes, number: int, user: str, client: str) -> None:
        super().__init__()
        self.name = name
        self.number = number
        self.user = user
        self.client = client
        self.waiting: deque[WaitingRequest] = deque()
        self.blocked: tuple[tuple[bytes, ...], bytes, OutgoingReply] | None = None
        self._unread: deque[tuple[Tracker, int]] = deque()
        self.unread_bytes = 0
        self.unread_since_s = 0.0

    @property
    def waiting_bytes(self) -> int:
        """Return the size of the requests that wait."""
        return sum(ask.size for ask in self.waiting)

    def add_unread(self, tracker: Tracker, size: int, now_s: float) -> None:
        """Note that libzmq holds a reply of ``size`` bytes."""
        if not self._unread:
            self.unread_since_s = now_s
        self._unread.append((tracker, size))
        self.unread_bytes += size

    def holds_unread(self, now_s: float) -> bool:
        """Return whether libzmq holds a reply; count those that it passed on meanwhile."""
        while self._unread and self._unread[0][0].done:
            self.unread_bytes -= self._unread.popleft()[1]
            self.unread_since_s = now_s
        return bool(self._unread)


class FairQueue:
    """The connections with something that waits, and the order in which they are served."""

    def __init__(self, options: QueryOptions) -> None:
        self._options = options
        self._clients: dict[str, Share] = {}
        self._active: dict[WaitingRequests, None] = {}
        self._clock_s = self._client_clock_s = 0.0
        self.waiting = self.waiting_cheap = self.waiting_bytes = 0

    def add(self, connection: WaitingRequests, ask: WaitingRequest) -> bool:
        """Let ``ask`` wait; return False where its connection, or all together, have too many."""
        options = self._options
        count, size = len(connection.waiting), connection.waiting_bytes
        if count >= options.waiting_limit or (count and size + ask.size > options.waiting_bytes):
            return False
        if self.waiting_bytes + ask.size > options.waiting_bytes_total:
            return False
        if not count:
            self._begin(connection)
        connection.waiting.append(ask)
        self.waiting += 1
        self.waiting_cheap += ask.is_cheap
        self.waiting_bytes += ask.size
        return True

    def first(self, is_ready: Callable[[WaitingRequests, WaitingRequest], bool]) -> WaitingRequests | None:
        """Return the connection whose turn it is, of those that are ready and can take a reply; None: there is none."""
        for connection in sorted(self._active, key=self._order):
            if connection.blocked is None and is_ready(connection, connection.waiting[0]):
                return connection
        return None

    def take(self, connection: WaitingRequests) -> WaitingRequest:
        """Return the first request of a connection whose turn it is; it waits no longer."""
        self._clock_s = max(self._clock_s, connection.spent_s)
        self._client_clock_s = max(self._client_clock_s, self._clients[connection.client].spent_s)
        return self._pop(connection)

    def late(self, before_s: float) -> Iterable[tuple[WaitingRequests, WaitingRequest]]:
        """Yield the requests that wait since before ``before_s``; they wait no longer."""
        for connection in tuple(self._active):
            while connection.waiting and connection.waiting[0].since_s < before_s:
                yield connection, self._pop(connection)

    def spend(self, connection: WaitingRequests, work_s: float) -> None:
        """Count working time for a connection and its client."""
        connection.spent_s += work_s
        if share := self._clients.get(connection.client):
            share.spent_s += work_s

    def remove(self, connection: WaitingRequests) -> int:
        """Forget what waits of a connection that ended; return how much that was."""
        count = len(connection.waiting)
        while connection.waiting:
            self._pop(connection)
        return count

    def _order(self, connection: WaitingRequests) -> tuple[bool, float, float]:
        share = self._clients[connection.client]
        return not connection.waiting[0].is_cheap, share.spent_s, connection.spent_s

    def _begin(self, connection: WaitingRequests) -> None:
        """Let a connection take part: what it did not use before gives it no right to more now."""
        share = self._clients.setdefault(connection.client, Share())
        if not share.users:
            share.spent_s = max(share.spent_s, self._client_clock_s)
        share.users += 1
        connection.spent_s = max(connection.spent_s, self._clock_s)
        self._active[connection] = None

    def _pop(self, connection: WaitingRequests) -> WaitingRequest:
        ask = connection.waiting.popleft()
        self.waiting -= 1
        self.waiting_cheap -= ask.is_cheap
        self.waiting_bytes -= ask.size
        if not connection.waiting:
            del self._active[connection]
            share = self._clients[connection.client]
            share.users -= 1
            if not share.users and len(self._clients) > self._options.connections_limit:
                del self._clients[connection.client]
        return ask
