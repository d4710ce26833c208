"""Messages without an end: which connection is to be closed for what libzmq keeps of them; no sockets.

libzmq keeps the frames of a message until its last one came, about 64 bytes for each however short. So the bytes of
such messages are limited for a connection, for a client, and in all. Where many connections together exceed a limit the
one that sent most is closed, of the client that did: no other client loses a connection by it.
"""

from __future__ import annotations

from collections import Counter

from mt4pump.publisher.descriptors import Connection, EndpointLimits

INCOMPLETE_TEXT = "sends messages without an end, {} bytes over this connection: it is closed"
NOTED_BYTES = 1_024
"""Below this a connection's bytes are not added up: nearly every honest one is."""


class IncompleteMessages:
    """The connections that sent part of a message; their ``client`` is whom they count for, empty if unknown."""

    def __init__(self) -> None:
        self._connections: dict[int, Connection] = {}

    def is_too_large(
        self, number: int, connection: Connection, received: int, now_s: float, limits: EndpointLimits
    ) -> bool:
        """Note what libzmq keeps of one connection's message; return whether it exceeds that connection's limit."""
        part = connection.incomplete
        part.check(number, received, now_s, limits.heartbeat_bytes_per_s)
        if part.size > NOTED_BYTES:
            self._connections[number] = connection
        elif self._connections:
            self._connections.pop(number, None)
        return part.size > limits.incomplete_bytes

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
