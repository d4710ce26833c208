"""The daemon's heartbeat: the heartbeat on the bus, and the line in the log that sums up. Runs on the pump thread."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import psutil

from mt4pump import __version__
from mt4pump.clock import NowNs
from mt4pump.journal import Journal
from mt4pump.log import FaultCounters
from mt4pump.pump.dispatch import Dispatcher
from mt4pump.pump.event_writer import EventWriter
from mt4pump.pump.inbox import Inbox
from mt4pump.pump.session import SessionStatus
from mt4pump.wire import HEARTBEAT, PROTOCOL, Body

QUARTER_S = 900
TOLERANCE_S = 120.0
"""A quote may be this old, or the server's clock this wrong, and still tell the quarter."""
LARGEST_OFFSET_S = 14 * 3600
AGREEMENTS = 5
"""Different seconds in a row that must tell the same offset before it is believed (also when it changes)."""


class ServerClock:
    """Server time minus UTC. ``offset_s`` is None until known; ``fixed_s`` sets it and nothing is inferred."""

    def __init__(self, fixed_s: int | None = None) -> None:
        self.offset_s = fixed_s
        self._fixed = fixed_s is not None
        self._last_time_s: int | None = None
        self._candidate_s: int | None = None
        self._agreed = 0

    def observe(self, lasttime_s: int, ts: int) -> None:
        """Take the newest ``lasttime`` of a batch of quotes and the ``ts`` (ns since 1970) it was received at.

        Only a ``lasttime`` that moved tells anything: the first one may be hours old on a quiet day.
        """
        before, self._last_time_s = self._last_time_s, lasttime_s
        if self._fixed or before is None or lasttime_s <= before:
            return
        difference_s = lasttime_s - ts / 1e9
        offset_s = round(difference_s / QUARTER_S) * QUARTER_S
        if abs(difference_s - offset_s) > TOLERANCE_S or abs(offset_s) > LARGEST_OFFSET_S:
            self._candidate_s, self._agreed = None, 0
            return
        self._agreed = self._agreed + 1 if offset_s == self._candidate_s else 1
        self._candidate_s = offset_s
        if self._agreed >= AGREEMENTS:
            self.offset_s = offset_s


@dataclass(frozen=True, slots=True)
class HeartbeatSources:
    """What the pump thread knows at the moment of a heartbeat.

    ``errors`` are faults by name; ``skipped`` is what was taken in and not told, by reason. ``offset`` and ``offsets``
    are the last durable event over all and per kind, ``log_id`` and ``journal`` None without a journal.
    """

    status: SessionStatus
    interval_s: float
    uptime_s: float
    log_id: str | None
    offset: int
    offsets: Mapping[str, int]
    durable: bool
    journal: Mapping[str, object] | None
    counts: Mapping[str, int]
    errors: Mapping[str, int]
    skipped: Mapping[str, int]
    subscriptions: int
    subscription_bytes: int
    sent: int
    slow_readers: Mapping[str, int]
    connections: Mapping[str, int]
    query: Mapping[str, int]
    last_quote_ts: int
    server_utc_offset_s: int | None
    rss_bytes: int
    threads: int
    source: Mapping[str, int]


def heartbeat_fields(vitals: HeartbeatSources, inbox: Inbox, *, state: str = "") -> Body:
    """Return the body of a heartbeat; ``state`` overrides the supervisor's, for the last one."""
    status = vitals.status
    return {
        "state": state or status.state,
        "since": status.since,
        "reason": status.reason,
        "server": status.server,
        "version": __version__,
        "protocol": PROTOCOL,
        "interval_s": vitals.interval_s,
        "uptime_s": round(vitals.uptime_s, 3),
        "log": vitals.log_id,
        "offset": vitals.offset,
        "offsets": dict(vitals.offsets),
        "durable": vitals.durable,
        "journal": dict(vitals.journal) if vitals.journal is not None else None,
        "counts": dict(vitals.counts),
        "sent": vitals.sent,
        "dropped": inbox.refused + inbox.abandoned,
        "inbox": {
            "waiting": len(inbox),
            "limit": inbox.limit,
            "received": inbox.received,
            "coalesced": inbox.coalesced,
            "refused": inbox.refused,
        },
        "errors": dict(vitals.errors),
        "skipped": dict(vitals.skipped),
        "reconnects": status.reconnects,
        "last_callback_ts": inbox.last_callback_ts,
        "last_quote_ts": vitals.last_quote_ts,
        "subscriptions": vitals.subscriptions,
        "subscription_bytes": vitals.subscription_bytes,
        "slow_readers": dict(vitals.slow_readers),
        "connections": dict(vitals.connections),
        "query": dict(vitals.query),
        "server_utc_offset_s": vitals.server_utc_offset_s,
        "rss_bytes": vitals.rss_bytes,
        "threads": vitals.threads,
        "source": dict(vitals.source),
    }


