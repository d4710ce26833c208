"""``/metrics`` and ``/healthz`` of the archive, and what it knows of the daemon's journal."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mt4pump.client import ClientError, ClientKeys, Heartbeat, Query, Subscriber
from mt4pump.process.clock import ProvenClock
from mt4pump.process.program import Shutdown
from mt4pump_consumers.archive.columns import EVENT_KINDS
from mt4pump_consumers.archive.settings import ArchiveSettings
from mt4pump_consumers.archive.store import ArchiveStore
from mt4pump_consumers.archive.writer import BatchWriter
from mt4pump_consumers.health import metrics_server
from mt4pump_consumers.http_server import MetricsServer

COUNTED = (
    ("events", "mt4pump_archive_events_total", "Events committed, or waiting for it, by kind."),
    ("gaps", "mt4pump_archive_gaps_total", "Holes found, by kind; empty: of a kind that is not known."),
)
NS = 1_000_000_000
RISK_WARNED, RISK_GONE = 0.5, 0.25
"""Parts of the journal's retention at which a warning is logged, and below which it may be logged again."""
RETRY_S = 5.0
ENDS_INTERVAL_NS, ENDS_LIMIT = 60 * NS, 10_080
"""How often the journal's end is noted, and how many ends are kept: a week."""
HEALTHY_INTERVALS = 5
HEALTHY_MIN_S = 60.0

log = logging.getLogger(__name__)


class JournalWatch:
    """Reads heartbeats alone, so that it knows the daemon's journal also while the archive cannot read events.

    ``behind`` is the number of journal events that are not archived, ``risk`` the part of the journal's retention that
    they have used up: at 1 the journal begins to delete them. ``feed_ts`` is the daemon's time as its own retention
    counts it, 0 before a heartbeat: a clock that is far ahead for a moment deletes no days.
    """

    def __init__(self, settings: ArchiveSettings, keys: ClientKeys | None, store: ArchiveStore) -> None:
        self.feed_ts = self.behind = 0
        self.risk = 0.0
        self._settings, self._keys, self._store = settings, keys, store
        self._epoch = 0
        self._retention: Mapping[str, float] = {}
        self._ends: deque[tuple[int, int]] = deque(maxlen=ENDS_LIMIT)  # the journal's last offset, and when
        self._log, self._log_ts = "", 0  # the journal's log, and when it was seen first
        self._archived_ts = 0
        self._is_warned = self._is_closed = False
        start_ns = store.newest_ts or time.time_ns()  # this machine's clock may be wrong at the start, too
        self._clock = ProvenClock(start_ns, time.time_ns, time.monotonic)
        self._subscriber = self._new_subscriber()

    def _new_subscriber(self) -> Subscriber:
        return Subscriber(
            self._settings.endpoint, query_endpoint=None, topics=("heartbeat",), snapshot=False, keys=self._keys
        )

    def run(self) -> None:
        """Read heartbeats until `close`."""
        while not self._is_closed:
            try:
                for item in self._subscriber:
                    if isinstance(item, Heartbeat):
                        self.handle(item)
            except ClientError as error:
                log.warning("heartbeats cannot be read: %s", error)
                time.sleep(RETRY_S)
                self._subscriber = self._new_subscriber()

    def close(self) -> None:
        """End `run`."""
        self._is_closed = True
        self._subscriber.close()

    def handle(self, heartbeat: Heartbeat) -> None:
        """Compare the journal with what is archived."""
        journal = heartbeat.journal
        ahead_s = (journal or {}).get("clock_ahead_s") or 0.0
        self.feed_ts = min(heartbeat.ts - int(ahead_s * NS), self._clock.read())
        if not journal or not heartbeat.log:
            return
        if heartbeat.epoch != self._epoch:  # its settings may be others
            self._epoch, self._retention = heartbeat.epoch, {}
        if heartbeat.log != self._log:  # another journal: the times of the one before say nothing about it
            self._log, self._log_ts, self._archived_ts = heartbeat.log, heartbeat.ts, 0
            self._ends.clear()
        self._retention = self._retention or self._ask()
        position = self._store.state.position or {}
        is_archived = position.get("log") == heartbeat.log
        confirmed = position.get("confirmed", 0) if is_archived else 0
        first, last = journal.get("first_offset") or 1, heartbeat.last_offset
        self.behind = max(0, last - max(confirmed, first - 1))
        self._record_end(last, heartbeat.ts, confirmed)
        used_age = used_size = 0.0
        if self.behind:
            if max_age_s := self._retention.get("max_age_s", 0):
                durable_ts = (self._store.durable_ts or heartbeat.ts) if is_archived else self._log_ts
                used_age = max(0, heartbeat.ts - (self._archived_ts or durable_ts)) / NS / max_age_s
            if max_bytes := self._retention.get("max_bytes", 0):
                used_size = self.behind / (last - first + 1) * journal.get("size_bytes", 0) / max_bytes
        self.risk = max(used_age, used_size)
        if self.risk > RISK_WARNED and not self._is_warned:
            self._is_warned = True
            text = "%d events of the journal are not archived and have used up %d %% of its retention"
            log.warning(text, self.behind, self.risk * 100)
        elif self.risk < RISK_GONE:
            self._is_warned = False

    def _record_end(self, last: int, ts: int, confirmed: int) -> None:
        """Record the journal's end; ``_archived_ts`` becomes the time of the latest recorded end that is archived."""
        if not self._ends or ts - self._ends[-1][1] >= ENDS_INTERVAL_NS:
            self._ends.append((last, ts))
        while self._ends and self._ends[0][0] <= confirmed:
            self._archived_ts = self._ends.popleft()[1]

    def _ask(self) -> Mapping[str, float]:
        """Return the journal's limits, empty when the daemon does not answer now."""
        try:
            with Query(self._settings.query_address, self._keys) as query:
                retention: Mapping[str, float] = query.describe().get("retention") or {}
        except ClientError as error:
            log.debug("the journal's limits are not known yet: %s", error)
            return {}
        return retention


