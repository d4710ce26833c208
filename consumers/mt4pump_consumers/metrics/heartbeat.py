"""The heartbeat as metrics: one row per number; pure.

Counters are shown as the daemon has them: they start from 0 with each of its runs, which is what Prometheus knows as a
counter reset, and a restart of this program does not touch them. What a heartbeat does not hold (another version, no
journal) is left out, as nothing is better than a made-up 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from mt4pump.client.event import KIND_NAMES
from mt4pump.client.events import SESSION_STATES

MS, NS = 1_000, 1_000_000_000
"""The heartbeat's units of time in a second."""
LABELS_LIMIT = 64
"""Values of one label; the rest of a map is summed up under `OTHER`. Its names are few and fixed, so this is a fuse."""
OTHER = "other"
TEXT_LIMIT = 128

PING = "session.ping"
"""The one topic of a stored kind that is never stored: losses of it are counted apart."""


@dataclass(frozen=True, slots=True)
class HeartbeatRow:
    """One metric: the path of its value in the heartbeat, its name and meaning.

    ``path`` has dots between the keys of nested maps. ``per_s`` makes it seconds. With ``label`` the value is a map,
    and each of its entries a sample, those named in ``only`` if that is given. Names in ``known`` that it lacks are 0:
    the first event, or loss, of a kind must be an increase, not a new series. With ``zero_is_never`` a 0 is left out:
    it stands for "never".
    """

    path: str
    name: str
    meaning: str
    per_s: int = 1
    label: str = ""
    only: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    zero_is_never: bool = False

    def family(self) -> Metric:
        """Return the metric without a sample; its kind follows from its name."""
        make = CounterMetricFamily if self.name.endswith("_total") else GaugeMetricFamily
        return make(self.name, self.meaning, labels=[self.label] if self.label else [])

    def samples(self, body: Mapping[str, Any]) -> Iterator[tuple[list[str], float]]:
        """Yield label values and value of each sample that ``body`` holds."""
        value: Any = body
        for key in self.path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if self.label and isinstance(value, Mapping):
            yield from self._entries(value)
        elif not self.label and is_number(value) and not (self.zero_is_never and value == 0):
            yield [], value / self.per_s

    def _entries(self, entries: Mapping[str, Any]) -> Iterator[tuple[list[str], float]]:
        everything = {**dict.fromkeys(self.known, 0), **entries}
        wanted = [
            (str(key), value)
            for key, value in everything.items()
            if is_number(value) and (key in self.only or not self.only)
        ]
        for key, value in wanted[:LABELS_LIMIT]:
            yield [key[:TEXT_LIMIT]], value / self.per_s
        if rest := wanted[LABELS_LIMIT:]:
            yield [OTHER], sum(value for _, value in rest) / self.per_s


def is_number(value: object) -> bool:
    """Return whether ``value`` can be a sample: a truth value can, a NaN cannot."""
    return isinstance(value, (int, float)) and math.isfinite(value)


