"""Finds events that are not stored in the journal and did not arrive, by their numbers; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from mt4pump.client import Event, Notice

NOT_READING = "the archive was not reading"
LOST = "lost on the way to the archive: it was too slow, or its connection broke"
NEW_RUN = "published before the archive read this run of the daemon"
UNNUMBERED_KINDS = frozenset({"quote", "unknown"})
PING = "session.ping"

Gap = dict[str, Any]


class GapFinder:
    """Compares the numbers of each topic with the last ones.

    ``seqs`` has the last (epoch, seq) by topic of what is archived, ``first_epoch`` the run of the daemon in which the
    archive began: what was published in it before is no gap.
    """

    def __init__(self, seqs: dict[str, list[int]], first_epoch: int) -> None:
        self.seqs = dict(seqs)
        self.changed: dict[str, list[int]] = {}
        self.first_epoch = first_epoch
        self.gaps: list[Gap] = []
        self.duplicates = 0
        self._seen: set[str] = set()
        self._lost: dict[str, tuple[int, str, int]] = {}

    def check(self, events: Sequence[Event]) -> Sequence[Event]:
        """Return the events that are new, and note the gaps before them. All must be without an offset."""
        topics = [event.topic for event in events]
        numbers = [(event.body["epoch"], event.body["seq"]) for event in events]
        self.first_epoch = self.first_epoch or numbers[0][0]
        first, last = (
            dict(zip(reversed(topics), reversed(numbers), strict=True)),
            dict(zip(topics, numbers, strict=True)),
        )
        odd = set()
        for topic, count in Counter(topics).items():
            (epoch, seq), known = last[topic], self.seqs.get(topic)
            if first[topic] != (epoch, seq - count + 1) or known != [epoch, seq - count]:
                odd.add(topic)
            else:
                self.seqs[topic] = self.changed[topic] = [epoch, seq]
        kept = [event for event in events if event.topic not in odd or self._is_new(event)] if odd else events
        self._seen.update(last)
        return kept

    def _is_new(self, event: Event) -> bool:
        topic, epoch, seq = event.topic, event.body["epoch"], event.body["seq"]
        known_epoch, known_seq = self.seqs.get(topic, (0, 0))
        # After the daemon's folder was deleted a later run may have a smaller epoch; late events the client drops.
        if epoch == known_epoch and seq <= known_seq:
            self.duplicates += 1
            return False
        if epoch == known_epoch:
            self._add(event, known_seq + 1, LOST if topic in self._seen else NOT_READING)
        elif known_epoch or epoch != self.first_epoch:
            self._add(event, 1, NEW_RUN)
        self.seqs[topic] = self.changed[topic] = [epoch, seq]
        return True

    def _add(self, event: Event, from_seq: int, why: str) -> None:
        if from_seq < event.seq:
            self.gaps.append(
                {
                    "kind": event.kind,
                    "event_topic": event.topic,
                    "epoch": event.epoch,
                    "ts": event.ts,
                    "from_seq": from_seq,
                    "to_seq": event.seq - 1,
                    "why": why,
                }
            )

    def lost(self, notice: Notice, ts: int) -> None:
        """Note that the client reported durable events as lost: they precede the topic's next event."""
        if not notice.topic:
            self.gaps.append({"why": notice.text, "ts": ts})
        elif notice.topic.partition(".")[0] not in UNNUMBERED_KINDS and notice.topic != PING:
            self._lost[notice.topic] = (notice.count, notice.text, ts)

    def check_durable(self, events: Iterable[Event]) -> None:
        """Note the gaps before ``events`` that the client reported."""
        if self._lost:
            for event in events:
                if lost := self._lost.pop(event.topic, None):
                    self._add(event, event.seq - lost[0], lost[1])

    def take(self) -> tuple[list[Gap], dict[str, list[int]]]:
        """Return the gaps and last numbers since the last call. A loss after which no event came has no numbers."""
        for topic, (_, why, ts) in self._lost.items():
            self.gaps.append({"kind": topic.partition(".")[0], "event_topic": topic, "why": why, "ts": ts})
        self._lost.clear()
        found = self.gaps, self.changed
        self.gaps, self.changed = [], {}
        return found
