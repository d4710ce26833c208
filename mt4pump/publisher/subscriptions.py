"""Who subscribed to what, and how much each connection, each client and all together may subscribe to; pure.

A subscription costs memory that only the end of its connection frees: about 150 bytes here, and in libzmq, which keeps
every text in a trie, about 50 bytes per byte of text at worst. So the number of subscriptions and the bytes of their
texts are limited at three levels. The limits of one client are a quarter of all, or less, so that no client can use up
what the others need; where many together do, the largest one is closed.

What a connection asks for beyond its permissions gives it nothing, but libzmq keeps the text: its bytes count for the
connection and its client, until the connection ends.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

SUBSCRIBE, UNSUBSCRIBE = 1, 0
NO_CONNECTION = 0
"""Number of what comes over no connection that can be identified (``inproc://``): prefixes are counted one by one."""
FEW = 64
"""Up to so many prefixes are compared one after the other; more are looked up, once per length."""


def is_subscription(message: bytes) -> bool:
    """Return whether libzmq treats a message as a subscription or an unsubscription."""
    return bool(message) and message[0] in {SUBSCRIBE, UNSUBSCRIBE}


class SubscriptionTable:
    """The prefixes that are subscribed to, counted by connection: the length is how many different ones."""

    def __init__(self) -> None:
        self._holders: dict[bytes, int] = {}
        self._held: dict[int, set[bytes]] = {}
        self._unnumbered: Counter[bytes] = Counter()
        self._few: tuple[bytes, ...] = ()
        self._lengths: tuple[int, ...] = ()
        self._is_indexed = True

    def __len__(self) -> int:
        return len(self._holders)

    def take(self, message: bytes, connection: int = NO_CONNECTION) -> bool:
        """Apply one XPUB message and return whether it changed the prefixes of ``connection``.

        Anything that is no subscription is ignored.
        """
        if not is_subscription(message):
            return False
        return (self.add if message[0] == SUBSCRIBE else self.drop)(message[1:], connection)

    def add(self, prefix: bytes, connection: int = NO_CONNECTION) -> bool:
        """Add a prefix of ``connection``; return False if it has it already."""
        if connection == NO_CONNECTION:
            self._unnumbered[prefix] += 1
        else:
            held = self._held.setdefault(connection, set())
            if prefix in held:
                return False
            held.add(prefix)
        self._holders[prefix] = self._holders.get(prefix, 0) + 1
        self._is_indexed = False
        return True

    def drop(self, prefix: bytes, connection: int = NO_CONNECTION) -> bool:
        """Drop a prefix of ``connection``; return False if it does not have it."""
        if connection == NO_CONNECTION:
            if not self._unnumbered[prefix]:
                del self._unnumbered[prefix]
                return False
            self._unnumbered[prefix] -= 1
        else:
            held = self._held.get(connection, set())
            if prefix not in held:
                return False
            held.discard(prefix)
        self._release((prefix,))
        return True

    def remove(self, connection: int) -> bool:
        """Forget a connection that ended; return whether it had any subscription."""
        held = self._held.pop(connection, set())
        self._release(held)
        return bool(held)

    def has_subscriber(self, topic: bytes) -> bool:
        """Return whether a subscriber would receive ``topic``."""
        if not self._is_indexed:
            self._build_index()
        if not self._lengths:
            return topic.startswith(self._few)
        holders, length_max = self._holders, len(topic)
        for length in self._lengths:
            if length > length_max:
                break
            if topic[:length] in holders:
                return True
        return False

    def _release(self, prefixes: set[bytes] | tuple[bytes, ...]) -> None:
        holders = self._holders
        for prefix in prefixes:  # there may be a hundred thousand, and events wait meanwhile
            if holders[prefix] > 1:
                holders[prefix] -= 1
            else:
                del holders[prefix]
        self._is_indexed = False

    def _build_index(self) -> None:
        """Prepare `has_subscriber`, once after any number of changes."""
        self._is_indexed = True
        is_few = len(self._holders) <= FEW
        self._few = tuple(self._holders) if is_few else ()
        self._lengths = () if is_few else tuple(sorted(set(map(len, self._holders))))


@dataclass(frozen=True, slots=True)
class SubscriptionLimits:
    """Limits of the number of subscriptions and of the bytes of their texts.

    ``messages_burst`` subscriptions and unsubscriptions may come at once, ``messages_per_s`` in the long run.
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
    """Which limit a subscription exceeds."""

    NONE = ""
    CONNECTION = "one connection"
    CLIENT = "one client"
    TOTAL = "all clients together"


class _Usage:
    """``count`` subscriptions with texts of ``size`` bytes, and ``idle_size`` bytes of texts that give nothing."""

    __slots__ = ("count", "idle_size", "size")

    def __init__(self) -> None:
        self.count = self.size = self.idle_size = 0

    def grow(self, count: int, size: int, idle_size: int = 0) -> None:
        self.count += count
        self.size += size
        self.idle_size += idle_size

    def exceeds(self, count_limit: int, bytes_limit: int) -> bool:
        return self.count > count_limit or self.size + self.idle_size > bytes_limit


class _CountedConnection(_Usage):
    __slots__ = ("client", "refilled_s", "tokens")

    def __init__(self, client: str, tokens: float, now_s: float) -> None:
        super().__init__()
        self.client = client
        self.tokens = tokens
        self.refilled_s = now_s


class Quotas:
    """What every connection uses. ``count`` and ``size`` are those of all together."""

    def __init__(self, limits: SubscriptionLimits | None = None, now_s: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits or SubscriptionLimits()
        self._now_s = now_s
        self._connections: dict[int, _CountedConnection] = {}
        self._clients: dict[str, _Usage] = {}
        self._total = _Usage()

    @property
    def count(self) -> int:
        """Return how many subscriptions all connections have."""
        return self._total.count

    @property
    def size(self) -> int:
        """Return the bytes of their texts."""
        return self._total.size

    def receive(self, number: int, client: str) -> bool:
        """Count one message of a connection; return False if it sends more than any subscriber needs to."""
        limits, now_s = self.limits, self._now_s()
        connection = self._connections.get(number)
        if connection is None:
            connection = self._connections[number] = _CountedConnection(client, limits.messages_burst, now_s)
            self._clients.setdefault(client, _Usage())
        elif connection.tokens < 1:
            gained = (now_s - connection.refilled_s) * limits.messages_per_s
            connection.tokens = min(limits.messages_burst, connection.tokens + gained)
            connection.refilled_s = now_s
        connection.tokens -= 1
        return connection.tokens >= 0

    def add(self, number: int, size: int) -> Excess:
        """Count a subscription of ``size`` bytes; return the limit that it exceeds, if any."""
        self._grow(number, 1, size)
        excess = self._excess(number)
        if not excess and self._total.exceeds(self.limits.total, self.limits.bytes_total):
            return Excess.TOTAL
        return excess

    def add_idle(self, number: int, size: int) -> Excess:
        """Count a text that gives its connection nothing; return the limit that it exceeds, if any."""
        connection = self._connections[number]
        connection.grow(0, 0, size)
        self._clients[connection.client].grow(0, 0, size)
        return self._excess(number)

    def drop(self, number: int, size: int) -> None:
        """Count an unsubscription."""
        self._grow(number, -1, -size)

    def largest(self) -> int | None:
        """Return the connection that uses most, of the client that does."""
        client = max(self._clients, key=lambda name: self._clients[name].size, default=None)
        of_client = (number for number, each in self._connections.items() if each.client == client)
        return max(of_client, key=lambda number: self._connections[number].size, default=None)

    def remove(self, number: int) -> None:
        """Forget a connection that ended."""
        connection = self._connections.get(number)
        if connection is None:
            return
        self._clients[connection.client].grow(0, 0, -connection.idle_size)
        self._grow(number, -connection.count, -connection.size)
        del self._connections[number]
        if not any(each.client == connection.client for each in self._connections.values()):
            del self._clients[connection.client]

    def _grow(self, number: int, count: int, size: int) -> None:
        connection = self._connections[number]
        for each in (connection, self._clients[connection.client], self._total):
            each.grow(count, size)

    def _excess(self, number: int) -> Excess:
        limits, connection = self.limits, self._connections[number]
        if connection.exceeds(limits.per_connection, limits.bytes_per_connection):
            return Excess.CONNECTION
        is_over = self._clients[connection.client].exceeds(limits.per_client, limits.bytes_per_client)
        return Excess.CLIENT if is_over else Excess.NONE
