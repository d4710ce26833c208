"""What a server does while the process has no file descriptor left: it closes new connections, counts and logs them."""

from __future__ import annotations

import errno
import logging
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress

NONE_LEFT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""What accept() raises then."""
LOG_INTERVAL_S = 10.0
RETRY_S = 0.1
"""Pause of a server's own thread when not even a spare one is left."""
SPARE = 8

log = logging.getLogger(__name__)


class SpareDescriptors:
    """Descriptors that are held for the time when none is left: with one a waiting connection is accepted and closed.

    Otherwise it would wait for ever, and the listening socket stay readable: the server's loop would do nothing but
    try again. ``count`` is how often none was left. There are several, as another thread may take one in between.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self.count = 0
        self._now_s, self._log_at_s = now_s, 0.0
        self._spare: list[int] = []
        self._hold()

    def _hold(self) -> None:
        with suppress(OSError):
            while len(self._spare) < SPARE:
                self._spare.append(os.open(os.devnull, os.O_RDONLY))

    def release(self) -> None:
        """Give the descriptors back to the process."""
        while self._spare:
            os.close(self._spare.pop())

    def close_waiting(self, listening: int) -> bool:
        """Count and log that none is left, and close one connection that waits at the socket ``listening``.

        Return False when other threads have taken all spare descriptors: the connection goes on waiting.
        """
        self.count += 1
        self._report()
        self._hold()
        if self._spare:
            os.close(self._spare.pop())
        listener = socket.socket(fileno=listening)
        try:
            listener.accept()[0].close()
        except OSError:
            return False
        finally:
            listener.detach()
            self._hold()
        return True

    def _report(self) -> None:
        now_s = self._now_s()
        if now_s >= self._log_at_s:
            self._log_at_s = now_s + LOG_INTERVAL_S
            text = "no file descriptor is left: new connections are closed, %d so far; raise LimitNOFILE or ulimit -n"
            log.warning(text, self.count)
