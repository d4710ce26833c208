"""Writes every durable event into the stream, once, in order of offset.

A live event is published when everything up to its offset was. If it is not the next one (the live stream lost some,
the bridge was away), the journal is asked from there on. The live stream is only the quick way; the journal decides.
Whatever fails, the writer is begun anew from what the stream holds.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

from mt4pump.client import ClientError, ClientKeys, Event, Heartbeat, Query, Replay
from mt4pump.process.backoff import Backoff
from mt4pump_consumers.nats_bridge.connection import NatsConnection, ServerConnection
from mt4pump_consumers.nats_bridge.jetstream import NS, JetStream, PublishQueue, StreamPosition
from mt4pump_consumers.nats_bridge.message import (
    PING,
    JetStreamRetry,
    Message,
    Quarantine,
    QuarantineLimits,
    stored_message,
    stream_subjects,
    unstored_message,
)
from mt4pump_consumers.nats_bridge.settings import NatsSettings

RETRY_FIRST_S = 0.05
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

    async def chunks(self, after: int, since: int | None) -> AsyncIterator[tuple[list[Event], str | None, Replay]]:
        """Yield events in order of offset, the log that they are from, and the replay; at least once.

        The next chunk is read while the caller handles one: the replay may be further than the events beside it.
        """
        replay = await self._in_thread(lambda: self.replay(after=after, since=since))
        events = iter(replay)

        def read() -> tuple[list[Event], str | None]:
            return list(islice(events, CHUNK)), replay.log

        chunk, log = await self._in_thread(read)
        while len(chunk) == CHUNK:
            ahead = self._thread.submit(read)
            yield chunk, log, replay
            chunk, log = await self._result_of(ahead)
        yield chunk, log, replay

    async def close(self) -> None:
        """Close the socket; a request that waits is given up, also that of a chunk read ahead."""
        if self._query is not None:
            self._query.timeout_s = 0.0
            await asyncio.get_running_loop().run_in_executor(self._thread, self._query.close)
        self._thread.shutdown(wait=False)

    def _asked(self) -> Query:
        if self._query is None:
            self._query = Query(self._endpoint, self._keys, warn=False)  # the subscriber warns of the same topics
        return self._query

    async def _in_thread(self, callback: Callable[[], Result]) -> Result:
        return await self._result_of(self._thread.submit(callback))

    async def _result_of(self, future: Future[Result]) -> Result:
        try:
            return await asyncio.wrap_future(future)
        except ClientError as error:
            raise JetStreamRetry(f"mt4pump's query endpoint {self._endpoint}: {error}") from error


PASSING_KINDS = frozenset({"quote", "heartbeat", "unknown"})
"""What is not durable unless the daemon says so."""
LOG_FROM = 1_000
"""Events read from the journal in one go, from which on it is worth a line in the log."""
PAST_EPOCHS = 64
"""Epochs of runs before that are remembered, as their events may still come."""
SETTLE_LIMIT_S = 2.0
SKEW_S = 60.0
"""How far the clocks of NATS and mt4pump may differ when a stream has run empty."""

log = logging.getLogger(__name__)


class JetStreamWriter:
    """`offer` and `handle_heartbeat` are for the reader and never wait; `run` does the work, for ever.

    ``counts``: ``stored`` in the stream, ``replayed`` of them from the journal, ``unstored`` without an offset,
    ``overflowed`` the queue (read from the journal later), ``lost`` (had no offset, and no room), ``setbacks``,
    ``quarantined`` (a stub is stored instead: see `Quarantine`).
    """

    def __init__(
        self, settings: NatsSettings, nats_link: NatsConnection, journal: JournalPages, counts: Counter[str]
    ) -> None:
        self._settings = settings
        self._nats_link = nats_link
        self._journal = journal
        self._counts = counts
        self._queue: deque[Event] = deque()
        self._wake = asyncio.Event()
        self._backoff = Backoff(RETRY_FIRST_S, settings.retry_s)
        self._quarantine = Quarantine(counts, settings.subject_prefix)
        self._limits = QuarantineLimits()
        self._past_epochs: deque[int] = deque(maxlen=PAST_EPOCHS)
        self._unproven_epoch = 0
        self._durable_kinds: frozenset[str] | None = None
        self._epoch = 0
        self._log = ""
        self._reached = 0
        self._since: int | None = None
        self._old_epoch = self._old_offset = 0
        self._wanted = 0
        self._last_stored = ("", 0)
        self._heartbeat: Heartbeat | None = None

    def is_stored(self, event: Event) -> bool:
        """Return whether the event belongs into the stream."""
        if event.offset is not None:
            return True
        if event.topic == PING:
            return False
        kinds = self._durable_kinds
        return event.kind not in PASSING_KINDS if kinds is None else event.kind in kinds

    def offer(self, event: Event) -> None:
        """Take a durable event as it comes."""
        if event.offset is not None:
            self._wanted = max(self._wanted, event.offset)
        if len(self._queue) < self._settings.queue_limit:
            self._queue.append(event)
        elif event.offset is not None:
            self._counts["overflowed"] += 1
        else:
            self._counts["lost"] += 1
            log.error("%r is lost: it has no offset, and the queue is full", event)
        self._wake.set()

    def handle_heartbeat(self, heartbeat: Heartbeat) -> None:
        """Take note of where the daemon is."""
        self._heartbeat = heartbeat
        self._wake.set()

    async def run(self) -> None:
        """Store what is offered, and what is missing; begin anew whenever something fails."""
        logged = ""
        while True:
            connection = await self._nats_link.connection()
            try:
                await self._serve(connection)
            except JetStreamRetry as retry:
                self._counts["setbacks"] += 1
                self._quarantine.note(retry)
                wait_s = self._backoff.next_s()
                loud = logging.INFO if retry.is_quiet else logging.WARNING
                level = loud if str(retry) != logged else logging.DEBUG  # not every attempt is news
                logged = str(retry)
                log.log(level, "%s: going on from what the stream holds in %.1f s", retry, wait_s)
                await asyncio.sleep(wait_s)

    async def _serve(self, connection: ServerConnection) -> None:
        description = await self._journal.describe()
        if description["log"] == "":  # not the same as None, which is a daemon that keeps none
            raise JetStreamRetry("mt4pump has a journal that could not be opened yet (its log says why)")
        kinds = _stored_kinds(description)
        stream = JetStream(connection.client, self._settings)
        position = await stream.ready(stream_subjects(kinds, self._settings.subject_prefix))
        self._durable_kinds = kinds
        self._limits = QuarantineLimits(connection.client.max_payload, position.max_msg_size)
        self._resume_from(position, description)
        settings = self._settings
        publish_queue = PublishQueue(
            connection, settings.stream, position.last_seq, settings.publish_limit, settings.ack_timeout_s
        )
        connection.on_lost(self._wake.set)
        await publish_queue.open()
        try:
            await self._catch_up(publish_queue)
            while True:
                self._wake.clear()
                await self._empty_queue(publish_queue)
                await self._compare_with_heartbeat(publish_queue)
                await publish_queue.wait_for_acks()
                self._last_stored = (self._log, self._reached)
                self._note_progress(publish_queue)
                await self._wake.wait()
        finally:
            await self._finish(publish_queue)

    async def _finish(self, publish_queue: PublishQueue) -> None:
        """Wait a moment for acknowledgements, and keep events that no journal has."""
        try:
            async with asyncio.timeout(SETTLE_LIMIT_S):
                await publish_queue.wait_for_acks()
        except (JetStreamRetry, TimeoutError):
            self._queue.extendleft(reversed(publish_queue.unacknowledged()))
        self._note_progress(publish_queue)
        await publish_queue.close()

    def _note_progress(self, publish_queue: PublishQueue) -> None:
        if publish_queue.stored:
            self._counts["stored"] += publish_queue.stored
            publish_queue.stored = 0
            self._backoff.reset()

    def _resume_from(self, position: StreamPosition, description: Mapping[str, Any]) -> None:
        """Decide from where on the journal is to be asked."""
        log_position, self._log = position.log_position, description["log"] or ""
        self._set_epoch(description["epoch"])
        self._reached, self._since = 0, None
        self._old_epoch = self._old_offset = self._wanted = 0
        if not self._log:
            log.warning("mt4pump keeps no journal: what it publishes while the bridge is away is lost")
        elif log_position is not None and log_position.log == self._log:
            self._reached = log_position.offset
        elif log_position is not None:
            log.warning("mt4pump has another journal than the stream's last event is from: going on from its start")
            # Journals follow each other in time. What is older was in use before, and is in the stream already; what
            # is near enough to be in doubt, JetStream's window sorts out.
            self._since = max(0, log_position.ts - int(position.window_s * NS))
            # Within one run of the daemon offsets go on in a new journal, and its first ones may be in the stream.
            self._old_epoch, self._old_offset = log_position.epoch, log_position.offset
        elif self._last_stored[0] == self._log and (not position.is_new or self._settings.start == "now"):
            self._reached = self._last_stored[
                1
            ]  # it ran empty, or was emptied, while we ran; or never had an event yet
        elif not position.is_new and position.max_age_s:
            # All that was ever stored is older than the stream's age: what is younger never was in it.
            age_s = position.max_age_s - min(SKEW_S, position.max_age_s / 10)
            self._since = time.time_ns() - int(age_s * NS)
        elif position.is_new and self._settings.start == "now":
            self._reached = description["offset"]
            self._last_stored = (self._log, self._reached)  # "now" is once: what comes from here on is to be stored
        where = f"after offset {self._reached}" if self._since is None else "by time"
        log.info("stream %s: going on %s of journal %s", self._settings.stream, where, self._log or "(none)")

    def _set_epoch(self, epoch: int) -> None:
        """Set the daemon's epoch; all other epochs seen so far are of earlier runs."""
        for past in (self._epoch, self._unproven_epoch):
            if past not in {0, epoch} and past not in self._past_epochs:
                self._past_epochs.append(past)
        if epoch in self._past_epochs:
            self._past_epochs.remove(epoch)
        self._epoch, self._unproven_epoch = epoch, 0

    def _is_new_run(self, epoch: int) -> bool:
        """Return whether the daemon must be asked again: its run may be another one, whichever number is larger."""
        if epoch == self._epoch or epoch in self._past_epochs:
            return False
        self._unproven_epoch = epoch
        return True

    async def _put(self, publish_queue: PublishQueue, message: Message) -> None:
        await publish_queue.put(self._quarantine.replace_refused(message, self._limits))

    async def _empty_queue(self, publish_queue: PublishQueue) -> None:
        queue = self._queue
        while queue:
            event = queue[0]
            offset = event.offset
            if offset is None:
                await self._put(
                    publish_queue, unstored_message(event, self._log, self._reached, self._settings.subject_prefix)
                )
                self._counts["unstored"] += 1
            elif self._is_new_run(event.epoch):
                raise JetStreamRetry("mt4pump was started anew", is_quiet=True)
            elif event.epoch == self._epoch and offset > self._reached:  # older ones the journal has brought
                if offset > self._reached + 1:
                    await self._catch_up(publish_queue)
                if offset > self._reached:
                    await self._put(publish_queue, stored_message(event, self._log, self._settings.subject_prefix))
                    self._reached = offset
            queue.popleft()

    async def _compare_with_heartbeat(self, publish_queue: PublishQueue) -> None:
        """Look into the journal when the daemon is further than what came."""
        heartbeat = self._heartbeat
        if heartbeat is None:
            return
        self._heartbeat = None
        if self._is_new_run(heartbeat.epoch) or (heartbeat.epoch == self._epoch and (heartbeat.log or "") != self._log):
            raise JetStreamRetry("mt4pump was started anew, or has another journal", is_quiet=True)
        if self._log and heartbeat.epoch == self._epoch and max(heartbeat.last_offset, self._wanted) > self._reached:
            await self._catch_up(publish_queue)

    async def _catch_up(self, publish_queue: PublishQueue) -> None:
        """Publish what the journal has after what was reached."""
        if not self._log:
            return
        count, began_s, began = 0, time.monotonic(), self._reached
        async for events, log_id, replay in self._journal.chunks(self._reached, self._since):
            if log_id != self._log:
                raise JetStreamRetry("mt4pump has another journal now", is_quiet=True)
            for event in events:
                offset = event.offset or 0
                if event.epoch != self._old_epoch or offset > self._old_offset:
                    await self._put(publish_queue, stored_message(event, self._log, self._settings.subject_prefix))
                    count += 1
                self._reached, self._since = offset, None
            self._note_progress(publish_queue)
            whole, first, last = replay.whole, replay.first_available, replay.last
        if began and not whole:
            self._counts["not_whole"] += 1
            text = "the journal is not whole after offset %d (it begins at %d): events were deleted or never stored"
            log.warning(text, began, first or last + 1)
        await publish_queue.wait_for_acks()
        self._reached, self._since = max(self._reached, last), None
        self._counts["replayed"] += count
        if count >= LOG_FROM:
            log.info("%d events were read from the journal in %.1f s", count, time.monotonic() - began_s)


def _stored_kinds(description: Mapping[str, Any]) -> frozenset[str]:
    """Return the kinds for the stream: those that the daemon stores, or, where it stores none, all that would be."""
    kinds: Mapping[str, Mapping[str, Any]] = description["kinds"]
    if description["log"]:
        return frozenset(name for name, kind in kinds.items() if kind["durable"])
    return frozenset(kinds) - PASSING_KINDS
