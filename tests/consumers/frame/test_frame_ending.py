"""What asks a consumer to end: signals, and on Windows the console."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from mt4pump_consumers.frame import Shutdown
from mt4pump_consumers.frame import shutdown as ending


def test_a_signal_asks_and_the_handlers_before_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    made = Shutdown()
    with made.on_signals():
        assert not made.asked()
        signal.raise_signal(signal.SIGTERM)
        assert made.asked()
        assert made.wait(0)
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_console_of_windows_asks_from_its_own_thread_until_the_program_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registered: list[Callable[[], None]] = []

    @contextmanager
    def console(ask: Callable[[], None]) -> Iterator[None]:
        registered.append(ask)
        yield
        registered.remove(ask)

    monkeypatch.setattr(ending, "console_events", console)
    made = Shutdown()
    with made.on_signals():
        (ask,) = registered
        assert not made.asked()
        ask()
        assert made.asked()
    assert registered == []


def test_handlers_come_back_also_when_windows_takes_no_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def console(_ask: Callable[[], None]) -> Iterator[None]:
        raise OSError(6, "no console")
        yield

    monkeypatch.setattr(ending, "console_events", console)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(OSError, match="no console"), Shutdown().on_signals():
        pass
    assert signal.getsignal(signal.SIGINT) is before
