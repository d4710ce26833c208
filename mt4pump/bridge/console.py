"""Windows' console events: Ctrl-C, Ctrl-Break, the window is closed, the system shuts down.

Windows calls the handler on a thread of its own, so that it works where a signal does not: a main thread in a wait
without a time-out, or in an idle selector loop, never gets to run Python's own handler.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

CTRL_C, CTRL_BREAK, CLOSE, LOGOFF, SHUTDOWN = 0, 1, 2, 5, 6
EVENTS = frozenset({CTRL_C, CTRL_BREAK, CLOSE, LOGOFF, SHUTDOWN})
ENDS_ON_RETURN = frozenset({CLOSE, SHUTDOWN})
"""Windows ends the process as soon as the handler of one of these returns."""
END_WAIT_S = 30.0
"""How long the handler delays the end of the process. Windows itself waits 5 s (services: up to 20 s), then kills."""

_callbacks: list[Callable[[], None]] = []
_registered: list[Any] = []
"""The handler, once it is registered; it stays. To remove one, Windows waits until none is being called, and one that
delays the end of the process is being called until then."""


def handle(event: int, wait: Callable[[float], None] = time.sleep) -> bool:
    """Call all callbacks; return False for an event that Windows passes to the next handler, the last of which kills.

    Log-off does nothing: only services receive it, and the service's user is not the one who logs off.
    """
    if not _callbacks or event not in EVENTS:
        return False
    if event != LOGOFF:
        for callback in _callbacks.copy():
            callback()
    if event in ENDS_ON_RETURN:
        wait(END_WAIT_S)  # the main thread ends the process meanwhile
    return True


@contextmanager
def console_events(callback: Callable[[], None]) -> Iterator[None]:
    """Have ``callback`` called, on a foreign thread, when the console asks to end; does nothing but on Windows.

    Raises OSError when Windows refuses the handler.
    """
    if sys.platform != "win32":
        yield
        return
    _register()
    _callbacks.append(callback)
    try:
        yield
    finally:
        _callbacks.remove(callback)


def _register() -> None:
    if _registered or sys.platform != "win32":
        return
    kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
    handler = ctypes.WINFUNCTYPE(ctypes.c_int, ctypes.c_uint)(handle)
    if not kernel32.SetConsoleCtrlHandler(handler, 1):
        raise ctypes.WinError(ctypes.get_last_error())
    _registered.append(handler)
