"""The prefixes that each connection asked for, and the allowed ones that it was given; pure.

Two of a client's prefixes may narrow to the same one (``""`` and ``q`` both to ``quote.``): that one is withdrawn only
with the last of them. A connection keeps the permissions of its first subscription, so that what is withdrawn is what
was given; permissions that grow take effect with the next connection, those that shrink end it. What narrows to nothing
is not stored.

A connection's ZAP user id is its client's name and a generation, which distinguishes it from others of the same number:
see ARCHITECTURE, "The publishing socket".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from mt4pump.security.permissions import Permissions

SEPARATOR = "/"


def user_id(user: str, generation: int) -> str:
    """Return the user id of a connection of the client ``user``."""
    return f"{user}{SEPARATOR}{generation}"


def split_user_id(text: str) -> tuple[str, int]:
    """Return client and generation of a user id; without a generation there is no client."""
    user, _, generation = text.rpartition(SEPARATOR)
    return (user, int(generation)) if user and generation.isdecimal() else ("", 0)


class _Connection:
    """``asked`` are its prefixes, ``given`` counts what they narrow to."""

    __slots__ = ("asked", "given", "permissions")

    def __init__(self, permissions: Permissions) -> None:
        self.permissions = permissions
        self.asked: set[bytes] = set()
        self.given: Counter[bytes] = Counter()


class SubscriptionFilter:
    """Narrows subscriptions, and knows which connections have more than their client may have now."""

    def __init__(self) -> None:
        self._connections: dict[int, _Connection] = {}

    def __len__(self) -> int:
        return len(self._connections)

    def ask(self, number: int, prefix: bytes, permissions: Callable[[], Permissions]) -> tuple[bytes, ...]:
        """Return the prefixes to subscribe connection ``number`` to when it asks for ``prefix``."""
        connection = self._connections.get(number)
        if connection is None:
            connection = self._connections[number] = _Connection(permissions())
        narrowed = connection.permissions.narrow((prefix,))
        if narrowed and prefix not in connection.asked:
            connection.asked.add(prefix)
            connection.given.update(narrowed)
        return narrowed

    def withdraw(self, number: int, prefix: bytes) -> tuple[bytes, ...]:
        """Return the prefixes to unsubscribe connection ``number`` from when it no longer wants ``prefix``."""
        connection = self._connections.get(number)
        if connection is None or prefix not in connection.asked:
            return ()
        connection.asked.discard(prefix)
        gone = []
        for each in connection.permissions.narrow((prefix,)):
            connection.given[each] -= 1
            if not connection.given[each]:
                del connection.given[each]
                gone.append(each)
        return tuple(gone)

    def exceeding(self, number: int, permissions: Permissions) -> bool:
        """Return whether the connection was given permissions that ``permissions`` do not include."""
        connection = self._connections.get(number)
        return connection is not None and not permissions.includes(connection.permissions)

    def remove(self, number: int) -> None:
        """Forget a connection that ended."""
        self._connections.pop(number, None)