AT_ONCE_MIN_S = 0.01
"""Least time between a heartbeat and the next one that a new subscriber is given at once."""

log = logging.getLogger(__name__)

Counters = Callable[[], Mapping[str, int]]


class HeartbeatPublisher:
    """Gathers every counter of the daemon and publishes it, every ``interval_s``.

    ``last_quote_ts`` is set by the pump, ns since 1970.
    """

    def __init__(
        self,
        *,
        inbox: Inbox,
        writer: EventWriter,
        dispatcher: Dispatcher,
        fault_counters: FaultCounters,
        server_clock: ServerClock,
        status: Callable[[], SessionStatus],
        source_counters: Counters,
        query_counters: Counters,
        journal: Journal | None,
        interval_s: float,
        log_interval_s: float,
        now_ns: NowNs,
    ) -> None:
        self.last_quote_ts = 0
        self._inbox = inbox
        self._writer = writer
        self._dispatcher = dispatcher
        self._fault_counters = fault_counters
        self._server_clock = server_clock
        self._status = status
        self._source_counters = source_counters
        self._query_counters = query_counters
        self._journal = journal
        self.interval_s = interval_s
        self._log_interval_s = log_interval_s
        self._now_ns = now_ns
        self._process = psutil.Process()
        self._rss_bytes = 0
        self._began_s = time.monotonic()
        self._beat_at_s = self._last_beat_s = 0.0
        self._summary_at_s = self._began_s + log_interval_s
        self._summarised: dict[str, int] = {}

    def is_due(self, now_s: float) -> bool:
        """Return whether the next regular heartbeat is due at ``now_s`` (monotonic), and count it as done."""
        if now_s < self._beat_at_s:
            return False
        self._beat_at_s = max(self._beat_at_s + self.interval_s, now_s)
        return True

    def publish(self, state: str = "") -> None:
        """Publish a heartbeat now; ``state`` overrides the supervisor's. What waits for its commit goes out before."""
        self._writer.flush()
        self._writer.count_quotes(self._dispatcher.quotes.published)
        publisher, journal = self._writer.publisher, self._journal
        vitals = HeartbeatSources(
            status=self._status(),
            interval_s=self.interval_s,
            uptime_s=time.monotonic() - self._began_s,
            log_id=journal.log_id if journal else None,
            offset=journal.last_offset if journal else 0,
            offsets=journal.last_offsets if journal else {},
            durable=journal is not None and journal.durable,
            journal=journal.vitals() if journal else None,
            counts=self._writer.counts,
            errors=self._fault_counters.counts,
            skipped=self._dispatcher.skipped(),
            subscriptions=len(publisher.subscriptions),
            subscription_bytes=publisher.quotas.size,
            sent=publisher.sent,
            slow_readers=publisher.slow.counters(),
            connections=publisher.connections.counters(),
            query=self._query_counters(),
            last_quote_ts=self.last_quote_ts,
            server_utc_offset_s=self._server_clock.offset_s,
            rss_bytes=self._measure_rss_bytes(),
            threads=threading.active_count(),
            source=self._source_counters(),
        )
        self._writer.write(HEARTBEAT, "", heartbeat_fields(vitals, self._inbox, state=state), self._now_ns())
        self._last_beat_s = time.monotonic()

    def publish_for_newcomer(self) -> bool:
        """Publish a heartbeat for somebody who just subscribed to it; False when the last one is too fresh."""
        if time.monotonic() - self._last_beat_s < AT_ONCE_MIN_S:
            return False
        self.publish()
        return True

    def _measure_rss_bytes(self) -> int:
        """Return the memory in use; the last one measured when the system does not tell.

        It opens a file: connections, also those of strangers, may have used up the descriptors for a while.
        """
        try:
            self._rss_bytes = self._process.memory_info().rss
        except (OSError, psutil.Error) as error:
            self._fault_counters.record("rss_unknown", f"the daemon's memory cannot be measured: {error}")
        return self._rss_bytes

    def sum_up(self, now_s: float) -> None:
        """Log what was published since the last summary, in one line, when that is due."""
        if now_s < self._summary_at_s:
            return
        self._summary_at_s = now_s + self._log_interval_s
        counts = dict(self._writer.counts)
        new = {kind: count - self._summarised.get(kind, 0) for kind, count in counts.items() if kind != HEARTBEAT.name}
        self._summarised = counts
        told = " ".join(f"{kind}={count}" for kind, count in sorted(new.items()) if count) or "nothing"
        waiting, refused = len(self._inbox), self._inbox.refused
        log.info("published in %g s: %s; inbox waiting=%d refused=%d", self._log_interval_s, told, waiting, refused)
