"""A socket that receives what programs report to the service manager."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LIMIT_S = 90.0


class NotifySocket:
    """``address`` is for ``NOTIFY_SOCKET``; ``received`` is every assignment so far, in order."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "notify")
        self.received: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)

    def environment(self, watchdog_s: float = 0.0) -> dict[str, str]:
        """Return this process's environment without settings of ours, and with this socket."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("MT4PUMP_", "WATCHDOG_"))}
        plain |= {"NOTIFY_SOCKET": self.address, "PYTHONUNBUFFERED": "1"}
        return plain | ({"WATCHDOG_USEC": str(int(watchdog_s * 1e6))} if watchdog_s else {})

    def next(self, limit_s: float = LIMIT_S) -> list[str]:
        """Return the assignments of the next datagram; raises TimeoutError."""
        self._socket.settimeout(limit_s)
        lines = self._socket.recv(65_536).decode().splitlines()
        self.received += lines
        return lines

    def until(self, start: str, limit_s: float = LIMIT_S) -> str:
        """Return the next assignment that begins with ``start``; fail when none comes."""
        deadline_s = time.monotonic() + limit_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            try:
                lines = self.next(left_s)
            except TimeoutError:
                break
            if found := [line for line in lines if line.startswith(start)]:
                return found[0]
        raise AssertionError(f"{start} never came; received: {self.received}")

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()


@contextmanager
def notify_socket() -> Iterator[NotifySocket]:
    """Give a socket in a folder with a short name: a socket's path has 107 characters at most."""
    with tempfile.TemporaryDirectory(prefix="mt4") as folder:
        made = NotifySocket(Path(folder))
        try:
            yield made
        finally:
            made.close()
