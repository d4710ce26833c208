"""Messages without an end: which connection is to be closed for what libzmq keeps of them; no sockets.

libzmq keeps the frames of a message until its last one came, about 64 bytes for each however short. So the bytes of
such messages are limited for a connection, for a client, and in all. Where connections together exceed a limit, the one
with most bytes of the client with most is closed, so no other client loses a connection.
"""

from __future__ import annotations

import time
from collections import Counter

from mt4pump.publisher.descriptors import NOTED_BYTES, Connection, EndpointLimits, bytes_received

RESTRICTED_S, RESTRICTED_LIMIT = 10.0, 10_000
LATE_S = 0.5
"""After so long without an empty queue of the events socket all bytes count, but in no connection's own limit."""


class IncompleteMessages:
    """The connections that sent part of a message; their ``client`` is whom they count for, empty if unknown."""

    def __init__(self) -> None:
        self._connections: dict[int, Connection] = {}
        self._emptied = 0
        self._emptied_s = 0.0

    def note_empty(self) -> None:
        """Note that no message waits for the owner of the events socket."""
        self._emptied += 1
        self._emptied_s = time.monotonic()

    def fault(
        self, number: int, connection: Connection, now_s: float, limits: EndpointLimits
    ) -> tuple[str, str] | None:
        """Return the counter and the text if a connection is to be closed for what came over it, else None."""
        received = bytes_received(number)
        if limits.burst_bytes and connection.flow.is_flood(number, received, now_s):
            return "flood", "sends more than a subscriber may: its connection is closed"
        if received is not None and self._is_too_large(number, connection, received, now_s, limits):
            return "incomplete_message", connection.incomplete.text
        return None

    def _is_too_large(
        self, number: int, connection: Connection, received: int, now_s: float, limits: EndpointLimits
    ) -> bool:
        """Note what libzmq keeps of one connection's message; return whether it exceeds that connection's limit.

        An XPUB socket keeps complete messages without a limit, too, until its owner takes them: up to ``burst_bytes``.
        """
        part = connection.incomplete
        is_late = now_s - self._emptied_s > LATE_S
        emptied = None if is_late or not limits.burst_bytes else self._emptied
        part.check(number, received, now_s, limits.heartbeat_bytes_per_s, emptied)
        if part.size > NOTED_BYTES:
            self._connections[number] = connection
        elif self._connections:
            self._connections.pop(number, None)
        return part.size > limits.incomplete_bytes and not (is_late and limits.burst_bytes)

    def forget(self, number: int) -> None:
        """Forget a connection that is closed or ended."""
        self._connections.pop(number, None)

    def excess(self, limits: EndpointLimits) -> tuple[int, Connection] | None:
        """Return the connection to close because its client, or all together, exceed a limit; None if none does."""
        if not self._connections:
            return None
        by_client: Counter[str] = Counter()
        for each in self._connections.values():
            by_client[each.client] += each.incomplete.size
        is_over = by_client.total() > limits.incomplete_bytes_total
        allowed = 0 if is_over else limits.incomplete_bytes_per_client
        for client, size in by_client.most_common():
            if size > allowed and (client or is_over):
                of_client = (item for item in self._connections.items() if item[1].client == client)
                return max(of_client, key=lambda item: item[1].incomplete.size)
        return None


class RestrictedAddresses:
    """Addresses from which a limit was exceeded within `RESTRICTED_S`: new connections get a smaller burst."""

    def __init__(self) -> None:
        self._until_s: dict[str, float] = {}

    def add(self, peer: str, now_s: float) -> None:
        """Restrict the address of ``peer``."""
        if len(self._until_s) >= RESTRICTED_LIMIT:
            self._until_s.clear()
        self._until_s[peer.rpartition(":")[0]] = now_s + RESTRICTED_S

    def has(self, peer: str, now_s: float) -> bool:
        """Return whether the address of ``peer`` is restricted."""
        return bool(self._until_s) and now_s < self._until_s.get(peer.rpartition(":")[0], 0.0)
