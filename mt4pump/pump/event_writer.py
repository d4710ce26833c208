"""From fields to the bus: number, pack, store what is durable, publish. Runs on the pump thread.

A durable event is committed to the journal before it is published: it waits until the group that one wake-up brought
is whole (`flush`). When the journal cannot take the group it is published all the same, without ``offset``, so that
nobody believes it to be stored.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Mapping

from mt4pump.journal import Journal, Stored
from mt4pump.mt4.decode import Fields
from mt4pump.publisher.publisher import Publisher
from mt4pump.sequence import Numbering
from mt4pump.wire import KINDS, NEWS, QUOTE, Encoder, Kind, topic_of

NEWS_TOPICS_LIMIT = 50_000
"""Each news has a topic of its own that is used once or twice: the oldest ones' numbers are forgotten."""
GROUP_LIMIT = 256
"""Durable events that wait for their commit, at most."""
NO_ORDERS: Mapping[int, bytes | None] = {}


class EventWriter:
    """The one way out for events. ``counts`` are events per kind, with or without a subscriber.

    ``durable`` names the kinds that go through the journal; without a ``journal`` none do.
    """

    def __init__(
        self, encoder: Encoder, publisher: Publisher, journal: Journal | None = None, durable: Collection[str] = ()
    ) -> None:
        self.encoder = encoder
        self.publisher = publisher
        self.counts: Counter[str] = Counter()
        self._journal = journal
        self._durable = frozenset(durable) if journal is not None else frozenset[str]()
        self._numbering = {name: Numbering() for name in KINDS}
        self._news_topics: deque[bytes] = deque()
        self._waiting: list[Stored] = []

    def is_durable(self, kind: Kind) -> bool:
        """Return whether events of ``kind`` go through the journal."""
        return kind.name in self._durable

    def write(
        self,
        kind: Kind,
        key: object,
        fields: Fields,
        ts: int,
        *,
        synthetic: bool = False,
        passing: bool = False,
        ticket: int = 0,
    ) -> None:
        """Publish one event on ``kind.<key>``.

        ``synthetic`` marks what was inferred and not received; a ``passing`` event is not durable though its kind is.
        ``ticket`` is the order that the event leaves open, negative for one that it ends: the journal remembers them.
        """
        topic, seq = self._number(kind, key)
        body = {**fields, "synthetic": True} if synthetic else fields
        if kind.name in self._durable and not passing:
            self._hold(topic, body, seq, ts, ticket)
        elif self.publisher.subscriptions.has_subscriber(topic):
            self.publisher.send(topic, self.encoder.body(body, seq, ts))

    def remember(self, orders: Mapping[int, bytes]) -> None:
        """Have the journal remember open orders that are nobody's news."""
        self.flush()
        if self._journal is not None:
            self._journal.append((), orders)

    def flush(self) -> None:
        """Commit the durable events that wait, then publish them."""
        waiting = self._waiting
        if not waiting or self._journal is None:
            return
        stored = self._journal.append(waiting, NO_ORDERS)
        wants, send = self.publisher.subscriptions.has_subscriber, self.publisher.send
        for _, _, topic, body, _ in waiting:
            if wants(topic):
                send(topic, body if stored else self.encoder.without_offset(body))
        waiting.clear()

    def count_quotes(self, published: int) -> None:
        """Take over the count that `QuoteStream` keeps."""
        self.counts[QUOTE.name] = published

    def seqs(self, kind: Kind) -> dict[bytes, int]:
        """Return the last number of every topic of ``kind``."""
        return self._numbering[kind.name].all()

    def _number(self, kind: Kind, key: object) -> tuple[bytes, int]:
        topic = topic_of(kind, key, self.encoder.suffix)
        seq = self._numbering[kind.name].next(topic)
        self.counts[kind.name] += 1
        if kind is NEWS and seq == 1:
            self._remember_news(topic)
        return topic, seq

    def _hold(self, topic: bytes, fields: Fields, seq: int, ts: int, ticket: int) -> None:
        """Have a durable event wait for the commit of its group."""
        if len(self._waiting) >= GROUP_LIMIT:
            self.flush()
        assert self._journal is not None  # noqa: S101 - no kind is durable without one
        offset = self._journal.last_offset + len(self._waiting) + 1
        body = self.encoder.durable_body(fields, seq, ts, offset)
        self._waiting.append(Stored(offset, ts, topic, body, ticket))

    def _remember_news(self, topic: bytes) -> None:
        self._news_topics.append(topic)
        if len(self._news_topics) > NEWS_TOPICS_LIMIT:
            self._numbering[NEWS.name].forget(self._news_topics.popleft())
