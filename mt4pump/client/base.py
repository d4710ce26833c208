"""What the sync and the asyncio subscriber have in common: arguments, handlers, position, status."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, overload
from urllib.parse import urlsplit

from mt4pump.client.connection import ConnectionState, StreamRunner
from mt4pump.client.events import Event, Quote
from mt4pump.client.handlers import Handler, Handlers
from mt4pump.client.keys import ClientKeys
from mt4pump.client.liveness import HeartbeatMonitor, Status
from mt4pump.client.notices import (
    FEED_LOST,
    LAGGING,
    LOST,
    MALFORMED,
    NOT_WHOLE,
    QUERY_FAILED,
    SILENT,
    Checkpoint,
    Notice,
    StreamOptions,
)
from mt4pump.client.position import Position, PositionFile, PositionTracker
from mt4pump.client.query_connection import Context
from mt4pump.client.stream import Stream
from mt4pump.client.topic_names import warn_of_unmatched
from mt4pump.client.topic_state import SubscriptionSet
from mt4pump.errors import ClientError

DEFAULT = "default"
"""Stands for: the query endpoint is one port above the publishing one."""
LOUD = frozenset({LOST, NOT_WHOLE, QUERY_FAILED, SILENT, FEED_LOST, LAGGING, MALFORMED})
LOG_INTERVAL_S = 1.0
PORT_MAX = 65_535

H = TypeVar("H", bound=Handler)

log = logging.getLogger("mt4pump.client")


class BaseSubscriber:
    """Arguments and attributes of both subscribers; `Subscriber` explains them."""

    def __init__(
        self,
        endpoint: str,
        *,
        query_endpoint: str | None = DEFAULT,
        topics: Iterable[str] = ("*",),
        snapshot: bool = True,
        resume_from: Position | Mapping[str, Any] | int | None = None,
        position_file: str | Path | None = None,
        keys: ClientKeys | None = None,
        notices: bool = False,
        lag_limit: int = 100_000,
        lag_limit_s: float = 10.0,
        silence_s: float = 5.0,
        heal: bool = True,
        heal_timeout_s: float = 30.0,
        hold_limit: int = 100_000,
        query_timeout_s: float = 5.0,
        rcvhwm: int = 100_000,
        topic_suffix: str | None = None,
        context: Context | None = None,
    ) -> None:
        _check(lag_limit=lag_limit, lag_limit_s=lag_limit_s, silence_s=silence_s, hold_limit=hold_limit)
        _check(heal_timeout_s=heal_timeout_s, query_timeout_s=query_timeout_s)
        check_endpoint(endpoint)
        if query_endpoint == DEFAULT:
            query_endpoint = next_port(endpoint)
        if query_endpoint is not None:
            check_endpoint(query_endpoint)
        self.lag_limit = lag_limit
        self.notices = notices
        self._file = PositionFile(Path(position_file)) if position_file is not None else None
        stored = self._file.load() if self._file else None
        resume = stored or (Position.of(resume_from) if resume_from is not None else None)
        if resume is not None and query_endpoint is None:
            raise ClientError("arguments", "a position can only be resumed by a query: give query_endpoint")
        watch = HeartbeatMonitor(silence_s=silence_s, lag_limit=lag_limit, lag_limit_s=lag_limit_s)
        query = query_endpoint is not None
        options = StreamOptions(query, snapshot, heal, heal_timeout_s, hold_limit)
        wanted = SubscriptionSet(topics, topic_suffix or "")
        warn_of_unmatched(wanted.wanted())
        self._stream = Stream(wanted, watch, options, resume)
        connection = ConnectionState(endpoint, query_endpoint, keys, rcvhwm, query_timeout_s, context)
        self._reader = StreamRunner(connection, self._stream)
        self._bookmark = PositionTracker()
        if resume is not None and resume.log is not None:
            self._bookmark.start(resume)
        self._handlers = Handlers(self._stream.counts)
        self._closing = False
        self._log_at_s: dict[str, float] = {}
        self._prepare()

    def _prepare(self) -> None:
        """Make what a kind of subscriber needs beyond this."""

    @property
    def counts(self) -> Mapping[str, int]:
        """Return the counters; a name that never was counted reads as 0.

        ``received`` messages, ``delivered`` events (of them ``snapshot`` and ``healed``), ``lost`` events, ``gaps``,
        ``duplicates``, ``unwanted`` (another topic with the same prefix), ``held``, ``before_join``, ``reconnects``,
        ``refused``, ``restarts``, ``decode_errors``, ``queries``, ``query_failures``, ``handler_errors``,
        ``position_errors``.
        """
        if self._file is not None:
            self._stream.counts["position_errors"] = self._file.failures
        return self._stream.counts

    @property
    def quotes(self) -> Mapping[str, Quote]:
        """Return the last quote read of each symbol."""
        return self._stream.quotes

    @property
    def status(self) -> Status:
        """Return the daemon as its last heartbeat showed it."""
        return self._stream.status(time.monotonic())

    @property
    def position(self) -> Position | None:
        """Return where to go on later, the event in hand counted as done; None before the first heartbeat."""
        return self._bookmark.position(with_current=True) if self._bookmark.is_known else None

    def commit(self) -> None:
        """Write the position file now, the event in hand counted as done; raises OSError.

        Without ``position_file`` it does nothing.
        """
        self._bookmark.finish()
        if self._file is not None and self._bookmark.is_known:
            self._file.write(self._bookmark.position(with_current=False), durable=True)

    def add_topics(self, topics: Iterable[str]) -> None:
        """Subscribe to more; their last values come first (if ``snapshot``). From any thread.

        Raises ClientError (``arguments``) for what is neither a name nor a pattern.
        """
        names = SubscriptionSet(topics).wanted()
        warn_of_unmatched(names)
        self._reader.call(lambda: self._stream.add_topics(names))

    def remove_topics(self, topics: Iterable[str]) -> None:
        """Unsubscribe; names and patterns as they were given. From any thread."""
        names = SubscriptionSet(topics).wanted()
        self._reader.call(lambda: self._stream.remove_topics(names))

    @overload
    def on(self, topic: str | None = None, handler: None = None, *, kind: str | None = None) -> Callable[[H], H]: ...
    @overload
    def on(self, topic: str | None, handler: H, *, kind: str | None = None) -> H: ...
    def on(
        self, topic: str | None = None, handler: H | None = None, *, kind: str | None = None
    ) -> H | Callable[[H], H]:
        """Register a handler for a topic (name or pattern) or a kind; `run` calls it. Also a decorator.

        It does not subscribe to anything: ``topics`` does.
        """
        if handler is not None:
            self._handlers.add(handler, topic, kind)
            return handler

        def register(function: H) -> H:
            self._handlers.add(function, topic, kind)
            return function

        return register

    def on_notice(self, handler: H) -> H:
        """Register a handler for notices, whatever ``notices`` says; `run` calls it. Also a decorator."""
        self._handlers.add_notice(handler)
        return handler

    def _hand_over(self, item: Event | Notice | Checkpoint) -> bool:
        """Do the books for one item; return whether it is for the user."""
        if isinstance(item, Event):
            self._bookmark.take(item)
            return True
        self._bookmark.finish()
        if isinstance(item, Checkpoint):
            self._bookmark.confirm(item)
            return False
        self._log(item)
        return True

    def _log(self, notice: Notice) -> None:
        """Log a notice, each kind at most once a second: losses of a slow reader come by the thousand."""
        now_s = time.monotonic()
        if now_s >= self._log_at_s.get(notice.kind, 0.0):
            self._log_at_s[notice.kind] = now_s + LOG_INTERVAL_S
            log.log(logging.WARNING if notice.kind in LOUD else logging.INFO, "%s: %s", notice.kind, notice.text)

    def _save_if_due(self) -> None:
        if self._file is not None:
            self._file.save_if_due(self._bookmark, time.monotonic())

    def _save(self) -> None:
        if self._file is not None:
            self._file.save(self._bookmark)


def check_endpoint(endpoint: str) -> None:
    """Raise ClientError for what can be no address to connect to; a host that is not there yet may still come."""
    transport, _, place = endpoint.partition("://")
    port = place.rpartition(":")[2]
    fits = port.isdecimal() and 0 < int(port) <= PORT_MAX if transport == "tcp" else bool(place)
    if not (transport and fits):
        raise ClientError("arguments", f"{endpoint!r} is no address of a socket: give one as tcp://127.0.0.1:5556")


def next_port(endpoint: str) -> str | None:
    """Return the endpoint one port above, on the same host; None when it has no port number."""
    parts = urlsplit(endpoint)
    try:
        port = parts.port
    except ValueError:
        return None
    if parts.scheme != "tcp" or port is None:
        return None
    return f"tcp://{endpoint.removeprefix('tcp://').rpartition(':')[0]}:{port + 1}"


def _check(**limits: float) -> None:
    for name, value in limits.items():
        if value <= 0:
            raise ClientError("arguments", f"{name} is {value}: give a number above 0")
