"""The promises of PROTOCOL, checked while a simulation runs: what the daemon publishes, and what a reader gets."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from mt4pump.client.event import LOST, NOT_WHOLE, RESTARTED, Checkpoint, Event, Notice
from mt4pump.client.position import Position
from mt4pump.client.topic_state import SubscriptionSet
from mt4pump.journal.schema import Stored
from mt4pump.wire import Body, unpack
from tests.folding import Folded

HEARTBEAT = b"heartbeat"
Item = Event | Notice | Checkpoint
Key = tuple[bytes, int, int]


class BrokenPromise(AssertionError):
    """What happened is not what PROTOCOL promises."""


def check(truth: object, text: str) -> None:
    """Raise BrokenPromise unless ``truth``."""
    if not truth:
        raise BrokenPromise(text)


@dataclass(slots=True)
class Published:
    """One event as the daemon made it; ``offset`` 0: it is not stored. ``is_deleted``: retention took it."""

    place: int
    topic: bytes
    epoch: int
    seq: int
    offset: int
    log: str
    body: bytes
    is_deleted: bool = False

    def __str__(self) -> str:
        return f"{self.topic.decode()} seq {self.seq} offset {self.offset} epoch {self.epoch}"


class PublishedEvents:
    """All events of all runs of the daemon, in order. Checks what is promised of `epoch`, `seq` and `offset`."""

    def __init__(self) -> None:
        self.events: list[Published] = []
        self.by_key: dict[Key, Published] = {}
        self.by_offset: dict[tuple[str, int], Published] = {}
        self.epoch = 0
        self.log = ""
        self.last_offsets: dict[str, int] = {}
        self.lost_ends = 0
        self._seqs: dict[bytes, int] = {}
        self._sent: set[Key] = set()

    def begin(self, epoch: int, log: str) -> None:
        """Note that a run of the daemon begins."""
        check(epoch > self.epoch, f"epoch {epoch} follows {self.epoch} (7.1)")
        self.epoch, self.log = epoch, log
        self._seqs.clear()

    def lose_end(self, log: str, offset: int, skipped_to: int) -> None:
        """Note that the journal has become an older copy; offsets are used again unless they are ``skipped_to``."""
        is_used_again = skipped_to < self.last_offsets.get(log, 0)
        self.lost_ends += is_used_again
        self.last_offsets[log] = max(offset, skipped_to)
        for event in self.events:
            if event.log == log and event.offset > offset:
                event.is_deleted = True
                if is_used_again:
                    self.by_offset.pop((log, event.offset), None)

    def stored(self, event: Stored) -> None:
        """Note a committed event."""
        body: Body = unpack(event.body)
        last = self.last_offsets.get(self.log, 0)
        check(body["offset"] == event.offset > last, f"offset {event.offset} is committed after {last} (7.4)")
        self.last_offsets[self.log] = event.offset
        self._add(event.topic, body, event.body)

    def sent(self, topic: bytes, packed: bytes) -> None:
        """Note a message that goes onto the wire."""
        body: Body = unpack(packed)
        key = (topic, body["epoch"], body["seq"])
        check(key not in self._sent, f"{key} is sent twice (7.2)")
        self._sent.add(key)
        if topic == HEARTBEAT:
            return
        if "offset" in body:
            known = self.by_key.get(key)
            check(known is not None, f"{key} is published before it is committed (7.4)")
            assert known is not None
            check(known.body == packed, f"{known} is published with other bytes than are stored (7.4)")
        else:
            self._add(topic, body, packed)

    def _add(self, topic: bytes, body: Body, packed: bytes) -> None:
        seq, epoch, offset = body["seq"], body["epoch"], body.get("offset", 0)
        check(epoch == self.epoch, f"{topic!r} has epoch {epoch} in {self.epoch} (7.1)")
        before = self._seqs.get(topic, 0)
        check(seq == before + 1, f"{topic!r} has seq {seq} after {before} (7.2)")
        self._seqs[topic] = seq
        event = Published(len(self.events), topic, epoch, seq, offset, self.log if offset else "", packed)
        self.events.append(event)
        self.by_key[topic, epoch, seq] = event
        if offset:
            self.by_offset[self.log, offset] = event


class ReaderChecks:
    """Checks one reader's runs. `begin` starts a run, `check_item` gets each of its items in order.

    ``is_exact``: nothing has happened in this run that may go unreported by PROTOCOL, or be reported without a number
    (the query endpoint was given up, the journal lost its end or was replaced). ``has_base``: nothing may be missing
    after a position or a snapshot. ``snapshot_at`` is where in the ledger its snapshot was made.
    """

    def __init__(self, name: str, topics: tuple[str, ...], ledger: PublishedEvents) -> None:
        self.name = name
        self.ledger = ledger
        self.is_exact = True
        self.has_base = self._is_resumed = False
        self.snapshot_at = 0
        self.state = Folded()
        self.restarts = 0
        self.reported_lost = Counter[bytes]()
        self.notices = Counter[str]()
        self.confirmed: tuple[str, int] | None = None
        self.lost_ends = 0
        self._subscriptions = SubscriptionSet(topics)
        self._position: Position | None = None
        self._delivered: set[int] = set()
        self._delivered_now: set[int] = set()
        self._last: dict[bytes, Published] = {}
        self._last_stored: dict[bytes, Published] = {}
        self._excused_until = 0
        self._unknown_before = 0
        self._covered_until = 0
        self._pending = Counter[bytes]()
        self._missing = Counter[bytes]()
        self._wanted: dict[bytes, bool] = {}

    def begin(self, position: Position | None) -> None:
        """Begin another run, from the ``position`` of the one before if there is one."""
        resumed = position is not None
        self._position = position
        if not self.is_exact:
            self._excused_until = len(self.ledger.events)
            if self.restarts:  # the query endpoint was given up: what a run sent at its end no number showed
                self._unknown_before = max((last.epoch for last in self._last.values()), default=0)
        if not resumed:
            self._covered_until = 0
        elif not self._is_resumed:  # the position may be behind the snapshot, whose events come again or are in it
            self._covered_until = self.snapshot_at
        self.is_exact = True
        self.has_base = self._is_resumed = resumed
        self.snapshot_at = len(self.ledger.events)
        self.state = Folded()
        self.restarts = 0
        self.notices.clear()
        self._pending.clear()
        self._delivered_now.clear()
        self._last.clear()
        self._last_stored.clear()
        if not resumed:
            self.confirmed = None
            self.reported_lost.clear()
            self._missing.clear()

    def wants(self, topic: bytes) -> bool:
        """Return whether this reader asked for ``topic``."""
        wanted = self._wanted.get(topic)
        if wanted is None:
            wanted = self._wanted[topic] = self._subscriptions.is_wanted(topic.decode())
        return wanted

    def check_item(self, item: Item) -> None:
        """Check one item."""
        if isinstance(item, Checkpoint):
            self._confirm(item)
        elif isinstance(item, Notice):
            self._notice(item)
        elif item.snapshot:
            self.state.take(item.kind, item.body)
        elif item.kind != HEARTBEAT.decode():
            self._event(item)
            self.state.take(item.kind, item.body)

    def _event(self, item: Event) -> None:
        topic, body = item.frames
        event = self.ledger.by_key.get((topic, item.epoch, item.seq))
        check(event is not None, f"{self.name} got {item!r}, which was never published")
        assert event is not None
        check(event.body == body, f"{self.name} got other bytes of {event}")
        check(self.wants(topic), f"{self.name} got {event}, which it did not ask for (4)")
        is_excused = self._may_come_again(event)
        check(is_excused or event.place not in self._delivered, f"{self.name} got {event} twice (8.4)")
        last = self._last.get(topic)
        if last is not None and last.epoch == event.epoch:
            check(last.seq < event.seq, f"{self.name} got {event} after {last} (8.2)")
            missing, lost = self._missing_between(last, event), self._pending[topic]
            check(
                missing <= lost,
                f"{self.name} got {event} after {last}: {lost} of {missing} were reported lost (9)",
            )
        if event.offset:  # those without are "outside of that"
            stored = self._last_stored.get(topic)
            check(not stored or stored.place < event.place, f"{self.name} got {event} after {stored} (8.4)")
            self._last_stored[topic] = event
        if last is None or last.epoch <= event.epoch:  # an older run's event proves nothing about what was lost since
            self._last[topic] = event
            self._pending[topic] = 0
        self._delivered.add(event.place)
        self._delivered_now.add(event.place)

    def _may_come_again(self, event: Published) -> bool:
        """Return whether an earlier run may have delivered it, and no position that this run began with can show it.

        Events that came before the heartbeat that names a new journal are in no position: they come again.
        """
        if event.place in self._delivered_now or event.place >= self._excused_until:
            return False
        start = self._position
        if start is None or not event.offset or event.log != start.log:
            return True
        return event.offset > max(start.confirmed, start.ahead.get(event.topic.decode(), 0))

    def _was_passed(self, event: Published) -> bool:
        """Return whether an earlier run, which reported `NOT_WHOLE`, delivered later events of the topic."""
        ahead = self._position.ahead if self._position is not None and self._position.log == event.log else {}
        return event.place < self._excused_until and event.offset <= ahead.get(event.topic.decode(), 0)

    def _missing_between(self, last: Published, event: Published) -> int:
        """Return how many events between two of a topic are not part of this run's snapshot either."""
        keys = ((event.topic, event.epoch, seq) for seq in range(last.seq + 1, event.seq))
        return sum(self.ledger.by_key[key].place >= self.snapshot_at for key in keys)

    def _notice(self, notice: Notice) -> None:
        self.notices[notice.kind] += 1
        if notice.kind == LOST:
            topic = notice.topic.encode()
            self._pending[topic] += notice.count
            self.reported_lost[topic] += notice.count
        elif notice.kind == NOT_WHOLE:
            self.is_exact = False
        elif notice.kind == RESTARTED:
            self.restarts += 1

    def _confirm(self, checkpoint: Checkpoint) -> None:
        """Check that all up to a confirmed offset was delivered, or reported lost."""
        log, before = checkpoint.log or "", self.confirmed
        self.confirmed = log, checkpoint.offset
        is_no_later = before is not None and before[0] == log and checkpoint.offset <= before[1]
        if before is not None and is_no_later and self.ledger.lost_ends and not self.is_exact:
            is_known = checkpoint.offset == before[1] or self.lost_ends < self.ledger.lost_ends
            check(
                is_known,
                f"{self.name} was confirmed {checkpoint.offset} after {before[1]}, no journal lost its end (8.3)",
            )
            self.lost_ends = self.ledger.lost_ends
            return
        if before is None or before[0] != log or not self.has_base:
            return
        check(checkpoint.offset > before[1], f"{self.name} was confirmed {checkpoint.offset} after {before[1]} (8.3)")
        for offset in range(before[1] + 1, checkpoint.offset + 1):
            event = self.ledger.by_offset.get((log, offset))
            if event is None or event.place in self._delivered or not self.wants(event.topic):
                continue
            if event.is_deleted and not self.is_exact:
                continue
            covered_until = self._covered_until if self._is_resumed else self.snapshot_at
            if event.epoch < self._unknown_before or event.place < covered_until or self._was_passed(event):
                continue
            self._missing[event.topic] += 1
            missing, lost = self._missing[event.topic], self.reported_lost[event.topic]
            check(
                missing <= lost,
                f"{self.name} was confirmed {checkpoint.offset} without {event} ({lost} reported lost) (8.3)",
            )
            check(
                event.is_deleted or not self.is_exact or event.place < self._excused_until,
                f"{self.name} got a notice that {event} is lost, but the journal has it (9)",
            )

    def finish(self, epoch: int) -> None:
        """Check that all behind the snapshot was delivered or reported lost, as far as can be known."""
        sent, came, unknown = Counter[bytes](), Counter[bytes](), Counter[bytes]()
        lacking: dict[bytes, str] = {}
        for event in self.ledger.events[self.snapshot_at :]:
            if self.wants(event.topic):
                sent[event.topic] += 1
                came[event.topic] += event.place in self._delivered
                if event.place not in self._delivered:
                    lacking[event.topic] = str(event)
                unknown[event.topic] += event.epoch != epoch and (not event.offset or event.is_deleted)
        for topic, count in sent.items():
            lost = self.reported_lost[topic]
            check(
                count <= came[topic] + lost + unknown[topic],
                f"{self.name} got {came[topic]} of {count} events of {topic.decode()}, {lost} were reported lost; "
                f"it lacks {lacking.get(topic)} (9)",
            )
