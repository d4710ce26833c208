"""The last value of everything, for those who subscribe later; pure.

Kinds that have several rows on one topic (the open orders of an account) are kept row by row, and removed when they
end. When events are lost an end may be among them, so all rows are replaced by a snapshot. News and mail are no values
and are not kept.
"""

from __future__ import annotations

from collections.abc import Iterator

from mt4pump.client import Event, Snapshot

ROWS_LIMIT = 1_000_000
"""Rows kept at most; those beyond are counted and sent live only."""
ROW_FIELD = {"trade": "order", "activation": "order", "request": "id"}
"""The field that identifies a row of a topic."""
UNKEPT = frozenset({"news", "mail", "unknown", "heartbeat"})
ENDED = frozenset({"closed", "cancelled", "deleted"})
MONEY = frozenset({"balance", "credit"})
"""Changes of trades that open nothing and close nothing."""


SINCE_LIMIT = 100_000
"""Events that may arrive between the request of a snapshot and its reply."""


class LastValues:
    """``unkept`` counts rows for which there was no room."""

    def __init__(self, rows_limit: int = ROWS_LIMIT, since_limit: int = SINCE_LIMIT) -> None:
        self.unkept = 0
        self._rows_limit, self._since_limit = rows_limit, since_limit
        self._count = 0
        self._topics: dict[str, dict[object, Event]] = {}
        self._since: list[Event] | None = None
        self._epoch = 0
        self._seqs: dict[str, int] = {}

    def keep(self, event: Event) -> None:
        """Take over what ``event`` says, unless the last snapshot is newer."""
        kind, body = event.kind, event.body
        change = body.get("change")
        if kind in UNKEPT or (kind == "trade" and change in MONEY):
            return
        if kind != "quote" and (self._since is not None or self._epoch):
            if self._since is not None and len(self._since) <= self._since_limit:
                self._since.append(event)
            if self._is_in_snapshot(event):
                return
        self._take(event)

    def _is_in_snapshot(self, event: Event) -> bool:
        epoch = event.epoch
        return epoch < self._epoch or (epoch == self._epoch and event.seq <= self._seqs.get(event.topic, 0))

    def _take(self, event: Event) -> None:
        kind, body = event.kind, event.body
        change = body.get("change")
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

    def await_snapshot(self) -> None:
        """Remember events from now on: a snapshot was requested."""
        self._since = []

    def renew(self, snapshot: Snapshot | None) -> bool:
        """Replace all rows but quotes by ``snapshot``; None: it could not be read.

        Return whether that was done; not if more came meanwhile than can be remembered.
        """
        since, self._since = self._since, None
        if snapshot is None or since is None or len(since) > self._since_limit:
            return False
        self._topics = {topic: rows for topic, rows in self._topics.items() if topic.startswith("quote.")}
        self._count = sum(len(rows) for rows in self._topics.values())
        self._epoch, self._seqs = snapshot.epoch, snapshot.seqs
        for event in snapshot.events:
            if event.kind not in UNKEPT and (event.kind != "quote" or self._is_newer_quote(event)):
                self._take(event)
        for event in since:
            self.keep(event)
        return True

    def _is_newer_quote(self, event: Event) -> bool:
        have = self._topics.get(event.topic, {}).get(None)
        return have is None or (have.epoch, have.seq) < (event.epoch, event.seq)

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
