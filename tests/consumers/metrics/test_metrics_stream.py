"""`mt4pump_consumers.metrics.stream` and `symbols`: what the reader counts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from mt4pump_consumers.metrics.stream import (
    KINDS_LIMIT,
    LATENCY_BUCKETS_S,
    StreamCounters,
    SymbolMetrics,
)
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric

from mt4pump.client import Event, Notice, Quote
from mt4pump.client.event import HEALED, LIVE, SNAPSHOT, TopicName
from mt4pump.client.events import CLASSES
from tests.consumers.metrics.metrics_run import Samples, promtool, samples, value

NOW_NS = 1_767_225_600_000_000_000
MS_NS = 1_000_000


def event(topic: str, ts: int = NOW_NS, came: int = LIVE, **fields: Any) -> Event:
    name = TopicName(topic)
    body = {"epoch": 1, "seq": 1, "ts": ts, **fields}
    return CLASSES.get(name.kind, Event)(name, body, (b"", b""), came)


def quote(symbol: str, ts: int = NOW_NS, came: int = LIVE, spread: int | None = 12) -> Quote:
    made = event(f"quote.{symbol}", ts, came, symbol=symbol, spread=spread)
    assert isinstance(made, Quote)
    return made


class Fixed:
    """A collector of metrics made once."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self.families = list(families)

    def collect(self) -> list[Metric]:
        return [family for family in self.families if family.samples]


def text(of: StreamCounters | SymbolMetrics) -> str:
    registry = CollectorRegistry()
    registry.register(Fixed(of.families() if isinstance(of, StreamCounters) else of.families(live=True)))
    return generate_latest(registry).decode()


def shown(of: StreamCounters | SymbolMetrics) -> Samples:
    return samples(text(of))


def test_events_are_counted_by_kind_from_0_on() -> None:
    counters = StreamCounters()
    for topic in ("quote.EURUSD", "quote.GBPUSD", "trade.7"):
        counters.count_event(event(topic), NOW_NS)
    found = shown(counters)
    assert value(found, "mt4pump_reader_events_total", kind="quote") == 2
    assert value(found, "mt4pump_reader_events_total", kind="trade") == 1
    assert value(found, "mt4pump_reader_events_total", kind="mail") == 0
    assert value(found, "mt4pump_reader_lost_events_total", kind="trade") == 0


def test_a_last_value_from_the_start_is_no_event() -> None:
    counters = StreamCounters()
    counters.count_event(event("trade.7", NOW_NS - 10**12, SNAPSHOT), NOW_NS)
    found = shown(counters)
    assert value(found, "mt4pump_reader_events_total", kind="trade") == 0
    assert value(found, "mt4pump_reader_last_event_timestamp_seconds", kind="trade") is None


@pytest.mark.parametrize("delay_ms", [0.0, 0.25, 0.3, 1.0, 99.9, 100.0, 100.1, 30_000.0, 31_000.0])
def test_a_delay_is_in_every_bucket_from_its_own_on(delay_ms: float) -> None:
    counters = StreamCounters()
    counters.count_event(event("trade.7", NOW_NS - int(delay_ms * MS_NS)), NOW_NS)
    found = shown(counters)
    name = "mt4pump_reader_event_latency_seconds"
    for bound in LATENCY_BUCKETS_S:
        wanted = 1 if delay_ms / 1000 <= bound else 0
        assert value(found, f"{name}_bucket", kind="trade", le=str(bound)) == wanted, bound
    assert value(found, f"{name}_bucket", kind="trade", le="+Inf") == 1
    assert value(found, f"{name}_count", kind="trade") == 1
    assert value(found, f"{name}_sum", kind="trade") == pytest.approx(delay_ms / 1000)


def test_an_event_out_of_the_journal_says_nothing_of_the_delay_on_the_wire() -> None:
    counters = StreamCounters()
    counters.count_event(event("trade.7", NOW_NS - 10**12, HEALED), NOW_NS)
    found = shown(counters)
    assert value(found, "mt4pump_reader_events_total", kind="trade") == 1
    assert value(found, "mt4pump_reader_healed_events_total") == 1
    assert value(found, "mt4pump_reader_event_latency_seconds_count", kind="trade") is None


