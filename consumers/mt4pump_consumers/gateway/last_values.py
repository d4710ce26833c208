"""The last value of everything, for those who subscribe later; pure.

Kinds that have several rows on one topic (the open orders of an account) are kept row by row, and go when they end.
News and mail are no values and are not kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mt4pump.client import Event

ROWS_LIMIT = 1_000_000
"""Rows kept at most; those beyond are counted and told live only."""
ROW_FIELD = {"trade": "order", "activation": "order", "request": "id"}
"""The field that tells the rows of one topic apart."""
UNKEPT = frozenset({"news", "mail", "unknown", "heartbeat"})
ENDED = frozenset({"closed", "cancelled", "deleted"})
MONEY = frozenset({"balance", "credit"})
"""Changes of trades that open nothing and close nothing."""


class LastValues:
    """``unkept`` counts rows for which there was no room."""

    def __init__(self, rows_limit: int = ROWS_LIMIT) -> None:
        self.unkept = 0
        self._rows_limit = rows_limit
        self._count = 0
        self._topics: dict[str, dict[object, Event]] = {}

    def keep(self, event: Event) -> None:
        """Take over what ``event`` says."""
        kind, body = event.kind, event.body
        change = body.get("change")
        if kind in UNKEPT or (kind == "trade" and change in MONEY):
            return
        row = body.get(ROW_FIELD.get(kind, ""))
        if change in ENDED or body.get("action") == "delete":
            self._drop(event.topic, row)
            if kind == "trade":
                self._drop(f"activation.{event.key}", row)
            return
        rows = self._topics.get(event.topic)
        if rows is None or row not in rows:
            if self._count >= self._rows_limit:
                self.unkept += 1
                return
            self._count += 1
            rows = self._topics.setdefault(event.topic, {})
        rows[row] = event

    def _drop(self, topic: str, row: object) -> None:
        rows = self._topics.get(topic)
        if rows is not None and rows.pop(row, None) is not None:
            self._count -= 1
            if not rows:
                del self._topics[topic]

    def forget(self, events: Iterable[Event]) -> None:
        """Start again from a snapshot: what it does not hold has ended, quotes aside."""
        self._topics = {topic: rows for topic, rows in self._topics.items() if topic.startswith("quote.")}
        self._count = sum(len(rows) for rows in self._topics.values())
        for event in events:
            self.keep(event)

    def topics(self) -> list[str]:
        """Return every topic that has a value."""
        return list(self._topics)

    def rows(self, topic: str) -> Iterator[Event]:
        """Yield the values of one topic."""
        yield from list(self._topics.get(topic, {}).values())

    def __contains__(self, topic: str) -> bool:
        return topic in self._topics

    def __len__(self) -> int:
        return self._count
