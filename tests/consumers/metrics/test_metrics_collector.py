"""`mt4pump_consumers.metrics.exporter`: what is shown while the daemon's heartbeat arrives, and while none does."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest
from mt4pump_consumers.feed_thread import FeedThread
from mt4pump_consumers.metrics.exporter import MetricsCollector
from mt4pump_consumers.metrics.stream import StreamCounters, SymbolMetrics
from prometheus_client import CollectorRegistry, generate_latest

from mt4pump.client import Status
from tests.consumers.metrics.metrics_run import Samples, samples, value
from tests.consumers.metrics.test_metrics_heartbeat import BODY
from tests.consumers.metrics.test_metrics_stream import quote

STATUS = Status(
    alive=True,
    state="pumping",
    age_s=0.1,
    feed_age_s=0.2,
    epoch=BODY["epoch"],
    server=BODY["server"],
    version="0.1.0",
    log="5f0c",
    offset=7,
    durable=True,
    body=BODY,
)
NONE_YET = replace(STATUS, alive=False, state="", age_s=None, epoch=0, body={})
"""As the client shows a daemon whose first heartbeat has not arrived."""


class Reader:
    """Stands for the feed."""

    def __init__(self, status: Status) -> None:
        self.status = status
        self.subscriber = self
        self.counts = {"gaps": 3, "reconnects": 2, "received": 500}
        self.restarts = 1


def registry(status: Status, symbols: SymbolMetrics | None = None) -> CollectorRegistry:
    made = CollectorRegistry()
    made.register(MetricsCollector(cast(FeedThread, Reader(status)), StreamCounters(), symbols, lambda: (4, 3)))
    return made


def shown(status: Status, symbols: SymbolMetrics | None = None) -> Samples:
    return samples(generate_latest(registry(status, symbols)).decode())


def test_a_daemon_whose_heartbeat_arrives_is_up_with_all_its_numbers() -> None:
    found = shown(STATUS)
    assert value(found, "mt4pump_up") == 1
    assert value(found, "mt4pump_session_state", state="pumping") == 1
    assert value(found, "mt4pump_events_total", kind="trade") == 7
    assert value(found, "mt4pump_reader_gaps_total") == 3
    assert value(found, "mt4pump_reader_reconnects_total") == 2
    assert value(found, "mt4pump_exporter_feed_restarts_total") == 1
    assert value(found, "mt4pump_exporter_rejected_requests_total") == 4
    assert value(found, "mt4pump_exporter_slow_requests_total") == 3


def test_of_a_silent_daemon_nothing_is_claimed_but_when_its_last_heartbeat_arrived() -> None:
    found = shown(replace(STATUS, alive=False))
    mirrored = {name for name, _ in found if not name.startswith(("mt4pump_reader_", "mt4pump_exporter_"))}
    assert mirrored == {
        "mt4pump_up",
        "mt4pump_heartbeat_timestamp_seconds",
        "mt4pump_last_callback_timestamp_seconds",
        "mt4pump_last_quote_timestamp_seconds",
    }
    assert value(found, "mt4pump_up") == 0


def test_a_daemon_whose_heartbeat_never_arrived_is_down() -> None:
    found = shown(NONE_YET)
    assert value(found, "mt4pump_up") == 0
    assert value(found, "mt4pump_heartbeat_timestamp_seconds") is None
    assert value(found, "mt4pump_reader_events_total", kind="trade") == 0


@pytest.mark.parametrize(
    "status",
    [NONE_YET, replace(STATUS, alive=False), replace(STATUS, state="lost"), replace(STATUS, state="connecting")],
    ids=["never arrived", "silent", "lost", "connecting"],
)
def test_without_daemon_or_session_no_price_is_shown_as_if_it_were_todays(status: Status) -> None:
    symbols = SymbolMetrics(("*",), 10)
    symbols.count(quote("EURUSD"))
    assert value(shown(STATUS, symbols), "mt4pump_symbol_spread_points", symbol="EURUSD") == 12
    found = shown(status, symbols)
    assert not [name for name, _ in found if name == "mt4pump_symbol_spread_points"]
    assert value(found, "mt4pump_symbol_last_quote_timestamp_seconds", symbol="EURUSD")


def test_a_reader_of_nothing_does_not_lag() -> None:
    counters = StreamCounters()
    counters.lagging = True
    for alive in (True, False):
        made = CollectorRegistry()
        made.register(MetricsCollector(cast(FeedThread, Reader(replace(STATUS, alive=alive))), counters, None))
        assert value(samples(generate_latest(made).decode()), "mt4pump_reader_lagging") == alive


def test_symbols_are_shown_only_when_asked_for() -> None:
    assert value(shown(STATUS), "mt4pump_symbol_left_out") is None
    assert value(shown(STATUS, SymbolMetrics(("*",), 1)), "mt4pump_symbol_left_out") == 0


def test_single_metrics_can_be_asked_for_by_name() -> None:
    part = registry(STATUS).restricted_registry(["mt4pump_up", "mt4pump_inbox_limit_records"])
    found = samples(generate_latest(part).decode())
    assert {name for name, _ in found} == {"mt4pump_up", "mt4pump_inbox_limit_records"}
