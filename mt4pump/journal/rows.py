"""What goes into the journal and what comes out of it; pure."""

from __future__ import annotations

from typing import NamedTuple


class Stored(NamedTuple):
    """One durable event. ``offset`` names it, ``ts`` is ns since 1970, ``topic`` and ``body`` are its frames.

    ``ticket`` is the order that the event leaves open, negative for one that it ends; 0 for no order.
    """

    offset: int
    ts: int
    topic: bytes
    body: bytes
    ticket: int = 0


class Replayed(NamedTuple):
    """One durable event as read back; ``topic`` and ``body`` are the original frames."""

    offset: int
    topic: bytes
    body: bytes


class Page(NamedTuple):
    """One page of a replay.

    ``next`` is what to pass as ``after`` for the next page, None when the end was reached; a page may be empty and
    still have ``next``. ``last`` is the highest offset given to an event so far, ``first_available`` the lowest one
    that can still be read (0 when none can). ``whole`` is False when events that belong behind ``after``
    are not there: deleted by retention, published while the journal failed, or possibly lost with the power.
    """

    events: list[Replayed]
    next: int | None
    last: int
    first_available: int
    whole: bool


def kind_of(topic: bytes) -> bytes:
    """Return the kind of a topic: what stands before the first dot."""
    return topic.partition(b".")[0]


def kind_name(kind: bytes) -> str:
    """Return a kind as text; bytes that are not UTF-8 are escaped, so that no two kinds become one."""
    return kind.decode("utf-8", "backslashreplace")
