"""Windows' console events, for programs that use the client: what a signal handler there hears too late, or never."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def console_events(ask: Callable[[], None]) -> Iterator[None]:
    """Have ``ask`` called when Ctrl-C or Ctrl-Break is typed, the console is closed, or Windows goes down.

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