@pytest.mark.parametrize(("early_ms", "ahead"), [(0.5, 0), (15.0, 0), (17.0, 1), (60_000.0, 1)])
def test_an_event_from_the_future_is_reported_once_the_clock_is_too_coarse_no_more(early_ms: float, ahead: int) -> None:
    counters = StreamCounters(tolerance_s=0.016)
    counters.count_event(event("trade.7", NOW_NS + int(early_ms * MS_NS)), NOW_NS)
    found = shown(counters)
    assert value(found, "mt4pump_reader_future_events_total") == ahead
    assert value(found, "mt4pump_reader_event_latency_seconds_sum", kind="trade") == 0


def test_the_last_moment_does_not_go_back() -> None:
    counters = StreamCounters()
    counters.count_event(event("trade.7", NOW_NS), NOW_NS)
    counters.count_event(event("trade.8", NOW_NS - 5, HEALED), NOW_NS)
    assert value(shown(counters), "mt4pump_reader_last_event_timestamp_seconds", kind="trade") == NOW_NS / 1e9


def test_trades_are_counted_by_what_happened_and_new_words_together() -> None:
    counters = StreamCounters()
    for change in ("opened", "closed", "closed", "teleported", None):
        counters.count_event(event("trade.7", change=change), NOW_NS)
    found = shown(counters)
    assert value(found, "mt4pump_reader_trades_total", change="opened") == 1
    assert value(found, "mt4pump_reader_trades_total", change="closed") == 2
    assert value(found, "mt4pump_reader_trades_total", change="deleted") == 0
    assert value(found, "mt4pump_reader_trades_total", change="other") == 2


def test_losses_are_counted_by_the_kind_of_their_topic() -> None:
    counters = StreamCounters()
    counters.count_notice(Notice("lost", "", topic="quote.EURUSD", count=5))
    counters.count_notice(Notice("lost", "", topic="quote.GBPUSD", count=2))
    counters.count_notice(Notice("lost", "", topic="trade.7", count=1))
    counters.count_notice(Notice("gap", "", topic="user.7", count=9))
    counters.count_notice(Notice("lost", "", topic="session.stop", count=1))
    found = shown(counters)
    assert value(found, "mt4pump_reader_lost_events_total", kind="session.ping") == 0
    counters.count_notice(Notice("lost", "", topic="session.ping", count=4))
    found = shown(counters)
    assert value(found, "mt4pump_reader_lost_events_total", kind="session") == 1
    assert value(found, "mt4pump_reader_lost_events_total", kind="session.ping") == 4, "it is never stored"
    assert value(found, "mt4pump_reader_lost_events_total", kind="quote") == 7
    assert value(found, "mt4pump_reader_lost_events_total", kind="trade") == 1
    assert value(found, "mt4pump_reader_lost_events_total", kind="user") == 0
    assert value(found, "mt4pump_reader_notices_total", notice="lost") == 5
    assert value(found, "mt4pump_reader_notices_total", notice="gap") == 1
    assert value(found, "mt4pump_reader_notices_total", notice="silent") == 0


def test_a_lag_lasts_until_it_was_caught_up() -> None:
    counters = StreamCounters()
    assert value(shown(counters), "mt4pump_reader_lagging") == 0
    counters.count_notice(Notice("lagging", ""))
    counters.count_notice(Notice("gap", ""))
    assert value(shown(counters), "mt4pump_reader_lagging") == 1
    counters.count_notice(Notice("caught_up", ""))
    assert value(shown(counters), "mt4pump_reader_lagging") == 0


def test_a_stream_of_new_words_does_not_make_series_without_end() -> None:
    counters = StreamCounters()
    for number in range(1000):
        counters.count_event(event(f"kind{number}.x"), NOW_NS)
        counters.count_notice(Notice("lost", "", topic=f"lost{number}.x", count=1))
        counters.count_notice(Notice(f"notice{number}", ""))
    found = shown(counters)
    kinds = [labels for name, labels in found if name == "mt4pump_reader_events_total"]
    assert len(kinds) == KINDS_LIMIT + 1
    assert sum(number for (name, _), number in found.items() if name == "mt4pump_reader_events_total") == 1000
    assert value(found, "mt4pump_reader_notices_total", notice="other") == 1000


def test_only_symbols_that_were_asked_for_get_series() -> None:
    symbols = SymbolMetrics(("EURUSD", "GBP*"), 10)
    for name in ("EURUSD", "EURUSD", "GBPJPY", "USDJPY", "EURUSDx"):
        symbols.count(quote(name))
    found = shown(symbols)
    assert value(found, "mt4pump_symbol_quotes_total", symbol="EURUSD") == 2
    assert value(found, "mt4pump_symbol_quotes_total", symbol="GBPJPY") == 1
    assert {dict(labels)["symbol"] for name, labels in found if name == "mt4pump_symbol_spread_points"} == {
        "EURUSD",
        "GBPJPY",
    }
    assert value(found, "mt4pump_symbol_left_out") == 0


