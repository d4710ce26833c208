"""A whole daemon on a free port with a real subscriber of everything, for the tests.

Private access: the dispatcher, because no message says that a table was read for the first time: that publishes
nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import zmq

from mt4pump.daemon import Daemon
from mt4pump.session_source import source_of
from mt4pump.settings import load
from tests.bus import ANY_PORT, LIMIT_S, Message, context, decode_frames, last_messages, subscriber, until

PASSWORD = "canary-session-password"  # noqa: S105 - what the leak test looks for
STOPS = 5
"""On a busy machine the first stop leaves threads behind; one that hangs in a call on purpose may never end."""


class Running:
    """``frames`` is every raw message received so far."""

    def __init__(self, daemon: Daemon, socket: zmq.Socket[bytes]) -> None:
        self.daemon = daemon
        self.frames: list[list[bytes]] = []
        self._socket = socket

    def next(self, wanted: Callable[[Message], object], limit_s: float = LIMIT_S) -> Message:
        """Return the next event that is ``wanted``; fail when none comes in time."""
        deadline_s = time.monotonic() + limit_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            if self._socket.poll(int(left_s * 1000)):
                frames = self._socket.recv_multipart()
                self.frames.append(frames)
                topic, body = decode_frames(frames)
                message = Message(topic.decode(), body)
                if wanted(message):
                    return message
        seen = sorted({frames[0].decode() for frames in self.frames})
        raise AssertionError(f"the event never came; seen: {seen}")

    def topic(self, topic: str) -> Message:
        """Return the next event on exactly ``topic``."""
        return self.next(lambda message: message.topic == topic)

    def pumping(self) -> Message:
        """Return the first heartbeat that says that the session runs."""
        return self.next(lambda message: message.topic == "heartbeat" and message.body["state"] == "pumping")

    def tables_read(self) -> Message:
        """Return the first heartbeat that says that the session runs, once all tables are known: changes show then."""
        found = self.pumping()
        dispatcher = self.daemon._pump._dispatcher  # no message says it: the first read of a table publishes nothing  # noqa: SLF001
        until(lambda: dispatcher.tables.has_baseline and dispatcher.trades.orders.has_baseline, "the tables are read")
        return found

    def rest(self) -> list[Message]:
        """Return what is still on its way after the daemon stopped, its goodbye the last."""
        return last_messages(lambda: self.next(lambda _message: True), self._socket)


@contextmanager
def running(folder: Path, *prefixes: bytes, **flags: object) -> Iterator[Running]:
    """Run a daemon with these settings; give it once the subscriber receives from it, and stop it at the end."""
    usual = {"pub_endpoint": ANY_PORT, "query_endpoint": ANY_PORT, "data_dir": folder}
    paces = {"heartbeat_interval_s": 0.1, "linger_s": LIMIT_S}  # as long as the last words may take on a busy machine
    given = {**usual, **paces, **flags}
    settings = load(given, environ={}, config=None)
    daemon = Daemon(settings, source_of(settings))
    with context() as own:
        socket = subscriber(own, daemon.endpoint, *(prefixes or (b"",)), b"heartbeat")
        daemon.start(session=False)
        try:
            run = Running(daemon, socket)
            run.topic("heartbeat")
            daemon.start_session()
            yield run
        finally:
            for _ in range(STOPS):
                if daemon.stop():
                    break


@contextmanager
def running_dll(folder: Path, library: Path, **flags: object) -> Iterator[Running]:
    """Run a daemon on the compiled fake library, which accepts `PASSWORD`."""
    session = {"servers": ("fake:443",), "login": 5, "password": PASSWORD, "reconnect_delay_s": 0.05}
    with running(folder, source="dll", dll_path=library, **{**session, "watch_interval_s": 0.05, **flags}) as run:
        yield run
