"""Every counter of every program has an alert or a panel, or a reason why it needs neither."""

from __future__ import annotations

import re

from mt4pump_consumers.metrics.exporter import COUNTS
from mt4pump_consumers.metrics.heartbeat import ROWS
from mt4pump_consumers.nats_bridge.bridge import COUNTERS

from tests.consumers.metrics.metrics_run import DASHBOARD, PROMETHEUS, ROOT

PACKAGE = ROOT / "consumers" / "mt4pump_consumers"
NOT_LOST, HOUSEKEEPING = "counts work that was done: nothing is lost by it", "old files: each deletion is logged"
REASONS = {
    "mt4pump_archive_commits_total": NOT_LOST,
    "mt4pump_archive_duplicates_total": "an event that came again is stored once",
    "mt4pump_archive_old_logs_deleted_total": HOUSEKEEPING,
    "mt4pump_deleted_files_total": HOUSEKEEPING,
    "mt4pump_exporter_old_logs_deleted_total": HOUSEKEEPING,
    "mt4pump_gateway_feed_restarts_total": "the log has the reason of each; what came meanwhile is in the journal",
    "mt4pump_gateway_feed_waits_total": "if the subscriber loses anything by a wait, a notice counts it",
    "mt4pump_gateway_foreign_pages_total": "each refused origin is logged with its address",
    "mt4pump_gateway_malformed_requests_total": "scanners send them; nothing of ours is lost",
    "mt4pump_gateway_quotes_conflated_total": "as the setting quotes_per_s asks for",
    "mt4pump_gateway_quotes_conflated_for_slow_clients_total": "each client gets the newest, or is closed and counted",
    "mt4pump_gateway_quotes_without_history_total": "their charts begin when a page is opened; no quote is lost",
    "mt4pump_gateway_received_total": NOT_LOST,
    "mt4pump_gateway_work_waits_total": "the work was done after a wait",
    "mt4pump_inbox_coalesced_records_total": "signals without data: one that waits already stands for the next",
    "mt4pump_inbox_received_records_total": NOT_LOST,
    "mt4pump_monitor_forgotten_total": "executions older than the store keeps, as its settings say",
    "mt4pump_monitor_healed_total": "events that were recovered from the journal",
    "mt4pump_monitor_alerts_suppressed_total": "as the rule's quiet_s asks for",
    "mt4pump_monitor_alerts_total": NOT_LOST,
    "mt4pump_monitor_repeats_total": "an execution that came again is stored once",
    "mt4pump_nats_connections_total": NOT_LOST,
    "mt4pump_nats_oversized_total": "is counted in dropped, too, which a panel shows",
    "mt4pump_nats_replayed_total": NOT_LOST,
    "mt4pump_nats_setbacks_total": "retries of the writer; what is lost for good is counted in lost",
    "mt4pump_query_replayed_events_total": NOT_LOST,
    "mt4pump_reader_duplicates_total": "an event that came again is counted once",
    "mt4pump_sent_messages_total": NOT_LOST,
    "mt4pump_skipped_records_total": "records that are not to be published, by reason (PROTOCOL)",
    "mt4pump_slow_reader_moments_total": "the messages lost are counted and have an alert",
    "mt4pump_source_events_total": "counters of the library or the simulator, for a report of a fault",
}


def counters() -> set[str]:
    """Return the names of all counters, as Prometheus shows them."""
    found = {row.name for row in ROWS if row.name.endswith("_total")}
    found |= {name for name, _ in COUNTS.values()}
    for file in ("metrics/stream.py", "metrics/exporter.py", "archive/metrics.py"):
        found |= set(re.findall(r'"(mt4pump_\w+_total)"', (PACKAGE / file).read_text(encoding="utf-8")))
    found |= {f"mt4pump_nats_{name}_total" for name in COUNTERS}
    gateway = (PACKAGE / "gateway" / "server.py").read_text(encoding="utf-8").split("def counts(self)")[1]
    found |= {f"mt4pump_gateway_{name}_total" for name in re.findall(r'^ +"(\w+)": ', gateway, re.MULTILINE)}
    monitor = (PACKAGE / "monitor" / "monitor.py").read_text(encoding="utf-8")
    (names,) = re.findall(r"^ +names = \((.+)\)$", monitor, re.MULTILINE)
    found |= {f"mt4pump_monitor_{name}_total" for name in re.findall(r'"(\w+)"', names)}
    store = (PACKAGE / "monitor" / "store.py").read_text(encoding="utf-8")
    (names,) = re.findall(r"self\.counts = dict\.fromkeys\(\((.+?)\), 0\)", store)
    found |= {f"mt4pump_monitor_{name}_total" for name in re.findall(r'"(\w+)"', names)}
    return found - {"mt4pump_gateway_connections_total", "mt4pump_monitor_unsent_total"}  # these two are gauges


def test_every_counter_has_an_alert_a_panel_or_a_reason() -> None:
    shown = DASHBOARD.read_text(encoding="utf-8") + (PROMETHEUS / "mt4pump.rules.yml").read_text(encoding="utf-8")
    named = set(re.findall(r"\bmt4pump_\w+_total\b", shown))
    assert len(counters()) > 60
    assert counters() - named == REASONS.keys()


def test_each_reason_says_something() -> None:
    assert [name for name, reason in REASONS.items() if len(reason) < 10] == []
