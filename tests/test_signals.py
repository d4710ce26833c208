"""A request to end is a flag, and what was there before comes back."""

from __future__ import annotations

import os
import signal
import sys
from threading import Thread

import pytest

from mt4pump.signals import asked_to_end
from tests.bus import until


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signal that a process can send itself unharmed")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_sets_the_event_and_the_handler_before_comes_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with asked_to_end() as asked:
        assert not asked.is_set()
        os.kill(os.getpid(), number)
        until(asked.is_set, "the signal was not noticed")
    assert signal.getsignal(number) is before


def test_off_the_main_thread_it_waits_for_nothing_and_changes_nothing() -> None:
    before, seen = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with asked_to_end() as asked:
            seen.append((asked.is_set(), signal.getsignal(signal.SIGINT)))

    thread = Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, before)]
