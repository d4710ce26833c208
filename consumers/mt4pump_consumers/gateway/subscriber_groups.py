"""Clients that want the same bytes form a group: a message is encoded and compressed once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from mt4pump.client.topic_state import is_pattern
from mt4pump_consumers.gateway.client_writer import PLAIN, ClientWriter, Payload, joined
from mt4pump_consumers.gateway.topics import Allowed, TopicSelection, matcher


class GroupKey(NamedTuple):
    """Clients with equal keys receive the same bytes.

    Stored events of ``replayed`` up to offset ``replayed_to`` of the journal ``log`` were replayed already.
    """

    symbols: frozenset[str]
    topics: frozenset[str]
    allowed: tuple[str, ...]
    bits: int
    window_s: float
    replayed_to: int = 0
    replayed: frozenset[str] = frozenset()
    log: str | None = None


NOTHING = GroupKey(frozenset(), frozenset(), (), PLAIN, 0.0)


class SubscriberGroup:
    """``pending`` waits for the end of the wake-up, or of the batching window."""

    __slots__ = ("_full", "_narrow", "_replayed", "_schedule", "allowed", "group_key", "is_gone", "members", "pending")

    def __init__(self, group_key: GroupKey, schedule: Callable[[SubscriberGroup], None]) -> None:
        self.group_key = group_key
        self.allowed = Allowed(group_key.allowed)
        self.members: dict[ClientWriter, None] = {}
        self.pending: list[Payload] = []
        self.is_gone = False
        self._narrow, self._full = TopicSelection(group_key.symbols), TopicSelection(group_key.topics)
        self._replayed = TopicSelection(group_key.replayed)
        self._schedule = schedule

    def end(self) -> None:
        """Free what it holds, as the last member left: topics without events still name it as a reader for a while."""
        self.is_gone = True
        self.group_key = NOTHING
        self.allowed = Allowed(())
        self._narrow = self._full = self._replayed = TopicSelection(())

    def add(self, payload: Payload) -> None:
        """Send ``payload`` to every member, soon."""
        if not self.pending:
            self._schedule(self)
        self.pending.append(payload)

    def reads(self, topic: str) -> tuple[bool, bool]:
        """Return whether its members read ``topic`` by symbol, and by topic."""
        kind, _, key = topic.partition(".")
        narrow, full = kind == "quote" and key in self._narrow, topic in self._full
        return (narrow, full) if (narrow or full) and self.allowed.covers(topic) else (False, False)

    def has(self, topic: str, offset: int, log: str | None) -> bool:
        """Return whether its members had the stored event ``offset`` of ``topic`` in a replay."""
        group_key = self.group_key
        return offset <= group_key.replayed_to and log == group_key.log and topic in self._replayed

    def flush(self) -> int:
        """Write what is pending; return how many messages that were, over all members."""
        payloads, self.pending = self.pending, []
        if not payloads:
            return 0
        data = joined(payloads, self.group_key.bits, batch=self.group_key.window_s > 0)
        for member in list(self.members):
            write_now = member.write_now
            if write_now is not None:
                write_now(data)
            else:
                member.write(data, payloads)
        return len(payloads) * len(self.members)


class Index:
    """Who wants a name: exact names by look-up, patterns by trial, answers remembered per topic."""

    def __init__(self) -> None:
        self._exact: dict[str, dict[SubscriberGroup, None]] = {}
        self._wild: dict[str, dict[SubscriberGroup, None]] = {}
        self._matchers: dict[str, Callable[[str], object]] = {}  # of those in `_wild`

    def add(self, group: SubscriberGroup, names: Iterable[str]) -> None:
        """Let ``group`` have what ``names`` mean."""
        for name in names:
            self._table(name).setdefault(name, {})[group] = None
            if is_pattern(name) and name not in self._matchers:
                self._matchers[name] = matcher(name)

    def remove(self, group: SubscriberGroup, names: Iterable[str]) -> None:
        """Undo `add`."""
        for name in names:
            table = self._table(name)
            readers = table[name]
            del readers[group]
            if not readers:
                del table[name]
                self._matchers.pop(name, None)

    def _table(self, name: str) -> dict[str, dict[SubscriberGroup, None]]:
        return self._wild if is_pattern(name) else self._exact

    def readers(self, name: str, topic: str) -> tuple[SubscriberGroup, ...]:
        """Return the groups that asked for ``name`` and may see ``topic``."""
        found = {**self._exact.get(name, {}), **self._wild.get(name, {})}  # a name may look like a pattern
        for pattern, match in self._matchers.items():
            if match(name):
                found.update(self._wild[pattern])
        return tuple(group for group in found if group.allowed.covers(topic))


class TopicReaders:
    """Who reads one topic: ``narrow`` by symbol, ``full`` by topic.

    Valid for the first ``joined`` groups, and for the first ``left`` of those that went.
    """

    __slots__ = ("full", "joined", "left", "narrow")

    def __init__(self) -> None:
        self.joined = self.left = -1
        self.narrow: tuple[SubscriberGroup, ...] = ()
        self.full: tuple[SubscriberGroup, ...] = ()

    def remove_gone(self) -> int:
        """Forget groups that are gone; return how many groups were named."""
        count = len(self.narrow) + len(self.full)
        self.narrow = tuple([group for group in self.narrow if not group.is_gone])
        self.full = tuple([group for group in self.full if not group.is_gone])
        return count


TOPICS_LIMIT = 200_000
"""Topics whose readers are remembered; with more, all are looked up afresh (news have a topic each)."""
FRESH_LIMIT = 1_000
"""Groups remembered as new: a topic is compared with them alone, not with every pattern that there is."""
SWEEP = 500
"""Topics, and groups that they name, that are searched for groups that are gone whenever one goes."""


class SubscriberGroups:
    """All groups, and the readers of every topic.

    ``conflated`` counts quotes that a client did not get because a newer one came while it did not read.
    """

    def __init__(self, schedule: Callable[[SubscriberGroup], None]) -> None:
        self.conflated = 0
        self._schedule = schedule
        self._groups: dict[GroupKey, SubscriberGroup] = {}
        self._narrow, self._full = Index(), Index()
        self._topics: dict[str, TopicReaders] = {}
        self._unswept: list[TopicReaders] = []
        self._fresh: list[SubscriberGroup] = []
        self._joined = self._left = 0

    def __len__(self) -> int:
        return len(self._groups)

    def count_conflated(self) -> None:
        """Count a quote that a client does not get."""
        self.conflated += 1

    @property
    def topics(self) -> int:
        """Return the number of topics that each new pattern is compared with."""
        return len(self._topics)

    def __iter__(self) -> Iterator[SubscriberGroup]:
        return iter(list(self._groups.values()))

    def join(self, member: ClientWriter, group_key: GroupKey) -> SubscriberGroup:
        """Put ``member`` into the group of ``group_key``."""
        group = self._groups.get(group_key)
        if group is None:
            group = self._groups[group_key] = SubscriberGroup(group_key, self._schedule)
            self._narrow.add(group, group_key.symbols)
            self._full.add(group, group_key.topics)
            self._joined += 1
            self._fresh.append(group)
            if len(self._fresh) > FRESH_LIMIT:
                del self._fresh[: FRESH_LIMIT // 2]
        group.flush()  # what is pending is not for the new member
        group.members[member] = None
        return group

    def leave(self, member: ClientWriter, group: SubscriberGroup) -> None:
        """Take ``member`` out, after what is pending for it."""
        group.flush()
        group.members.pop(member, None)
        if not group.members and self._groups.pop(group.group_key, None) is not None:
            self._narrow.remove(group, group.group_key.symbols)
            self._full.remove(group, group.group_key.topics)
            self._left += 1
            group.end()
            self._sweep()

    def _sweep(self) -> None:
        """Remove groups that are gone from the readers of the next topics: one without events would keep them."""
        if not self._unswept:
            self._unswept = list(self._topics.values())
        count = 0
        while self._unswept and count < SWEEP:
            count += 1 + self._unswept.pop().remove_gone()

    def readers_of(self, topic: str) -> TopicReaders:
        """Return the readers of ``topic``."""
        readers_of = self._topics.get(topic)
        if readers_of is None:
            if len(self._topics) >= TOPICS_LIMIT:
                self._topics.clear()
            readers_of = self._topics[topic] = TopicReaders()
        if readers_of.joined != self._joined or readers_of.left != self._left:
            self._update(readers_of, topic)
        return readers_of

    def _update(self, readers_of: TopicReaders, topic: str) -> None:
        """Bring the readers of ``topic`` up to date, by what has changed where that is known."""
        count = self._joined - readers_of.joined
        if readers_of.joined < 0 or count > len(self._fresh):
            kind, _, key = topic.partition(".")
            readers_of.narrow = self._narrow.readers(key, topic) if kind == "quote" else ()
            readers_of.full = self._full.readers(topic, topic)
        else:
            readers_of.remove_gone()
            narrow, full = list(readers_of.narrow), list(readers_of.full)
            for group in self._fresh[len(self._fresh) - count :]:
                by_symbol, by_topic = (False, False) if group.is_gone else group.reads(topic)
                narrow += [group] if by_symbol else []
                full += [group] if by_topic else []
            readers_of.narrow, readers_of.full = tuple(narrow), tuple(full)
        readers_of.joined, readers_of.left = self._joined, self._left
