"""A flag is an event; and a signal may come at any moment of a wait for it.

Private access: the flag itself, because another thread would have to stop between two steps of `clear`.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from mt4pump.process.signals import SignalSafeEvent

LIMIT_S = 60.0
STORM = """
import signal
from mt4pump.process.signals import SignalSafeEvent

flag, met = SignalSafeEvent(), 0
signal.signal(signal.SIGALRM, lambda *_: flag.set())
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
while met < 300:
    met += flag.wait(0.00001)
    flag.clear()
signal.setitimer(signal.ITIMER_REAL, 0)
print("met")
"""


def test_it_is_what_it_was_set_to_and_may_be_set_and_taken_back_again_and_again() -> None:
    flag = SignalSafeEvent()
    for _ in range(3):
        assert not flag.is_set()
        assert not flag.wait(0)
        flag.set()
        flag.set()
        assert flag.is_set()
        assert flag.wait()
        flag.clear()


def test_a_wait_ends_by_itself_when_nobody_sets_it() -> None:
    began_s = time.monotonic()
    assert not SignalSafeEvent().wait(0.01)
    assert time.monotonic() - began_s >= 0.01


def test_one_set_wakes_all_who_wait_without_a_limit() -> None:
    flag = SignalSafeEvent()
    waiting = [threading.Thread(target=flag.wait) for _ in range(5)]
    for thread in waiting:
        thread.start()
    flag.set()
    for thread in waiting:
        thread.join(LIMIT_S)
        assert not thread.is_alive()


def test_a_wake_up_that_was_taken_back_meanwhile_is_none() -> None:
    flag = SignalSafeEvent()
    flag.set()
    flag._on = False  # as if `clear` stood between its two steps in another thread  # noqa: SLF001
    assert not flag.wait(0)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no timer that sends signals")
def test_a_signal_may_set_it_at_any_moment_of_a_wait_in_the_same_thread() -> None:
    """With `threading.Event` the handler sooner or later waits for a lock that the interrupted wait holds."""
    done = subprocess.run([sys.executable, "-c", STORM], capture_output=True, text=True, check=False, timeout=LIMIT_S)
    assert (done.returncode, done.stdout) == (0, "met\n"), done.stderr
