"""Which topics a reader wants, and what it knows of each one that it met; pure.

Wanted are exact names (``quote.EURUSD``) and shell patterns (``trade.*``, ``quote.???JPY``); ``trade.`` is the same as
``trade.*``. The wire knows prefixes only, so each becomes one, and every topic is compared whole here: ``trade.100`` is
not ``trade.1001``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from enum import IntEnum
from fnmatch import fnmatchcase
from itertools import pairwise, product

from mt4pump.client.event import Event, TopicName
from mt4pump.client.events import CLASSES, Quote
from mt4pump.errors import ClientError
from mt4pump.wire import HEARTBEAT, KINDS, NEWS, WILDCARDS, right_form

PREFIXES_LIMIT = 256
"""What the query endpoint takes in one request; with more, whole kinds are asked for and filtered here."""
TOPICS_LIMIT = 1_000_000
"""Topics remembered: each news has a topic of its own."""
NEVER = -1
"""An epoch that no daemon has."""
QUOTES_LIMIT = 100_000
QUOTE_KEPT_BYTES = 4_096
"""Longest body of a quote that is kept; they have some 150 bytes."""
JUMPS_LIMIT = 8
"""Jumps remembered of a topic: one per run of the daemon that the journal was not asked about."""

log = logging.getLogger(__name__)


class Gate(IntEnum):
    """Which events wait before they are delivered; each member holds back what those before it hold back, and more."""

    OPEN = 0
    """No event waits."""
    DURABLE_WAIT = 1
    """Events of a stored kind wait for the journal: it may have some that belong before them."""
    ALL_WAIT = 2
    """Every event waits for the snapshot: last values come before what changed them."""


_OPEN, _DURABLE_WAIT, _ALL_WAIT = Gate  # each news makes a topic, and looking a member up by its name costs 50 ns


class TopicState(TopicName):
    """What is known of one topic.

    ``wire`` is its name on the wire, ``wanted`` whether the reader asked for it, ``durable`` whether its events are
    stored. ``epoch`` and ``seq`` are the last number seen, ``offset`` the last one delivered in the journal. Its events
    wait while the gate is at ``waits_at`` or above; a heartbeat has OPEN, as it is never delivered in order. ``jumps``
    are where its numbers began again: the last ``offset`` delivered before, epoch and number of the first event after.
    ``late`` is epoch and number of the last event without an offset that was delivered after events of a later epoch.
    """

    __slots__ = (
        *("durable", "epoch", "event_class", "is_heartbeat", "jumps", "late", "offset"),
        *("seq", "waits_at", "wanted", "wire"),
    )

    def __init__(self, wire: bytes, name: str, *, durable: bool, wanted: bool) -> None:
        super().__init__(name)
        self.wire = wire
        self.event_class: type[Event] = CLASSES.get(self.kind, Event)
        self.wanted = wanted
        self.is_heartbeat = self.kind == HEARTBEAT.name
        self.set_durable(durable=durable)
        self.epoch = NEVER
        self.seq = 0
        self.offset = 0
        self.late = (NEVER, 0)
        self.jumps: tuple[tuple[int, int, int], ...] = ()

    def add_jump(self, epoch: int, seq: int, confirmed: int) -> None:
        """Record that its numbers go on with ``seq`` of ``epoch``; forget jumps up to the offset ``confirmed``."""
        jump = (self.offset, epoch, seq)
        unconfirmed = (old for old, after in pairwise((*self.jumps, jump)) if after[0] > confirmed)
        self.jumps = (*unconfirmed, jump)[-JUMPS_LIMIT:]

    def pass_to(self, epoch: int, seq: int) -> None:
        """Record that everything up to this number was delivered, or reported as lost."""
        self.epoch, self.seq = epoch, seq

    def record(self, epoch: int, seq: int, offset: int | None) -> None:
        """Record that an event was delivered."""
        if epoch >= self.epoch:
            self.pass_to(epoch, seq)
        elif offset is None:
            self.late = epoch, seq
        if offset is not None:
            self.offset = offset

    def is_repeat(self, epoch: int, seq: int, offset: int | None, present_epoch: int) -> bool:
        """Return whether this event was delivered before, or came too late for its place in the order."""
        if epoch == self.epoch:
            # A number that starts again is a news topic that the daemon forgot: the offset shows that it is new.
            starts_again = self.kind == NEWS.name and seq == 1 and offset is not None and offset > self.offset
            return seq <= self.seq and not starts_again
        if offset is None:
            return epoch < present_epoch or (epoch, seq) <= self.late
        if epoch > self.epoch != NEVER:  # where a journal lost its end, offsets are used again
            return False
        return offset <= self.offset

    def has_passed(self, offset: int, epoch: int, seq: int) -> bool:
        """Return whether this event was never delivered, and a later one was."""
        return any(offset > before and (epoch, seq) < (to_epoch, to_seq) for before, to_epoch, to_seq in self.jumps)

    def set_durable(self, *, durable: bool) -> None:
        """Set whether its events are stored, and so which gate holds them back."""
        self.durable = durable
        self.waits_at = _OPEN if self.is_heartbeat else _DURABLE_WAIT if durable else _ALL_WAIT


class LastQuotes(dict[str, Quote]):
    """The last quote of each symbol; beyond the limit the symbol that was first met is forgotten."""

    def keep(self, symbol: str, quote: Quote) -> None:
        """Keep the last quote of ``symbol``."""
        if len(quote.frames[1]) > QUOTE_KEPT_BYTES:
            return
        if symbol not in self and len(self) >= QUOTES_LIMIT:
            del self[next(iter(self))]
        self[symbol] = quote


class SubscriptionSet:
    """The wanted names and patterns, and a `TopicState` in ``topics`` per topic met.

    ``baseline``: from this epoch on every topic's number is known; one that is not in ``topics`` is at 0. ``suffix`` is
    what the daemon ends every topic with. ``durable_kinds`` are the kinds that it stores.
    """

    def __init__(self, wanted: Iterable[str], suffix: str = "") -> None:
        self.suffix = suffix
        self.topics: dict[bytes, TopicState] = {}
        self.baseline: int | None = None
        self.durable_kinds = {name for name, kind in KINDS.items() if kind.durable}
        self.wanted: dict[str, None] = {}  # a set that keeps its order
        self.add(wanted)

    def add(self, names: Iterable[str]) -> list[str]:
        """Add wanted names; return the new ones. Raises ClientError (``arguments``) for what is no name."""
        new = []
        for name in (names,) if isinstance(names, str) else names:
            if not isinstance(name, str) or not name or not name.isprintable():
                text = f"topic {name!r} is neither a name as quote.EURUSD nor a pattern as trade.*"
                raise ClientError("arguments", text)
            if name not in self.wanted:
                self.wanted[name] = None
                new.append(name)
        self._update_topics()
        return new

    def remove(self, names: Iterable[str]) -> list[str]:
        """Remove names, as they were given; return those that were wanted."""
        gone = [name for name in ((names,) if isinstance(names, str) else names) if name in self.wanted]
        for name in gone:
            del self.wanted[name]
        self._update_topics()
        return gone

    def is_wanted(self, name: str) -> bool:
        """Return whether an event on ``name`` is wanted."""
        return name in self.wanted or any(matches(name, wanted) for wanted in self.wanted)

    def subscriptions(self) -> set[bytes]:
        """Return the prefixes to subscribe to."""
        return {self.prefix(name) for name in self.wanted}

    def prefix(self, name: str) -> bytes:
        """Return the prefix on the wire that a name or pattern needs; exact when there is a suffix."""
        name = whole_kind(name)
        if not is_pattern(name):
            return f"{name}{self.suffix}".encode()
        return literal_start(name).encode()

    def prefixes(self, names: Iterable[str] = ()) -> list[bytes]:
        """Return what to ask the query endpoint for: ``names``, or all that is wanted."""
        asked = {self.prefix(name) for name in (names or self.wanted)}
        if len(asked) > PREFIXES_LIMIT:
            asked = {prefix.partition(b".")[0] for prefix in asked}
        if len(asked) > PREFIXES_LIMIT or b"" in asked:
            return [b""]
        return sorted(asked)

    def unstored_prefixes(self) -> list[bytes]:
        """Return the part of `prefixes` that is of kinds which are not stored: their losses show only in numbers."""
        kinds = [f"{kind}.".encode() for kind in KINDS.keys() - self.durable_kinds - {HEARTBEAT.name}]
        pairs = (sorted(pair, key=len) for pair in product(self.prefixes(), kinds))
        return sorted({longer for shorter, longer in pairs if longer.startswith(shorter)})

    def name_of(self, wire: bytes) -> str:
        """Return a topic's name without the suffix."""
        return wire.decode("utf-8", "replace").removesuffix(self.suffix)

    def topic(self, wire: bytes) -> TopicState:
        """Return what is known of a topic; a new `TopicState` for one not met before."""
        state = self.topics.get(wire)
        if state is None:
            if len(self.topics) >= TOPICS_LIMIT:  # forget the older half; those may have had numbers before
                for old in list(self.topics)[: TOPICS_LIMIT // 2]:
                    del self.topics[old]
                self.baseline = None
            name = self.name_of(wire)
            state = TopicState(wire, name, durable=self._is_durable(name), wanted=self.is_wanted(name))
            self.topics[wire] = state
        return state

    def last_seq(self, topic: TopicState, epoch: int, seq: int) -> int:
        """Return the number before ``seq`` that was delivered, or ``seq - 1`` where that is not known.

        Before an event of an older epoch it is not known: it came late, as no offset put it in order.
        """
        if topic.epoch == epoch:
            return topic.seq
        return 0 if epoch > topic.epoch and self.baseline is not None and epoch >= self.baseline else seq - 1

    def limit_offsets(self, end: int, kept_epoch: int | None = None) -> None:
        """Record that offsets beyond ``end`` mean nothing any more, except in topics that have ``kept_epoch``."""
        for topic in self.topics.values():
            if topic.epoch != kept_epoch:
                topic.offset = min(topic.offset, end)

    def forget_offsets(self) -> None:
        """Record that the offsets of all topics are of a journal that is gone."""
        for topic in self.topics.values():
            topic.offset, topic.jumps = 0, ()

    def forget_baseline(self) -> None:
        """Record that nothing is known of topics that were not met yet."""
        self.baseline = None

    def begin_run(self, epoch: int) -> None:
        """Record that another run began, all of whose numbers begin at 1.

        Its ``epoch`` is smaller than those before if the daemon's folder was deleted: those say nothing any more.
        """
        self.baseline = epoch if self.baseline is None else min(self.baseline, epoch)
        for topic in self.topics.values():
            if topic.epoch > epoch:
                topic.epoch, topic.late = NEVER, (NEVER, 0)

    def set_baseline(self, epoch: int) -> None:
        """Record that the numbers of ``epoch`` are known; those of later ones begin at 1."""
        if self.baseline is None:
            self.baseline = epoch

    def set_suffix(self, suffix: str) -> None:
        """Set the daemon's suffix; what was known under other names is forgotten."""
        if suffix != self.suffix:
            self.suffix = suffix
            self.topics.clear()

    def set_durable_kinds(self, kinds: Mapping[str, object]) -> None:
        """Set from the kinds in ``describe`` which of them are stored."""
        durable = {name for name, kind in kinds.items() if isinstance(kind, Mapping) and kind.get("durable")}
        self.durable_kinds = durable - {HEARTBEAT.name}
        for topic in self.topics.values():
            topic.set_durable(durable=self._is_durable(topic.name))

    def _is_durable(self, name: str) -> bool:
        return name.partition(".")[0] in self.durable_kinds and name != "session.ping"

    def _update_topics(self) -> None:
        for topic in self.topics.values():
            topic.wanted = self.is_wanted(topic.name)
            if not topic.wanted:
                topic.epoch = NEVER  # if it is wanted again, nothing is known of it


def is_pattern(name: str) -> bool:
    """Return whether ``name`` has a wildcard in it."""
    return any(wildcard in name for wildcard in WILDCARDS)


def literal_start(name: str) -> str:
    """Return what stands before the first wildcard of ``name``."""
    end = min((place for wildcard in WILDCARDS if (place := name.find(wildcard)) >= 0), default=len(name))
    return name[:end]


def whole_kind(name: str) -> str:
    """Return ``trade.*`` for ``trade.``, which is the same; any other name as it is."""
    return f"{name}*" if name.partition(".")[1:] == (".", "") else name


def matches(topic: str, name: str) -> bool:
    """Return whether ``topic`` is ``name``, or one that the pattern ``name`` means."""
    pattern = whole_kind(name)
    return topic == name or (is_pattern(pattern) and fnmatchcase(topic, pattern))


def unmatched(names: Iterable[str]) -> list[str]:
    """Return a warning for each name that can match nothing."""
    found = ((name, right_form(name)) for name in names)
    text = "topic {!r} can match nothing that a daemon publishes; did you mean {!r}?"
    return [text.format(name, right) for name, right in found if right is not None]


def warn_of_unmatched(names: Iterable[str]) -> None:
    """Log a warning for each name that can match nothing."""
    for text in unmatched(names):
        log.warning("%s", text)
