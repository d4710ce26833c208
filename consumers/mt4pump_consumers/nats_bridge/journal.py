"""Asks the daemon's journal from asyncio: the SDK's `Query`, in a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

from mt4pump.client import ClientError, ClientKeys, Event, Query, Replay
from mt4pump_consumers.nats_bridge.retry import JetStreamRetry

CHUNK = 500
"""Events handed over at one time, so that everything else gets its turn in a long replay."""

Result = TypeVar("Result")


class JournalPages:
    """The query endpoint. Every method raises Setback when it refuses or is silent. For one task."""

    def __init__(self, endpoint: str, keys: ClientKeys | None, topics: tuple[str, ...]) -> None:
        self._endpoint = endpoint
        self._keys = keys
        self._topics = topics
        self._query: Query | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")

    async def describe(self) -> dict[str, Any]:
        """Return what the daemon says of itself."""
        return await self._in_thread(lambda: self._asked().describe())

    def replay(self, *, after: int, since: int | None) -> Replay:
        """Return a replay to hand to `chunks`: of offsets above ``after``, or of times (ns) from ``since`` on."""
        if since is not None:
            return self._asked().replay(self._topics, since=since)
        return self._asked().replay(self._topics, after=after)

    async def chunks(self, after: int, since: int | None) -> AsyncIterator[tuple[list[Event], Replay]]:
        """Yield events in order of offset, and what the journal said about them; at least once, also without events."""
        replay = await self._in_thread(lambda: self.replay(after=after, since=since))
        events = iter(replay)
        while True:
            chunk = await self._in_thread(lambda: _some(events))
            yield chunk, replay
            if len(chunk) < CHUNK:
                return

    async def close(self) -> None:
        """Close the socket."""
        if self._query is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._query.close)
        self._thread.shutdown(wait=False)

    def _asked(self) -> Query:
        if self._query is None:
            self._query = Query(self._endpoint, self._keys)
        return self._query

    async def _in_thread(self, call: Callable[[], Result]) -> Result:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, call)
        except ClientError as error:
            raise JetStreamRetry(f"mt4pump's query endpoint {self._endpoint}: {error}") from error


def _some(events: Iterator[Event]) -> list[Event]:
    return list(islice(events, CHUNK))
