"""What the exporter reads of the daemon: its stream, on a thread, and which kinds its journal stores."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from threading import Event as SignalSafeEvent
from threading import Thread
from typing import Any

from mt4pump.client import ClientError, ClientKeys, Event, Notice, Query, Status, Subscriber
from mt4pump.process.program import ConsumerSettings
from mt4pump_consumers.metrics.heartbeat import KINDS
from mt4pump_consumers.metrics.settings import MetricsSettings
from mt4pump_consumers.metrics.stream import StreamCounters, SymbolMetrics

HEARTBEAT = "heartbeat"
RETRY_FIRST_S, RETRY_LAST_S = 1.0, 30.0
JOIN_S = 5.0
TIMEOUT_S = 2.0
QUERY_RETRY_S, REFRESH_S = 30.0, 600.0
"""Time to the next query after one that failed, and after one that was answered: a setting may change."""

log = logging.getLogger(__name__)


def subscriber(settings: MetricsSettings, keys: ClientKeys | None) -> Subscriber:
    """Return a new subscriber; raises ClientError for addresses and keys that cannot work."""
    named: dict[str, Any] = {} if settings.query_endpoint is None else {"query_endpoint": settings.query_endpoint}
    topics = (*settings.topics, HEARTBEAT) if settings.stream else (HEARTBEAT,)
    return Subscriber(
        settings.endpoint,
        topics=topics,
        keys=keys,
        silence_s=settings.silence_s,
        snapshot=bool(settings.symbols),  # only the last quote of a symbol is of use here
        heal=settings.stream,
        notices=True,
        **named,
    )


class MetricsFeed(Thread):
    """Counts what ``subscribe()`` reads. ``restarts`` is how often an error made it begin anew.

    ``subscribe`` is called here for the first time, so that what is wrong with its arguments comes to the caller.
    """

    def __init__(
        self, subscribe: Callable[[], Subscriber], counters: StreamCounters, symbols: SymbolMetrics | None = None
    ) -> None:
        super().__init__(name="feed", daemon=True)
        self._subscribe, self._counters, self._symbols = subscribe, counters, symbols
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
                self._read_once()
            except Exception:
                log.exception("reading ended by an error that should not happen; it begins anew in %.0f s", delay_s)
            if time.monotonic() - began_s > RETRY_LAST_S:
                delay_s = RETRY_FIRST_S
            if not self._stopping.wait(delay_s):
                self.restarts += 1
            delay_s = min(delay_s * 2, RETRY_LAST_S)

    def _read_once(self) -> None:
        if self.restarts:
            self._subscriber = self._subscribe()
        with self._subscriber as subscriber:
            if not self._stopping.is_set():  # `stop` may have closed the one before just now
                self._read(subscriber)

    def open(self) -> None:
        """Open the sockets now: an address that is none is an error here, and not one in the thread for ever."""
        item = self._subscriber.receive(0)
        if item is not None:
            self._count_item(item)

    def _read(self, subscriber: Subscriber) -> None:
        take = self._count_item
        for item in subscriber:
            take(item)

    def _count_item(self, item: Event | Notice) -> None:
        if isinstance(item, Notice):
            self._counters.count_notice(item)
            return
        self._counters.count_event(item, time.time_ns())
        if self._symbols is not None:
            self._symbols.count(item)

    def stop(self) -> None:
        """End reading, and wait for that; may be called without a start."""
        self._stopping.set()
        self._subscriber.close()
        if self.is_alive():
            self.join(JOIN_S)


class DurableKinds:
    """Queries which kinds the daemon's journal stores: a heartbeat does not show that of a kind without events.

    `update` is for one thread, `of` for any.
    """

    def __init__(self, settings: ConsumerSettings) -> None:
        self._settings = settings
        self._asked_epoch = 0
        self._due_s = 0.0
        self._found: tuple[int, Mapping[str, bool]] = (0, {})

    def of(self, epoch: int) -> Mapping[str, bool]:
        """Return for each kind whether the journal stores it in this run of the daemon; empty: not known."""
        found_epoch, kinds = self._found
        return kinds if found_epoch == epoch else {}

    def update(self, status: Status | None) -> None:
        """Query the daemon if it is time; takes at most `TIMEOUT_S`."""
        now_s = time.monotonic()
        if status is None or not status.alive or (status.epoch == self._asked_epoch and now_s < self._due_s):
            return
        self._asked_epoch, self._due_s = status.epoch, now_s + QUERY_RETRY_S
        try:
            keys = ClientKeys.load(self._settings.keys) if self._settings.keys else None
            with Query(self._settings.query_address, keys, TIMEOUT_S) as query:
                described = query.describe()
        except (ClientError, ValueError) as error:  # an endpoint without a port has no query address
            log.debug("the kinds that the journal stores are not known: %s", error)
            return
        kinds = described.get("kinds")
        if isinstance(kinds, Mapping):
            self._found = described["epoch"], {kind: _is_durable(kinds[kind]) for kind in KINDS if kind in kinds}
            self._due_s = now_s + REFRESH_S


def _is_durable(kind: object) -> bool:
    return isinstance(kind, Mapping) and bool(kind.get("durable"))
