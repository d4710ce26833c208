"""Windows' console events: Ctrl-C, Ctrl-Break, the window closed, the system going down.

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
END_WAIT_S = 30.0
"""How long the handler holds a closing console open. Windows itself waits 5 s (services: up to 20 s), then kills."""
ASKS = frozenset({CTRL_C, CTRL_BREAK, CLOSE, SHUTDOWN})
ENDS_ON_RETURN = frozenset({CLOSE, SHUTDOWN})
"""Windows ends the process as soon as the handler of one of these returns."""

_asks: list[Callable[[], None]] = []
"""What is called at present."""
_kept: list[Any] = []
"""The handler, once it is registered; it stays. To take one away, Windows waits until none is being called, and one
that holds a closing console is being called until the process has ended."""


def answer(event: int, ask: Callable[[], None], hold: Callable[[float], None]) -> bool:
    """Return whether ``event`` was taken care of; if not, Windows asks the next handler, the last of which kills.

    Log-off is taken and ignored: only services are told of it, and whoever logs off there is not the service's user.
    """
    if event == LOGOFF:
        return True
    if event not in ASKS:
        return False
    ask()
    if event in ENDS_ON_RETURN:
        hold(END_WAIT_S)  # the main thread ends the process meanwhile
    return True


@contextmanager
def console_events(ask: Callable[[], None]) -> Iterator[None]:
    """Have ``ask`` called, on a foreign thread, when the console asks to end; nothing happens but on Windows.

    Raises OSError when Windows takes no handler.
    """
    if sys.platform != "win32":
        yield
        return
    _register()
    _asks.append(ask)
    try:
        yield
    finally:
        _asks.remove(ask)


def handle(event: int) -> bool:
    """Return whether ``event`` was taken care of by those who want to know at present; Windows calls this."""
    return bool(_asks) and answer(event, _ask_all, time.sleep)


def _ask_all() -> None:
    for ask in _asks.copy():
        ask()


def _register() -> None:
    if _kept or sys.platform != "win32":
        return
    kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
    handler = ctypes.WINFUNCTYPE(ctypes.c_int, ctypes.c_uint)(handle)
    if not kernel32.SetConsoleCtrlHandler(handler, 1):
        raise ctypes.WinError(ctypes.get_last_error())
    _kept.append(handler)
