"""The daemon's heartbeat on the bus, and the summary line in the log; on the pump thread."""

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
"""Largest difference to a whole quarter of an hour: the age of a quote plus the error of the server's clock."""
LARGEST_OFFSET_S = 14 * 3600
AGREEMENTS = 5
"""Different seconds in a row that must give the same offset before it is used (also when it changes)."""


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

        Only a ``lasttime`` that moved is used: the first one may be hours old on a quiet day.
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
    """The values of one heartbeat.

    ``errors`` are faults by name, ``skipped`` records that were handled and not published, by reason. ``offset`` and
    ``offsets`` are the last durable event over all and per kind; ``log_id`` and ``journal`` are None without a journal.
    """

    status: SessionStatus
    server_code: str
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


def heartbeat_fields(sources: HeartbeatSources, inbox: Inbox, *, state: str = "") -> Body:
    """Return the body of a heartbeat; ``state`` overrides the supervisor's, for the last one."""
    status = sources.status
    return {
        "state": state or status.state,
        "since": status.since,
        "reason": status.reason,
        "server": status.server,
        "server_code": sources.server_code,
        "version": __version__,
        "protocol": PROTOCOL,
        "interval_s": sources.interval_s,
        "uptime_s": round(sources.uptime_s, 3),
        "log": sources.log_id,
        "offset": sources.offset,
        "offsets": dict(sources.offsets),
        "durable": sources.durable,
        "journal": dict(sources.journal) if sources.journal is not None else None,
        "counts": dict(sources.counts),
        "sent": sources.sent,
        "dropped": inbox.refused + inbox.dropped_at_end,
        "inbox": {
            "waiting": len(inbox),
            "limit": inbox.limit,
            "received": inbox.received,
            "coalesced": inbox.coalesced,
            "refused": inbox.refused,
        },
        "errors": dict(sources.errors),
        "skipped": dict(sources.skipped),
        "reconnects": status.reconnects,
        "last_callback_ts": inbox.last_callback_ts,
        "last_quote_ts": sources.last_quote_ts,
        "subscriptions": sources.subscriptions,
        "subscription_bytes": sources.subscription_bytes,
        "slow_readers": dict(sources.slow_readers),
        "connections": dict(sources.connections),
        "query": dict(sources.query),
        "server_utc_offset_s": sources.server_utc_offset_s,
        "rss_bytes": sources.rss_bytes,
        "threads": sources.threads,
        "source": dict(sources.source),
    }


AT_ONCE_MIN_S = 0.01
"""Shortest time between a heartbeat and the next one for a new subscriber."""

log = logging.getLogger(__name__)

Counters = Callable[[], Mapping[str, int]]


class HeartbeatPublisher:
    """Publishes the counters of the daemon every ``interval_s``.

    ``last_quote_ts`` (ns since 1970) is set by the pump thread.
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
        server_code: str,
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
        self._server_code = server_code
        self.interval_s = interval_s
        self._log_interval_s = log_interval_s
        self._now_ns = now_ns
        self._process = psutil.Process()
        self._rss_bytes = 0
        self._began_s = time.monotonic()
        self._due_at_s = self._published_at_s = 0.0
        self._summary_at_s = self._began_s + log_interval_s
        self._summary_counts: dict[str, int] = {}

    def is_due(self, now_s: float) -> bool:
        """Return whether the next regular heartbeat is due at ``now_s`` (monotonic), and count it as done."""
        if now_s < self._due_at_s:
            return False
        self._due_at_s = max(self._due_at_s + self.interval_s, now_s)
        return True

    def publish(self, state: str = "") -> None:
        """Publish a heartbeat now, after the durable events that wait; ``state`` overrides the supervisor's."""
        self._writer.flush()
        self._writer.count_quotes(self._dispatcher.quotes.published)
        publisher, journal = self._writer.publisher, self._journal
        sources = HeartbeatSources(
            status=self._status(),
            server_code=self._server_code,
            interval_s=self.interval_s,
            uptime_s=time.monotonic() - self._began_s,
            log_id=journal.log_id if journal else None,
            offset=journal.last_offset if journal else 0,
            offsets=journal.last_offsets if journal else {},
            durable=journal is not None and journal.durable,
            journal=journal.counters() if journal else None,
            counts=self._writer.counts,
            errors=self._fault_counters.counts,
            skipped=self._dispatcher.skipped(),
            subscriptions=len(publisher.subscriptions),
            subscription_bytes=publisher.subscriptions.total.size,
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
        self._writer.write(HEARTBEAT, "", heartbeat_fields(sources, self._inbox, state=state), self._now_ns())
        self._published_at_s = time.monotonic()

    def publish_for_new_subscriber(self) -> bool:
        """Publish a heartbeat for a new subscriber of it; return False when the last one is too recent."""
        if time.monotonic() - self._published_at_s < AT_ONCE_MIN_S:
            return False
        self.publish()
        return True

    def _measure_rss_bytes(self) -> int:
        """Return the memory in use, or the last value when it cannot be measured.

        Measuring opens a file, which fails while connections use up all descriptors.
        """
        try:
            self._rss_bytes = self._process.memory_info().rss
        except (OSError, psutil.Error) as error:
            self._fault_counters.record("rss_unknown", f"the daemon's memory cannot be measured: {error}")
        return self._rss_bytes

    def log_summary(self, now_s: float) -> None:
        """Log the number of events published since the last summary, in one line, when it is due."""
        if now_s < self._summary_at_s:
            return
        self._summary_at_s = now_s + self._log_interval_s
        counts = dict(self._writer.counts)
        before, self._summary_counts = self._summary_counts, counts
        new = {kind: count - before.get(kind, 0) for kind, count in counts.items() if kind != HEARTBEAT.name}
        published = " ".join(f"{kind}={count}" for kind, count in sorted(new.items()) if count) or "nothing"
        log.info(
            "published in %g s: %s; inbox waiting=%d refused=%d",
            self._log_interval_s,
            published,
            len(self._inbox),
            self._inbox.refused,
        )
