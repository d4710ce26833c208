"""The subscriber for asyncio, on any event loop: one thread reads, the loop is woken once per batch.

``zmq.asyncio`` is not used: it does not work on Windows' default loop, and its selector loop does not see Ctrl-C.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from threading import Event as ThreadEvent
from threading import Thread
from typing import Any, Self

from mt4pump.client.connection import SLICE_S
from mt4pump.client.event import Event, Item, Notice
from mt4pump.client.subscriber import BaseSubscriber
from mt4pump.errors import ClientError

JOIN_LIMIT_S = 5.0

log = logging.getLogger(__name__)


class AsyncSubscriber(BaseSubscriber):
    """The same as `Subscriber` (see there for the arguments), for ``async with`` and ``async for``.

    Up to ``lag_limit`` items wait between the reading thread and the loop. When they are that many, nothing more is
    read: the daemon then drops what does not fit, which shows as gaps and is recovered or reported.
    """

    def _prepare(self) -> None:
        self._items: deque[Item] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._has_items = asyncio.Event()
        self._has_space = ThreadEvent()
        self._thread: Thread | None = None
        self._fault: BaseException | None = None
        self._consumer: asyncio.Task[Any] | None = None

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._tracker.abandon()  # the current event was not finished: it comes again
        await self.aclose()

    def __aiter__(self) -> AsyncIterator[Event | Notice]:
        """Yield events, and notices if asked for, until `aclose` or `close`."""
        return self._each(with_notices=self.notices)

    async def receive(self, timeout_s: float | None = None) -> Event | Notice | None:
        """Return the next event or notice; None when none came within ``timeout_s``, or after the end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                async for item in self._each(with_notices=self.notices):
                    return item
        return None

    async def run(self) -> None:
        """Call the registered handlers (plain or ``async``) for all that comes, one after the other, until the end."""
        async for item in self._each(with_notices=True):
            for registered in self._handlers.for_item(item):
                try:
                    result = registered.handler(item)
                    if inspect.isawaitable(result):
                        await result
                except Exception as error:  # noqa: BLE001 - a handler may raise anything, and the others go on
                    self._handlers.record_fault(registered, item, error, time.monotonic())

    def close(self) -> None:
        """End the iteration; from any thread. `aclose` also waits for the reading thread."""
        self._closing = True
        self._has_space.set()
        self._wake()

    async def aclose(self) -> None:
        """End the iteration, the thread and its sockets, and write the position file.

        The current event counts as done if this is called by the task that has it.
        """
        if self._consumer is asyncio.current_task():
            self._tracker.finish()
        self.close()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, JOIN_LIMIT_S)
        self._save()

    async def _each(self, *, with_notices: bool) -> AsyncIterator[Event | Notice]:
        self._start()
        self._consumer = asyncio.current_task()
        items = self._items
        while not self._closing:
            while items and not self._closing:
                item = self._hand_over(items.popleft(), with_notices=with_notices)
                if item is not None:
                    yield item
            self._tracker.finish()
            self._save_if_due()
            self._has_space.set()
            self._has_items.clear()
            if not items and not self._closing:
                await self._has_items.wait()
        self._end()
        if self._fault is not None:
            raise ClientError("closed", f"the reading thread ended: {self._fault!r}") from self._fault

    def _start(self) -> None:
        if self._thread is None and not self._closing:
            self._loop = asyncio.get_running_loop()
            self._thread = Thread(target=self._read, name="mt4pump-client", daemon=True)
            self._thread.start()

    def _read(self) -> None:
        """Read until closed, in the reading thread."""
        try:
            while not self._closing:
                if len(self._items) >= self.lag_limit:
                    self._has_space.clear()
                    self._has_space.wait(SLICE_S)
                    if len(self._items) >= self.lag_limit:
                        continue
                self._run_once()
        except Exception as error:
            log.exception("the reading thread of %s ended", type(self).__name__)
            self._fault = error
            self._closing = True
        finally:
            self._runner.close()
            self._wake()

    def _run_once(self) -> None:
        stream, items = self._stream, self._items
        stream.backlog = len(items), self._oldest_ts()
        self._runner.run_once(SLICE_S)
        if stream.out:
            items.extend(stream.out)
            stream.out.clear()
            self._wake()

    def _oldest_ts(self) -> int:
        """Return when the first waiting event was received by the daemon, ns since 1970; 0 when none waits."""
        try:
            first = self._items[0]
        except IndexError:
            return 0
        if not isinstance(first, Event) or first.snapshot or first.healed:
            return 0
        return first.ts

    def _wake(self) -> None:
        loop = self._loop
        if loop is None or self._has_items.is_set():
            return
        try:
            loop.call_soon_threadsafe(self._has_items.set)
        except RuntimeError:  # the loop is closed: nobody is left to wake
            self._closing = True