def test_a_pattern_with_an_exclamation_mark_leaves_out_as_it_does_in_the_daemon() -> None:
    symbols = SymbolMetrics(("*", "!*JPY"), 10)
    for name in ("EURUSD", "GBPJPY"):
        symbols.count(quote(name))
    found = shown(symbols)
    assert value(found, "mt4pump_symbol_quotes_total", symbol="EURUSD") == 1
    assert value(found, "mt4pump_symbol_quotes_total", symbol="GBPJPY") is None
    assert value(found, "mt4pump_symbol_left_out") == 0


def test_symbols_beyond_the_limit_are_counted_once_each() -> None:
    symbols = SymbolMetrics(("*",), 2)
    for name in ("A", "B", "C", "D", "C", "D", "A"):
        symbols.count(quote(name))
    found = shown(symbols)
    assert value(found, "mt4pump_symbol_left_out") == 2
    assert value(found, "mt4pump_symbol_quotes_total", symbol="A") == 2
    assert value(found, "mt4pump_symbol_quotes_total", symbol="C") is None


def test_a_symbols_last_value_is_its_last_and_not_a_new_quote() -> None:
    symbols = SymbolMetrics(("*",), 10)
    symbols.count(quote("EURUSD", NOW_NS - 7, SNAPSHOT))
    found = shown(symbols)
    assert value(found, "mt4pump_symbol_quotes_total", symbol="EURUSD") == 0
    assert value(found, "mt4pump_symbol_last_quote_timestamp_seconds", symbol="EURUSD") == (NOW_NS - 7) / 1e9


def test_a_symbol_that_the_server_deletes_has_no_series_any_more_and_makes_room() -> None:
    symbols = SymbolMetrics(("*",), 1)
    symbols.count(quote("EURUSD"))
    symbols.count(event("symbol.GBPUSD", action="delete", symbol="GBPUSD"))
    symbols.count(event("symbol.EURUSD", action="update", symbol="EURUSD"))
    assert value(shown(symbols), "mt4pump_symbol_spread_points", symbol="EURUSD") == 12
    symbols.count(event("symbol.EURUSD", action="delete", symbol="EURUSD"))
    assert not [name for name, labels in shown(symbols) if labels]
    symbols.count(quote("USDJPY"))
    assert value(shown(symbols), "mt4pump_symbol_quotes_total", symbol="USDJPY") == 1


@pytest.mark.parametrize("topic", ["heartbeat", "quote.USDJPY", "trade.1"])
def test_a_daemon_that_starts_anew_has_no_symbols_of_the_run_before(topic: str) -> None:
    symbols = SymbolMetrics(("*",), 1)
    symbols.count(quote("EURUSD"))
    symbols.count(quote("GBPUSD"))
    symbols.count(event(topic, epoch=2, spread=7))
    symbols.count(quote("EURUSD"))  # late, of the run before
    found = shown(symbols)
    assert {dict(labels)["symbol"] for _, labels in found if labels} == ({"USDJPY"} if "quote" in topic else set())
    assert value(found, "mt4pump_symbol_left_out") == 0


def test_a_heartbeat_is_believed_also_where_its_epoch_is_smaller() -> None:
    symbols = SymbolMetrics(("*",), 10)
    symbols.count(event("quote.EURUSD", epoch=9, spread=12))
    symbols.count(event("heartbeat", epoch=3))
    symbols.count(event("quote.GBPUSD", epoch=3, spread=5))
    assert {dict(labels)["symbol"] for _, labels in shown(symbols) if labels} == {"GBPUSD"}


def test_a_spread_that_is_no_number_is_left_out() -> None:
    symbols = SymbolMetrics(("*",), 10)
    symbols.count(quote("EURUSD", spread=None))
    assert value(shown(symbols), "mt4pump_symbol_spread_points", symbol="EURUSD") is None


def test_promtool_finds_nothing_to_complain_about() -> None:
    counters, symbols = StreamCounters(), SymbolMetrics(("*",), 10)
    for topic in ("quote.EURUSD", "trade.7", "session.start"):
        counters.count_event(event(topic, change="opened"), NOW_NS)
    symbols.count(quote("EURUSD"))
    assert promtool("check", "metrics", text=text(counters) + text(symbols)) == (0, "")
