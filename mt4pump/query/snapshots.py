"""Snapshots kept for the clients that page through them, and their pages.

A snapshot is sorted by topic once, in slices. A page is a range of topics, so the rows of a topic are never split, and
all pages together are the snapshot.
"""

from __future__ import annotations

import secrets
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

import msgpack

from mt4pump.mt4.record import Fields
from mt4pump.pump.snapshot import StateSnapshot
from mt4pump.query.limits import QueryOptions, WorkBudget
from mt4pump.query.requests import Cursor, RequestError
from mt4pump.wire import Body

SORTED_AT_ONCE = 256
"""About so many topics are sorted in one call, which takes some 30 µs; of 300,000 topics the borders take 0.2 ms."""
ROWS_PER_TICK = 64
FIXMAP = 0x80
HEADER_SIZES = {b"\xde": 3, b"\xdf": 5}
"""Bytes of a msgpack map's header by the first: map 16, map 32; all other maps have one."""
ADDED = 4
"""Entries that a packed row gets: epoch, ts, snapshot, seq."""


class Peer(NamedTuple):
    """Who sent a request: the connection's routing id, and the client's name if CURVE gives one (else empty)."""

    connection: bytes
    user: str

    @property
    def owner(self) -> bytes:
        """Return the owner of its snapshots: the client over all its connections, else the connection."""
        return b"user " + self.user.encode() if self.user else b"connection " + self.connection


@dataclass(slots=True)
class SortedSnapshot:
    """A snapshot of ``prefixes`` in the order of its pages, readable for the owner of ``peer`` alone.

    ``is_done`` is set when its last page was sent: it is kept only in case that page is requested again.
    """

    snapshot: StateSnapshot
    peer: Peer
    prefixes: tuple[bytes, ...]
    topics: list[bytes]
    rows: Mapping[bytes, list[bytes | Fields]]
    token: str = field(default_factory=lambda: secrets.token_hex(16))
    kept_at_s: float = 0.0
    read_at_s: float = 0.0
    is_done: bool = False


def sort_snapshot(
    snapshot: StateSnapshot, peer: Peer, prefixes: tuple[bytes, ...], budget: WorkBudget
) -> SortedSnapshot:
    """Return the part of ``snapshot`` within ``prefixes``, sorted by topic."""
    rows: dict[bytes, list[bytes | Fields]] = {}
    for count, (topic, packed) in enumerate(snapshot.rows):
        if topic.startswith(prefixes):
            rows.setdefault(topic, []).append(packed)
        if not count % ROWS_PER_TICK:
            budget.tick()
    topics = list(rows)
    for count, topic in enumerate(snapshot.seqs):
        if topic.startswith(prefixes) and topic not in rows:
            topics.append(topic)
        if not count % ROWS_PER_TICK:
            budget.tick()
    without_rows = replace(snapshot, rows=())  # frees those outside the prefixes
    return SortedSnapshot(without_rows, peer, prefixes, _sorted(topics, budget), rows)


def _sorted(topics: list[bytes], budget: WorkBudget) -> list[bytes]:
    """Return ``topics`` sorted: each range between two of a sample by itself."""
    budget.tick()
    borders = sorted(topics[::SORTED_AT_ONCE])
    budget.tick()
    ranges: list[list[bytes]] = [[] for _ in range(len(borders) + 1)]
    for start in range(0, len(topics), ROWS_PER_TICK):
        for topic in topics[start : start + ROWS_PER_TICK]:
            ranges[bisect(borders, topic)].append(topic)
        budget.tick()
    done: list[bytes] = []
    for each in ranges:
        done += sorted(each)
        budget.tick()
    return done


def page(
    held: SortedSnapshot, start: int, limit: int, options: QueryOptions, budget: WorkBudget, *, values: bool
) -> tuple[Body, list[bytes]]:
    """Return head and frames of the page that begins with topic number ``start``: about ``limit`` rows, or topics."""
    snapshot = held.snapshot
    seqs: dict[str, int] = {}
    frames: list[bytes] = []
    end, rows, size = start, 0, 0
    bodies = RowEncoder(snapshot.epoch, snapshot.ts)
    until_s = budget.spent_s() + options.page_s  # without the time that sorting took
    for topic in islice(held.topics, start, None):
        own = held.rows.get(topic, ()) if values else ()
        rows += max(1, len(own))
        if end > start and rows > limit:
            break
        seq = snapshot.seqs.get(topic, 0)
        seqs[topic.decode("utf-8", "replace")] = seq
        size += len(topic)
        for count, row in enumerate(own, 1):
            body = bodies.body(row, seq)
            frames += (topic, body)
            size += len(body)
            if not count % ROWS_PER_TICK:
                budget.tick()
        end += 1
        if not end % ROWS_PER_TICK:
            budget.tick()
        if size >= options.page_bytes or (not end % ROWS_PER_TICK and budget.spent_s() >= until_s):
            break
    head = {
        "ok": True,
        "epoch": snapshot.epoch,
        "log": snapshot.log,
        "offset": snapshot.offset,
        "offsets": dict(snapshot.offsets),
        "ts": snapshot.ts,
        "seqs": seqs,
        "cursor": str(Cursor(held.token, end)) if end < len(held.topics) else None,
    }
    return head, frames


