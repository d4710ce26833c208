"""The live stream as tail and record show it: all messages as they come, also repeated ones; counts and alerts.

The client's connection receives and its checks decode. Its `Ordering` is not used: that drops what these show.

``now_s`` is a monotonic clock in seconds throughout, passed in by the caller.
"""

from __future__ import annotations

import argparse
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import NamedTuple

import zmq

from mt4pump.cli.arguments import TopicFilter, is_heartbeat, wrong_setting
from mt4pump.client import ClientKeys
from mt4pump.client.checks import event_body
from mt4pump.client.connection import SubConnection
from mt4pump.client.connection_fault import DECIDED, TRIAL_LIMIT_S
from mt4pump.client.event import Frames
from mt4pump.client.keys import ZmqContext
from mt4pump.client.liveness import INTERVAL_MAX_S, NS, SILENT_INTERVALS
from mt4pump.errors import FrameError
from mt4pump.wire import Body

RATE_WINDOW_S = 1.0
SEQUENCES_LIMIT = 1_000_000
"""Topics whose last sequence number is kept; beyond it the older half is dropped."""
ROWS_LIMIT = 10_000
"""Topics with a row each; beyond it the least recently received one is dropped and counted."""
SILENCE_S = 3.0
"""Time without a message before an alert."""
POLL_MS = 200
"""Longest wait for a message: on Windows Ctrl-C is seen only between two waits."""
CHECK_INTERVAL_S = 1.0
"""Time between two reports of alerts."""
RECEIVE_LIMIT = 100_000
"""Messages that may wait in the socket; a slower reader sees gaps."""
Handle = Callable[[Frames, float], bool]
"""Handles the frames of a message received at a time in seconds; returns whether the message counts."""


