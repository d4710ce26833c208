"""Reports the state of a program to systemd: ready, alive, stopping (sd_notify(3)); without systemd it does nothing.

systemd gives the address of its socket in ``NOTIFY_SOCKET`` and, with ``WatchdogSec=``, the longest time between two
watchdog pings in ``WATCHDOG_USEC``. On Windows and in a terminal there is neither, and every call here does nothing.
Ours, not PyPI's systemd-watchdog, which waits without a limit, raises where nobody listens, and goes by the wall clock.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping

SEND_LIMIT_S = 0.5
"""Longest wait for a service manager that does not read: the calling thread has other work."""
PINGS_PER_INTERVAL = 4
"""Pings sent within the time in which one is needed, so that some may get lost."""
USEC = 1_000_000

log = logging.getLogger(__name__)


class Notifier:
    """Sends states to the service manager's socket ``address``, None for none; for one thread.

    ``watchdog_s`` is the time within which a ping is needed, 0 for none. ``failures`` counts what could not be
    sent; the first one is logged. Nothing is raised: a service manager that does not listen must not end the program.
    """

    def __init__(self, address: str | None, watchdog_s: float = 0.0) -> None:
        self.failures = 0
        self._address = address
        self._interval_s = watchdog_s / PINGS_PER_INTERVAL
        self._sent_s = float("-inf")
        self._pinged: int | None = None
        self._text = ""

    @classmethod
    def of_environment(cls, environ: Mapping[str, str] = os.environ) -> Notifier:
        """Return the notifier that the variables ask for; an address of a kind we do not know asks for none."""
        address = environ.get("NOTIFY_SOCKET", "")
        if not address or not hasattr(socket, "AF_UNIX"):
            return cls(None)
        if address[0] not in "/@":
            log.warning("NOTIFY_SOCKET %s is neither a path nor an @name: nothing is reported", address)
            return cls(None)
        return cls(address, _watchdog_s(environ))

    def ready(self, text: str) -> None:
        """Report that the program is ready; ``text`` is shown by ``systemctl status``."""
        self._text = text
        self._send("READY=1", f"STATUS={_line(text)}")

    def status(self, text: str) -> None:
        """Have ``systemctl status`` show ``text``; sent only when it is another one than before."""
        if text != self._text:
            self._text = text
            self._send(f"STATUS={_line(text)}")

    def ping_watchdog(self, iterations: int) -> None:
        """Ping the watchdog if ``iterations`` changed since the last ping; call this often.

        They are those of the loop that must not hang: while it hangs, nothing is sent, and the service manager ends
        the program once its time is over.
        """
        now_s = time.monotonic()
        if self._interval_s and iterations != self._pinged and now_s - self._sent_s >= self._interval_s:
            self._pinged, self._sent_s = iterations, now_s
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Report that the program stops."""
        self._send("STOPPING=1", "STATUS=stopping")

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        name = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(SEND_LIMIT_S)
                sender.sendto("\n".join(lines).encode(), name)
        except OSError as error:
            self.failures += 1
            if self.failures == 1:
                log.warning("the service manager at %s cannot be sent %s: %s", self._address, lines[0], error)


def _watchdog_s(environ: Mapping[str, str]) -> float:
    """Return the time of the watchdog, 0 where there is none or where another process is meant."""
    microseconds, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or pid not in {"", str(os.getpid())}:
        return 0.0
    return int(microseconds) / USEC


def _line(text: str) -> str:
    """Return ``text`` as one line: a line feed would begin another assignment."""
    return " ".join(text.split())
