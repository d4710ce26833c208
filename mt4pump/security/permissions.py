"""The topics that a client may receive: prefixes, as its file declares them; pure.

An entry is ``name`` (that topic alone) or ``prefix*`` (all topics that begin so; ``*`` alone is everything)::

    quote.*         every quote
    trade.1001      the trades of account 1001 and of no other
    trade.100*      accounts 100, 1001, 10023 …, as written

ZeroMQ knows prefixes only: a subscription to ``trade.100`` brings ``trade.1001`` as well. So an exact entry is possible
only when every topic ends with a terminator (the setting ``topic_suffix``, as ``|``): then ``trade.100|`` begins no
other topic. Without it exact entries are refused. ``heartbeat`` is allowed to every known client; no other topic
begins so, therefore it is exact without a terminator.

A connection's ZAP user id is its client's name and a generation, which distinguishes it from others of the same number:
see ARCHITECTURE, "The publishing socket".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from mt4pump.errors import SettingsError
from mt4pump.wire import HEARTBEAT, KINDS, outermost, right_form

ENTRIES_LIMIT = 1_000
"""Entries of one client. A subscription to everything costs as many calls into libzmq."""
ENTRY_BYTES_LIMIT = 200
WILDCARD = "*"
PATTERN_CHARACTERS = frozenset("*?")
"""In the middle of an entry they ask for what a prefix cannot do."""
SEPARATOR = "/"


class PermissionsError(SettingsError):
    """An entry cannot be enforced as written; the text names the entry, its file, and what to write."""


class Permissions:
    """Every topic that begins with one of ``allowed``. Made by `declared`, or from prefixes.

    ``query``: the client may use the query endpoint. No prefixes: nothing is allowed.
    """

    __slots__ = ("allowed", "query")

    def __init__(self, allowed: Iterable[bytes] = (), *, query: bool = True) -> None:
        self.allowed = outermost(allowed)
        self.query = query

    def covers(self, topic: bytes) -> bool:
        """Return whether ``topic``, as it is on the wire, is allowed."""
        return topic.startswith(self.allowed)

    def narrow(self, prefixes: Iterable[bytes]) -> tuple[bytes, ...]:
        """Return the prefixes of exactly the topics that are both asked for and allowed; empty when there are none."""
        found: dict[bytes, None] = {}
        for asked in prefixes:
            if asked.startswith(self.allowed):
                found[asked] = None
            else:
                found.update((each, None) for each in self.allowed if each.startswith(asked))
        return tuple(found)

    def includes(self, other: Permissions) -> bool:
        """Return whether everything that ``other`` allows is allowed here."""
        return all(map(self.covers, other.allowed)) and (self.query or not other.query)


EVERYTHING = Permissions((b"",))
"""Everybody's permissions where there are no keys."""
NOTHING = Permissions(query=False)
"""The permissions of an unknown client."""


def declared(entries: Sequence[str], suffix: str, where: str, *, query: bool = True) -> Permissions:
    """Return the permissions that ``entries`` of the file ``where`` declare, and the heartbeat.

    ``suffix`` is the setting ``topic_suffix``. Raises PermissionsError for an entry that cannot be enforced as written.
    """
    if len(entries) > ENTRIES_LIMIT:
        raise PermissionsError(f"{where}: {len(entries)} topics; at most {ENTRIES_LIMIT}: join some into prefix*")
    heartbeat = (HEARTBEAT.name + suffix).encode()
    return Permissions((heartbeat, *(wire_prefix(entry, suffix, where) for entry in entries)), query=query)


def wire_prefix(entry: str, suffix: str, where: str) -> bytes:
    """Return the prefix of ``entry`` on the wire; raises PermissionsError."""
    place = f"{where}: topic {entry!r}"
    if entry.partition(".")[1:] == (".", ""):  # all of a kind, as everywhere
        entry += WILDCARD
    name = entry.removesuffix(WILDCARD)
    if not entry or len(entry.encode()) > ENTRY_BYTES_LIMIT:
        raise PermissionsError(f"{place}: write 1 to {ENTRY_BYTES_LIMIT} bytes, as quote.* or trade.1001")
    if PATTERN_CHARACTERS & set(name):
        raise PermissionsError(f"{place}: only one * at the end has a meaning: write a name, or prefix*")
    if suffix and suffix in name:
        raise PermissionsError(
            f"{place}: it contains the topic_suffix {suffix!r}, which is added for you: leave it out"
        )
    _check_kind(entry, name, place)
    if name != entry:
        return name.encode()
    if not suffix and entry != HEARTBEAT.name:
        raise PermissionsError(
            f"{place}: an exact topic cannot be distinguished from longer ones ({entry}1) while topic_suffix is empty: "
            f"set topic_suffix = '|' for the daemon, or write {entry}* if all that begin so are meant"
        )
    return (entry + suffix).encode()


def _check_kind(entry: str, name: str, place: str) -> None:
    """Refuse an entry that no topic can ever match: a typing error looks like a permission and is none."""
    kind, dot, _ = name.partition(".")
    if dot or name == entry:
        known = kind in KINDS and bool(dot) == bool(KINDS[kind].key)
    else:
        known = any(each.startswith(kind) for each in KINDS)
    if not known:
        right = right_form(entry)
        cure = f"topics begin with {', '.join(KINDS)}" if right in {None, WILDCARD} else f"did you mean {right}?"
        raise PermissionsError(f"{place}: no topic has this name; {cure}")


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
    """Narrows subscriptions, and knows which connections have more than their client may have now.

    Two of a client's prefixes may narrow to the same one (``""`` and ``q`` both to ``quote.``): that one is withdrawn
    only with the last of them. A connection keeps the permissions of its first subscription, so that what is withdrawn
    is what was given; permissions that grow take effect with the next connection, those that shrink end it. What
    narrows to nothing is not stored.
    """

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
