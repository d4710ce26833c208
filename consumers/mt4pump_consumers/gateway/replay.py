"""``resume``: sends the events that a client missed, from the daemon's journal, and joins them to the live stream."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from mt4pump.client import ClientError, Event, Query, Replay
from mt4pump_consumers.gateway.broadcaster import Broadcaster, full_payload
from mt4pump_consumers.gateway.limits import ReadingSlots
from mt4pump_consumers.gateway.protocol import UNAVAILABLE, ClientRequest, ClientRequestError, Json, numbered
from mt4pump_consumers.gateway.session import ClientSession
from mt4pump_consumers.gateway.topics import TopicSelection

REPLAYS_LIMIT = 2
"""Replays that run at the same time; others wait for a slot."""
SLOT_S = 2.0
"""Longest use of a slot by one replay while others wait."""
STALL_S = 0.5
"""A client that does not read for so long loses its slot; it continues in another one once it reads."""
PAGE = 500
"""Events fetched and sent before looking whether the client keeps up."""
JOIN_S = 5.0
"""Longest wait of a resume for the gateway's own place in the journal, as it may have just started."""
JOIN_CHECK_S = 0.05
ROUNDS = 5
"""Times that the journal is asked again as the live stream ran too far ahead meanwhile."""

log = logging.getLogger(__name__)

