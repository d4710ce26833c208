"""Clients that want the same bytes, and which of them want a topic.

A client's wishes, rights and way of sending make a `Reading`. All clients with the same one share a cohort: what it
gets is put together once and written to each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol

from mt4pump_consumers.gateway.payload import Payload, joined
from mt4pump_consumers.gateway.topics import Allowed, TopicSelection, is_pattern, matcher


class Reading(NamedTuple):
    """What makes two clients the same.

    Stored events of ``replayed`` up to offset ``floor`` of the journal ``log`` were replayed already.
    """

    symbols: frozenset[str]
    topics: frozenset[str]
    allowed: tuple[str, ...]
    bits: int
    window_s: float
    floor: int = 0
    replayed: frozenset[str] = frozenset()
    log: str | None = None


class Member(Protocol):
    """One client, as a cohort sees it. ``way`` takes data at once; None while it does not."""

    way: Callable[[bytes], object] | None

    def write(self, data: bytes, payloads: list[Payload]) -> None:
        """Send ``data``, which are ``payloads``, or keep those for later."""


class SubscriberGroup:
    """``pending`` waits for the end of the wake-up, or of the batching window."""

    __slots__ = ("_full", "_narrow", "_replayed", "_schedule", "allowed", "is_gone", "members", "pending", "reading")

    def __init__(self, reading: Reading, schedule: Callable[[SubscriberGroup], None]) -> None:
        self.reading = reading
        self.allowed = Allowed(reading.allowed)
        self.members: dict[Member, None] = {}
        self.pending: list[Payload] = []
        self.is_gone = False
        self._narrow, self._full = TopicSelection(reading.symbols), TopicSelection(reading.topics)
        self._replayed = TopicSelection(reading.replayed)
        self._schedule = schedule

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
        reading = self.reading
        return offset <= reading.floor and log == reading.log and topic in self._replayed

    def flush(self) -> int:
        """Write what is pending; return how many messages that were, over all members."""
        payloads, self.pending = self.pending, []
        if not payloads:
            return 0
        data = joined(payloads, self.reading.bits, batch=self.reading.window_s > 0)
        for member in list(self.members):
            way = member.way
            if way is not None:
                way(data)
            else:
                member.write(data, payloads)
        return len(payloads) * len(self.members)


class Index:
    """Who wants a name: exact names by look-up, patterns by trial, answers remembered per topic."""

    def __init__(self) -> None:
        self._exact: dict[str, dict[SubscriberGroup, None]] = {}
        self._wild: dict[str, dict[SubscriberGroup, None]] = {}
        self._matchers: dict[str, Callable[[str], object]] = {}  # of those in `_wild`

    def add(self, cohort: SubscriberGroup, names: Iterable[str]) -> None:
        """Let ``cohort`` have what ``names`` mean."""
        for name in names:
            self._table(name).setdefault(name, {})[cohort] = None
            if is_pattern(name) and name not in self._matchers:
                self._matchers[name] = matcher(name)

    def remove(self, cohort: SubscriberGroup, names: Iterable[str]) -> None:
        """Undo `add`."""
        for name in names:
            table = self._table(name)
            readers = table[name]
            del readers[cohort]
            if not readers:
                del table[name]
                self._matchers.pop(name, None)

    def _table(self, name: str) -> dict[str, dict[SubscriberGroup, None]]:
        return self._wild if is_pattern(name) else self._exact

    def readers(self, name: str, topic: str) -> tuple[SubscriberGroup, ...]:
        """Return the cohorts that asked for ``name`` and may see ``topic``."""
        found = {**self._exact.get(name, {}), **self._wild.get(name, {})}  # a name may look like a pattern
        for pattern, match in self._matchers.items():
            if match(name):
                found.update(self._wild[pattern])
        return tuple(cohort for cohort in found if cohort.allowed.covers(topic))


class Channel:
    """Who reads one topic: ``narrow`` by symbol, ``full`` by topic.

    Valid for the first ``joined`` cohorts of the book, and for the first ``left`` of those that went.
    """

    __slots__ = ("full", "joined", "left", "narrow")

    def __init__(self) -> None:
        self.joined = self.left = -1
        self.narrow: tuple[SubscriberGroup, ...] = ()
        self.full: tuple[SubscriberGroup, ...] = ()


CHANNELS_LIMIT = 200_000
"""Topics whose readers are remembered; with more, all are looked up afresh (news have a topic each)."""
FRESH_LIMIT = 1_000
"""Cohorts remembered as new: a topic is compared with them alone, not with every pattern that there is."""


class SubscriberGroups:
    """All cohorts, and the readers of every topic."""

    def __init__(self, schedule: Callable[[SubscriberGroup], None]) -> None:
        self._schedule = schedule
        self._cohorts: dict[Reading, SubscriberGroup] = {}
        self._narrow, self._full = Index(), Index()
        self._channels: dict[str, Channel] = {}
        self._fresh: list[SubscriberGroup] = []
        self._joined = self._left = 0

    def __len__(self) -> int:
        return len(self._cohorts)

    @property
    def topics(self) -> int:
        """Return how many topics each new pattern is compared with."""
        return len(self._channels)

    def __iter__(self) -> Iterator[SubscriberGroup]:
        return iter(list(self._cohorts.values()))

    def join(self, member: Member, reading: Reading) -> SubscriberGroup:
        """Put ``member`` with those of the same ``reading``."""
        cohort = self._cohorts.get(reading)
        if cohort is None:
            cohort = self._cohorts[reading] = SubscriberGroup(reading, self._schedule)
            self._narrow.add(cohort, reading.symbols)
            self._full.add(cohort, reading.topics)
            self._joined += 1
            self._fresh.append(cohort)
            if len(self._fresh) > FRESH_LIMIT:
                del self._fresh[: FRESH_LIMIT // 2]
        cohort.flush()  # what is on its way is not for the newcomer
        cohort.members[member] = None
        return cohort

    def leave(self, member: Member, cohort: SubscriberGroup) -> None:
        """Take ``member`` out, after what is on its way to it."""
        cohort.flush()
        cohort.members.pop(member, None)
        if not cohort.members and self._cohorts.pop(cohort.reading, None) is not None:
            self._narrow.remove(cohort, cohort.reading.symbols)
            self._full.remove(cohort, cohort.reading.topics)
            self._left += 1
            cohort.is_gone = True

    def channel(self, topic: str) -> Channel:
        """Return the readers of ``topic``."""
        channel = self._channels.get(topic)
        if channel is None:
            if len(self._channels) >= CHANNELS_LIMIT:
                self._channels.clear()
            channel = self._channels[topic] = Channel()
        if channel.joined != self._joined or channel.left != self._left:
            self._update(channel, topic)
        return channel

    def _update(self, channel: Channel, topic: str) -> None:
        """Bring the readers of ``topic`` up to date, by what has changed where that is known."""
        count = self._joined - channel.joined
        if channel.joined < 0 or count > len(self._fresh):
            kind, _, key = topic.partition(".")
            channel.narrow = self._narrow.readers(key, topic) if kind == "quote" else ()
            channel.full = self._full.readers(topic, topic)
        else:
            narrow = [cohort for cohort in channel.narrow if not cohort.is_gone]
            full = [cohort for cohort in channel.full if not cohort.is_gone]
            for cohort in self._fresh[len(self._fresh) - count :]:
                by_symbol, by_topic = (False, False) if cohort.is_gone else cohort.reads(topic)
                narrow += [cohort] if by_symbol else []
                full += [cohort] if by_topic else []
            channel.narrow, channel.full = tuple(narrow), tuple(full)
        channel.joined, channel.left = self._joined, self._left
