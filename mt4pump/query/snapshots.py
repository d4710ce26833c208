"""Cuts held for the peers that page through them, and the pages made of them.

Whole cuts are sorted by topic once, in slices; a page is a range of topics, so it never splits a topic's rows, and all
pages together are the cut.
"""

from __future__ import annotations

import heapq
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import NamedTuple

from mt4pump.mt4.decode import Fields
from mt4pump.pump.snapshot import StateSnapshot
from mt4pump.query.limits import QueryOptions, WorkBudget
from mt4pump.query.replies import OutgoingReply, SnapshotBodies
from mt4pump.query.requests import BUSY, CURSOR_EXPIRED, Cursor, RequestError

SORTED_AT_ONCE = 1_000
"""Topics sorted in one go: a sort lets no other thread in until it is done, which is 0.1 ms for these."""
LOOK_EVERY = 64
"""Rows between two looks at the clock."""


class Peer(NamedTuple):
    """Who asks: the name of the connection, and of the client where CURVE tells it (else empty)."""

    connection: bytes
    user: str

    @property
    def owner(self) -> bytes:
        """Return to whom a cut belongs: the client over all its connections, else the connection."""
        return b"user " + self.user.encode() if self.user else b"connection " + self.connection


@dataclass(slots=True)
class SortedSnapshot:
    """A cut in the order of its pages. ``peer`` made it and its owner alone may read it; ``prefixes`` is what it is of.

    ``made_at_s`` is when it was first kept, ``used_at_s`` when it was last read; ``is_done`` says that its last page
    went out, so it is kept only for one who missed that page.
    """

    cut: StateSnapshot
    peer: Peer
    prefixes: tuple[bytes, ...]
    topics: list[bytes]
    rows: Mapping[bytes, list[bytes | Fields]]
    token: str = field(default_factory=lambda: secrets.token_hex(16))
    made_at_s: float = 0.0
    used_at_s: float = 0.0
    is_done: bool = False


def arranged(cut: StateSnapshot, peer: Peer, prefixes: tuple[bytes, ...], pace: WorkBudget) -> SortedSnapshot:
    """Return the part of ``cut`` that ``prefixes`` ask for, sorted by topic."""
    rows: dict[bytes, list[bytes | Fields]] = {}
    for count, (topic, packed) in enumerate(cut.rows):
        if topic.startswith(prefixes):
            rows.setdefault(topic, []).append(packed)
        if not count % LOOK_EVERY:
            pace.tick()
    topics = list(rows)
    for count, topic in enumerate(cut.seqs):
        if topic.startswith(prefixes) and topic not in rows:
            topics.append(topic)
        if not count % LOOK_EVERY:
            pace.tick()
    rowless = replace(cut, rows=())  # those not asked for need not be held
    return SortedSnapshot(rowless, peer, prefixes, _sorted(topics, pace), rows)


def _sorted(topics: list[bytes], pace: WorkBudget) -> list[bytes]:
    runs: list[list[bytes]] = []
    for start in range(0, len(topics), SORTED_AT_ONCE):
        runs.append(sorted(topics[start : start + SORTED_AT_ONCE]))
        pace.tick()
    merged = heapq.merge(*runs)
    done: list[bytes] = []
    while more := list(islice(merged, LOOK_EVERY)):
        done += more
        pace.tick()
    return done


def page(
    held: SortedSnapshot, start: int, limit: int, options: QueryOptions, pace: WorkBudget, *, values: bool
) -> OutgoingReply:
    """Return the page that begins with topic number ``start`` and has about ``limit`` rows, or as many topics."""
    cut = held.cut
    seqs: dict[str, int] = {}
    frames: list[bytes] = []
    end, rows, size = start, 0, 0
    bodies = SnapshotBodies(cut.epoch, cut.ts)
    until_s = pace.spent_s() + options.page_s  # sorting the cut came before, and is not this page's time
    for topic in _range(held, start):
        own = held.rows.get(topic, ()) if values else ()
        rows += max(1, len(own))
        if end > start and rows > limit:
            break
        seq = cut.seqs.get(topic, 0)
        seqs[topic.decode("utf-8", "replace")] = seq
        size += len(topic)
        for count, row in enumerate(own, 1):
            body = bodies.body(row, seq)
            frames += (topic, body)
            size += len(body)
            if not count % LOOK_EVERY:
                pace.tick()
        end += 1
        if not end % LOOK_EVERY:
            pace.tick()
        if size >= options.page_bytes or (not end % LOOK_EVERY and pace.spent_s() >= until_s):
            break
    head = {
        "ok": True,
        "epoch": cut.epoch,
        "log": cut.log,
        "offset": cut.offset,
        "offsets": dict(cut.offsets),
        "ts": cut.ts,
        "seqs": seqs,
        "cursor": str(Cursor(held.token, end)) if end < len(held.topics) else None,
    }
    return OutgoingReply(head, frames)


