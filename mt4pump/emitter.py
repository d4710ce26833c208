"""From fields to the bus: number, pack, publish. Runs on the pump thread."""

from __future__ import annotations

from collections import Counter, deque

from mt4pump.decode import Fields
from mt4pump.publisher import Publisher
from mt4pump.sequence import Numbering
from mt4pump.wire import NEWS, QUOTE, Encoder, Kind, topic_of

NEWS_TOPICS_LIMIT = 50_000
"""Each news has a topic of its own that is used once or twice: the oldest ones' numbers are forgotten."""


class Emitter:
    """The one way out for events. ``counts`` are events per kind, with or without a subscriber."""

    def __init__(self, encoder: Encoder, publisher: Publisher) -> None:
        self.encoder = encoder
        self.publisher = publisher
        self.counts: Counter[str] = Counter()
        self._numbering = Numbering()
        self._news_topics: deque[bytes] = deque()

    def emit(self, kind: Kind, key: object, fields: Fields, ts: int, *, synthetic: bool = False) -> None:
        """Publish one event on ``kind.<key>``. ``synthetic`` marks what was inferred and not received."""
        topic = topic_of(kind, key)
        seq = self._numbering.next(topic)
        self.counts[kind.name] += 1
        if kind is NEWS and seq == 1:
            self._remember_news(topic)
        if self.publisher.interest.wants(topic):
            body = {**fields, "synthetic": True} if synthetic else fields
            self.publisher.send(topic, self.encoder.body(body, seq, ts))

    def count_quotes(self, published: int) -> None:
        """Take over the count that `QuoteStream` keeps."""
        self.counts[QUOTE.name] = published

    def _remember_news(self, topic: bytes) -> None:
        self._news_topics.append(topic)
        if len(self._news_topics) > NEWS_TOPICS_LIMIT:
            self._numbering.forget(self._news_topics.popleft())
