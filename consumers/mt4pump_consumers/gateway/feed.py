"""The thread that reads the stream and puts it through the door; it outlives whatever happens to the daemon."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from threading import Event as SignalSafeEvent
from threading import Thread

from mt4pump.client import ClientError, ClientKeys, Event, Position, Query, Snapshot, Subscriber
from mt4pump.client import Status as DaemonStatus
from mt4pump_consumers.gateway.broadcaster import HEARTBEAT
from mt4pump_consumers.gateway.thread_bridge import ThreadBridge

RETRY_FIRST_S, RETRY_LAST_S = 1.0, 30.0

log = logging.getLogger(__name__)


class GatewayFeed(Thread):
    """``status`` is the daemon as last heard of, None without a subscriber; ``restarts`` counts new subscribers.

    A new one goes on where the one before was: what came between them is in the journal.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        query_endpoint: str,
        keys: ClientKeys | None,
        topics: Sequence[str],
        silence_s: float,
        door: ThreadBridge,
    ) -> None:
        super().__init__(name="feed", daemon=True)
        self._endpoint, self._query_endpoint, self._keys = endpoint, query_endpoint, keys
        self._topics, self._silence_s = topics, silence_s
        self._door = door
        self._stopping = SignalSafeEvent()
        self._subscriber: Subscriber | None = None
        self._position: Position | None = None
        self.restarts = 0

    @property
    def status(self) -> DaemonStatus | None:
        """Return the daemon as its last heartbeat showed it."""
        subscriber = self._subscriber
        return None if subscriber is None else subscriber.status

    def subscriber(self) -> Subscriber:
        """Return a new subscriber; raises ClientError for addresses and keys that cannot work."""
        return Subscriber(
            self._endpoint,
            topics=[*self._topics, HEARTBEAT],  # in its place among the events it tells of which journal they are
            keys=self._keys,
            silence_s=self._silence_s,
            snapshot=True,
            notices=True,
            resume_from=self._position,
            query_endpoint=self._query_endpoint,
        )

    def query(self) -> Query:
        """Return a new connection for questions; the caller closes it."""
        return Query(self._query_endpoint, keys=self._keys)

    def cut(self) -> Snapshot:
        """Return the last values of all that is read, at this moment; raises ClientError."""
        with self.query() as query:
            return query.snapshot(self._topics)

    def run(self) -> None:
        """Read until stopped; a subscriber that fails is replaced."""
        delay_s = RETRY_FIRST_S
        while not self._stopping.is_set():
            began_s = time.monotonic()
            try:
                with self.subscriber() as subscriber:
                    self._subscriber = subscriber
                    self._read(subscriber)
            except ClientError as error:
                log.warning("the stream ended (%s); starting again in %.0f s", error, delay_s)
            except Exception:
                log.exception("the stream ended by an error that should not happen; starting again in %.0f s", delay_s)
            if self._stopping.is_set():
                return
            if time.monotonic() - began_s > RETRY_LAST_S:
                delay_s = RETRY_FIRST_S
            self.restarts += 1
            self._stopping.wait(delay_s)
            delay_s = min(delay_s * 2, RETRY_LAST_S)

    def _read(self, subscriber: Subscriber) -> None:
        put, stopping = self._door.put, self._stopping.is_set
        for item in subscriber:
            put(item, stopping)
            is_time = self._position is None or (isinstance(item, Event) and item.kind == HEARTBEAT)
            if is_time and (position := subscriber.position) is not None:
                self._position = position
                put(position, stopping)  # in its place behind all that it confirms
            if stopping():
                return

    def stop(self) -> None:
        """Ask it to end; `join` waits for it."""
        self._stopping.set()
        if self._subscriber is not None:
            self._subscriber.close()
