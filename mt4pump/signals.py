"""How a program of ours is asked to end: Ctrl-C, SIGTERM, Ctrl-Break.

A flag, never KeyboardInterrupt: inside a compiled extension (pyzmq on CPython 3.13) that is swallowed now and then.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

NAMES = ("SIGINT", "SIGTERM", "SIGBREAK")


@contextmanager
def asked_to_end() -> Iterator[threading.Event]:
    """Give an event that is set when the process is asked to end; the handlers before are put back at the end.

    Off the main thread, where Python takes no signals, the event is never set. Wait for it in slices: Windows does not
    interrupt a wait for Ctrl-C.
    """
    asked = threading.Event()

    def handle(_number: int, _frame: FrameType | None) -> None:
        asked.set()

    before = {}
    if threading.current_thread() is threading.main_thread():
        numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
        before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
