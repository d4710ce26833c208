"""How a program of ours is asked to end (Ctrl-C, SIGTERM, Ctrl-Break), or to read its settings again (SIGHUP).

A flag, never KeyboardInterrupt: inside a compiled extension (pyzmq on CPython 3.13) that is swallowed now and then.

``python -m mt4pump.process.signals MODULE WORDS`` runs a module as a program that ends when its parent does. The parent
holds the other end of our standard input and writes nothing. When it closes it, or dies in whatever way, the read here
ends: the program is asked to end as by Ctrl-C, and if it does not, the process ends without it.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from queue import Empty, SimpleQueue
from threading import Event, Thread
from types import FrameType

from mt4pump.errors import EXIT_FAILED

GRACE_S = 8.0
"""How long a program may take after its parent has ended; a living parent waits less for its end."""


class SignalSafeEvent(Event):
    """As `threading.Event`, and `set` may also be called by a signal handler.

    ``Event.set`` takes a lock which the very ``wait`` that the signal interrupted may hold: that thread would then wait
    for itself, for ever. `queue.SimpleQueue.put` is made to be called there, so what wakes is a token in one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._on = False
        self._tokens: SimpleQueue[None] = SimpleQueue()

    def is_set(self) -> bool:
        """Return whether it is set."""
        return self._on

    def set(self) -> None:
        """Set it, and wake all who wait for it."""
        if not self._on:
            self._on = True
            self._tokens.put(None)

    def clear(self) -> None:
        """Unset it."""
        self._on = False
        while not self._tokens.empty():
            self._take(0)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, or ``timeout`` seconds; return whether it is."""
        deadline_s = None if timeout is None else time.monotonic() + timeout
        while not self._on:
            left_s = None if deadline_s is None else max(0.0, deadline_s - time.monotonic())
            if not self._take(left_s):
                break
            if self._on:
                self._tokens.put(None)  # for the next who waits
        return self._on

    def _take(self, timeout_s: float | None) -> bool:
        try:
            self._tokens.get(timeout=timeout_s)
        except Empty:
            return False
        return True


END = ("SIGINT", "SIGTERM", "SIGBREAK")
RELOAD = ("SIGHUP",)
"""Windows has no such signal: there, the settings file and the keys are watched, and that is all."""


@contextmanager
def asked_to_end() -> Iterator[threading.Event]:
    """Give an event that is set when the process is asked to end; the handlers before are put back at the end.

    Off the main thread the event is never set: Python takes signals on the main thread alone. On Windows a closed
    console and a shutdown set it, too. Windows does so on a thread of its own, so a wait without a limit ends.
    """
    asked = SignalSafeEvent()
    is_main = threading.current_thread() is threading.main_thread()
    with _handled(END, asked.set), console_events(asked.set) if is_main else nullcontext():
        yield asked


@contextmanager
def asked_to_reload(end: threading.Event) -> Iterator[threading.Event]:
    """Give an event that is set when the process is asked to reload; whoever acts on it clears it first.

    A terminal that closes sends the same signal: then ``end`` is set instead, as a daemon that was started by hand
    should not live on unseen. As `asked_to_end` otherwise.
    """
    asked = SignalSafeEvent()
    by_hand = _has_terminal()

    def choose() -> None:
        (end if by_hand and not _has_terminal() else asked).set()

    with _handled(RELOAD, choose):
        yield asked


def ask_to_end() -> None:
    """Ask this process to end, as Ctrl-C does; from any thread."""
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, signal.SIGINT)  # interrupts what the main thread waits for
    else:
        signal.raise_signal(signal.SIGINT)


@contextmanager
def _handled(names: Sequence[str], act: Callable[[], None]) -> Iterator[None]:
    def handle(_number: int, _frame: FrameType | None) -> None:
        act()

    before = {}
    if threading.current_thread() is threading.main_thread():
        numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
        before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def console_events(ask: Callable[[], None]) -> Iterator[None]:
    """Call ``ask`` when Ctrl-C or Ctrl-Break is typed, the console is closed, or Windows shuts down.

    It is called on a thread of Windows, at once, also while the main thread waits without a limit. Windows ends the
    process some seconds after a closed console or a shutdown: end by yourself before. Elsewhere than on Windows nothing
    happens: use signals. Raises OSError when Windows takes no handler.
    """
    if sys.platform != "win32":
        yield
        return
    from mt4pump.bridge import console  # noqa: PLC0415 - ctypes stays out where it is of no use

    with console.console_events(ask):
        yield


def _has_terminal() -> bool:
    """Return whether this process belongs to a terminal that is still there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | getattr(os, "O_NOCTTY", 0)))
    except OSError:
        return False
    return True


@contextmanager
def interrupts_delayed() -> Iterator[None]:
    """Delay Ctrl-C. A process that starts meanwhile never gets it, except on Windows. For the main thread."""
    delayed: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _frame: delayed.append(number))
    try:
        if sys.platform == "win32":
            yield
        else:
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which the process inherits
            try:
                yield
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    finally:
        signal.signal(signal.SIGINT, handler)
    if delayed:
        raise KeyboardInterrupt


def main() -> None:
    """Run the module that the words name, until it or the parent ends."""
    Thread(target=_end_with_parent, args=(sys.stdin.fileno(),), name="parent watch", daemon=True).start()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _end_with_parent(end: int) -> None:
    while os.read(end, 1024):
        pass  # what the parent writes has no meaning
    ask_to_end()
    time.sleep(GRACE_S)
    os._exit(EXIT_FAILED)


if __name__ == "__main__":
    main()
