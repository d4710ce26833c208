"""The topics that a client may receive: prefixes, as its file declares them; pure.

An entry is ``name`` (that topic alone) or ``prefix*`` (all topics that begin so; ``*`` alone is everything)::

    quote.*         every quote
    trade.1001      the trades of account 1001 and of no other
    trade.100*      accounts 100, 1001, 10023 …, as written

ZeroMQ knows prefixes only: a subscription to ``trade.100`` brings ``trade.1001`` as well. So an exact entry is possible
only when every topic ends with a terminator (the setting ``topic_suffix``, as ``|``): then ``trade.100|`` begins no
other topic. Without it exact entries are refused. ``heartbeat`` is allowed to every known client; no other topic
begins so, therefore it is exact without a terminator.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mt4pump.errors import SettingsError, did_you_mean
from mt4pump.wire import HEARTBEAT, KINDS, outermost

ENTRIES_LIMIT = 1_000
"""Entries of one client. A subscription to everything costs as many calls into libzmq."""
ENTRY_BYTES_LIMIT = 200
WILDCARD = "*"
PATTERN_CHARACTERS = frozenset("*?")
"""In the middle of an entry they ask for what a prefix cannot do."""


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
    name = entry.removesuffix(WILDCARD)
    if not entry or len(entry.encode()) > ENTRY_BYTES_LIMIT:
        raise PermissionsError(f"{place}: write 1 to {ENTRY_BYTES_LIMIT} bytes, as quote.* or trade.1001")
    if PATTERN_CHARACTERS & set(name):
        raise PermissionsError(f"{place}: only one * at the end has a meaning: write a name, or prefix*")
    if suffix and suffix in name:
        raise PermissionsError(
            f"{place}: it contains the topic_suffix {suffix!r}, which is added for you: leave it out"
        )
    _check_kind(name, place, exact=name == entry)
    if name != entry:
        return name.encode()
    if not suffix and entry != HEARTBEAT.name:
        raise PermissionsError(
            f"{place}: an exact topic cannot be distinguished from longer ones ({entry}1) while topic_suffix is empty: "
            f"set topic_suffix = '|' for the daemon, or write {entry}* if all that begin so are meant"
        )
    return (entry + suffix).encode()


def _check_kind(name: str, place: str, *, exact: bool) -> None:
    """Refuse an entry that no topic can ever match: a typing error looks like a permission and is none."""
    kind, dot, _ = name.partition(".")
    if dot or exact:
        known = kind in KINDS and (bool(dot) or not KINDS[kind].key)
    else:
        known = any(each.startswith(kind) for each in KINDS)
    if not known:
        cure = did_you_mean(kind, KINDS, f"topics begin with {', '.join(KINDS)}", "{}.*".format)
        raise PermissionsError(f"{place}: no topic has this name; {cure}")