ROWS = (
    HeartbeatRow("epoch", "mt4pump_start_time_seconds", "When this run of the daemon began.", MS),
    HeartbeatRow(
        "ts", "mt4pump_heartbeat_timestamp_seconds", "When the daemon made its last heartbeat, by its clock.", NS
    ),
    HeartbeatRow(
        "interval_s", "mt4pump_heartbeat_interval_seconds", "Time between two heartbeats, as the daemon is set."
    ),
    HeartbeatRow(
        "since", "mt4pump_session_state_since_timestamp_seconds", "When the session came into its present state.", MS
    ),
    HeartbeatRow("reconnects", "mt4pump_session_reconnects_total", "Sessions with the trade server after the first."),
    HeartbeatRow(
        "server_utc_offset_s", "mt4pump_server_utc_offset_seconds", "Trade server's clock minus UTC, once known."
    ),
    HeartbeatRow(
        "counts",
        "mt4pump_events_total",
        "Events by kind, heartbeats included, with or without a subscriber.",
        label="kind",
        known=KIND_NAMES,
    ),
    HeartbeatRow("sent", "mt4pump_sent_messages_total", "Messages that somebody is subscribed to, handed to ZeroMQ."),
    HeartbeatRow(
        "last_callback_ts",
        "mt4pump_last_callback_timestamp_seconds",
        "When the Manager API last called back.",
        NS,
        zero_is_never=True,
    ),
    HeartbeatRow(
        "last_quote_ts", "mt4pump_last_quote_timestamp_seconds", "When a quote last came.", NS, zero_is_never=True
    ),
    HeartbeatRow(
        "errors", "mt4pump_faults_by_name_total", "Faults by name; each is in the daemon's log.", label="fault"
    ),
    HeartbeatRow(
        "skipped", "mt4pump_skipped_records_total", "Records received and deliberately not published.", label="reason"
    ),
    HeartbeatRow("source", "mt4pump_source_events_total", "Counters of the library or the simulator.", label="event"),
    HeartbeatRow("inbox.waiting", "mt4pump_inbox_waiting_records", "Records between callback and publisher."),
    HeartbeatRow("inbox.limit", "mt4pump_inbox_limit_records", "Records that may wait between callback and publisher."),
    HeartbeatRow("inbox.received", "mt4pump_inbox_received_records_total", "Calls of the pump callback."),
    HeartbeatRow(
        "inbox.coalesced",
        "mt4pump_inbox_coalesced_records_total",
        "Calls merged with a waiting call of the same pump code; nothing is lost.",
    ),
    HeartbeatRow(
        "inbox.refused",
        "mt4pump_inbox_refused_records_total",
        "Records that found the inbox full; their tables are read again.",
    ),
    HeartbeatRow("offset", "mt4pump_journal_last_offset", "Offset of the last durable event; 0 if there is none."),
    HeartbeatRow(
        "journal.first_offset", "mt4pump_journal_first_offset", "Offset of the oldest stored event; 0 if none is."
    ),
    HeartbeatRow(
        "offsets",
        "mt4pump_journal_kind_last_offset",
        "Offset of the last durable event of a kind; 0: none of it is stored.",
        label="kind",
        known=KIND_NAMES,
    ),
    HeartbeatRow("journal.stored", "mt4pump_journal_stored_events_total", "Durable events committed."),
    HeartbeatRow(
        "journal.unstored",
        "mt4pump_journal_unstored_events_total",
        "Durable events published without being stored, as a commit failed.",
    ),
    HeartbeatRow("journal.commits", "mt4pump_journal_commits_total", "Transactions committed."),
    HeartbeatRow("journal.errors", "mt4pump_journal_errors_total", "Transactions and openings that failed."),
    HeartbeatRow(
        "journal.set_aside", "mt4pump_journal_set_aside_files_total", "Damaged journal files moved to quarantine."
    ),
    HeartbeatRow("journal.deleted", "mt4pump_journal_deleted_events_total", "Stored events deleted by retention."),
    HeartbeatRow("journal.size_bytes", "mt4pump_journal_size_bytes", "Size of the journal's file."),
    HeartbeatRow("journal.wal_bytes", "mt4pump_journal_wal_bytes", "Size of the journal's write-ahead log."),
    HeartbeatRow(
        "journal.wal_limit_bytes",
        "mt4pump_journal_wal_limit_bytes",
        "Size from which the write-ahead log is begun anew, unless another program holds it.",
    ),
    HeartbeatRow(
        "journal.wal_held_s",
        "mt4pump_journal_wal_held_seconds",
        "How long another program's transaction has kept the write-ahead log from being emptied; 0 if none does.",
    ),
    HeartbeatRow(
        "journal.clock_ahead_s",
        "mt4pump_journal_clock_ahead_seconds",
        "How far the machine's clock is ahead of the time that the journal's retention believes.",
    ),
    HeartbeatRow("subscriptions", "mt4pump_subscriptions", "Different prefixes that somebody is subscribed to."),
    HeartbeatRow("connections.now", "mt4pump_connections", "Subscribers' connections that are open."),
    HeartbeatRow(
        "connections",
        "mt4pump_handshakes_total",
        "Subscribers' connections by how their handshake ended.",
        label="result",
        only=("accepted", "refused", "failed"),
    ),
    HeartbeatRow("connections.limit", "mt4pump_connections_limit", "Subscribers' connections that may be open."),
    HeartbeatRow(
        "connections.over_limit",
        "mt4pump_connections_over_limit_total",
        "Subscribers' connections closed because there were too many.",
    ),
    HeartbeatRow(
        "connections.shut_out",
        "mt4pump_connections_shut_out_total",
        "Subscribers' connections closed for what they sent, did not read, or may no longer hear.",
    ),
    HeartbeatRow("subscription_bytes", "mt4pump_subscription_bytes", "Texts of all subscriptions."),
    HeartbeatRow(
        "slow_readers.large_bytes", "mt4pump_large_bodies_waiting_bytes", "Large bodies that wait for subscribers."
    ),
    HeartbeatRow(
        "slow_readers.large_dropped", "mt4pump_large_bodies_dropped_total", "Large bodies that were sent to nobody."
    ),
    HeartbeatRow(
        "slow_readers.messages",
        "mt4pump_slow_reader_messages_total",
        "Messages at which a subscriber's queue became full and began to drop.",
    ),
    HeartbeatRow(
        "slow_readers.moments",
        "mt4pump_slow_reader_moments_total",
        "Times that a subscriber became too slow.",
    ),
    HeartbeatRow(
        "slow_readers.last_ts",
        "mt4pump_slow_reader_last_timestamp_seconds",
        "When a subscriber last was too slow.",
        NS,
        zero_is_never=True,
    ),
    HeartbeatRow("query.requests", "mt4pump_query_requests_total", "Requests answered."),
    HeartbeatRow("query.errors", "mt4pump_query_errors_total", "Requests answered with an error."),
    HeartbeatRow(
        "query.dropped",
        "mt4pump_query_dropped_messages_total",
        "Messages that were not a request, and replies that the client did not receive.",
    ),
    HeartbeatRow("query.events", "mt4pump_query_replayed_events_total", "Events replayed."),
    HeartbeatRow("query.cuts", "mt4pump_query_cuts_total", "Snapshots taken."),
    HeartbeatRow("query.busy", "mt4pump_query_busy_total", "Requests refused because too many waited."),
    HeartbeatRow("query.waiting", "mt4pump_query_waiting", "Requests that wait."),
    HeartbeatRow("query.unread_bytes", "mt4pump_query_unread_bytes", "Replies that clients have not read yet."),
    HeartbeatRow(
        "query.unread",
        "mt4pump_query_unread_closed_total",
        "Connections closed because they did not read a reply in time.",
    ),
    HeartbeatRow("query.snapshots", "mt4pump_query_snapshots", "Snapshots held for their next pages."),
    HeartbeatRow(
        "query.evicted",
        "mt4pump_query_evicted_snapshots_total",
        "Snapshots discarded for a newer one before their last page was read.",
    ),
    HeartbeatRow("query.connections", "mt4pump_query_connections", "Connections to the query endpoint."),
    HeartbeatRow(
        "query.over_limit", "mt4pump_query_over_limit_total", "Connections closed because there were too many."
    ),
    HeartbeatRow("query.shut_out", "mt4pump_query_shut_out_total", "Connections closed for what they sent."),
    HeartbeatRow("query.silent", "mt4pump_query_silent_total", "Connections closed because they sent no request."),
    HeartbeatRow("rss_bytes", "mt4pump_resident_memory_bytes", "Memory of the daemon."),
    HeartbeatRow("cpu_s", "mt4pump_cpu_seconds_total", "CPU time of the daemon, all threads together."),
    HeartbeatRow("threads", "mt4pump_threads", "Threads of the daemon."),
    HeartbeatRow(
        "deleted_files",
        "mt4pump_deleted_files_total",
        "Old logs and damaged journals that the daemon deleted.",
        label="kind",
    ),
)


