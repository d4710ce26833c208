"""Who listens to what: the prefixes that each connection subscribed to; pure.

Bounds: `PREFIXES_LIMIT` prefixes are remembered over all connections (about 150 bytes each); a connection that brings
more counts as one that wants everything until it ends, which costs packing what nobody may read and loses nothing.
libzmq has no such bound: it keeps every prefix of every connection in a trie until that connection ends. Measured, both
together: 39 MB for 100,000 prefixes of 12 bytes; at worst (random bytes) about 50 bytes per byte of prefix.
"""

from __future__ import annotations

from collections import Counter

SUBSCRIBE, UNSUBSCRIBE = 1, 0
NOBODY = 0
"""Number of what comes over no connection that can be told apart (``inproc://``): prefixes are counted one by one."""
PREFIXES_LIMIT = 500_000
FEW = 64
"""Up to so many prefixes are compared one after the other; more are looked up, one look-up per length."""


class Interest:
    """The prefixes that somebody subscribed to, counted by connection: the length is how many different ones."""

    def __init__(self, limit: int = PREFIXES_LIMIT) -> None:
        self._limit = limit
        self._holders: dict[bytes, int] = {}
        self._held: dict[int, set[bytes]] = {}
        self._unnumbered: Counter[bytes] = Counter()
        self._total = 0
        self._overfull: set[int] = set()
        self._few: tuple[bytes, ...] = ()
        self._lengths: tuple[int, ...] = ()
        self._is_settled = True

    def __len__(self) -> int:
        return len(self._holders)

    @property
    def overfull(self) -> int:
        """Return how many connections brought more prefixes than are remembered."""
        return len(self._overfull)

    def take(self, message: bytes, connection: int = NOBODY) -> bool:
        """Take one XPUB message and return whether ``connection`` has a prefix more, or less, than before.

        Anything that is no subscription is ignored.
        """
        if not message or message[0] not in {SUBSCRIBE, UNSUBSCRIBE}:
            return False
        if message[0] == SUBSCRIBE:
            return self.add(message[1:], connection)
        return self.drop(message[1:], connection)

    def add(self, prefix: bytes, connection: int = NOBODY) -> bool:
        """Note that ``connection`` wants ``prefix``; return False when it did before."""
        held = self._held.get(connection)
        if connection != NOBODY and held is not None and prefix in held:
            return False
        if self._total >= self._limit:
            self._overfull.add(connection)
            return True
        if connection == NOBODY:
            self._unnumbered[prefix] += 1
        elif held is None:
            self._held[connection] = {prefix}
        else:
            held.add(prefix)
        self._total += 1
        self._holders[prefix] = self._holders.get(prefix, 0) + 1
        self._is_settled = False
        return True

    def drop(self, prefix: bytes, connection: int = NOBODY) -> bool:
        """Note that ``connection`` no longer wants ``prefix``; return False when it did not before."""
        if connection == NOBODY:
            if not self._unnumbered[prefix]:
                del self._unnumbered[prefix]
                return False
            self._unnumbered[prefix] -= 1
        else:
            held = self._held.get(connection)
            if held is None or prefix not in held:
                return False
            held.discard(prefix)
        self._let_go(prefix)
        return True

    def leave(self, connection: int) -> bool:
        """Forget a connection that ended; return whether it wanted anything."""
        held = self._held.pop(connection, None)
        was_overfull = connection in self._overfull
        self._overfull.discard(connection)
        holders = self._holders
        for prefix in held or ():  # there may be a hundred thousand, and events wait meanwhile
            if holders[prefix] > 1:
                holders[prefix] -= 1
            else:
                del holders[prefix]
        self._total -= len(held or ())
        self._is_settled = False
        return bool(held) or was_overfull

    def clear(self) -> None:
        """Forget all connections."""
        for each in (self._holders, self._held, self._unnumbered, self._overfull):
            each.clear()
        self._total = 0
        self._is_settled = False

    def wants(self, topic: bytes) -> bool:
        """Return whether a subscriber would receive ``topic``."""
        if not self._is_settled:
            self._settle()
        if not self._lengths:
            return topic.startswith(self._few) or bool(self._overfull)
        holders, length_max = self._holders, len(topic)
        for length in self._lengths:
            if length > length_max:
                break
            if topic[:length] in holders:
                return True
        return bool(self._overfull)

    def _let_go(self, prefix: bytes) -> None:
        self._total -= 1
        self._holders[prefix] -= 1
        if not self._holders[prefix]:
            del self._holders[prefix]
        self._is_settled = False

    def _settle(self) -> None:
        """Make ready to answer `wants`, once after any number of changes."""
        self._is_settled = True
        is_few = len(self._holders) <= FEW
        self._few = tuple(self._holders) if is_few else ()
        self._lengths = () if is_few else tuple(sorted(set(map(len, self._holders))))
