"""What a subscriber hands over or holds: events (their base class), notices about the stream, checkpoints; pure.

An event is cheap: it keeps the decoded body and reads a field when it is asked for. A field that the daemon did not
send (personal data that its settings hold back, a newer or older version) reads as None.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, NamedTuple, Self, TypeVar, overload

from mt4pump.wire import KINDS, Body

Frames = tuple[bytes, bytes]
"""Topic and packed body of one message."""
LIVE, HEALED, SNAPSHOT = 0, 1, 2
"""Where an event is from: the live stream, the journal, a snapshot."""
HELD_BYTES_LIMIT = 128 * 2**20
"""Bytes of events that may wait for the journal; beyond it nothing is read until it answers."""
KIND_NAMES = tuple(KINDS)
"""Values of ``Event.kind``; a later version may have more."""

Value = TypeVar("Value")


class EventField(Generic[Value]):
    """One entry of an event's body, under its own name or ``key``, as an attribute."""

    __slots__ = ("_key",)

    def __init__(self, key: str = "") -> None:
        self._key = key

    def __set_name__(self, owner: type, name: str) -> None:
        self._key = self._key or name

    @overload
    def __get__(self, event: None, owner: type) -> Self: ...
    @overload
    def __get__(self, event: Event, owner: type) -> Value: ...
    def __get__(self, event: Event | None, owner: type) -> Self | Value:
        if event is None:
            return self
        value: Value = event.body.get(self._key)  # type: ignore[assignment]
        return value


class TopicName:
    """The parts of one topic: ``name`` without the suffix, ``kind``, and ``key`` (what follows the first dot)."""

    __slots__ = ("key", "kind", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.kind, _, self.key = name.partition(".")


class Event:
    """One event. ``body`` is the whole decoded map, ``frames`` the message as it was on the wire, for forwarders."""

    __slots__ = ("_origin", "_topic", "body", "frames")

    def __init__(self, topic: TopicName, body: Body, frames: Frames, origin: int = LIVE) -> None:
        self._topic = topic
        self.body = body
        self.frames = frames
        self._origin = origin

    def __repr__(self) -> str:
        origin = ("", " healed", " snapshot")[self._origin]
        return f"<{type(self).__name__} {self.topic} seq={self.seq} offset={self.offset}{origin}>"

    @property
    def topic(self) -> str:
        """Return the topic, without the daemon's suffix: ``trade.1001``."""
        return self._topic.name

    @property
    def key(self) -> str:
        """Return what follows the kind in the topic: ``1001``; empty for a heartbeat."""
        return self._topic.key

    @property
    def kind(self) -> str:
        """Return the kind, of `KIND_NAMES`."""
        return self._topic.kind

    @property
    def epoch(self) -> int:
        """Return the daemon's run that it is from: ms since 1970 when that started."""
        number: int = self.body["epoch"]
        return number

    @property
    def seq(self) -> int:
        """Return its number within topic and epoch; of a snapshot, the topic's last number."""
        number: int = self.body["seq"]
        return number

    @property
    def ts(self) -> int:
        """Return when the daemon received it, ns since 1970."""
        number: int = self.body["ts"]
        return number

    @property
    def offset(self) -> int | None:
        """Return its number in the journal; None for what is not stored there."""
        return self.body.get("offset")

    @property
    def synthetic(self) -> bool:
        """Return whether the daemon inferred it from a comparison of tables."""
        return bool(self.body.get("synthetic"))

    @property
    def healed(self) -> bool:
        """Return whether it came out of the journal (a gap filled, a position resumed) instead of live."""
        return self._origin == HEALED

    @property
    def snapshot(self) -> bool:
        """Return whether it is a last value from the start, not a change."""
        return self._origin == SNAPSHOT

    @property
    def action(self) -> str | None:
        """Return ``add update delete change_group`` for kinds that are tables, else None."""
        return self.body.get("action")


CONNECTED, DISCONNECTED, RESTARTED = "connected", "disconnected", "restarted"
GAP, RECOVERED, LOST, NOT_WHOLE = "gap", "healed", "lost", "not_whole"
SILENT, ALIVE, FEED_LOST, FEED_BACK = "silent", "alive", "feed_lost", "feed_back"
LAGGING, CAUGHT_UP, QUERY_FAILED = "lagging", "caught_up", "query_failed"
MALFORMED = "malformed"

NOTICE_KINDS = (
    *(CONNECTED, DISCONNECTED, RESTARTED, GAP, RECOVERED, LOST, NOT_WHOLE),
    *(SILENT, ALIVE, FEED_LOST, FEED_BACK, LAGGING, CAUGHT_UP, QUERY_FAILED, MALFORMED),
)
"""Every ``Notice.kind``; the package's docstring says what each means."""
WARNINGS = frozenset({LOST, NOT_WHOLE, QUERY_FAILED, SILENT, FEED_LOST, LAGGING, MALFORMED})
"""Those that are logged as warnings."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something about the stream, at its place between the events.

    ``kind`` is one of `NOTICE_KINDS`, ``text`` a sentence for people. ``topic`` is set where one topic is meant.
    ``count`` is events: missing (``gap``), delivered from the journal (``healed``), gone for good (``lost``; 0 where
    how many cannot be known), or messages dropped (``malformed``). ``code`` is the daemon's error code
    (``query_failed``), ``value`` the number of the rest: seconds of silence or of lag.
    """

    kind: str
    text: str
    topic: str = ""
    count: int = 0
    code: str = ""
    value: float = 0.0


class Checkpoint(NamedTuple):
    """Every durable event up to ``offset`` of ``log`` came before this.

    ``end``: the journal lost all behind it, so that greater offsets of earlier runs mean nothing any more.
    """

    log: str | None
    offset: int
    end: int | None = None


Item = Event | Notice | Checkpoint


class HeldEvents:
    """The events that wait for an answer, in the order in which they came; none is added while `is_full`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._events: deque[tuple[Frames, Body]] = deque()
        self._size_bytes = 0

    def __len__(self) -> int:
        return len(self._events)

    def __iter__(self) -> Iterator[tuple[Frames, Body]]:
        return iter(self._events)

    @property
    def is_full(self) -> bool:
        """Return whether no more messages should be read."""
        return len(self._events) >= self._limit or self._size_bytes >= HELD_BYTES_LIMIT

    @property
    def first(self) -> Body | None:
        """Return the body of the event that waits longest."""
        return self._events[0][1] if self._events else None

    @property
    def last(self) -> Body | None:
        """Return the body of the event that came last."""
        return self._events[-1][1] if self._events else None

    def add(self, frames: Frames, body: Body) -> None:
        """Add an event at the end."""
        self._events.append((frames, body))
        self._size_bytes += len(frames[1])

    def remove(self, is_done: Callable[[Frames, Body], bool]) -> int:
        """Remove the events for which ``is_done`` returns True, and return how many.

        While it is asked about an event, the earlier ones that stay are held already.
        """
        events, self._events, self._size_bytes = self._events, deque(), 0
        for frames, body in events:
            if not is_done(frames, body):
                self.add(frames, body)
        return len(events) - len(self)
