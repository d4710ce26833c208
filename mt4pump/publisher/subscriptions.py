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
CHANGES_KEPT = 16
"""Up to so many changes only the topics that they concern are updated; after more, all."""
EVERY_TOPIC = b""


def is_subscription(message: bytes) -> bool:
    """Return whether libzmq treats a message as a subscription or an unsubscription."""
    return bool(message) and message[0] in {SUBSCRIBE, UNSUBSCRIBE}


@dataclass(frozen=True, slots=True)
class SubscriptionLimits:
    """Limits of the number of subscriptions and of the bytes of their texts.

    ``messages_burst`` subscriptions and unsubscriptions may come at once over a connection, ``messages_per_s`` in the
    long run; over all connections of a client those of the last two.
    """

    per_connection: int = 20_000
    per_client: int = 50_000
    total: int = 200_000
    bytes_per_connection: int = 256 * 1024
    bytes_per_client: int = 1024 * 1024
    bytes_total: int = 4 * 1024 * 1024
    messages_burst: int = 50_000
    messages_per_s: int = 500
    messages_burst_per_client: int = 100_000
    messages_per_s_per_client: int = 2_000


class Excess(StrEnum):
    """Which limit a connection exceeds."""

    NONE = ""
    CONNECTION = "one connection"
    CLIENT = "one client"
    TOTAL = "all clients together"


class _Usage:
    """``count`` subscriptions with texts of ``size`` bytes, and ``idle_size`` bytes of texts that give nothing.

    ``tokens`` is how many messages may come at once.
    """

    __slots__ = ("count", "idle_size", "refilled_s", "size", "tokens")

    def __init__(self, tokens: float = 0.0, now_s: float = 0.0) -> None:
        self.count = self.size = self.idle_size = 0
        self.tokens = tokens
        self.refilled_s = now_s

    def spend(self, now_s: float, burst: int, per_s: int) -> bool:
        """Count one message; return False if there are more than ``burst`` at once and ``per_s`` in the long run.

        A refused message costs nothing, so that a client's next connection is not refused for what earlier ones sent.
        """
        if self.tokens < 1:
            self.tokens = min(burst, self.tokens + (now_s - self.refilled_s) * per_s)
            self.refilled_s = now_s
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def grow(self, count: int, size: int, idle_size: int = 0) -> None:
        self.count += count
        self.size += size
        self.idle_size += idle_size

    def exceeds(self, count_limit: int, bytes_limit: int) -> bool:
        return self.count > count_limit or self.size + self.idle_size > bytes_limit


class _Subscriber(_Usage):
    """One connection."""

    __slots__ = ("client", "prefixes")

    def __init__(self, client: str, tokens: float, now_s: float) -> None:
        super().__init__(tokens, now_s)
        self.client = client
        self.prefixes: set[bytes] = set()


