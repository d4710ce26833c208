"""The live stream as tail and record receive it: the connection, and the loop that ends at a flag or Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event

import zmq

from mt4pump.cli.arguments import TopicFilter
from mt4pump.cli.stats import SILENCE_S
from mt4pump.client import ClientKeys
from mt4pump.client.connection import SubConnection
from mt4pump.client.connection_fault import DECIDED
from mt4pump.client.query import Context
from mt4pump.errors import SettingsError

POLL_MS = 200
"""Longest wait for a message: on Windows Ctrl-C is seen only between two waits."""
CHECK_INTERVAL_S = 1.0
"""Time between two reports of alerts."""
BATCH = 1_000
"""Messages received before the view is refreshed."""
RECEIVE_LIMIT = 100_000
"""Messages that may wait in the socket; a slower reader sees gaps."""
Handle = Callable[[list[bytes], float], bool]
"""Handles the frames of a message received at a time in seconds; returns whether the message counts."""


@contextmanager
def subscriber(endpoint: str, topics: TopicFilter, keys: ClientKeys | None = None) -> Iterator[SubConnection]:
    """Yield the client's connection, subscribed to ``topics`` and the heartbeat; it reconnects by itself."""
    context: Context = zmq.Context()
    try:
        try:
            connection = SubConnection(context, endpoint, keys, RECEIVE_LIMIT)
        except zmq.ZMQError as error:
            problem = f"settings are wrong:\n  endpoint: {endpoint} cannot be connected to: {error.strerror}"
            raise SettingsError(problem) from error
        connection.subscribe(set(topics.subscriptions))
        yield connection
    finally:
        context.destroy(linger=0)


def fault_of(source: SubConnection, endpoint: str, quiet_s: float) -> str:
    """Return why nothing is received, empty when that is not sure; ``quiet_s`` is the time since the last message."""
    is_late = quiet_s >= SILENCE_S  # the handshake should be over
    return source.diagnosis.text(endpoint) if is_late or source.diagnosis.fault in DECIDED else ""


class Deadline:
    """The end: after ``count`` handled messages, at ``until_s`` (either may be None), or when ``asked`` is set."""

    def __init__(self, count: int | None, until_s: float | None, asked: Event) -> None:
        self.count = count
        self.until_s = until_s
        self.asked = asked
        self.handled = 0

    def is_reached(self, now_s: float) -> bool:
        """Return whether to stop."""
        is_late = self.until_s is not None and now_s >= self.until_s
        return is_late or self.asked.is_set() or (self.count is not None and self.handled >= self.count)

    @property
    def has_too_few(self) -> bool:
        """Return whether fewer than ``count`` messages were handled."""
        return self.count is not None and self.handled < self.count

    def wait_ms(self, now_s: float) -> int:
        """Return how long to wait for the next message."""
        if self.until_s is None:
            return POLL_MS
        return max(0, min(POLL_MS, int((self.until_s - now_s) * 1000) + 1))


def listen(source: SubConnection, end: Deadline, handle: Handle, refresh: Callable[[float], None]) -> None:
    """Receive messages until the end; ``refresh`` is called after each batch with the time."""
    while not end.is_reached(now_s := time.monotonic()):
        source.changes()  # the connection's monitor is bounded and has to be read
        if source.socket.poll(end.wait_ms(now_s)):
            _handle_batch(source.socket, end, handle, time.monotonic())
        refresh(time.monotonic())


def _handle_batch(socket: zmq.Socket[bytes], end: Deadline, handle: Handle, now_s: float) -> None:
    for _ in range(BATCH):
        try:
            frames = socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return
        end.handled += handle(frames, now_s)
        if end.is_reached(now_s):
            return
