"""The wish to end: set by Ctrl-C, a service manager, or the program itself; waited for by threads and by asyncio."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from mt4pump.client import SignalSafeEvent, console_events

SLICE_S = 0.2
"""Windows does not interrupt a longer wait for Ctrl-C."""


class Shutdown:
    """``asked()`` tells whether to end. Signals only set a flag: an exception in the midst of work could be lost.

    ``looked`` is called with the answer each time that somebody looks or waits, several times a second while waiting.
    """

    def __init__(self, looked: Callable[[bool], object] = lambda _is_asked: None) -> None:
        self._flag = SignalSafeEvent()
        self._looked = looked

    def ask(self) -> None:
        """Ask the program to end; from any thread."""
        self._flag.set()

    def asked(self) -> bool:
        """Return whether somebody asked the program to end."""
        is_asked = self._flag.is_set()
        self._looked(is_asked)
        return is_asked

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until asked to end, or ``timeout_s``; return whether asked."""
        left_s = timeout_s
        while not self.asked() and (left_s is None or left_s > 0):
            slice_s = SLICE_S if left_s is None else min(SLICE_S, left_s)
            self._flag.wait(slice_s)
            left_s = None if left_s is None else left_s - slice_s
        return self._flag.is_set()

    async def wait_async(self) -> None:
        """Wait until asked to end; works on every event loop, also where signals do not wake it."""
        while not self.asked():  # noqa: ASYNC110 - signals set a flag of threads
            await asyncio.sleep(SLICE_S)

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Ask for the end on SIGINT and SIGTERM; on Windows, on Ctrl-C, Ctrl-Break, a closed console and a shutdown."""
        names = [name for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)]
        before = {name: signal.signal(getattr(signal, name), self._on_signal) for name in names}
        try:
            with console_events(self.ask):
                yield
        finally:
            for name, handler in before.items():
                signal.signal(getattr(signal, name), handler)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._flag.set()