class SubscriptionTable:
    """The prefixes that are subscribed to, counted by connection: the length is how many different ones.

    ``total`` is what all connections use; those that cannot be identified are not in it.
    """

    def __init__(self, limits: SubscriptionLimits | None = None, now_s: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits or SubscriptionLimits()
        self.total = _Usage()
        self._now_s = now_s
        self._subscribers: dict[int, _Subscriber] = {}
        self._clients: dict[str, _Usage] = {}
        self._holders: dict[bytes, int] = {}
        self._unnumbered: Counter[bytes] = Counter()
        self._length_counts: Counter[int] = Counter()
        self._changed: set[bytes] = set()
        self._few: tuple[bytes, ...] = ()
        self._lengths: tuple[int, ...] = ()
        self._is_indexed = True

    def __len__(self) -> int:
        return len(self._holders)

    def receive(self, connection: int, client: str) -> bool:
        """Count one message of a connection of ``client``; return False if either sends more than any needs."""
        limits, now_s = self.limits, self._now_s()
        subscriber = self._subscriber(connection, client)
        usage = self._clients[subscriber.client]
        return subscriber.spend(now_s, limits.messages_burst, limits.messages_per_s) and usage.spend(
            now_s, limits.messages_burst_per_client, limits.messages_per_s_per_client
        )

    def add(self, prefix: bytes, connection: int = NO_CONNECTION) -> bool:
        """Add a prefix of ``connection``; return False if it has it already."""
        if connection == NO_CONNECTION:
            self._unnumbered[prefix] += 1
        else:
            subscriber = self._subscriber(connection)
            if prefix in subscriber.prefixes:
                return False
            subscriber.prefixes.add(prefix)
            self._grow(subscriber, 1, len(prefix))
        holders = self._holders.get(prefix, 0)
        self._holders[prefix] = holders + 1
        if not holders:
            self._count_length(prefix, 1)
        return True

    def add_idle(self, size: int, connection: int) -> None:
        """Count ``size`` bytes of a text that gives ``connection`` nothing."""
        subscriber = self._subscriber(connection)
        subscriber.grow(0, 0, size)
        self._clients[subscriber.client].grow(0, 0, size)

    def drop(self, prefix: bytes, connection: int = NO_CONNECTION) -> bool:
        """Drop a prefix of ``connection``; return False if it does not have it."""
        if connection == NO_CONNECTION:
            if not self._unnumbered[prefix]:
                del self._unnumbered[prefix]
                return False
            self._unnumbered[prefix] -= 1
        else:
            subscriber = self._subscribers.get(connection)
            if subscriber is None or prefix not in subscriber.prefixes:
                return False
            subscriber.prefixes.discard(prefix)
            self._grow(subscriber, -1, -len(prefix))
        self._release((prefix,))
        return True

    def remove(self, connection: int) -> bool:
        """Forget a connection that ended; return whether it had any subscription."""
        subscriber = self._subscribers.pop(connection, None)
        if subscriber is None:
            return False
        self._release(subscriber.prefixes)
        self._clients[subscriber.client].grow(-subscriber.count, -subscriber.size, -subscriber.idle_size)
        self.total.grow(-subscriber.count, -subscriber.size)
        if not any(each.client == subscriber.client for each in self._subscribers.values()):
            del self._clients[subscriber.client]
        return bool(subscriber.prefixes)

    def excess(self, connection: int) -> Excess:
        """Return which limit is exceeded, that of ``connection`` first."""
        limits, subscriber = self.limits, self._subscriber(connection)
        if subscriber.exceeds(limits.per_connection, limits.bytes_per_connection):
            return Excess.CONNECTION
        if self._clients[subscriber.client].exceeds(limits.per_client, limits.bytes_per_client):
            return Excess.CLIENT
        return Excess.TOTAL if self.total.exceeds(limits.total, limits.bytes_total) else Excess.NONE

    def largest(self) -> int | None:
        """Return the connection that uses most, of the client that does."""
        client = max(self._clients, key=lambda name: self._clients[name].size, default=None)
        of_client = (number for number, each in self._subscribers.items() if each.client == client)
        return max(of_client, key=lambda number: self._subscribers[number].size, default=None)

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

    def _subscriber(self, connection: int, client: str = "") -> _Subscriber:
        found = self._subscribers.get(connection)
        if found is None:
            limits, now_s = self.limits, self._now_s()
            found = self._subscribers[connection] = _Subscriber(client, limits.messages_burst, now_s)
            if client not in self._clients:
                self._clients[client] = _Usage(limits.messages_burst_per_client, now_s)
        return found

    def _grow(self, subscriber: _Subscriber, count: int, size: int) -> None:
        for each in (subscriber, self._clients[subscriber.client], self.total):
            each.grow(count, size)

    def _release(self, prefixes: set[bytes] | tuple[bytes, ...]) -> None:
        holders = self._holders
        for prefix in prefixes:  # there may be a hundred thousand, and events wait meanwhile
            if holders[prefix] > 1:
                holders[prefix] -= 1
            else:
                del holders[prefix]
                self._count_length(prefix, -1)

    def _count_length(self, prefix: bytes, change: int) -> None:
        """Note that a prefix has a first subscriber, or none any more."""
        count = self._length_counts[len(prefix)] + change
        if count:
            self._length_counts[len(prefix)] = count
        else:
            del self._length_counts[len(prefix)]
        # A client may flip one of a hundred thousand prefixes all the time: the index is rebuilt only if it changes.
        if len(self._holders) <= FEW + 1 or count == max(change, 0):
            self._is_indexed = False
        if len(self._changed) <= CHANGES_KEPT:
            self._changed.add(prefix)

    def take_changed(self) -> tuple[bytes, ...]:
        """Return prefixes of all topics that may have gained or lost their subscribers since the last call."""
        changed, self._changed = self._changed, set()
        return tuple(changed) if len(changed) <= CHANGES_KEPT else (EVERY_TOPIC,)

    def _build_index(self) -> None:
        """Prepare `has_subscriber`, once after any number of changes."""
        self._is_indexed = True
        is_few = len(self._holders) <= FEW
        self._few = tuple(self._holders) if is_few else ()
        self._lengths = () if is_few else tuple(sorted(self._length_counts))
