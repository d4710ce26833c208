"""Asks the daemon's journal from asyncio, and what a failure of it or of JetStream means: a retry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

from mt4pump.client import ClientError, ClientKeys, Event, Query, Replay


class JetStreamRetry(Exception):
    """The text says what happened and, where there is something to do, what.

    ``is_quiet``: it belongs to the normal course (a daemon's restart, an answer in doubt), and is no cause for alarm.
    ``refused_id`` is the id of the one message that JetStream refused for its own sake; empty: it was something else.
    """

    def __init__(self, text: str, *, is_quiet: bool = False, refused_id: str = "") -> None:
        super().__init__(text)
        self.is_quiet = is_quiet
        self.refused_id = refused_id


class Backoff:
    """Waits between attempts, doubling up to ``limit_s``; `reset` after success."""

    def __init__(self, limit_s: float, first_s: float = 0.05) -> None:
        self._first_s = min(first_s, limit_s)
        self._limit_s = limit_s
        self._next_s = self._first_s

    def reset(self) -> None:
        """Start from the shortest wait again."""
        self._next_s = self._first_s

    def next_s(self) -> float:
        """Return how long to wait now."""
        now_s, self._next_s = self._next_s, min(self._next_s * 2, self._limit_s)
        return now_s


CHUNK = 500
"""Events handed over at one time, so that everything else gets its turn in a long replay."""

Result = TypeVar("Result")


class JournalPages:
    """The query endpoint. Every method raises JetStreamRetry when it refuses or is silent. For one task."""

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
        """Yield events in order of offset, and the replay they are from; at least once."""
        replay = await self._in_thread(lambda: self.replay(after=after, since=since))
        events = iter(replay)
        while True:
            chunk = await self._in_thread(lambda: _next_events(events))
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
            self._query = Query(self._endpoint, self._keys, warn=False)  # the subscriber warns of the same topics
        return self._query

    async def _in_thread(self, callback: Callable[[], Result]) -> Result:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, callback)
        except ClientError as error:
            raise JetStreamRetry(f"mt4pump's query endpoint {self._endpoint}: {error}") from error


def _next_events(events: Iterator[Event]) -> list[Event]:
    return list(islice(events, CHUNK))
