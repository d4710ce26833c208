"""`mt4pump_consumers.metrics.exporter`: the thread that reads goes on after whatever happens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from threading import Event as ThreadEvent
from typing import Any, Self, cast

import pytest
from mt4pump_consumers.metrics import exporter as module
from mt4pump_consumers.metrics.exporter import MetricsFeed
from mt4pump_consumers.metrics.stream import StreamCounters, SymbolMetrics
from prometheus_client.core import Metric

from mt4pump.client import ClientError, Event, Notice, Subscriber
from tests.consumers.metrics.metrics_run import until
from tests.consumers.metrics.test_metrics_stream import event, quote


class FakeSubscriber:
    """Yields ``items``, then raises ``error``, or waits to be closed."""

    def __init__(self, items: list[Event | Notice], error: Exception | None = None) -> None:
        self.items, self.error = items, error
        self.closed = ThreadEvent()
        self.counts: Counter[str] = Counter(gaps=len(items))
        self.status = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Event | Notice]:
        yield from self.items
        if self.error is not None:
            raise self.error
        self.closed.wait(60)

    def close(self) -> None:
        self.closed.set()


def totals(families: Iterator[Metric], name: str) -> float:
    return sum(sample.value for family in families for sample in family.samples if sample.name == name)


def feed(
    *subscribers: FakeSubscriber | Exception, counters: StreamCounters, symbols: SymbolMetrics | None = None
) -> MetricsFeed:
    waiting = list(subscribers)

    def subscribe() -> Subscriber:
        made = waiting.pop(0)
        if isinstance(made, Exception):
            raise made
        return cast("Any", made)  # type: ignore[no-any-return]

    return MetricsFeed(subscribe, counters, symbols)


def test_events_notices_and_quotes_are_counted() -> None:
    counters, symbols = StreamCounters(), SymbolMetrics(("*",), 10)
    made = feed(
        FakeSubscriber([quote("EURUSD"), event("trade.7"), Notice("gap", "")]), counters=counters, symbols=symbols
    )
    made.start()
    until(lambda: totals(counters.families(), "mt4pump_reader_notices_total") == 1, "all is read")
    made.stop()
    assert totals(counters.families(), "mt4pump_reader_events_total") == 2
    assert totals(symbols.families(live=True), "mt4pump_symbol_quotes_total") == 1
    assert made.counts["gaps"] == 3
    assert not made.is_alive()


def test_a_reader_that_fails_is_replaced_as_often_as_it_takes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "RETRY_FIRST_S", 0.01)
    counters = StreamCounters()
    broken = FakeSubscriber([event("trade.7")], ZeroDivisionError("oh"))
    good = FakeSubscriber([event("trade.8")])
    made = feed(broken, ClientError("arguments", "not now"), good, counters=counters)
    made.start()
    until(lambda: totals(counters.families(), "mt4pump_reader_events_total") == 2, "the good one is read")
    made.stop()
    assert broken.closed.is_set()
    assert good.closed.is_set()
    assert made.restarts == 2
    assert "oh" in caplog.text
    assert "not now" in caplog.text


def test_what_is_wrong_from_the_start_comes_to_the_caller() -> None:
    with pytest.raises(ClientError, match="no good"):
        feed(ClientError("arguments", "no good"), counters=StreamCounters())


def test_a_feed_that_was_never_started_can_be_stopped() -> None:
    made = feed(subscriber := FakeSubscriber([]), counters=StreamCounters())
    made.stop()
    assert subscriber.closed.is_set()


def test_it_ends_also_while_it_waits_to_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_FIRST_S", 30.0)
    broken = FakeSubscriber([], ZeroDivisionError("oh"))
    made = feed(broken, counters=StreamCounters())
    made.start()
    until(broken.closed.is_set, "it failed")
    made.stop()
    assert not made.is_alive()
