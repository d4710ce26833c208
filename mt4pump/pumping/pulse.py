"""The daemon's pulse: the heartbeat on the bus, and the line in the log that sums up. Runs on the pump thread."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

import psutil

from mt4pump.clock import NowNs
from mt4pump.complaints import Complaints
from mt4pump.journal import Journal
from mt4pump.pumping.emitter import Emitter
from mt4pump.pumping.heartbeat import Vitals, heartbeat_fields
from mt4pump.pumping.inbox import Inbox
from mt4pump.pumping.intake import Intake
from mt4pump.server_clock import ServerClock
from mt4pump.session import SessionStatus
from mt4pump.wire import HEARTBEAT

AT_ONCE_MIN_S = 0.01
"""Least time between a heartbeat and the next one that a new subscriber is given at once."""

log = logging.getLogger(__name__)

Counters = Callable[[], Mapping[str, int]]


class Pulse:
    """Gathers every counter of the daemon and publishes it, every ``interval_s``.

    ``last_quote_ts`` is set by the pump, ns since 1970.
    """

    def __init__(
        self,
        *,
        inbox: Inbox,
        emitter: Emitter,
        intake: Intake,
        complaints: Complaints,
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
        self._emitter = emitter
        self._intake = intake
        self._complaints = complaints
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

    def beat(self, state: str = "") -> None:
        """Publish a heartbeat now; ``state`` overrides the supervisor's. What waits for its commit goes out before."""
        self._emitter.flush()
        self._emitter.count_quotes(self._intake.quotes.published)
        publisher, journal = self._emitter.publisher, self._journal
        vitals = Vitals(
            status=self._status(),
            interval_s=self.interval_s,
            uptime_s=time.monotonic() - self._began_s,
            log_id=journal.log_id if journal else None,
            offset=journal.last_offset if journal else 0,
            offsets=journal.last_offsets if journal else {},
            durable=journal is not None and journal.durable,
            journal=journal.vitals() if journal else None,
            counts=self._emitter.counts,
            errors=self._complaints.counts,
            skipped=self._intake.skipped(),
            subscriptions=len(publisher.interest),
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
        self._emitter.emit(HEARTBEAT, "", heartbeat_fields(vitals, self._inbox, state=state), self._now_ns())
        self._last_beat_s = time.monotonic()

    def beat_for_newcomer(self) -> bool:
        """Publish a heartbeat for somebody who just subscribed to it; False when the last one is too fresh."""
        if time.monotonic() - self._last_beat_s < AT_ONCE_MIN_S:
            return False
        self.beat()
        return True

    def _measure_rss_bytes(self) -> int:
        """Return the memory in use; the last one measured when the system does not tell.

        It opens a file: connections, also those of strangers, may have used up the descriptors for a while.
        """
        try:
            self._rss_bytes = self._process.memory_info().rss
        except (OSError, psutil.Error) as error:
            self._complaints.add("rss_unknown", f"the daemon's memory cannot be measured: {error}")
        return self._rss_bytes

    def sum_up(self, now_s: float) -> None:
        """Log what was published since the last summary, in one line, when that is due."""
        if now_s < self._summary_at_s:
            return
        self._summary_at_s = now_s + self._log_interval_s
        counts = dict(self._emitter.counts)
        new = {kind: count - self._summarised.get(kind, 0) for kind, count in counts.items() if kind != HEARTBEAT.name}
        self._summarised = counts
        told = " ".join(f"{kind}={count}" for kind, count in sorted(new.items()) if count) or "nothing"
        waiting, refused = len(self._inbox), self._inbox.refused
        log.info("published in %g s: %s; inbox waiting=%d refused=%d", self._log_interval_s, told, waiting, refused)
