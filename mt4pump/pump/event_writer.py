"""Numbers events, packs them, commits the durable ones to the journal, publishes; on the pump thread.

A durable event is committed before it is published: the durable events of one wake-up are committed as one group
(`flush`). When the journal cannot store the group, its events are published without ``offset``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from mt4pump.journal import Journal, Stored
from mt4pump.mt4.record import Fields
from mt4pump.publisher.publisher import Publisher
from mt4pump.wire import KINDS, NEWS, Encoder, Kind, topic_of

NEWS_TOPICS_LIMIT = 50_000
"""News topics whose numbers are kept; each news has its own topic, used once or twice. The oldest are dropped."""
GROUP_LIMIT = 256
"""Durable events that wait for their commit, at most."""


class EventWriter:
    """Numbers, commits and publishes all events but quotes, which `QuoteStream` numbers.

    Numbers are 1, 2, 3 … per topic within a run of the daemon.

    ``counts`` are the events of each kind, with or without a subscriber. ``durable`` names the kinds that the
    ``journal`` stores; without a journal none are stored. ``skipped`` counts records that were handled and not written:
    ``before_start``: of the API's initial fill; ``repeats``: of what was published, or read from a table, before;
    ``news_repeats``: news headers published before; ``news_bodies_given_up``: requested bodies that never came.
    """

    def __init__(
        self, encoder: Encoder, publisher: Publisher, journal: Journal | None = None, durable: Collection[str] = ()
    ) -> None:
        self.encoder = encoder
        self.publisher = publisher
        self.journal = journal
        self.counts: Counter[str] = Counter()
        self.skipped = Counter(before_start=0, repeats=0, news_repeats=0, news_bodies_given_up=0)
        self.durable = frozenset(durable) if journal is not None else frozenset[str]()
        self._seqs: dict[str, dict[bytes, int]] = {name: {} for name in KINDS}
        self._group: list[Stored] = []

    def seqs(self, kind: Kind) -> Mapping[bytes, int]:
        """Return the last number of every topic of ``kind``, for the caller to copy before the next event."""
        return self._seqs[kind.name]

    def write(
        self,
        kind: Kind,
        key: object,
        fields: Fields,
        ts: int,
        *,
        synthetic: bool = False,
        transient: bool = False,
        ticket: int = 0,
    ) -> None:
        """Publish one event on ``kind.<key>``.

        ``synthetic`` marks an event that was inferred and not received. A ``transient`` event is not stored though its
        kind is durable. ``ticket`` is the order that the event leaves open, negative for one that it ends; the journal
        keeps the open orders.
        """
        topic, seqs = topic_of(kind, key, self.encoder.suffix), self._seqs[kind.name]
        seqs[topic] = seq = seqs.get(topic, 0) + 1
        self.counts[kind.name] += 1
        if kind is NEWS and len(seqs) > NEWS_TOPICS_LIMIT:
            del seqs[next(iter(seqs))]
        body = {**fields, "synthetic": True} if synthetic else fields
        if kind.name in self.durable and not transient:
            self._add_to_group(topic, body, seq, ts, ticket)
        elif self.publisher.subscriptions.has_subscriber(topic):
            self.publisher.send(topic, self.encoder.body(body, seq, ts))

    def _add_to_group(self, topic: bytes, fields: Fields, seq: int, ts: int, ticket: int) -> None:
        """Add a durable event to the group of the next commit."""
        if len(self._group) >= GROUP_LIMIT:
            self.flush()
        assert self.journal is not None  # noqa: S101 - no kind is durable without one
        offset = self.journal.last_offset + len(self._group) + 1
        body = self.encoder.durable_body(fields, seq, ts, offset)
        self._group.append(Stored(offset, ts, topic, body, ticket))

    def flush(self) -> None:
        """Commit the durable events that wait, then publish them."""
        group = self._group
        if not group or self.journal is None:
            return
        stored = self.journal.append(group, {})
        has_subscriber, send = self.publisher.subscriptions.has_subscriber, self.publisher.send
        for _, _, topic, body, _ in group:
            if has_subscriber(topic):
                send(topic, body if stored else self.encoder.without_offset(body))
        group.clear()

    def store_orders(self, orders: Mapping[int, bytes]) -> None:
        """Store the open orders of the baseline in the journal, with no event."""
        self.flush()
        if self.journal is not None:
            self.journal.append((), orders)
