"""The connections of the query endpoint: who they are, what they have not read, and which are to be closed.

Every connection here can be closed at no harm to an honest client: its ZeroMQ library connects again by itself. So
those that were idle for longest give way to new ones, and a client that holds many cannot keep others out.

libzmq ignores a connection whose ROUTING_ID another one has, for ever and without a word: nothing it sends arrives. It
looks like one that asks nothing, so those are closed after a while; once its id is free, it gets through.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator

from mt4pump.log import FaultCounters
from mt4pump.publisher.connections import Connections
from mt4pump.publisher.flow import bytes_received
from mt4pump.query.limits import QueryOptions
from mt4pump.query.replies import OutgoingReply
from mt4pump.query.turns import FairQueue, Tracker, WaitingRequests

LOOK_S = 0.05
"""Time between two looks at what connections did."""
SCAN_S = 1.0
"""Time between two searches for connections to close."""
RELIEF_S = 1.0
"""How long a reply is left unread at least, before its connection gives way to others."""


class Peers:
    """The connections that asked something, by name. ``counts`` are the heartbeat's, kept up to date here."""

    def __init__(
        self,
        options: QueryOptions,
        *,
        turns: FairQueue,
        connections: Connections,
        fault_counters: FaultCounters,
        counts: dict[str, int],
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._options = options
        self._turns = turns
        self._connections = connections
        self._fault_counters = fault_counters
        self._counts = counts
        self._now_s = now_s
        self._by_name: dict[bytes, WaitingRequests] = {}
        self._used_s: dict[bytes, float] = {}
        self._silent_since_s: dict[int, float] = {}
        self._messages: dict[int, int] = {}
        self._received: dict[int, tuple[int, int]] = {}
        self._unread: list[WaitingRequests] = []
        self._by_client = Counter[str]()
        self._look_at_s = self._scan_at_s = 0.0

    def find(self, name: bytes, number: int, user: str) -> WaitingRequests | None:
        """Return the connection that a message came over, or None where it is not to be served."""
        self._messages[number] = self._messages.get(number, 0) + 1
        found = self._by_name.get(name)
        if found is None or found.number != number:
            if found is not None:
                self.remove(found)
            if number >= 0 and not self._claim(number, user):
                return None
            client = f"key {user}" if user else self._connections.client_of(number)
            found = self._by_name[name] = WaitingRequests(name, number, user, client)
        self._used_s[name] = self._now_s()
        return found

    def _claim(self, number: int, user: str) -> bool:
        self._connections.read_events()  # the event of its beginning may still wait
        return self._connections.claim(number, user)

    def gone(self, number: int) -> None:
        """Forget what was counted for a connection that ended; its number may be another one's already."""
        for table in (self._messages, self._received, self._silent_since_s):
            table.pop(number, None)
        if not self._connections.is_open(number):
            for each in [each for each in self._by_name.values() if each.number == number]:
                self.remove(each)

    def remove(self, connection: WaitingRequests) -> None:
        """Forget a connection that ended, with what waits of it."""
        self._counts["dropped"] += self._turns.remove(connection)
        if self._by_name.get(connection.name) is connection:
            del self._by_name[connection.name]
            self._used_s.pop(connection.name, None)

    def disconnect(self, number: int, text: str) -> None:
        """Close a connection for what it sent."""
        peer = self._connections.disconnect(number)
        if peer:
            self._counts["shut_out"] += 1
            self._fault_counters.record("query_shut_out", f"the query connection from {peer} is closed: {text}")

    def blocked(self) -> Iterator[WaitingRequests]:
        """Yield the connections with a reply that libzmq did not take yet."""
        return (each for each in tuple(self._by_name.values()) if each.blocked is not None)

    def unread(self, connection: WaitingRequests, tracker: Tracker, size: int) -> None:
        """Note that libzmq holds a reply of ``size`` bytes."""
        connection.add_unread(tracker, size, self._now_s())

    def block(self, connection: WaitingRequests, kept: tuple[tuple[bytes, ...], bytes, OutgoingReply]) -> None:
        """Keep a reply that libzmq did not take."""
        connection.blocked = kept
        connection.unread_since_s = self._now_s()

    def refresh(self) -> None:
        """Count what is unread, and make room where a client, or all together, have too much; before `has_room`."""
        self._unread = self._holders()
        by_client = self._by_client = Counter[str]()
        for each in self._unread:
            by_client[each.client] += each.unread_bytes + (each.blocked[2].size if each.blocked else 0)
        self._counts["unread_bytes"] = by_client.total()
        options = self._options
        for client, size in by_client.items():
            if size >= options.unread_bytes_per_client:
                self._relieve([each for each in self._unread if each.client == client])
        if by_client.total() >= options.unread_bytes:
            self._relieve(self._unread)

    def has_room(self, connection: WaitingRequests) -> bool:
        """Return whether another page to ``connection`` is within all bounds."""
        return (
            not connection.holds_unread(self._now_s())
            and self._by_client[connection.client] < self._options.unread_bytes_per_client
            and self._by_client.total() < self._options.unread_bytes
        )

    def has_room_for_short(self, connection: WaitingRequests) -> bool:
        """Return whether another short reply to ``connection`` is within all bounds."""
        if connection.unread_bytes < self._options.unread_bytes_short:
            return True
        connection.holds_unread(self._now_s())
        return connection.unread_bytes < self._options.unread_bytes_short

    def _holders(self) -> list[WaitingRequests]:
        """Return the connections with an unread reply."""
        now_s = self._now_s()
        return [each for each in self._by_name.values() if each.holds_unread(now_s) or each.blocked is not None]

    def _relieve(self, holders: list[WaitingRequests]) -> None:
        """Close the connection that has not read for longest, unless it may still begin to."""
        oldest = min(holders, key=lambda each: each.unread_since_s)
        if self._now_s() - oldest.unread_since_s >= RELIEF_S:
            self._close_unread(oldest)

    def _close_unread(self, connection: WaitingRequests) -> None:
        peer = self._connections.disconnect(connection.number, is_offender=False)
        self.remove(connection)
        self._counts["unread"] += 1
        text = f"the query connection from {peer or 'an unknown address'} is closed: it does not read its reply"
        self._fault_counters.record("query_unread", text)

    def maintain(self) -> None:
        """Take what happened to connections, and close those beyond the bounds; cheap when called often."""
        now_s = self._now_s()
        if now_s < self._look_at_s:
            return
        self._look_at_s = now_s + LOOK_S
        is_all = self._connections.read_events(LOOK_S)
        numbers = self._connections.numbers()
        self._counts["connections"] = len(numbers)
        for number in numbers:
            self._check_incomplete(number)
        if is_all and now_s >= self._scan_at_s:
            self._scan_at_s = now_s + SCAN_S
            self._scan(set(numbers), now_s)

    def _check_incomplete(self, number: int) -> None:
        """Close a connection that sent much since its last complete message."""
        received = bytes_received(number)
        if received is None:
            return
        messages = self._messages.get(number, 0)
        before, base = self._received.get(number, (-1, received))
        if messages != before:
            base = received
            self._received[number] = (messages, base)
        if received - base > self._options.incomplete_bytes:
            self.disconnect(number, f"it sent {received - base} bytes of a message without an end")

    def _scan(self, open_numbers: set[int], now_s: float) -> None:
        for connection in tuple(self._by_name.values()):
            if connection.number >= 0 and connection.number not in open_numbers:
                self.remove(connection)
        for number in self._messages.keys() - open_numbers:
            del self._messages[number]
        self.refresh()
        for holder in self._unread:
            if now_s - holder.unread_since_s >= self._options.unread_s:
                self._close_unread(holder)
        self._close_silent(open_numbers, now_s)
        self._close_idle()

    def _close_silent(self, open_numbers: set[int], now_s: float) -> None:
        heard = {each.number for each in self._by_name.values()}
        for number in open_numbers - heard:
            since_s = self._silent_since_s.setdefault(number, now_s)
            if now_s - since_s >= self._options.silent_s and (
                peer := self._connections.disconnect(number, is_offender=False)
            ):
                self._counts["silent"] += 1
                text = (
                    f"the query connection from {peer} asked nothing for {self._options.silent_s:g} s and is closed: "
                    "it is idle, or its ROUTING_ID is another connection's, so that no request arrives: set none"
                )
                self._fault_counters.record("query_silent", text)
        for number in heard & self._silent_since_s.keys():
            del self._silent_since_s[number]

    def _close_idle(self) -> None:
        """Close the connections that were idle for longest, where there are too many."""
        idle = sorted(
            (
                each
                for each in self._by_name.values()
                if not each.waiting and not each.unread_bytes and each.blocked is None and each.number >= 0
            ),
            key=lambda each: self._used_s[each.name],
        )
        by_client: dict[str, int] = {}
        for each in self._by_name.values():
            by_client[each.client] = by_client.get(each.client, 0) + 1
        total = len(self._by_name)
        for each in idle:
            if (
                total <= self._options.connections_limit
                and by_client[each.client] <= self._options.connections_per_client
            ):
                continue
            total -= 1
            by_client[each.client] -= 1
            self._counts["over_limit"] += 1
            self._connections.disconnect(each.number, is_offender=False)
            self.remove(each)
