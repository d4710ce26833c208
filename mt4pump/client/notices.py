"""What a subscriber is told about the stream itself; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """The arguments of `Subscriber` that its core needs. ``query``: there is an endpoint to ask."""

    query: bool = True
    snapshot: bool = True
    heal: bool = True
    heal_timeout_s: float = 30.0
    hold_limit: int = 100_000


CONNECTED, DISCONNECTED, RESTARTED = "connected", "disconnected", "restarted"
GAP, HEALED, LOST, NOT_WHOLE = "gap", "healed", "lost", "not_whole"
SILENT, ALIVE, FEED_LOST, FEED_BACK = "silent", "alive", "feed_lost", "feed_back"
LAGGING, CAUGHT_UP, QUERY_FAILED = "lagging", "caught_up", "query_failed"
MALFORMED = "malformed"

KINDS = (
    *(CONNECTED, DISCONNECTED, RESTARTED, GAP, HEALED, LOST, NOT_WHOLE),
    *(SILENT, ALIVE, FEED_LOST, FEED_BACK, LAGGING, CAUGHT_UP, QUERY_FAILED, MALFORMED),
)
"""Every ``Notice.kind``; the package's own text says what each means."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something about the stream, told in its place between the events.

    ``kind`` is one of `KINDS`, ``text`` a sentence for people. ``topic`` is set where one topic is meant. ``count`` is
    events: missing (``gap``), delivered from the journal (``healed``), gone for good (``lost``; 0 where how many
    cannot be known), or messages dropped (``malformed``). ``code`` is the daemon's error code (``query_failed``),
    ``value`` the number of the rest: seconds of silence or of lag.
    """

    kind: str
    text: str
    topic: str = ""
    count: int = 0
    code: str = ""
    value: float = 0.0


class Checkpoint(NamedTuple):
    """Stands in the stream of items for: every durable event up to ``offset`` of ``log`` came before this."""

    log: str | None
    offset: int