def _range(held: SortedSnapshot, start: int) -> Iterator[bytes]:
    return (held.topics[place] for place in range(start, len(held.topics)))


class SnapshotCache:
    """At most ``options.cuts_held`` cuts that have pages left to give, of them a few of one connection or client.

    ``evicted`` counts those that gave way to another one before they were read to their end.
    """

    def __init__(self, options: QueryOptions, now_s: Callable[[], float]) -> None:
        self._options = options
        self._now_s = now_s
        self._held: dict[str, SortedSnapshot] = {}
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._held)

    def keep(self, cut: SortedSnapshot) -> None:
        """Keep ``cut`` for its further pages; raises Refusal (busy) when there is no room for it."""
        peer, options = cut.peer, self._options
        of_connection = [each for each in self._held.values() if each.peer.connection == peer.connection]
        of_client = [each for each in self._held.values() if each.peer.owner == peer.owner]
        if len(of_connection) >= options.cuts_per_connection:
            self._evict(min(of_connection, key=_value))
        elif len(of_client) >= options.cuts_per_client:
            self._evict(min(of_client, key=_value))
        elif len(self._held) >= options.cuts_held:
            self._make_room()
        cut.made_at_s = cut.used_at_s = self._now_s()
        self._held[cut.token] = cut

    def _make_room(self) -> None:
        """Drop a cut: one read to its end, else an idle or old one, of the client that holds most."""
        now_s, options = self._now_s(), self._options
        held = Counter(each.peer.owner for each in self._held.values())
        wait_s = {
            token: min(options.cut_evictable_s + each.used_at_s, options.cut_old_s + each.made_at_s) - now_s
            for token, each in self._held.items()
        }
        ready = [each for token, each in self._held.items() if each.is_done or wait_s[token] <= 0]
        if not ready:
            text = (
                f"{len(self._held)} snapshots are being read page by page: "
                f"ask again in {min(wait_s.values()):.1f} s, or with a higher limit"
            )
            raise RequestError(BUSY, text)
        self._evict(min(ready, key=lambda each: (not each.is_done, -held[each.peer.owner], each.used_at_s)))

    def _evict(self, cut: SortedSnapshot) -> None:
        self.evicted += not cut.is_done
        self.drop(cut)

    def find(self, cursor: Cursor, peer: Peer) -> SortedSnapshot:
        """Return the peer's cut that ``cursor`` is of, and count it as read; raises Refusal (cursor_expired)."""
        self.expire()
        cut = self._held.get(cursor.token)
        if cut is None or cut.peer.owner != peer.owner or cursor.start >= len(cut.topics):
            text = (
                f"no such cut: it was made by another peer, or not read for {self._options.cut_idle_s:g} s, or given up"
            )
            raise RequestError(CURSOR_EXPIRED, f"{text}; ask for a new snapshot")
        cut.used_at_s = self._now_s()
        return cut

    def drop(self, cut: SortedSnapshot) -> None:
        """Forget ``cut``."""
        self._held.pop(cut.token, None)

    def expire(self) -> None:
        """Forget the cuts that nobody read for too long."""
        oldest_s = self._now_s() - self._options.cut_idle_s
        for token in [token for token, cut in self._held.items() if cut.used_at_s <= oldest_s]:
            del self._held[token]


def _value(cut: SortedSnapshot) -> tuple[bool, float]:
    """Return how much its peer would miss it."""
    return not cut.is_done, cut.used_at_s
