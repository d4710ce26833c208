"""Who listens to what: the prefixes that each connection subscribed to; pure.

How many there may be, and what they cost, is `mt4pump.publisher.quotas`' matter.
"""

from __future__ import annotations

from collections import Counter

SUBSCRIBE, UNSUBSCRIBE = 1, 0
NO_CONNECTION = 0
"""Number of what comes over no connection that can be told apart (``inproc://``): prefixes are counted one by one."""
FEW = 64
"""Up to so many prefixes are compared one after the other; more are looked up, one look-up per length."""


class SubscriptionTable:
    """The prefixes that somebody subscribed to, counted by connection: the length is how many different ones."""

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
        """Take one XPUB message and return whether ``connection`` has a prefix more, or less, than before.

        Anything that is no subscription is ignored.
        """
        if not message or message[0] not in {SUBSCRIBE, UNSUBSCRIBE}:
            return False
        if message[0] == SUBSCRIBE:
            return self.add(message[1:], connection)
        return self.drop(message[1:], connection)

    def add(self, prefix: bytes, connection: int = NO_CONNECTION) -> bool:
        """Note that ``connection`` wants ``prefix``; return False when it did before."""
        held = self._held.get(connection)
        if connection != NO_CONNECTION and held is not None and prefix in held:
            return False
        if connection == NO_CONNECTION:
            self._unnumbered[prefix] += 1
        elif held is None:
            self._held[connection] = {prefix}
        else:
            held.add(prefix)
        self._holders[prefix] = self._holders.get(prefix, 0) + 1
        self._is_indexed = False
        return True

    def drop(self, prefix: bytes, connection: int = NO_CONNECTION) -> bool:
        """Note that ``connection`` no longer wants ``prefix``; return False when it did not before."""
        if connection == NO_CONNECTION:
            if not self._unnumbered[prefix]:
                del self._unnumbered[prefix]
                return False
            self._unnumbered[prefix] -= 1
        else:
            held = self._held.get(connection)
            if held is None or prefix not in held:
                return False
            held.discard(prefix)
        self._uncount(prefix)
        return True

    def remove(self, connection: int) -> bool:
        """Forget a connection that ended; return whether it wanted anything."""
        held = self._held.pop(connection, None)
        holders = self._holders
        for prefix in held or ():  # there may be a hundred thousand, and events wait meanwhile
            if holders[prefix] > 1:
                holders[prefix] -= 1
            else:
                del holders[prefix]
        self._is_indexed = False
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

    def _uncount(self, prefix: bytes) -> None:
        self._holders[prefix] -= 1
        if not self._holders[prefix]:
            del self._holders[prefix]
        self._is_indexed = False

    def _build_index(self) -> None:
        """Make ready to answer `has_subscriber`, once after any number of changes."""
        self._is_indexed = True
        is_few = len(self._holders) <= FEW
        self._few = tuple(self._holders) if is_few else ()
        self._lengths = () if is_few else tuple(sorted(set(map(len, self._holders))))