MOMENTS = ("ts", "last_callback_ts", "last_quote_ts")
"""Keys whose age is still of use when the daemon is silent."""


def moments(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what may still be shown of the last heartbeat of a daemon that is silent."""
    return {key: body[key] for key in MOMENTS if key in body}


def families(body: Mapping[str, Any]) -> Iterator[Metric]:
    """Yield every metric, filled from a heartbeat; those that it says nothing about have no samples."""
    for row in ROWS:
        family = row.family()
        for labels, value in row.samples(body):
            family.add_metric(labels, value)  # type: ignore[attr-defined]
        yield family
    yield _build(body)
    yield _session(body)
    yield _state(body)
    yield _faults(body)
    yield _journal(body)


def _build(body: Mapping[str, Any]) -> Metric:
    text = "Always 1; its labels are the versions of the daemon and of its protocol."
    family = GaugeMetricFamily("mt4pump_build_info", text, labels=["version", "protocol"])
    if "version" in body:
        family.add_metric([_text(body["version"]), _text(body.get("protocol", ""))], 1)
    return family


def _session(body: Mapping[str, Any]) -> Metric:
    family = GaugeMetricFamily("mt4pump_session_info", "Always 1; its label is the trade server.", labels=["server"])
    if "server" in body:
        family.add_metric([_text(body["server"])], 1)
    return family


def _state(body: Mapping[str, Any]) -> Metric:
    text = "1 for the state that the session with the trade server is in, 0 for the others."
    family = GaugeMetricFamily("mt4pump_session_state", text, labels=["state"])
    if state := _text(body.get("state") or ""):
        for each in dict.fromkeys((*SESSION_STATES, state)):
            family.add_metric([each], each == state)
    return family


def _faults(body: Mapping[str, Any]) -> Metric:
    """Return the sum: it is there from the first heartbeat on, so that also the first fault is an increase."""
    family = CounterMetricFamily("mt4pump_faults_total", "Faults of the daemon; each cost one record or one read.")
    if isinstance(errors := body.get("errors"), Mapping):
        family.add_metric([], sum(count for count in errors.values() if is_number(count)))
    return family


def _journal(body: Mapping[str, Any]) -> Metric:
    text = "1 while the last commit worked, 0 while durable events cannot be stored; missing without a journal."
    family = GaugeMetricFamily("mt4pump_journal_up", text)
    if isinstance(body.get("journal"), Mapping):
        family.add_metric([], bool(body.get("durable")))
    return family


def _text(value: object) -> str:
    return str(value)[:TEXT_LIMIT]
