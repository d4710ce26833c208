"""The subscriber for plain threads, and what it shares with the one for asyncio: arguments, handlers, position."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import get_ident
from typing import Any, Self, TypeVar, overload

from mt4pump.client.connection import ConnectionOptions, StreamRunner, check_endpoint
from mt4pump.client.event import WARNINGS, Checkpoint, Event, Item, Notice
from mt4pump.client.events import Quote
from mt4pump.client.keys import ClientKeys, ZmqContext
from mt4pump.client.liveness import HeartbeatMonitor, Status
from mt4pump.client.ordering import StreamOptions
from mt4pump.client.position import Position, PositionFile, PositionTracker
from mt4pump.client.stream import Stream
from mt4pump.client.topic_state import SubscriptionSet, matches, warn_of_unmatched
from mt4pump.errors import ClientError
from mt4pump.process.endpoints import next_port

DEFAULT = "default"
"""Stands for: the query endpoint is one port above the publishing one."""
NOTICE_LOG_INTERVAL_S, FAULT_LOG_INTERVAL_S = 1.0, 60.0
ROUTES_LIMIT = 100_000
"""Topics whose handlers are remembered."""

Handler = Callable[[Any], Any]
H = TypeVar("H", bound=Handler)

log = logging.getLogger("mt4pump.client")


@dataclass(slots=True)
class RegisteredHandler:
    """One handler, what it is for, and when its next fault may be logged."""

    handler: Handler
    topic: str | None
    kind: str | None
    faults: int = 0
    log_at_s: float = 0.0

    def handles(self, event: Event) -> bool:
        """Return whether ``event`` is for it."""
        is_of_kind = self.kind is None or event.kind == self.kind
        return is_of_kind and (self.topic is None or matches(event.topic, self.topic))


class Handlers:
    """The registered handlers. An exception in one is counted and logged, and the others are still called."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts
        self._events: list[RegisteredHandler] = []
        self._notices: list[RegisteredHandler] = []
        self._routes: dict[str, tuple[RegisteredHandler, ...]] = {}

    def add(self, handler: Handler, topic: str | None, kind: str | None) -> None:
        """Register ``handler`` for a topic (name or pattern), a kind, or both; for neither: everything."""
        if not callable(handler):
            raise ClientError("arguments", f"{handler!r} is no handler: give a function that takes an event")
        self._events.append(RegisteredHandler(handler, topic, kind))
        self._routes.clear()

    def add_notice(self, handler: Handler) -> None:
        """Register ``handler`` for notices."""
        self._notices.append(RegisteredHandler(handler, None, None))

    def for_item(self, item: Event | Notice) -> tuple[RegisteredHandler, ...] | list[RegisteredHandler]:
        """Return the handlers of ``item``, in the order of registration."""
        if isinstance(item, Notice):
            return self._notices
        routes = self._routes.get(item.topic)
        if routes is None:
            if len(self._routes) >= ROUTES_LIMIT:
                self._routes.clear()
            routes = self._routes[item.topic] = tuple(each for each in self._events if each.handles(item))
        return routes

    def record_fault(self, registered: RegisteredHandler, item: object, error: Exception, now_s: float) -> None:
        """Count what a handler raised, and log it at most once a minute."""
        self._counts["handler_errors"] += 1
        registered.faults += 1
        if now_s >= registered.log_at_s:
            registered.log_at_s = now_s + FAULT_LOG_INTERVAL_S
            text = "handler %r failed at %r (fault %d of it; logged at most once a minute)"
            log.error(text, registered.handler, item, registered.faults, exc_info=error)


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
        context: ZmqContext | None = None,
    ) -> None:
        _check_limits(lag_limit=lag_limit, lag_limit_s=lag_limit_s, silence_s=silence_s, hold_limit=hold_limit)
        _check_limits(heal_timeout_s=heal_timeout_s, query_timeout_s=query_timeout_s)
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
        monitor = HeartbeatMonitor(silence_s=silence_s, lag_limit=lag_limit, lag_limit_s=lag_limit_s)
        options = StreamOptions(
            query=query_endpoint is not None,
            snapshot=snapshot,
            heal=heal,
            heal_timeout_s=heal_timeout_s,
            hold_limit=hold_limit,
        )
        wanted = SubscriptionSet(topics, topic_suffix or "")
        warn_of_unmatched(wanted.wanted)
        self._stream = Stream(wanted, monitor, options, resume)
        connection = ConnectionOptions(endpoint, query_endpoint, keys, rcvhwm, query_timeout_s, context)
        self._runner = StreamRunner(connection, self._stream)
        self._tracker = PositionTracker()
        if resume is not None and resume.log is not None:
            self._tracker.start(resume)
        self._handlers = Handlers(self._stream.counts)
        self._closing = self._ended = False
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
        return self._stream.ordering.quotes

    @property
    def status(self) -> Status:
        """Return the daemon as its last heartbeat showed it."""
        return self._stream.monitor.status(time.monotonic())

    @property
    def is_joined(self) -> bool:
        """Return whether the snapshot was received whole, after what the position missed; live events follow.

        False for as long as the query endpoint has not answered.
        """
        return self._stream.recovery.steps.joined and self._stream.ordering.has_snapshot

    @property
    def position(self) -> Position | None:
        """Return where to go on later, the current event counted as done; None before the first heartbeat."""
        return self._tracker.position(with_current=True) if self._tracker.is_known else None

    def commit(self) -> None:
        """Write the position file now, the current event counted as done; raises OSError.

        Without ``position_file`` it does nothing.
        """
        self._tracker.finish()
        if self._file is not None and self._tracker.is_known:
            self._file.write(self._tracker.position(with_current=False), durable=True)

    def add_topics(self, topics: Iterable[str]) -> None:
        """Subscribe to more; their last values come first (if ``snapshot``). From any thread.

        Raises ClientError (``arguments``) for what is neither a name nor a pattern.
        """
        names = list(SubscriptionSet(topics).wanted)
        warn_of_unmatched(names)
        self._runner.call(lambda: self._stream.add_topics(names))

    def remove_topics(self, topics: Iterable[str]) -> None:
        """Unsubscribe; names and patterns as they were given. From any thread."""
        names = list(SubscriptionSet(topics).wanted)
        self._runner.call(lambda: self._stream.remove_topics(names))

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

    def _hand_over(self, item: Item, *, with_notices: bool) -> Event | Notice | None:
        """Track the position and log notices; return the item if it is for the user."""
        if isinstance(item, Event):
            self._tracker.hand_over(item)
            return item
        self._tracker.finish()
        if isinstance(item, Checkpoint):
            self._tracker.confirm(item)
            return None
        now_s = time.monotonic()
        if now_s >= self._log_at_s.get(item.kind, 0.0):  # losses of a slow reader come by the thousand
            self._log_at_s[item.kind] = now_s + NOTICE_LOG_INTERVAL_S
            log.log(logging.WARNING if item.kind in WARNINGS else logging.INFO, "%s: %s", item.kind, item.text)
        return item if with_notices else None

    def _save_if_due(self) -> None:
        if self._file is not None:
            self._file.save_if_due(self._tracker, time.monotonic())

    def _save(self) -> None:
        if self._file is not None:
            self._file.save(self._tracker)

    def _end(self) -> None:
        """Record that the user has handled all that came."""
        if not self._ended:
            self._ended = True
            self._tracker.finish()
            self._save()


