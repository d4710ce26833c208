"""`mt4pump_consumers.metrics.exporter`: the parts together, in this process."""

from __future__ import annotations

import pytest
from mt4pump_consumers.metrics import exporter as module
from mt4pump_consumers.metrics.exporter import count, main, subscriber
from mt4pump_consumers.metrics.settings import MetricsSettings
from mt4pump_consumers.metrics.stream import StreamCounters, SymbolMetrics

from mt4pump.client import Notice
from mt4pump.process.program import Shutdown, StartError, settings_of
from tests.consumers.metrics.test_metrics_stream import event, quote

FREE = ("--port", "0", "--endpoint", "tcp://127.0.0.1:9")


def settings(*flags: str) -> MetricsSettings:
    return settings_of(MetricsSettings, [*FREE, *flags]).settings


class Gone:
    """A thread that ended at once."""

    def __init__(self, *_: object) -> None:
        self.status, self.subscriber, self.counts, self.restarts = None, self, dict[str, int](), 0

    def receive(self, _timeout_s: float) -> None:
        """Have nothing."""

    def start(self) -> None:
        """Do nothing."""

    stop = start

    def is_alive(self) -> bool:
        return False


def test_it_ends_when_asked_to() -> None:
    shutdown = Shutdown()
    shutdown.ask()
    assert main(settings(), shutdown) == 0


def test_it_does_not_go_on_without_the_thread_that_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHECK_S", 0.01)
    monkeypatch.setattr(module, "FeedThread", Gone)
    with pytest.raises(RuntimeError, match="is gone"):
        main(settings(), Shutdown())


@pytest.mark.parametrize(
    ("flags", "words"), [(["--keys", "missing.key"], "missing.key"), (["--topics", "a\tb"], "topic")]
)
def test_what_the_client_refuses_keeps_it_from_starting(flags: list[str], words: str) -> None:
    with pytest.raises(StartError, match=words):
        main(settings(*flags), Shutdown())


def test_the_heartbeat_is_always_read() -> None:
    for flags in (["--no-stream"], ["--topics", "trade.*"], ["--symbols", "EUR*"]):
        made = subscriber(settings(*flags), None)
        assert made._stream.ordering.subscriptions.is_wanted("heartbeat")
        made.close()


def test_events_notices_and_quotes_are_counted() -> None:
    counters, symbols = StreamCounters(), SymbolMetrics(("*",), 10)
    count([quote("EURUSD"), event("trade.7"), Notice("gap", "")], counters, symbols)
    found = {
        sample.name: sample.value
        for family in (*counters.families(), *symbols.families(live=True))
        for sample in family.samples
        if sample.labels in ({"kind": "trade"}, {"notice": "gap"}, {"symbol": "EURUSD"})
    }
    names = ("mt4pump_reader_events_total", "mt4pump_reader_notices_total", "mt4pump_symbol_quotes_total")
    assert [found[name] for name in names] == [1, 1, 1]
