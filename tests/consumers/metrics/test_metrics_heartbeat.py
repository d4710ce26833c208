"""`mt4pump_consumers.metrics.heartbeat`: heartbeat to metrics."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from mt4pump_consumers.metrics import heartbeat
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric

from mt4pump.protocol import fields_of
from tests.consumers.metrics.metrics_run import Samples, promtool, samples, value

EPOCH_MS, TS_NS = 1_767_225_600_000, 1_767_225_601_500_000_000

BODY: dict[str, Any] = {
    "epoch": EPOCH_MS,
    "seq": 2,
    "ts": TS_NS,
    "state": "pumping",
    "since": EPOCH_MS + 250,
    "reason": "",
    "server": "mt4.example.com:443",
    "version": "0.1.0",
    "protocol": 1,
    "interval_s": 1.0,
    "uptime_s": 1.5,
    "log": "5f0c",
    "offset": 7,
    "offsets": {"trade": 7},
    "durable": True,
    "journal": {
        "stored": 7,
        "unstored": 1,
        "commits": 3,
        "errors": 2,
        "set_aside": 4,
        "deleted": 5,
        "first_offset": 6,
        "size_bytes": 4096,
        "wal_bytes": 512,
        "wal_limit_bytes": 8192,
        "wal_held_s": 2.5,
        "clock_ahead_s": 3.5,
        "error": "",
    },
    "counts": {"quote": 100, "trade": 7, "heartbeat": 2},
    "sent": 90,
    "dropped": 8,
    "inbox": {"waiting": 9, "limit": 200_000, "received": 120, "coalesced": 11, "refused": 8},
    "errors": {"bad_record": 2, "slow_reader": 1},
    "skipped": {"before_start": 30},
    "reconnects": 12,
    "last_callback_ts": TS_NS - 1_000_000,
    "last_quote_ts": TS_NS - 2_000_000,
    "subscriptions": 13,
    "subscription_bytes": 302,
    "slow_readers": {
        "messages": 14,
        "moments": 15,
        "last_ts": TS_NS - 3_000_000,
        "large_bytes": 303,
        "large_dropped": 304,
    },
    "connections": {
        "now": 16,
        "accepted": 17,
        "refused": 18,
        "failed": 19,
        "limit": 299,
        "over_limit": 300,
        "shut_out": 301,
    },
    "query": {
        "requests": 20,
        "errors": 21,
        "dropped": 22,
        "events": 23,
        "cuts": 24,
        "busy": 200,
        "waiting": 201,
        "unread_bytes": 202,
        "unread": 203,
        "snapshots": 204,
        "evicted": 205,
        "connections": 206,
        "over_limit": 207,
        "shut_out": 208,
        "silent": 209,
    },
    "server_utc_offset_s": 10_800,
    "rss_bytes": 50_000_000,
    "threads": 6,
    "source": {"ticks_sent": 100},
}


class Fixed:
    """A collector of what a body gives."""

    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body

    def collect(self) -> list[Metric]:
        return [family for family in heartbeat.families(self.body) if family.samples]


def text(body: dict[str, Any]) -> str:
    registry = CollectorRegistry()
    registry.register(Fixed(body))
    return generate_latest(registry).decode()


def shown(body: dict[str, Any]) -> Samples:
    return samples(text(body))


@pytest.mark.parametrize(
    ("name", "labels", "wanted"),
    [
        ("mt4pump_start_time_seconds", {}, EPOCH_MS / 1000),
        ("mt4pump_heartbeat_timestamp_seconds", {}, TS_NS / 1e9),
        ("mt4pump_heartbeat_interval_seconds", {}, 1),
        ("mt4pump_session_state_since_timestamp_seconds", {}, EPOCH_MS / 1000 + 0.25),
        ("mt4pump_session_reconnects_total", {}, 12),
        ("mt4pump_server_utc_offset_seconds", {}, 10_800),
        ("mt4pump_events_total", {"kind": "quote"}, 100),
        ("mt4pump_events_total", {"kind": "trade"}, 7),
        ("mt4pump_events_total", {"kind": "mail"}, 0),
        ("mt4pump_sent_messages_total", {}, 90),
        ("mt4pump_last_callback_timestamp_seconds", {}, (TS_NS - 1_000_000) / 1e9),
        ("mt4pump_last_quote_timestamp_seconds", {}, (TS_NS - 2_000_000) / 1e9),
        ("mt4pump_faults_by_name_total", {"fault": "bad_record"}, 2),
        ("mt4pump_faults_total", {}, 3),
        ("mt4pump_skipped_records_total", {"reason": "before_start"}, 30),
        ("mt4pump_source_events_total", {"event": "ticks_sent"}, 100),
        ("mt4pump_inbox_waiting_records", {}, 9),
        ("mt4pump_inbox_limit_records", {}, 200_000),
        ("mt4pump_inbox_received_records_total", {}, 120),
        ("mt4pump_inbox_coalesced_records_total", {}, 11),
        ("mt4pump_inbox_refused_records_total", {}, 8),
        ("mt4pump_journal_up", {}, 1),
        ("mt4pump_journal_last_offset", {}, 7),
        ("mt4pump_journal_first_offset", {}, 6),
        ("mt4pump_journal_stored_events_total", {}, 7),
        ("mt4pump_journal_unstored_events_total", {}, 1),
        ("mt4pump_journal_commits_total", {}, 3),
        ("mt4pump_journal_errors_total", {}, 2),
        ("mt4pump_journal_set_aside_files_total", {}, 4),
        ("mt4pump_journal_deleted_events_total", {}, 5),
        ("mt4pump_journal_size_bytes", {}, 4096),
        ("mt4pump_journal_wal_bytes", {}, 512),
        ("mt4pump_subscriptions", {}, 13),
        ("mt4pump_connections", {}, 16),
        ("mt4pump_handshakes_total", {"result": "accepted"}, 17),
        ("mt4pump_handshakes_total", {"result": "refused"}, 18),
        ("mt4pump_handshakes_total", {"result": "failed"}, 19),
        ("mt4pump_slow_reader_messages_total", {}, 14),
        ("mt4pump_slow_reader_moments_total", {}, 15),
        ("mt4pump_slow_reader_last_timestamp_seconds", {}, (TS_NS - 3_000_000) / 1e9),
        ("mt4pump_connections_limit", {}, 299),
        ("mt4pump_connections_over_limit_total", {}, 300),
        ("mt4pump_connections_shut_out_total", {}, 301),
        ("mt4pump_subscription_bytes", {}, 302),
        ("mt4pump_large_bodies_waiting_bytes", {}, 303),
        ("mt4pump_large_bodies_dropped_total", {}, 304),
        ("mt4pump_query_requests_total", {}, 20),
        ("mt4pump_query_errors_total", {}, 21),
        ("mt4pump_query_dropped_messages_total", {}, 22),
        ("mt4pump_query_replayed_events_total", {}, 23),
        ("mt4pump_query_cuts_total", {}, 24),
        ("mt4pump_query_busy_total", {}, 200),
        ("mt4pump_query_waiting", {}, 201),
        ("mt4pump_query_unread_bytes", {}, 202),
        ("mt4pump_query_unread_closed_total", {}, 203),
        ("mt4pump_query_snapshots", {}, 204),
        ("mt4pump_query_evicted_snapshots_total", {}, 205),
        ("mt4pump_query_connections", {}, 206),
        ("mt4pump_query_over_limit_total", {}, 207),
        ("mt4pump_query_shut_out_total", {}, 208),
        ("mt4pump_query_silent_total", {}, 209),
        ("mt4pump_resident_memory_bytes", {}, 50_000_000),
        ("mt4pump_threads", {}, 6),
        ("mt4pump_build_info", {"version": "0.1.0", "protocol": "1"}, 1),
        ("mt4pump_session_info", {"server": "mt4.example.com:443"}, 1),
        ("mt4pump_session_state", {"state": "pumping"}, 1),
        ("mt4pump_session_state", {"state": "lost"}, 0),
    ],
)
def test_a_number_of_the_heartbeat_is_a_metric_in_base_units(name: str, labels: dict[str, str], wanted: float) -> None:
    assert value(shown(BODY), name, **labels) == pytest.approx(wanted, rel=1e-12)


NOT_NUMBERS = {"server_code", "reason", "log", "offsets", "uptime_s", "dropped"}
"""Texts; last offsets per kind; and what other keys say as well: ``epoch`` the uptime, the inbox what is dropped."""


def test_every_key_that_a_heartbeat_may_have_is_shown_or_left_out_on_purpose() -> None:
    rows = {row.path.partition(".")[0] for row in heartbeat.ROWS}
    special = {"version", "protocol", "server", "state", "durable"}
    assert set(fields_of("heartbeat")) == (rows - {"epoch", "ts"} | special | {"journal"}) | NOT_NUMBERS
    for key in ("inbox", "journal", "slow_readers", "connections", "query"):
        inside = {row.path.partition(".")[2] for row in heartbeat.ROWS if row.path.startswith(f"{key}.")}
        inside |= {name for row in heartbeat.ROWS if row.path == key for name in row.only}
        assert set(BODY[key]) - {"error"} == inside


def test_a_heartbeat_of_a_daemon_without_a_journal_says_nothing_of_one() -> None:
    found = shown({**BODY, "journal": None, "durable": False})
    assert not [name for name, _ in found if name.startswith("mt4pump_journal") and not name.endswith("last_offset")]


def test_a_journal_that_fails_is_a_zero() -> None:
    assert value(shown({**BODY, "durable": False}), "mt4pump_journal_up") == 0


def test_a_moment_that_never_was_is_left_out() -> None:
    found = shown({**BODY, "last_quote_ts": 0, "slow_readers": {**BODY["slow_readers"], "last_ts": 0}})
    assert value(found, "mt4pump_last_quote_timestamp_seconds") is None
    assert value(found, "mt4pump_slow_reader_last_timestamp_seconds") is None
    assert value(found, "mt4pump_slow_reader_messages_total") == 14


def test_a_count_of_0_is_shown_so_that_the_first_one_is_an_increase() -> None:
    assert value(shown({**BODY, "reconnects": 0}), "mt4pump_session_reconnects_total") == 0


def test_an_offset_that_is_not_known_yet_is_left_out() -> None:
    assert value(shown({**BODY, "server_utc_offset_s": None}), "mt4pump_server_utc_offset_seconds") is None


def test_a_state_that_this_version_does_not_know_is_shown_beside_the_others() -> None:
    found = shown({**BODY, "state": "dreaming"})
    assert value(found, "mt4pump_session_state", state="dreaming") == 1
    assert value(found, "mt4pump_session_state", state="pumping") == 0


@pytest.mark.parametrize(
    "strange", [None, "text", [], {}, float("nan"), float("inf"), {"quote": "many"}, {7: 8}, b"bytes"]
)
def test_a_heartbeat_with_strange_values_is_shown_as_far_as_it_makes_sense(strange: object) -> None:
    for key in BODY:
        text({**BODY, key: strange})
    text(dict.fromkeys(BODY, strange))


def test_nothing_received_is_nothing_shown() -> None:
    assert shown({}) == {}


def test_many_names_in_a_map_end_up_in_one_sum() -> None:
    found = shown({**BODY, "errors": {f"fault_{number}": 1 for number in range(200)}})
    faults = [labels for name, labels in found if name == "mt4pump_faults_by_name_total"]
    assert len(faults) == heartbeat.LABELS_LIMIT + 1
    assert value(found, "mt4pump_faults_by_name_total", fault="other") == 200 - heartbeat.LABELS_LIMIT
    assert value(found, "mt4pump_faults_total") == 200


def test_counters_fall_back_when_the_daemon_begins_anew_which_prometheus_knows_as_a_reset() -> None:
    again = {**BODY, "epoch": EPOCH_MS + 60_000, "counts": {"quote": 3}, "sent": 1}
    before, after = shown(BODY), shown(again)
    assert value(before, "mt4pump_events_total", kind="quote") == 100
    assert value(after, "mt4pump_events_total", kind="quote") == 3
    assert value(after, "mt4pump_events_total", kind="trade") == 0


def test_promtool_finds_nothing_to_complain_about() -> None:
    assert promtool("check", "metrics", text=text(BODY)) == (0, "")


def test_promtool_would_complain() -> None:
    code, said = promtool("check", "metrics", text="# TYPE mt4pump_sentMillis counter\nmt4pump_sentMillis 1\n")
    assert code != 0
    assert "_total" in said


def test_no_label_can_be_a_login_or_a_ticket() -> None:
    labels = {label for _, pairs in shown(BODY) for label, _ in pairs}
    assert labels == {"event", "fault", "kind", "protocol", "reason", "result", "server", "state", "version"}


def test_the_rows_read_like_prometheus_metrics() -> None:
    source = Path(heartbeat.__file__).read_text(encoding="utf-8")
    for name in set(re.findall(r'"(mt4pump_\w+)"', source)):
        assert not re.search(r"_(ms|ns|kb|count|minutes)(_|$)", name)
