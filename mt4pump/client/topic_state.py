"""Which topics a reader wants, and what it knows of each one that it met; pure.

Wanted are exact names (``quote.EURUSD``) and patterns in the shell's way (``trade.*``, ``quote.???JPY``). The wire
knows prefixes only, so each becomes one, and every topic is compared whole here: ``trade.100`` is not ``trade.1001``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise

from mt4pump.client.events import CLASSES, Event, TopicName
from mt4pump.errors import ClientError
from mt4pump.wire import HEARTBEAT, KINDS

WILD = "*?["
PREFIXES_LIMIT = 256
"""What the query endpoint takes in one request; with more, whole kinds are asked for and sorted out here."""
TRACKS_LIMIT = 1_000_000
"""Topics remembered. News have a topic each, so this must end somewhere."""
NEVER = -1
"""An epoch that no daemon has."""
JUMPS_LIMIT = 8
"""Jumps remembered of a topic: one per life of the daemon that the journal was not asked about."""


class TopicState(TopicName):
    """What is known of one topic.

    ``wire`` is its name on the wire, ``wanted`` whether the reader asked for it, ``durable`` whether its events are
    stored. ``epoch`` and ``seq`` are the last number seen, ``offset`` the last one delivered in the journal, ``rank``
    what passes the gate (see `Stream`). ``jumps`` tell where its numbers began anew: the last ``offset`` handed over
    before, epoch and number of the first event after. ``late`` is epoch and number of the last event without an offset
    that was delivered after events of a later epoch.
    """

    __slots__ = ("durable", "epoch", "jumps", "late", "make", "offset", "rank", "seq", "wanted", "wire")

    def __init__(self, wire: bytes, name: str, *, durable: bool, wanted: bool) -> None:
        super().__init__(name)
        self.wire = wire
        self.make: type[Event] = CLASSES.get(self.kind, Event)
        self.wanted = wanted
        self.set_durable(durable)
        self.epoch = NEVER
        self.seq = 0
        self.offset = 0
        self.late = (NEVER, 0)
        self.jumps: tuple[tuple[int, int, int], ...] = ()

    def note_jump(self, epoch: int, seq: int, confirmed: int) -> None:
        """Note that its numbers go on with ``seq`` of ``epoch``; all up to the offset ``confirmed`` is settled."""
        jump = (self.offset, epoch, seq)
        open_ones = (old for old, after in pairwise((*self.jumps, jump)) if after[0] > confirmed)
        self.jumps = (*open_ones, jump)[-JUMPS_LIMIT:]

    def has_passed(self, offset: int, epoch: int, seq: int) -> bool:
        """Return whether this event was never handed over, and a later one was."""
        return any(offset > before and (epoch, seq) < (to_epoch, to_seq) for before, to_epoch, to_seq in self.jumps)

    def set_durable(self, durable: bool) -> None:  # noqa: FBT001 - it is what the name says
        """Note whether its events are stored; a heartbeat has no rank, as it never passes unseen."""
        self.durable = durable
        self.rank = 0 if self.kind == HEARTBEAT.name else 1 if durable else 2


@dataclass(slots=True)
class LastSeqs:
    """Last numbers of topics at a snapshot. ``is_ripe``: every event from before the snapshot was received."""

    epoch: int
    ts: int
    offset: int
    seqs: dict[bytes, int]
    rows: dict[bytes, tuple[bytes, bytes]]
    is_ripe: bool = False


class SubscriptionSet:
    """The wanted names and patterns, and a `TopicState` per topic met.

    ``baseline`` says that every topic's number was known when the reader joined: one that is not in ``tracks`` was at
    0. ``suffix`` is what the daemon ends every topic with.
    """

    def __init__(self, wanted: Iterable[str], suffix: str = "") -> None:
        self.suffix = suffix
        self.tracks: dict[bytes, TopicState] = {}
        self.baseline = False
        self.durable_kinds = {name for name, kind in KINDS.items() if kind.durable}
        self._wanted: dict[str, None] = {}  # a set that keeps its order
        self.add(wanted)

    def __len__(self) -> int:
        return len(self._wanted)

    def add(self, wanted: Iterable[str]) -> list[str]:
        """Want these, too; return those that are new. Raises ClientError (``arguments``) for what is no name."""
        new = []
        if isinstance(wanted, str):
            wanted = (wanted,)
        for name in wanted:
            if not isinstance(name, str) or not name or not name.isprintable():
                text = f"topic {name!r} is neither a name as quote.EURUSD nor a pattern as trade.*"
                raise ClientError("arguments", text)
            if name not in self._wanted:
                self._wanted[name] = None
                new.append(name)
        self._look_again()
        return new

    def remove(self, unwanted: Iterable[str]) -> list[str]:
        """Want these no more, as they were given; return those that were wanted."""
        if isinstance(unwanted, str):
            unwanted = (unwanted,)
        gone = [name for name in unwanted if name in self._wanted]
        for name in gone:
            del self._wanted[name]
        self._look_again()
        return gone

    def wanted(self) -> list[str]:
        """Return the names and patterns."""
        return list(self._wanted)

    def wants(self, name: str) -> bool:
        """Return whether an event on ``name`` is wanted."""
        return name in self._wanted or any(fnmatchcase(name, wanted) for wanted in self._wanted if is_pattern(wanted))

    def subscriptions(self) -> set[bytes]:
        """Return the prefixes to subscribe to; without the heartbeat, which always is."""
        return {self.prefix(name) for name in self._wanted}

    def prefix(self, name: str) -> bytes:
        """Return the prefix on the wire that a name or pattern needs; exact when there is a suffix."""
        if not is_pattern(name):
            return f"{name}{self.suffix}".encode()
        end = min(place for mark in WILD if (place := name.find(mark)) >= 0)
        return name[:end].encode()

    def prefixes(self, names: Iterable[str] = ()) -> list[bytes]:
        """Return what to ask the query endpoint for: ``names``, or all that is wanted."""
        asked = {self.prefix(name) for name in (names or self._wanted)}
        if len(asked) > PREFIXES_LIMIT:
            asked = {prefix.partition(b".")[0] for prefix in asked}
        if len(asked) > PREFIXES_LIMIT or b"" in asked:
            return [b""]
        return sorted(asked)

    def passing_prefixes(self) -> list[bytes]:
        """Return the part of `prefixes` that is of kinds which are not stored: their losses show only in numbers."""
        found = set()
        for kind in KINDS:
            if kind in self.durable_kinds or kind == HEARTBEAT.name:
                continue
            whole = f"{kind}.".encode()
            for prefix in self.prefixes():
                if prefix.startswith(whole):
                    found.add(prefix)
                elif whole.startswith(prefix):
                    found.add(whole)
        return sorted(found)

    def name_of(self, wire: bytes) -> str:
        """Return a topic's name without the suffix."""
        name = wire.decode("utf-8", "replace")
        return name.removesuffix(self.suffix) if self.suffix else name

    def track(self, wire: bytes) -> TopicState:
        """Return what is known of a topic; a new `TopicState` for one not met before."""
        track = self.tracks.get(wire)
        if track is None:
            if len(self.tracks) >= TRACKS_LIMIT:
                self._forget_some()
            name = self.name_of(wire)
            track = self.tracks[wire] = TopicState(wire, name, durable=self._is_durable(name), wanted=self.wants(name))
        return track

    def learn(self, suffix: str) -> None:
        """Take over the daemon's suffix; what was known under other names is forgotten."""
        if suffix != self.suffix:
            self.suffix = suffix
            self.tracks.clear()

    def learn_kinds(self, kinds: Mapping[str, object]) -> None:
        """Take over from ``describe`` which kinds are stored."""
        durable = {name for name, kind in kinds.items() if isinstance(kind, Mapping) and kind.get("durable")}
        self.durable_kinds = durable - {HEARTBEAT.name}
        for track in self.tracks.values():
            track.set_durable(self._is_durable(track.name))

    def set_baseline(self) -> None:
        """Note that every topic's number is known: one that was not met yet is at 0."""
        self.baseline = True

    def forget_baseline(self) -> None:
        """Note that a topic that was not met yet may have had numbers before."""
        self.baseline = False

    def _is_durable(self, name: str) -> bool:
        return name.partition(".")[0] in self.durable_kinds and name != "session.ping"

    def _look_again(self) -> None:
        for track in self.tracks.values():
            track.wanted = self.wants(track.name)
            if not track.wanted:
                track.epoch = NEVER  # if it is wanted again, it starts afresh

    def _forget_some(self) -> None:
        """Forget the older half; from here on a topic not known may have had numbers before."""
        for wire in list(self.tracks)[: TRACKS_LIMIT // 2]:
            del self.tracks[wire]
        self.baseline = False


def is_pattern(name: str) -> bool:
    """Return whether ``name`` has a wildcard in it."""
    return any(mark in name for mark in WILD)
