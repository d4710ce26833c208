"""The subscriber for plain threads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from threading import get_ident
from types import TracebackType
from typing import Self

from mt4pump.client.base import BaseSubscriber
from mt4pump.client.event import Event, Notice

FOR_EVER_S = 3_600.0


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
    _ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._tracker.abandon()  # the current event was not finished: it comes again
        self.close()

    def __iter__(self) -> Iterator[Event | Notice]:
        """Yield events, and notices if asked for, until `close`."""
        return self._items(with_notices=self.notices)

    def receive(self, timeout_s: float | None = None) -> Event | Notice | None:
        """Return the next event or notice; None when none came within ``timeout_s``, or after `close`."""
        deadline_s = time.monotonic() + (FOR_EVER_S if timeout_s is None else timeout_s)
        while not self._closing:
            self._thread = get_ident()
            item = self._next_waiting()
            if item is not None:
                return item
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 and timeout_s is not None:
                self._run_once(0)
                return self._next_waiting()
            self._run_once(max(0.0, left_s))
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
            self._run_once(FOR_EVER_S)
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

    def _end(self) -> None:
        """Record that the reading thread has handled all that it got."""
        if not self._ended:
            self._ended = True
            self._tracker.finish()
            self._save()