class GapDetector:
    """Checks the sequence numbers that a reader receives.

    The first message of a topic sets its baseline: nothing before it counts as missed. So does the first one of a new
    epoch: durable offsets show what was lost around a restart of the daemon.
    """

    def __init__(self) -> None:
        self.gaps = self.missed = self.repeats = 0
        self._last: dict[bytes, tuple[int, int]] = {}

    def accept(self, topic: bytes, epoch: int, seq: int) -> int:
        """Return how many messages of ``topic`` are missing before this one; -1 for one seen before."""
        last_epoch, last_seq = self._last.get(topic, (None, 0))
        if last_epoch == epoch and seq <= last_seq:
            self.repeats += 1
            return -1
        missed = seq - last_seq - 1 if last_epoch == epoch else 0
        if last_epoch is None and len(self._last) >= SEQUENCES_LIMIT:
            for known in list(self._last)[: SEQUENCES_LIMIT // 2]:
                del self._last[known]
        self._last[topic] = (epoch, seq)
        self.gaps += missed > 0
        self.missed += missed
        return missed


class ReceivedEvent(NamedTuple):
    """An event of a requested topic."""

    topic: str
    body: Body


@dataclass(slots=True)
class TopicStats:
    """One topic. ``rate`` is messages per second over the last window; ``counted`` is ``count`` at its start."""

    topic: str
    received_s: float = 0.0
    body: Body = field(default_factory=dict)
    count: int = 0
    gaps: int = 0
    missed: int = 0
    rate: float = 0.0
    counted: int = 0


class StreamStats:
    """Counts every message received from ``endpoint``; totals are attributes.

    ``events`` counts requested events, ``garbage`` messages that are not mt4pump's, ``restarts`` new epochs,
    ``forgotten`` topics dropped from ``rows``; ``sequence`` counts gaps, missed messages and repeats.
    ``last_s`` is the time of the last message, garbage included; ``has_received`` says whether there was one.
    ``connection_fault`` says why there was none, once that is sure; ``is_diagnosing``: a trial is finding it out.
    """

    def __init__(self, endpoint: str, topics: TopicFilter, now_s: float, *, with_heartbeat: bool = True) -> None:
        self.endpoint = endpoint
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
        self.connection_fault = ""
        self.is_diagnosing = False
        self._with_heartbeat = with_heartbeat
        self._measured_s, self._measured_events = now_s, 0

    def handle(self, frames: Frames, now_s: float) -> ReceivedEvent | None:
        """Count one message; return it when its topic was requested. Garbage is counted and never raised."""
        self.last_s, self.has_received = now_s, True
        raw_topic = frames[0]
        try:
            body = event_body(*frames)
        except FrameError as error:
            self.garbage += 1
            self.last_garbage = str(error)
            return None
        topic = raw_topic.decode("utf-8", "replace")
        heartbeat = is_heartbeat(topic)
        wanted = self.topics.wants(topic) and (self._with_heartbeat or not heartbeat)
        if not (wanted or heartbeat):  # a longer topic that begins like a requested one
            return None
        self.last_ts = max(self.last_ts, body["ts"])
        self.first_ts = self.first_ts or self.last_ts
        missed = self.sequence.accept(raw_topic, body["epoch"], body["seq"])
        if missed > 0:
            self.last_gap = f"{missed} of {topic} before seq {body['seq']}"
        # A lower one is a late message of the previous run, or of a heartbeat: the daemon's folder was deleted.
        if body["epoch"] > self.epoch or (heartbeat and body["epoch"] != self.epoch):
            self.restarts += self.epoch != 0
            self.epoch = body["epoch"]
        if heartbeat:
            self._handle_heartbeat(body, now_s)
        return self._count(topic, body, missed, now_s) if wanted else None

    def check(self, source: SubConnection, now_s: float) -> None:
        """Record what the connection found: why nothing comes, once that is sure, and messages without a body."""
        if source.malformed:
            self.last_s, self.has_received = now_s, True
            self.garbage += source.malformed
            source.malformed = 0
            self.last_garbage = "a message has 2 frames, this one has 1"
        diagnosis, quiet_s = source.diagnosis, now_s - self.last_s
        is_decided = diagnosis.fault in DECIDED
        # The trial takes its time, so it begins before the alert is due.
        text = diagnosis.text(self.endpoint) if is_decided or quiet_s >= SILENCE_S / 2 else ""
        self.connection_fault = text if is_decided or quiet_s >= SILENCE_S else ""  # the handshake should be over
        self.is_diagnosing = diagnosis.is_trying

    def _handle_heartbeat(self, body: Body, now_s: float) -> None:
        if self.heartbeat_ts:
            interval_s = (body["ts"] - self.heartbeat_ts) / NS
            self.heartbeat_interval_s = min(max(0.0, interval_s), INTERVAL_MAX_S)
        self.heartbeat_s, self.heartbeat_ts = now_s, body["ts"]
        self.daemon = body

    def _count(self, topic: str, body: Body, missed: int, now_s: float) -> ReceivedEvent:
        self.events += 1
        row = self.rows.pop(topic, None) or TopicStats(topic)
        self.rows[topic] = row  # to the end: the first one is the least recently received
        if len(self.rows) > ROWS_LIMIT:
            del self.rows[next(iter(self.rows))]
            self.forgotten += 1
        row.count += 1
        row.body, row.received_s = body, now_s
        row.gaps += missed > 0
        row.missed += max(0, missed)
        return ReceivedEvent(topic, body)

    def without_heartbeat_s(self, now_s: float) -> float:
        """Return the time since the last heartbeat, by the time stamps of the stream where they reach that far.

        A slow reader receives the heartbeat late, and that is not the daemon's fault.
        """
        if not self.first_ts:  # only garbage so far
            return now_s - self.started_s
        late_s = (self.last_ts - (self.heartbeat_ts or self.first_ts)) / NS + now_s - self.last_s
        return min(late_s, now_s - (self.heartbeat_s or self.started_s))  # the time stamps are the daemon's

    def measure(self, now_s: float) -> None:
        """Update the rates once per window."""
        elapsed_s = now_s - self._measured_s
        if elapsed_s < RATE_WINDOW_S:
            return
        self.rate = (self.events - self._measured_events) / elapsed_s
        self._measured_s, self._measured_events = now_s, self.events
        for row in self.rows.values():
            row.rate = (row.count - row.counted) / elapsed_s
            row.counted = row.count

    def most_active(self, limit: int) -> list[TopicStats]:
        """Return at most ``limit`` rows, sorted by topic: those with the highest rate, then the newest."""
        best = sorted(self.rows.values(), key=lambda row: (row.rate, row.received_s), reverse=True)[: max(0, limit)]
        return sorted(best, key=lambda row: row.topic)

    def totals(self, now_s: float) -> str:
        """Return all totals in one line."""
        elapsed_s = max(now_s - self.started_s, 0.001)
        found = self.sequence
        return (
            f"received {self.events} events on {len(self.rows) + self.forgotten} topics in {elapsed_s:.1f} s, "
            f"{self.events / elapsed_s:.0f}/s; missed {found.missed} in {found.gaps} gaps, repeats {found.repeats}, "
            f"garbage {self.garbage}, daemon restarts {self.restarts}"
        )


class StreamAlert(NamedTuple):
    """One alert: ``kind`` identifies it, ``text`` is for people."""

    kind: str
    text: str


def silence(stats: StreamStats, now_s: float) -> StreamAlert | None:
    """Return the alert for something that should have been received and was not."""
    quiet_s, late_s = now_s - stats.last_s, stats.without_heartbeat_s(now_s)
    if not stats.has_received and stats.connection_fault:
        return StreamAlert("connection", stats.connection_fault)
    if not stats.has_received:
        limit_s = SILENCE_S + TRIAL_LIMIT_S * stats.is_diagnosing  # then the reason itself may be known
        start = "start it with: mt4pump run --source simulator"
        text = f"nothing received from {stats.endpoint} for {quiet_s:.0f} s: is the daemon running there? {start}"
        return StreamAlert("nothing", text) if quiet_s >= limit_s else None
    if stats.heartbeat_s is None:
        text = f"no heartbeat received yet from {stats.endpoint}: is it mt4pump's? Its address is pub_endpoint"
        return StreamAlert("no heartbeat", text) if late_s >= SILENCE_S else None
    if late_s >= max(SILENCE_S, SILENT_INTERVALS * stats.heartbeat_interval_s):
        stopped = "the daemon stopped; start it with: mt4pump run"
        hangs = "the daemon hangs, or it or the network is down"
        reason = stopped if stats.daemon.get("state") == "stopping" else hangs
        return StreamAlert("late", f"no heartbeat for {late_s:.0f} s: {reason}")
    if not stats.events and now_s - stats.started_s >= SILENCE_S:
        return StreamAlert("no event", "the daemon sends heartbeats, but no event of the requested topics yet")
    return None


class AlertTracker:
    """Turns growing counters of ``stats`` into alerts, at most one per kind and check."""

    def __init__(self, stats: StreamStats) -> None:
        self._stats = stats
        self._reported: Counter[str] = Counter()
        self._state = self._silence = ""

    def check(self, now_s: float) -> list[StreamAlert]:
        """Return the alerts for what changed since the last check."""
        stats, found = self._stats, self._stats.sequence
        new = Counter(gap=found.missed, repeat=found.repeats, garbage=stats.garbage, restart=stats.restarts)
        new -= self._reported
        self._reported += new
        texts = {
            "gap": f"missed {new['gap']} messages (total {found.missed}), the last: {stats.last_gap}",
            "repeat": f"{new['repeat']} messages were repeated (total {found.repeats})",
            "garbage": f"{new['garbage']} messages are not mt4pump's, the last: {stats.last_garbage}",
            "restart": f"the daemon was restarted (epoch {stats.epoch})",
        }
        alerts = [StreamAlert(kind, text) for kind, text in texts.items() if new[kind]]
        state = str(stats.daemon.get("state", ""))
        if state != self._state:
            server = stats.daemon.get("server") or "no server"
            alerts.append(StreamAlert("state", f"daemon is {state} ({server}, epoch {stats.epoch})"))
        quiet = silence(stats, now_s)
        if quiet and quiet.kind != self._silence:
            alerts.append(quiet)
        self._state, self._silence = state, quiet.kind if quiet else ""
        return alerts


@contextmanager
def subscriber(endpoint: str, topics: TopicFilter, keys: ClientKeys | None = None) -> Iterator[SubConnection]:
    """Yield the client's connection, subscribed to ``topics`` and the heartbeat; it reconnects by itself."""
    context: ZmqContext = zmq.Context()
    try:
        try:
            connection = SubConnection(context, endpoint, keys, RECEIVE_LIMIT)
        except zmq.ZMQError as error:
            raise wrong_setting("endpoint", f"{endpoint} cannot be connected to: {error.strerror}") from error
        connection.subscribe(set(topics.subscriptions))
        yield connection
    finally:
        context.destroy(linger=0)


def listen(
    args: argparse.Namespace,
    asked: Event,
    source: SubConnection,
    stats: StreamStats,
    *,
    handle: Handle,
    refresh: Callable[[float], None],
) -> bool:
    """Receive until ``--count`` messages counted, ``--for`` is over or the end is ``asked`` for.

    ``refresh`` is called after each batch and ``stats.check``, with the time. Return False if ``--count`` was missed.
    """
    left, until_s = args.count, stats.started_s + args.for_s
    source.read_whole_messages()  # a single frame is not to be taken for the topic of the next message
    while left > 0 and not asked.is_set() and (now_s := time.monotonic()) < until_s:
        source.changes()  # the connection's monitor is bounded and has to be read
        if source.socket.poll(int(min(POLL_MS, (until_s - now_s) * 1000 + 1))):
            received_s = time.monotonic()
            for frames in source.read():
                left -= handle(frames, received_s)
                if left <= 0 or asked.is_set() or received_s >= until_s:
                    break
        now_s = time.monotonic()
        stats.check(source, now_s)
        refresh(now_s)
    return left <= 0 or math.isinf(left)