class RowEncoder:
    """Makes the bodies of one snapshot's rows: their fields and ``epoch seq ts snapshot``.

    A packed row is not unpacked: its map gets a new length and four more entries.
    """

    def __init__(self, epoch: int, ts: int) -> None:
        self._pack = msgpack.Packer(unicode_errors="replace").pack
        self._common: Fields = {"epoch": epoch, "ts": ts, "snapshot": True}
        self._entries: bytes = self._pack(self._common)[1:] + self._pack("seq")

    def body(self, row: bytes | Fields, seq: int) -> bytes:
        """Return the body of one row; unpacked fields may have their own ``ts``. Raises ValueError if it is no map."""
        if isinstance(row, bytes):
            return extend_map(row, self._entries, self._pack(seq))
        packed: bytes = self._pack({**self._common, **row, "seq": seq})
        return packed


def extend_map(packed: bytes, *entries: bytes) -> bytes:
    """Return a packed msgpack map with `ADDED` more packed entries; raises ValueError if it is no map."""
    size = HEADER_SIZES.get(packed[:1], 1)
    return b"".join((_extended_header(packed[:size]), packed[size:], *entries))


@lru_cache(maxsize=256)
def _extended_header(header: bytes) -> bytes:
    size = len(header)
    is_short = size == 1 and FIXMAP <= header[0] < FIXMAP + 16
    if not (is_short or size == HEADER_SIZES.get(header[:1])):
        raise ValueError(f"a packed row starts with {header!r}: no msgpack map")
    count = header[0] - FIXMAP if is_short else int.from_bytes(header[1:], "big")
    extended: bytes = msgpack.Packer().pack_map_header(count + ADDED)
    return extended


class SnapshotCache:
    """At most ``options.snapshots_held`` snapshots with pages left to send, of them a few per connection and client.

    ``evicted`` counts those discarded for another one before they were read to their end.
    """

    def __init__(self, options: QueryOptions, now_s: Callable[[], float]) -> None:
        self._options = options
        self._now_s = now_s
        self._held: dict[str, SortedSnapshot] = {}
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._held)

    def keep(self, made: SortedSnapshot) -> None:
        """Keep a snapshot for its further pages; raises RequestError (busy) when there is no room for it."""
        peer, options, held = made.peer, self._options, self._held.values()
        of_connection = [each for each in held if each.peer.connection == peer.connection]
        of_owner = [each for each in held if each.peer.owner == peer.owner]
        if len(of_connection) >= options.snapshots_per_connection:
            self._evict(of_connection)
        elif len(of_owner) >= options.snapshots_per_client:
            self._evict(of_owner)
        elif len(held) >= options.snapshots_held:
            self._make_room()
        made.kept_at_s = made.read_at_s = self._now_s()
        self._held[made.token] = made

    def _make_room(self) -> None:
        """Evict one that was read to its end, else an idle or old one, of the client that holds most."""
        now_s, options, held = self._now_s(), self._options, self._held.values()
        wait_s = {
            each.token: min(options.snapshot_evictable_s + each.read_at_s, options.snapshot_old_s + each.kept_at_s)
            - now_s
            for each in held
        }
        ready = [each for each in held if each.is_done or wait_s[each.token] <= 0]
        if not ready:
            text = f"ask again in {min(wait_s.values()):.1f} s, or with a higher limit"
            raise RequestError("busy", f"{len(held)} snapshots are being read page by page: {text}")
        self._evict(ready)

    def _evict(self, candidates: list[SortedSnapshot]) -> None:
        of_owner = Counter(each.peer.owner for each in self._held.values())
        evicted = min(candidates, key=lambda each: (not each.is_done, -of_owner[each.peer.owner], each.read_at_s))
        self.evicted += not evicted.is_done
        self.drop(evicted)

    def find(self, cursor: Cursor, peer: Peer) -> SortedSnapshot:
        """Return the peer's snapshot that ``cursor`` names, and note the read; raises RequestError (cursor_expired)."""
        self.expire()
        held = self._held.get(cursor.token)
        if held is None or held.peer.owner != peer.owner or cursor.start >= len(held.topics):
            idle = f"not read for {self._options.snapshot_idle_s:g} s"
            text = f"no such snapshot: it is another client's, was {idle}, or was discarded; ask for a new snapshot"
            raise RequestError("cursor_expired", text)
        held.read_at_s = self._now_s()
        return held

    def drop(self, held: SortedSnapshot) -> None:
        """Forget a snapshot."""
        self._held.pop(held.token, None)

    def expire(self) -> None:
        """Forget the snapshots that were not read for too long."""
        oldest_s = self._now_s() - self._options.snapshot_idle_s
        self._held = {token: held for token, held in self._held.items() if held.read_at_s > oldest_s}
