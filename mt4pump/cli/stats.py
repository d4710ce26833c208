"""What a reader has received so far: counts, rates, gaps, the daemon's state; pure, clocks are handed in.

``now_s`` is a monotonic clock in seconds throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mt4pump.cli.topic_filter import TopicFilter, is_heartbeat
from mt4pump.errors import FrameError
from mt4pump.sequence import GapDetector
from mt4pump.wire import Body, decode_frames

RATE_WINDOW_S = 1.0
NS = 1_000_000_000
INTERVAL_MAX_S = 60.0
"""The longest interval between heartbeats that a daemon can be set to."""
ROWS_LIMIT = 10_000
"""Topics that are remembered one by one; beyond them the least recently received one is dropped and counted."""


MESSAGE_MAX_BYTES = 16 * 2**20
"""A larger message is garbage; libzmq's own limit would end the connection for good, so it is far higher."""


class ReceivedEvent(NamedTuple):
    """A message whose topic was requested."""

    topic: str
    body: Body


@dataclass(slots=True)
class TopicStats:
    """One topic. ``rate`` is messages per second over the last window; ``counted`` is ``count`` at its start."""

    topic: str
    received_s: float
    body: Body = field(default_factory=dict)
    count: int = 0
    gaps: int = 0
    missed: int = 0
    rate: float = 0.0
    counted: int = 0


class StreamStats:
    """Counts every received message; totals are attributes.

    ``events`` counts requested events, ``garbage`` what is no message of mt4pump, ``restarts`` new epochs,
    ``forgotten`` topics dropped from ``rows``. ``last_s`` is the time of the last message, garbage included
    (``has_received``: there was one);
    ``last_gap`` and ``last_garbage`` describe the last of their kind.
    Gaps, missed messages and repeats stand in ``sequence``.
    """

    def __init__(
        self, topics: TopicFilter, now_s: float, *, with_heartbeat: bool = True, rows_limit: int = ROWS_LIMIT
    ) -> None:
        self.topics = topics
        self.started_s = now_s
        self.sequence = GapDetector()
        self.rows: dict[str, TopicStats] = {}
        self.events = self.garbage = self.restarts = self.forgotten = 0
        self.last_garbage = self.last_gap = ""
        self.epoch = 0
        self.rate = 0.0
        self.daemon: Body = {}
        self.heartbeat_s: float | None = None
        self.heartbeat_interval_s = 0.0
        self.heartbeat_ts = self.first_ts = self.last_ts = 0
        self.last_s = now_s
        self.has_received = False
        self._with_heartbeat = with_heartbeat
        self._rows_limit = rows_limit
        self._measured_s, self._measured_events = now_s, 0

    def handle(self, frames: Sequence[bytes], now_s: float) -> ReceivedEvent | None:
        """Count one message; return it when its topic was requested. Garbage is counted, never raised."""
        self.last_s, self.has_received = now_s, True
        try:
            _check_size(frames)
            raw_topic, body = decode_frames(frames)
        except FrameError as error:
            self.garbage += 1
            self.last_garbage = str(error)
            return None
        topic = raw_topic.decode("utf-8", "replace")
        heartbeat = is_heartbeat(topic)
        wanted = self.topics.wants(topic) and (self._with_heartbeat or not heartbeat)
        if not (wanted or heartbeat):  # a longer topic that begins like one of ours
            return None
        self.last_ts = max(self.last_ts, body["ts"])
        self.first_ts = self.first_ts or self.last_ts
        missed = self.sequence.accept(raw_topic, body["epoch"], body["seq"])
        if missed > 0:
            self.last_gap = f"{missed} of {topic} before seq {body['seq']}"
        self._follow_epoch(body["epoch"])
        if heartbeat:
            self._handle_heartbeat(body, now_s)
        return self._count(topic, body, missed, now_s) if wanted else None

    def _follow_epoch(self, epoch: int) -> None:
        if epoch > self.epoch:  # an older one is a late message of the previous run
            self.restarts += self.epoch != 0
            self.epoch = epoch

    def _handle_heartbeat(self, body: Body, now_s: float) -> None:
        if self.heartbeat_ts:
            interval_s = (body["ts"] - self.heartbeat_ts) / NS
            self.heartbeat_interval_s = min(max(0.0, interval_s), INTERVAL_MAX_S)
        self.heartbeat_s, self.heartbeat_ts = now_s, body["ts"]
        self.daemon = body

    def _count(self, topic: str, body: Body, missed: int, now_s: float) -> ReceivedEvent:
        self.events += 1
        row = self.rows.pop(topic, None) or TopicStats(topic, now_s)
        self.rows[topic] = row  # to the end: the first one is the least recently received
        if len(self.rows) > self._rows_limit:
            del self.rows[next(iter(self.rows))]
            self.forgotten += 1
        row.count += 1
        row.body, row.received_s = body, now_s
        row.gaps += missed > 0
        row.missed += max(0, missed)
        return ReceivedEvent(topic, body)

    def without_heartbeat_s(self, now_s: float) -> float:
        """Return for how long there has been no heartbeat.

        By the stamps of the stream, as far as it reaches: a slow reader receives the heartbeat late, and
        the daemon is not to blame.
        """
        if not self.first_ts:  # nothing but garbage
            return now_s - self.started_s
        late_s = (self.last_ts - (self.heartbeat_ts or self.first_ts)) / NS + now_s - self.last_s
        return min(late_s, now_s - (self.heartbeat_s or self.started_s))  # the stamps are the daemon's

    def measure(self, now_s: float) -> None:
        """Bring the rates up to date; does nothing until a window has passed."""
        elapsed_s = now_s - self._measured_s
        if elapsed_s < RATE_WINDOW_S:
            return
        self.rate = (self.events - self._measured_events) / elapsed_s
        self._measured_s, self._measured_events = now_s, self.events
        for row in self.rows.values():
            row.rate = (row.count - row.counted) / elapsed_s
            row.counted = row.count

    def most_active(self, limit: int) -> list[TopicStats]:
        """Return at most ``limit`` rows: those with the highest rate, then the newest; in the order of their topics."""
        best = sorted(self.rows.values(), key=lambda row: (row.rate, row.received_s), reverse=True)[: max(0, limit)]
        return sorted(best, key=lambda row: row.topic)


def _check_size(frames: Sequence[bytes]) -> None:
    size = sum(map(len, frames))
    if size > MESSAGE_MAX_BYTES:
        raise FrameError(f"a message has {size} bytes, more than {MESSAGE_MAX_BYTES}")
