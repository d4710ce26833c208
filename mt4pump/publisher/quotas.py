"""How much each connection, each client and all together may be subscribed to; pure.

A subscription costs memory that only the end of its connection gives back: about 150 bytes here, and in libzmq, which
keeps every text in a trie, about 50 bytes per byte of text at worst. So the number of subscriptions and the bytes of
their texts are bounded, at three levels. The bounds of one client are a quarter of all, or less, so that no client can
use up what the others need; where many together do, the largest one gives way.

What a connection asks for beyond its permissions gives it nothing and counts for nobody else: but libzmq keeps the
text, so its bytes count for the connection and its client, until the connection ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class SubscriptionLimits:
    """Bounds of the number of subscriptions and of the bytes of their texts.

    ``messages_burst`` subscriptions and their withdrawals may come at once, ``messages_per_s`` in the long run.
    """

    per_connection: int = 20_000
    per_client: int = 50_000
    total: int = 200_000
    bytes_per_connection: int = 256 * 1024
    bytes_per_client: int = 1024 * 1024
    bytes_total: int = 4 * 1024 * 1024
    messages_burst: int = 50_000
    messages_per_s: int = 500


class Excess(StrEnum):
    """Which bound a subscription is beyond."""

    NONE = ""
    CONNECTION = "one connection"
    CLIENT = "one client"
    TOTAL = "all clients together"


class _Use:
    """What somebody uses: ``count`` subscriptions with texts of ``size`` bytes, ``idle_size`` bytes of idle ones."""

    __slots__ = ("count", "idle_size", "size")

    def __init__(self) -> None:
        self.count = self.size = self.idle_size = 0

    def grow(self, count: int, size: int, idle_size: int = 0) -> None:
        self.count += count
        self.size += size
        self.idle_size += idle_size

    def is_beyond(self, count_limit: int, bytes_limit: int) -> bool:
        return self.count > count_limit or self.size + self.idle_size > bytes_limit


class _CountedConnection(_Use):
    __slots__ = ("client", "refilled_s", "tokens")

    def __init__(self, client: str, tokens: float, now_s: float) -> None:
        super().__init__()
        self.client = client
        self.tokens = tokens
        self.refilled_s = now_s


class Quotas:
    """What every connection uses. ``count`` and ``size`` are of all together."""

    def __init__(self, limits: SubscriptionLimits | None = None, now_s: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits or SubscriptionLimits()
        self._now_s = now_s
        self._connections: dict[int, _CountedConnection] = {}
        self._clients: dict[str, _Use] = {}
        self._total = _Use()

    @property
    def count(self) -> int:
        """Return how many subscriptions all connections have."""
        return self._total.count

    @property
    def size(self) -> int:
        """Return the bytes of their texts."""
        return self._total.size

    def receive(self, number: int, client: str) -> bool:
        """Count one message of a connection; return False when it sends more than anybody needs to."""
        limits, now_s = self.limits, self._now_s()
        connection = self._connections.get(number)
        if connection is None:
            connection = self._connections[number] = _CountedConnection(client, limits.messages_burst, now_s)
            self._clients.setdefault(client, _Use())
        elif connection.tokens < 1:
            gained = (now_s - connection.refilled_s) * limits.messages_per_s
            connection.tokens = min(limits.messages_burst, connection.tokens + gained)
            connection.refilled_s = now_s
        connection.tokens -= 1
        return connection.tokens >= 0

    def add(self, number: int, size: int) -> Excess:
        """Count a subscription of ``size`` bytes; return the bound that it is beyond, if any."""
        limits, connection = self.limits, self._connections[number]
        client, total = self._clients[connection.client], self._total
        for each in (connection, client, total):
            each.grow(1, size)
        if connection.is_beyond(limits.per_connection, limits.bytes_per_connection):
            return Excess.CONNECTION
        if client.is_beyond(limits.per_client, limits.bytes_per_client):
            return Excess.CLIENT
        return Excess.TOTAL if total.is_beyond(limits.total, limits.bytes_total) else Excess.NONE

    def add_idle(self, number: int, size: int) -> Excess:
        """Count a text that gives its connection nothing; return the bound that it is beyond, if any."""
        limits, connection = self.limits, self._connections[number]
        client = self._clients[connection.client]
        for each in (connection, client):
            each.grow(0, 0, size)
        if connection.is_beyond(limits.per_connection, limits.bytes_per_connection):
            return Excess.CONNECTION
        return Excess.CLIENT if client.is_beyond(limits.per_client, limits.bytes_per_client) else Excess.NONE

    def drop(self, number: int, size: int) -> None:
        """Count a subscription that was withdrawn."""
        connection = self._connections[number]
        for each in (connection, self._clients[connection.client], self._total):
            each.grow(-1, -size)

    def largest(self) -> int | None:
        """Return the connection that uses most, of the client that does."""
        client = max(self._clients, key=lambda name: self._clients[name].size, default=None)
        of_client = (number for number, each in self._connections.items() if each.client == client)
        return max(of_client, key=lambda number: self._connections[number].size, default=None)

    def remove(self, number: int) -> None:
        """Forget a connection that ended."""
        connection = self._connections.pop(number, None)
        if connection is None:
            return
        client = self._clients[connection.client]
        client.grow(-connection.count, -connection.size, -connection.idle_size)
        self._total.grow(-connection.count, -connection.size)
        if not any(each.client == connection.client for each in self._connections.values()):
            del self._clients[connection.client]
