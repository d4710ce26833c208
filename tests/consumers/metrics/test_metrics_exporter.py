"""`mt4pump_consumers.metrics.exporter`: the parts together, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from mt4pump_consumers.metrics import exporter as module
from mt4pump_consumers.metrics.exporter import UNSELECTED_S, SelectionCheck, count, main, subscriber
from mt4pump_consumers.metrics.settings import MetricsSettings
from mt4pump_consumers.metrics.stream import StreamCounters, SymbolMetrics

from mt4pump.client import Event, Notice
from mt4pump.process.program import Shutdown, StartError, settings_of
from tests.consumers.metrics.test_metrics_collector import NONE_YET
from tests.consumers.metrics.test_metrics_stream import event, quote

FREE = ("--port", "0", "--endpoint", "tcp://127.0.0.1:9")


def settings(*flags: str) -> MetricsSettings:
    return settings_of(MetricsSettings, [*FREE, *flags]).settings


class Gone:
    """A thread that ended at once."""

    def __init__(self, *_: object) -> None:
        self.status, self.subscriber, self.counts, self.restarts = NONE_YET, self, dict[str, int](), 0

    def receive(self, _timeout_s: float) -> Event | None:
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


def test_the_heartbeat_is_always_read(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, tuple[str, ...]] = {}
    monkeypatch.setattr(module, "Subscriber", lambda *_, **named: given.update(named))
    for flags in (["--no-stream"], ["--topics", "trade.*"], ["--symbols", "EUR*"]):
        subscriber(settings(*flags), None)
        assert "heartbeat" in given["topics"]


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


def test_the_event_that_comes_while_the_sockets_are_opened_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Early(Gone):
        """A thread whose subscriber has a quote at once."""

        def receive(self, _timeout_s: float) -> Event:
            return quote("EURUSD")

    counted = list[Event | Notice]()
    monkeypatch.setattr(module, "FeedThread", Early)
    monkeypatch.setattr(module, "count", lambda items, *_: counted.extend(items))
    with pytest.raises(RuntimeError, match="is gone"):
        main(settings(), Shutdown())
    assert [item.topic for item in counted] == ["quote.EURUSD"]


SELECTS_NONE = "the setting symbols selects none of the 2 symbols with quotes, as EURUSD GBPUSD"


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_a_selection_of_none_of_the_symbols_is_warned_about_once(caplog: pytest.LogCaptureFixture) -> None:
    symbols = SymbolMetrics(("NOPE",), 10)
    check = SelectionCheck(symbols)
    for now_s in (0.0, 1_000.0):  # no quote came: whether it selects any is not known
        check.update(now_s)
    symbols.count(quote("EURUSD"))
    check.update(2_000.0)
    symbols.count(quote("GBPUSD"))
    check.update(2_000.0 + UNSELECTED_S - 1)
    assert warnings(caplog) == []
    check.update(2_000.0 + UNSELECTED_S)
    check.update(9_000.0)
    assert len(warnings(caplog)) == 1
    assert warnings(caplog)[0].startswith(SELECTS_NONE)


def test_a_symbol_that_is_selected_and_comes_late_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    symbols = SymbolMetrics(("GBP*",), 10)
    check = SelectionCheck(symbols)
    for now_s, name in ((0.0, "EURUSD"), (UNSELECTED_S - 1, "GBPUSD"), (UNSELECTED_S * 2, "AUDUSD")):
        symbols.count(quote(name))
        check.update(now_s)
    SelectionCheck(None).update(0.0)
    assert warnings(caplog) == []


def test_the_program_checks_its_selection(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    shutdown = Shutdown()

    class Fed(Gone):
        """A thread that read two quotes and lives until the warning is there."""

        def __init__(self, _make: object, read: Callable[[Iterable[Event | Notice]], None]) -> None:
            super().__init__()
            self._read = read

        def start(self) -> None:
            self._read([quote("GBPUSD"), quote("EURUSD")])

        def join(self, _timeout_s: float) -> None:
            """Do nothing."""

        def is_alive(self) -> bool:
            if warnings(caplog):
                shutdown.ask()
            return True

    monkeypatch.setattr(module, "CHECK_S", 0.01)
    monkeypatch.setattr(module, "UNSELECTED_S", 0.0)
    monkeypatch.setattr(module, "FeedThread", Fed)
    assert main(settings("--symbols", "NOPE"), shutdown) == 0
    assert warnings(caplog)[0].startswith(SELECTS_NONE)