class Subscriber(BaseSubscriber):
    """Receives events in the caller's own thread: no thread is started, nothing is read while an event is handled.

    Args:
        endpoint: where the daemon publishes: ``tcp://127.0.0.1:5556``.
        query_endpoint: where it answers; by default one port above on the same host. None: no last values, no recovery.
        topics: exact names (``quote.EURUSD``) and patterns (``trade.*``); everything by default.
        snapshot: hand over last values first (``event.snapshot``), then what comes.
        resume_from: a `Position`, its ``as_dict()``, or an offset: every durable event after it comes first.
        position_file: writes the position to this file, about once a second, at `commit` and at `close`. A stored
            position takes precedence over ``resume_from``, which is where a reader without a file yet starts.
        keys: `ClientKeys` for a daemon that uses CURVE.
        notices: yield `Notice` objects between the events, too. They are always logged.
        lag_limit: items that may wait before the reader counts as lagging (asyncio: also the length of the queue).
        lag_limit_s: age of the last heartbeat read, above which the reader counts as lagging.
        silence_s: without any heartbeat for this long, and for three of the daemon's intervals, the daemon counts as
            silent.
        heal: ask the journal for durable events that are missing. Without it they are only reported as lost.
        heal_timeout_s: how long events may wait for the journal without an answer before they are delivered without it.
        hold_limit: events that may wait for the journal; beyond it nothing is read until it answers.
        query_timeout_s: how long one answer may take.
        rcvhwm: messages that ZeroMQ may queue for us.
        topic_suffix: the daemon's setting, if you know it; else the first heartbeat shows it.
        context: a ``zmq.Context`` to use; by default an own one.

    Raises ClientError for arguments, keys and position files that cannot be used.
    """

    _thread = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._tracker.abandon()  # the current event was not finished: it comes again
        self.close()

    def __iter__(self) -> Iterator[Event | Notice]:
        """Yield events, and notices if asked for, until `close`."""
        return self._items(with_notices=self.notices)

    def receive(self, timeout_s: float | None = None) -> Event | Notice | None:
        """Return the next event or notice; None when none came within ``timeout_s``, or after `close`."""
        deadline_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while not self._closing:
            self._thread = get_ident()
            item = self._next_waiting()
            if item is not None:
                return item
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                self._run_once(0)
                return self._next_waiting()
            self._run_once(left_s)
        self._end()
        return None

    def run(self) -> None:
        """Call the registered handlers for all that comes, until `close`."""
        for item in self._items(with_notices=True):
            for registered in self._handlers.for_item(item):
                try:
                    registered.handler(item)
                except Exception as error:  # noqa: BLE001 - a handler may raise anything, and the others go on
                    self._handlers.record_fault(registered, item, error, time.monotonic())

    def close(self) -> None:
        """End the iteration and close the sockets; from any thread, and more than once.

        The position file is written. The current event counts as done if this is called by the thread that has it.
        """
        self._closing = True
        if self._thread == get_ident():
            self._tracker.finish()
        self._runner.close()
        self._save()

    def _items(self, *, with_notices: bool) -> Iterator[Event | Notice]:
        items, tracker = self._stream.out, self._tracker
        self._thread = get_ident()
        while not self._closing:
            while items and not self._closing:
                item = items.popleft()
                if isinstance(item, Event) and "offset" not in item.body:
                    if tracker.current is not None:
                        tracker.finish()
                    yield item
                elif (handed := self._hand_over(item, with_notices=with_notices)) is not None:
                    yield handed
            tracker.finish()
            self._run_once(math.inf)
        self._end()

    def _next_waiting(self) -> Event | Notice | None:
        items = self._stream.out
        while items:
            item = self._hand_over(items.popleft(), with_notices=self.notices)
            if item is not None:
                return item
        self._tracker.finish()
        return None

    def _run_once(self, wait_s: float) -> None:
        if not self._closing:
            self._save_if_due()
            self._runner.run_once(wait_s)


def _check_limits(**limits: float) -> None:
    for name, value in limits.items():
        if value <= 0:
            raise ClientError("arguments", f"{name} is {value}: give a number above 0")
