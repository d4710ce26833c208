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
"""Pause of a server's own thread when not even the spare one is left."""

log = logging.getLogger(__name__)


class SpareDescriptor:
    """A descriptor that is held for the time when none is left: with it a waiting connection is accepted and closed.

    Otherwise it would wait for ever, and the listening socket stay readable: the server's loop would do nothing but
    try again. ``closed`` counts these connections.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self.closed = 0
        self._now_s, self._log_at_s = now_s, 0.0
        self._spare: int | None = None
        self._hold()

    def _hold(self) -> None:
        if self._spare is None:
            with suppress(OSError):
                self._spare = os.open(os.devnull, os.O_RDONLY)

    def release(self) -> None:
        """Give the descriptor back to the process."""
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None

    def close_waiting(self, listening: int) -> bool:
        """Close a connection that waits at the socket with the descriptor ``listening``; return whether there was one.

        While another thread has taken the spare descriptor there is none to accept it with.
        """
        self._hold()
        self.release()
        listener = socket.socket(fileno=listening)
        try:
            listener.accept()[0].close()
        except OSError:
            return False
        finally:
            listener.detach()
            self._hold()
        self.closed += 1
        self._report()
        return True

    def _report(self) -> None:
        now_s = self._now_s()
        if now_s >= self._log_at_s:
            self._log_at_s = now_s + LOG_INTERVAL_S
            text = "no file descriptor is left: new connections are closed, %d so far; raise LimitNOFILE or ulimit -n"
            log.warning(text, self.closed)
