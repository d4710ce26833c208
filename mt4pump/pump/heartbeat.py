"""The daemon's heartbeat on the bus, and the summary line in the log; on the pump thread."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import psutil

from mt4pump import __version__
from mt4pump.pump.dispatch import Dispatcher
from mt4pump.pump.inbox import Inbox
from mt4pump.pump.session import SessionStatus
from mt4pump.settings import Settings
from mt4pump.wire import HEARTBEAT, PROTOCOL, Body

AT_ONCE_MIN_S = 0.01
"""Shortest time between a heartbeat and the next one for a new subscriber."""

QUARTER_S = 900
TOLERANCE_S = 120.0
"""Largest difference to a whole quarter of an hour: the age of a quote plus the error of the server's clock."""
LARGEST_OFFSET_S = 14 * 3600
AGREEMENTS = 5
"""Different seconds in a row that must give the same offset before it is used (also when it changes)."""

log = logging.getLogger(__name__)


class ServerClock:
    """Server time minus UTC. ``offset_s`` is None until known; ``fixed_s`` sets it and nothing is inferred."""

    def __init__(self, fixed_s: int | None = None) -> None:
        self.offset_s = fixed_s
        self._fixed = fixed_s is not None
        self._last_time_s: int | None = None
        self._candidate_s: int | None = None
        self._agreed = 0

    def observe(self, lasttime_s: int, ts: int) -> None:
        """Use the newest ``lasttime`` of a batch of quotes and the ``ts`` (ns since 1970) it was received at.

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


@dataclass(kw_only=True, eq=False)
class HeartbeatPublisher:
    """Publishes state and counters of the daemon, and logs a summary, as often as the settings say.

    ``due_at_s`` is when the next is due (monotonic).
    """

    inbox: Inbox
    dispatcher: Dispatcher
    server_clock: ServerClock
    status: Callable[[], SessionStatus]
    source_counters: Callable[[], Mapping[str, int]]
    query_counters: Callable[[], Mapping[str, int]]
    deleted_files: Mapping[str, int]
    settings: Settings

    def __post_init__(self) -> None:
        self._process = psutil.Process()
        self._rss_bytes, self._cpu_s = 0, 0.0
        self._began_s = time.monotonic()
        self.due_at_s = self._published_at_s = 0.0
        self._summary_at_s = self._began_s + self.settings.log_summary_interval_s
        self._summary_counts: dict[str, int] = {}

    def is_due(self, now_s: float) -> bool:
        """Return whether the next regular heartbeat is due at ``now_s`` (monotonic), and count it as done."""
        if now_s < self.due_at_s:
            return False
        self.due_at_s = max(self.due_at_s + self.settings.heartbeat_interval_s, now_s)
        return True

    def publish(self, state: str = "") -> None:
        """Publish a heartbeat now, after the durable events that wait; ``state`` overrides the supervisor's."""
        writer = self.dispatcher.writer
        writer.flush()
        writer.write(HEARTBEAT, "", self.body(state), self.inbox.now_ns())
        self._published_at_s = time.monotonic()

    def body(self, state: str = "") -> Body:
        """Return the fields of a heartbeat; the journal's are None, 0 or empty without a journal."""
        status, inbox, dispatcher = self.status(), self.inbox, self.dispatcher
        publisher, journal = dispatcher.writer.publisher, dispatcher.writer.journal
        self._measure_process()
        return {
            "state": state or status.state,
            "since": status.since,
            "reason": status.reason,
            "server": status.server,
            "server_code": self.settings.server_code,
            "version": __version__,
            "protocol": PROTOCOL,
            "interval_s": self.settings.heartbeat_interval_s,
            "uptime_s": round(time.monotonic() - self._began_s, 3),
            "log": journal.log_id if journal else None,
            "offset": journal.last_offset if journal else 0,
            "offsets": dict(journal.last_offsets) if journal else {},
            "durable": journal is not None and journal.durable,
            "journal": dict(journal.counters()) if journal else None,
            "counts": dispatcher.counts,
            "sent": publisher.sent,
            "dropped": inbox.refused + inbox.dropped_at_end,
            "inbox": {
                "waiting": len(inbox),
                "limit": inbox.limit,
                "received": inbox.received,
                "coalesced": inbox.coalesced,
                "refused": inbox.refused,
            },
            "errors": dict(dispatcher.fault_counters.counts),
            "skipped": dispatcher.skipped(),
            "reconnects": status.reconnects,
            "last_callback_ts": inbox.last_callback_ts,
            "last_quote_ts": dispatcher.quotes.last_ts,
            "subscriptions": len(publisher.subscriptions),
            "subscription_bytes": publisher.subscriptions.total.size,
            "slow_readers": asdict(publisher.slow),
            "connections": dict(publisher.connections.counters()),
            "query": dict(self.query_counters()),
            "server_utc_offset_s": self.server_clock.offset_s,
            "rss_bytes": self._rss_bytes,
            "cpu_s": self._cpu_s,
            "threads": threading.active_count(),
            "source": dict(self.source_counters()),
            "deleted_files": dict(self.deleted_files),
        }

    def publish_for_new_subscriber(self) -> bool:
        """Publish a heartbeat for a new subscriber of it; return False when the last one is too recent."""
        if time.monotonic() - self._published_at_s < AT_ONCE_MIN_S:
            return False
        self.publish()
        return True

    def _measure_process(self) -> None:
        """Measure memory and CPU time; the last values stay when they cannot be measured.

        Measuring opens files, which fails while connections use up all descriptors.
        """
        try:
            self._rss_bytes, times = self._process.memory_info().rss, self._process.cpu_times()
            self._cpu_s = round(times.user + times.system, 3)
        except (OSError, psutil.Error) as error:
            text = f"the daemon's memory and CPU time cannot be measured: {error}"
            self.dispatcher.fault_counters.record("rss_unknown", text)

    def log_summary(self, now_s: float) -> None:
        """Log the number of events published since the last summary, in one line, when it is due."""
        if now_s < self._summary_at_s:
            return
        interval_s, counts = self.settings.log_summary_interval_s, self.dispatcher.counts
        self._summary_at_s = now_s + interval_s
        before, self._summary_counts = self._summary_counts, counts
        new = {kind: count - before.get(kind, 0) for kind, count in counts.items() if kind != HEARTBEAT.name}
        published = " ".join(f"{kind}={count}" for kind, count in sorted(new.items()) if count) or "nothing"
        text = "published in %g s: %s; inbox waiting=%d refused=%d"
        log.info(text, interval_s, published, len(self.inbox), self.inbox.refused)