SendLast = Callable[[ClientSession, list[str], list[str]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ReplayBatch:
    """How far a replay came: ``last`` is the offset sent up to; ``more`` remains when it was limited."""

    last: int
    count: int
    whole: bool
    more: bool


class Span(NamedTuple):
    """What lies after one offset of a journal, up to another."""

    log: str | None
    after: int
    to: int


class StoredPages:
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
    """``query`` makes a connection for queries; one resume sends about ``events_limit`` events."""

    def __init__(self, broadcaster: Broadcaster, query: Callable[[], Query], events_limit: int) -> None:
        self._broadcaster, self._query, self._events_limit = broadcaster, query, events_limit
        self._pool = ThreadPoolExecutor(REPLAYS_LIMIT, thread_name_prefix="replay")
        self._slots = ReadingSlots(REPLAYS_LIMIT)
        self.slots_given_up = 0

    def close(self) -> None:
        """End the threads; those that wait for the daemon end by their time limit."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def resume(self, session: ClientSession, request: ClientRequest, send_last: SendLast) -> None:
        """Send what came after the request's offset, then what it is, then what is live."""
        await self._wait_for_join(session)
        log_id = self._broadcaster.log
        other_log = log_id is None or (request.log is not None and request.log != log_id)
        done = ReplayBatch(0, 0, whole=False, more=False)
        if not other_log:
            try:
                done = await self._catch_up(session, request, log_id)
            except ClientError as error:
                log.warning("%s: nothing could be replayed: %s", session.name, error)
                raise ClientRequestError(UNAVAILABLE, "stored events are not available now; try again later") from None
        if not done.more:
            if not other_log:
                self._join(session, request, log_id, done.last)
            session.topics.update(dict.fromkeys(request.topics))
            session.refresh()
        session.reply(_answer(request, log_id, done))
        if not done.whole and not done.more:
            await send_last(session, [], list(request.topics))

    async def _wait_for_join(self, session: ClientSession) -> None:
        """Wait until the subscriber has its position in the journal; raises ClientRequestError if that takes too long.

        Before it has joined, the subscriber passes events over: last values will follow that hold them.
        """
        now_s = asyncio.get_running_loop().time
        deadline_s = now_s() + JOIN_S
        while not self._broadcaster.has_joined:
            if now_s() > deadline_s or not session.writer.is_open:
                text = "the gateway has not found its place in the stored events yet; try again later"
                raise ClientRequestError(UNAVAILABLE, text)
            await asyncio.sleep(JOIN_CHECK_S)

    async def _catch_up(self, session: ClientSession, request: ClientRequest, log_id: str | None) -> ReplayBatch:
        after, count, whole = request.offset, 0, True
        if after > self._newest() and after > (end := await self._end(session, request, log_id)):
            log.warning("%s: asks for what came after offset %d, and the journal ends at %d", session.name, after, end)
            return ReplayBatch(end, 0, whole=False, more=False)
        for _ in range(ROUNDS):
            to = max(self._newest(), after)
            part = await self._send_stored(session, request, Span(log_id, after, to), count)
            if self._broadcaster.log != log_id:
                raise ClientError("other_log", "the daemon has another journal than it had a moment ago")
            count, whole, after = part.count, whole and part.whole, part.last
            if part.more or self._reaches(after):
                return ReplayBatch(after, count, whole, part.more)
        return ReplayBatch(after, count, whole, more=True)

    async def _end(self, session: ClientSession, request: ClientRequest, log_id: str | None) -> int:
        """Return the journal's last offset; a client of another gateway may be ahead of this one."""
        loop = asyncio.get_running_loop()
        async with self._slots.slot(session.owner):
            stored = StoredPages(self._query(), request.topics, Span(log_id, request.offset, request.offset))
            try:
                await loop.run_in_executor(self._pool, stored.page)
                return stored.last
            finally:
                await loop.run_in_executor(self._pool, stored.close)

    async def _send_stored(self, session: ClientSession, request: ClientRequest, span: Span, count: int) -> ReplayBatch:
        """Send what is stored in ``span``, in as many turns as it takes."""
        done = ReplayBatch(span.after, count, whole=True, more=span.to > span.after)
        while done.more:
            async with self._slots.slot(session.owner):
                part = await self._send_in_slot(session, request, span._replace(after=done.last), done.count)
            done = ReplayBatch(part.last, part.count, done.whole and part.whole, part.more)
            if done.count >= self._events_limit or not session.writer.is_open:
                break
            await session.writer.wait_until_writable()  # its place is another's meanwhile
        return done

    async def _send_in_slot(
        self, session: ClientSession, request: ClientRequest, span: Span, count: int
    ) -> ReplayBatch:
        """Send pages until the end, or until this client stops reading, or others have waited long enough."""
        loop, allowed, asked = asyncio.get_running_loop(), session.grant.allowed, TopicSelection(request.topics)
        stored, after, ends_s = StoredPages(self._query(), request.topics, span), span.after, loop.time() + SLOT_S
        try:
            while page := await loop.run_in_executor(self._pool, stored.page):
                wanted = [event for event in page if event.topic in asked and allowed.covers(event.topic)]
                session.send([full_payload(event) for event in wanted])
                count, after = count + len(wanted), page[-1].offset or after
                is_over = loop.time() > ends_s and self._slots.has_waiting
                if count >= self._events_limit or is_over or not await self._keeps_up(session):
                    return ReplayBatch(after, count, stored.whole, more=True)
            return ReplayBatch(span.to, count, stored.whole, more=False)
        finally:
            await loop.run_in_executor(self._pool, stored.close)

    async def _keeps_up(self, session: ClientSession) -> bool:
        """Return whether the client is there and takes what is sent, within a moment."""
        if not session.writer.is_writable:
            try:
                async with asyncio.timeout(STALL_S):
                    await session.writer.wait_until_writable()
            except TimeoutError:
                self.slots_given_up += 1
                return False
        return session.writer.is_open

    def _newest(self) -> int:
        """Return the last offset known to be in the journal; all behind it comes live, or is remembered.

        What is confirmed counts: the subscriber may join at an offset that no heartbeat had yet.
        """
        return max(
            [
                self._broadcaster.offset,
                self._broadcaster.confirmed or 0,
                *(offset for offset, _ in self._broadcaster.recent),
            ]
        )

    def _reaches(self, offset: int) -> bool:
        """Return whether everything live after ``offset`` is still remembered, or yet to come."""
        return self._broadcaster.forgotten <= offset

    def _join(self, session: ClientSession, request: ClientRequest, log_id: str | None, last: int) -> None:
        """Send what came live meanwhile; no event can come between this and the subscription."""
        allowed, asked = session.grant.allowed, TopicSelection(request.topics)
        missed = [event for offset, event in self._broadcaster.recent if offset > last and event.topic in asked]
        session.send([full_payload(event) for event in missed if allowed.covers(event.topic)])
        session.note_replay(request.topics, log_id, last)


def _answer(request: ClientRequest, log_id: str | None, done: ReplayBatch) -> Json:
    message: Json = {"type": "resume", "status": "success", "topics": list(request.topics), "whole": done.whole}
    facts: Json = {"log": log_id, "offset": done.last, "count": done.count, "more": done.more}
    return numbered({**message, **facts}, request.number)
