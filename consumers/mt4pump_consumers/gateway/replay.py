"""``resume``: what a client missed, out of the daemon's journal, joined to what is live."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from mt4pump.client import ClientError, Event, Query, Replay
from mt4pump_consumers.gateway.hub import Hub, full_payload
from mt4pump_consumers.gateway.protocol import UNAVAILABLE, Json, Request, RequestError, numbered
from mt4pump_consumers.gateway.session import Session
from mt4pump_consumers.gateway.topics import matches

AT_ONCE = 2
"""Replays that run at the same time; others wait for them."""
PAGE = 500
"""Events fetched and sent before looking whether the client keeps up."""
ROUNDS = 5
"""Times that the journal is asked again as the live stream ran too far ahead meanwhile."""

log = logging.getLogger(__name__)

SendLast = Callable[[Session, list[str], list[str]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Replayed:
    """How far a replay came: ``last`` is the offset sent up to; ``more`` remains when it is cut short."""

    last: int
    count: int
    whole: bool
    more: bool


class Span(NamedTuple):
    """What lies after one offset of a journal, up to another."""

    log: str | None
    after: int
    to: int


class Stored:
    """Stored events, page by page; all of it waits for the daemon, so none of it belongs on the loop's thread."""

    def __init__(self, query: Query, topics: Sequence[str], span: Span) -> None:
        self._query, self._topics, self._span = query, topics, span
        self._replay: Replay | None = None
        self._events: Iterator[Event] = iter(())

    def page(self) -> list[Event]:
        """Return the next events, none at the end; raises ClientError."""
        if self._replay is None:
            self._replay = self._query.replay(self._topics, after=self._span.after, to=self._span.to)
            self._events = iter(self._replay)
        events = list(islice(self._events, PAGE))
        if self._replay.log != self._span.log:
            raise ClientError("other_log", "the daemon has another journal than it had a moment ago")
        return events

    @property
    def last(self) -> int:
        """Return the journal's last offset when it was asked."""
        return 0 if self._replay is None else self._replay.last

    @property
    def whole(self) -> bool:
        """Return whether nothing is missing among what was given."""
        return self._replay is not None and bool(self._replay.whole)

    def close(self) -> None:
        """End the connection."""
        self._query.close()


class Replayer:
    """``query`` makes a connection for questions; one resume sends about ``events_limit`` events."""

    def __init__(self, hub: Hub, query: Callable[[], Query], events_limit: int) -> None:
        self._hub, self._query, self._events_limit = hub, query, events_limit
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="replay")
        self._places = asyncio.Semaphore(AT_ONCE)

    def close(self) -> None:
        """End the threads; those that wait for the daemon end by their time limit."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def resume(self, session: Session, request: Request, send_last: SendLast) -> None:
        """Send what came after the request's offset, then what it is, then what is live."""
        log_id = self._hub.log
        other_log = log_id is None or (request.log is not None and request.log != log_id)
        done = Replayed(0, 0, whole=False, more=False)
        if not other_log:
            try:
                async with self._places:
                    done = await self._catch_up(session, request, log_id)
            except ClientError as error:
                log.warning("%s: nothing could be replayed: %s", session.name, error)
                raise RequestError(UNAVAILABLE, "stored events are not available now; try again later") from None
        if not done.more:
            if not other_log:
                self._join(session, request, log_id, done.last)
            session.topics.update(dict.fromkeys(request.topics))
            session.refresh()
        session.reply(_answer(request, log_id, done))
        if not done.whole and not done.more:
            await send_last(session, [], list(request.topics))

    async def _catch_up(self, session: Session, request: Request, log_id: str | None) -> Replayed:
        after, count, whole = request.offset, 0, True
        if after > self._newest() and after > (end := await self._end(request, log_id)):
            log.warning("%s: asks for what came after offset %d, and the journal ends at %d", session.name, after, end)
            return Replayed(end, 0, whole=False, more=False)
        for _ in range(ROUNDS):
            to = max(self._newest(), after)
            part = await self._send_stored(session, request, Span(log_id, after, to), count)
            if self._hub.log != log_id:
                raise ClientError("other_log", "the daemon has another journal than it had a moment ago")
            count, whole, after = part.count, whole and part.whole, part.last
            if part.more or self._reaches(after):
                return Replayed(after, count, whole, part.more)
        return Replayed(after, count, whole, more=True)

    async def _end(self, request: Request, log_id: str | None) -> int:
        """Return the journal's last offset; who comes from another gateway may be ahead of what was heard here."""
        stored = Stored(self._query(), request.topics, Span(log_id, request.offset, request.offset))
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._pool, stored.page)
            return stored.last
        finally:
            await loop.run_in_executor(self._pool, stored.close)

    async def _send_stored(self, session: Session, request: Request, span: Span, count: int) -> Replayed:
        _, after, to = span
        if to <= after:
            return Replayed(after, count, whole=True, more=False)
        loop, allowed = asyncio.get_running_loop(), session.grant.allowed
        stored = Stored(self._query(), request.topics, span)
        try:
            while page := await loop.run_in_executor(self._pool, stored.page):
                wanted = [event for event in page if allowed.covers(event.topic) and _asked(request, event.topic)]
                session.send([full_payload(event) for event in wanted])
                count, after = count + len(wanted), page[-1].offset or after
                await session.clear()
                if count >= self._events_limit:
                    return Replayed(after, count, stored.whole, more=True)
            return Replayed(to, count, stored.whole, more=False)
        finally:
            await loop.run_in_executor(self._pool, stored.close)

    def _newest(self) -> int:
        return max([self._hub.offset, *(offset for offset, _ in self._hub.recent)])

    def _reaches(self, offset: int) -> bool:
        """Return whether everything live after ``offset`` is still remembered, or yet to come."""
        recent = self._hub.recent
        return len(recent) < (recent.maxlen or 0) or recent[0][0] <= offset + 1

    def _join(self, session: Session, request: Request, log_id: str | None, last: int) -> None:
        """Send what came live meanwhile; no event can come between this and the subscription."""
        allowed = session.grant.allowed
        missed = [event for offset, event in self._hub.recent if offset > last and _asked(request, event.topic)]
        session.send([full_payload(event) for event in missed if allowed.covers(event.topic)])
        session.had_replay(request.topics, log_id, last)


def _asked(request: Request, topic: str) -> bool:
    return any(matches(name, topic) for name in request.topics)


def _answer(request: Request, log_id: str | None, done: Replayed) -> Json:
    message: Json = {"type": "resume", "status": "success", "topics": list(request.topics), "whole": done.whole}
    facts: Json = {"log": log_id, "offset": done.last, "count": done.count, "more": done.more}
    return numbered({**message, **facts}, request.number)
