"""Reads the stream until stopped, whatever happens to the daemon: a subscriber that fails is replaced."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from mt4pump.client import ClientError, Status, Subscriber
from mt4pump.process.backoff import Backoff

RETRY_FIRST_S, RETRY_LAST_S = 1.0, 30.0

log = logging.getLogger(__name__)


def keep_reading(
    read: Callable[[], None],
    is_stopped: Callable[[], bool],
    wait: Callable[[float], object],
    *,
    survives: type[Exception] = ClientError,
) -> None:
    """Call ``read``, which reads one subscriber to its end, again and again until stopped.

    After each call comes ``wait``: for a second, then twice as long each time up to 30 s, and for a second again after
    a call that lasted longer than that. ``survives``: the errors that are logged; any other is raised.
    """
    backoff = Backoff(RETRY_FIRST_S, RETRY_LAST_S)
    while not is_stopped():
        began_s = time.monotonic()
        fault: Exception | None = None
        try:
            read()
        except survives as error:
            fault = error
        if time.monotonic() - began_s > RETRY_LAST_S:
            backoff.reset()
        delay_s = backoff.next_s()
        if isinstance(fault, ClientError):
            log.warning("the stream ended (%s): begun again in %.0f s", fault, delay_s)
        elif fault is not None:
            text = "the stream ended by an error that should not happen: begun again in %.0f s"
            log.error(text, delay_s, exc_info=fault)
        fault = None  # its traceback would keep the subscriber that failed through the wait
        wait(delay_s)


class FeedThread(threading.Thread):
    """Reads with one subscriber after the other. ``restarts`` is how often a new one had to be made.

    ``read`` reads a subscriber to its end. ``subscribe`` makes one; it is called here for the first time, so that what
    is wrong with its arguments comes to the caller. ``subscriber`` is the last one.
    """

    def __init__(self, subscribe: Callable[[], Subscriber], read: Callable[[Subscriber], None]) -> None:
        super().__init__(name="feed", daemon=True)
        self._subscribe, self._read = subscribe, read
        self._stop_event = threading.Event()
        self.subscriber = subscribe()
        self.restarts = 0

    @property
    def status(self) -> Status:
        """Return the daemon as its last heartbeat showed it."""
        return self.subscriber.status

    def run(self) -> None:
        """Read until `stop`."""
        keep_reading(self._read_once, self.is_stopped, self._wait, survives=Exception)

    def _read_once(self) -> None:
        if self.restarts:
            self.subscriber = self._subscribe()
        with self.subscriber as subscriber:
            if not self.is_stopped():  # `stop` may have closed the one before just now
                self._read(subscriber)

    def _wait(self, delay_s: float) -> None:
        self.restarts += not self._stop_event.wait(delay_s)

    def is_stopped(self) -> bool:
        """Return whether it was asked to end."""
        return self._stop_event.is_set()

    def stop(self) -> None:
        """Ask it to end; `join` waits for it. May be called without a start."""
        self._stop_event.set()
        self.subscriber.close()
