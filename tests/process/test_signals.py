"""A request to end is a flag, and what was there before comes back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from threading import Event, Thread

import pytest

from mt4pump.process.signals import asked_to_end, asked_to_reload
from tests.bus import LIMIT_S, until
from tests.cli.commands import environment

HANG_UP = """
import fcntl, sys, termios, time
from mt4pump.process.signals import asked_to_end, asked_to_reload
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # the terminal becomes ours, as a shell's is its programs'
with asked_to_end() as end, asked_to_reload(end) as reload:
    print("ready", flush=True)
    while not (end.wait(0.05) or reload.is_set()):
        pass
    print("end" if end.is_set() else "reload", flush=True)
"""


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


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGHUP")
def test_sighup_asks_to_reload_and_not_to_end() -> None:
    before = signal.getsignal(signal.SIGHUP)
    with asked_to_end() as end, asked_to_reload(end) as reload:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGHUP)
            until(reload.is_set, "the signal was not noticed")
            reload.clear()
        assert not end.is_set()
    assert signal.getsignal(signal.SIGHUP) is before


def test_without_the_signal_reload_is_never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mt4pump.process.signals.RELOAD", ("SIGNONE",))
    with asked_to_reload(Event()) as reload:
        assert not reload.is_set()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no terminals that hang up")
@pytest.mark.parametrize(("by", "word"), [("kill", "reload"), ("close", "end")])
def test_a_terminal_that_closes_ends_what_was_started_in_it(by: str, word: str) -> None:
    import pty  # noqa: PLC0415 - not on Windows

    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", HANG_UP],
        env=environment(),
        stdin=theirs,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            os.close(theirs)
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            if by == "kill":
                process.send_signal(signal.SIGHUP)
            else:
                os.close(ours)
            assert process.communicate(timeout=LIMIT_S)[0] == f"{word}\n"
        finally:
            process.kill()
            if by == "kill":
                os.close(ours)