class ArchiveMetrics(Collector):
    """All metrics, gathered at each scrape."""

    def __init__(
        self,
        store: ArchiveStore,
        writer: BatchWriter,
        watch: JournalWatch,
        counts: Counter[tuple[str, str]],
        shutdown: Shutdown,
    ) -> None:
        self._store, self._writer, self._watch, self._counts = store, writer, watch, counts
        self._shutdown = shutdown

    def describe(self) -> Iterator[Metric]:
        """Yield nothing: the names are known."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        writer, watch = self._writer, self._watch
        for what, name, text in COUNTED:
            family = CounterMetricFamily(name, text, labels=["kind"])
            for kind in (*EVENT_KINDS, ""):  # from 0 on, so that the first one is an increase
                family.add_metric([kind], self._counts[what, kind])
            yield family
        counters = {
            "mt4pump_archive_commits_total": ("Commits.", writer.commits),
            "mt4pump_archive_failures_total": ("Tries to commit that failed.", writer.failures),
            "mt4pump_archive_duplicates_total": ("Events that came again.", self._counts["duplicates", ""]),
            "mt4pump_archive_maintenance_failures_total": (
                "Joins and deletions that failed.",
                self._counts["maintenance_failures", ""],
            ),
            "mt4pump_archive_old_logs_deleted_total": (
                "Rotated service logs deleted.",
                self._shutdown.old_logs_deleted,
            ),
        }
        for name, (text, count) in counters.items():
            yield CounterMetricFamily(name, text, count)
        gauges: dict[str, tuple[str, float]] = {
            "mt4pump_archive_waiting_events": ("Events that wait to be committed.", writer.rows),
            "mt4pump_archive_commit_age_seconds": (
                "Time since the last commit.",
                time.monotonic() - writer.committed_s,
            ),
            "mt4pump_archive_journal_behind_events": (
                "Events of the daemon's journal that are not archived.",
                watch.behind,
            ),
            "mt4pump_archive_journal_risk_ratio": (
                "Part of the journal's retention that they have used up.",
                watch.risk,
            ),
        }
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(name, text, value)
        yield from self._store.metrics()

    def fault(self, interval_s: float) -> str:
        """Return why the archive is not healthy; empty: it is."""
        age_s = time.monotonic() - self._writer.committed_s
        if self._writer.error:
            return f"{self._store.name} cannot be written: {self._writer.error}"
        if self._writer.rows and age_s > max(HEALTHY_MIN_S, HEALTHY_INTERVALS * interval_s):
            return f"{self._writer.rows} events wait, and the last commit was {age_s:.0f} s ago"
        return ""


def serve(settings: ArchiveSettings, metrics: ArchiveMetrics) -> MetricsServer | None:
    """Serve metrics and health, unless the port is 0; raises StartError."""
    if not settings.metrics_port:
        return None
    server = metrics_server(
        lambda _: metrics,
        lambda: metrics.fault(settings.commit_interval_s),
        settings.metrics_host,
        settings.metrics_port,
        setting="metrics-port",
    )
    server.start()
    log.info("metrics are served on %s", server.address)
    return server
