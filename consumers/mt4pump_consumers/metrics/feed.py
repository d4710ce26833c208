"""The thread that reads the stream and counts it; it outlives whatever happens to the daemon."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from threading import Event as SignalSafeEvent
from threading import Thread

from mt4pump.client import Event, Notice, Status, Subscriber
from mt4pump_consumers.metrics.symbols import Symbols
from mt4pump_consumers.metrics.tally import Tally

RETRY_FIRST_S, RETRY_LAST_S = 1.0, 30.0
JOIN_S = 5.0

log = logging.getLogger(__name__)


class MetricsFeed(Thread):
    """Counts what ``subscribe()`` reads. ``restarts`` is how often an error made it begin anew.

    ``subscribe`` is called here for the first time, so that what is wrong with its arguments comes to the caller.
    """

    def __init__(self, subscribe: Callable[[], Subscriber], tally: Tally, symbols: Symbols | None = None) -> None:
        super().__init__(name="feed", daemon=True)
        self._subscribe, self._tally, self._symbols = subscribe, tally, symbols
        self._stopping = SignalSafeEvent()
        self._subscriber = subscribe()
        self.restarts = 0

    @property
    def status(self) -> Status | None:
        """Return the daemon as its last heartbeat showed it."""
        return self._subscriber.status

    @property
    def counts(self) -> Mapping[str, int]:
        """Return the counters of the client library."""
        return self._subscriber.counts

    def run(self) -> None:
        """Read until stopped; a subscriber that fails is replaced."""
        delay_s = RETRY_FIRST_S
        while not self._stopping.is_set():
            began_s = time.monotonic()
            try:
                self._read_on()
            except Exception:
                log.exception("reading ended by an error that should not happen; it begins anew in %.0f s", delay_s)
            if time.monotonic() - began_s > RETRY_LAST_S:
                delay_s = RETRY_FIRST_S
            if not self._stopping.wait(delay_s):
                self.restarts += 1
            delay_s = min(delay_s * 2, RETRY_LAST_S)

    def _read_on(self) -> None:
        if self.restarts:
            self._subscriber = self._subscribe()
        with self._subscriber as subscriber:
            if not self._stopping.is_set():  # `stop` may have closed the one before just now
                self._read(subscriber)

    def open(self) -> None:
        """Open the sockets now: an address that is none is an error here, and not one in the thread for ever."""
        item = self._subscriber.receive(0)
        if item is not None:
            self._take(item)

    def _read(self, subscriber: Subscriber) -> None:
        take = self._take
        for item in subscriber:
            take(item)

    def _take(self, item: Event | Notice) -> None:
        if isinstance(item, Notice):
            self._tally.take_notice(item)
            return
        self._tally.take_event(item, time.time_ns())
        if self._symbols is not None:
            self._symbols.take(item)

    def stop(self) -> None:
        """End reading, and wait for that; may be called without a start."""
        self._stopping.set()
        self._subscriber.close()
        if self.is_alive():
            self.join(JOIN_S)
