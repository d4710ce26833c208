"""Puts the bridge together: stream → reader → core NATS and the durable writer."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

from mt4pump.client import AsyncSubscriber, ClientError, ClientKeys, Heartbeat, Notice, Status
from mt4pump.client.topic_state import matches
from mt4pump.process.program import Shutdown, StartError
from mt4pump_consumers.health import CountsCollector, health_endpoint
from mt4pump_consumers.nats_bridge.connection import NatsConnection, fault_in_background
from mt4pump_consumers.nats_bridge.jetstream_writer import JetStreamWriter, JournalPages
from mt4pump_consumers.nats_bridge.message import headers_of, subject_of
from mt4pump_consumers.nats_bridge.settings import NatsSettings

HEARTBEAT = "heartbeat"
EVENTS_PER_YIELD = 256
"""Events read in one go, before everything else gets its turn."""
COUNTERS = (
    *("connections", "published", "dropped", "oversized", "missed", "stored", "replayed", "unstored", "overflowed"),
    *("lost", "setbacks", "quarantined", "not_whole"),
)
"""All counters, shown from 0 on: the first one must be an increase, not a new series."""
CANCEL_WAIT_S, CANCELS = 1.0, 10

log = logging.getLogger(__name__)


def main(settings: NatsSettings, shutdown: Shutdown) -> int:
    """Republish until asked to end."""
    asyncio.run(Bridge(settings).run(shutdown))
    log.info("stopped")
    return 0


class Bridge:
    """The whole bridge.

    ``missed`` counts quotes that never reached us; `NatsConnection` and `JetStreamWriter` describe ``counts``.
    """

    def __init__(self, settings: NatsSettings) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(COUNTERS, 0))
        self._settings = settings
        self._status: Callable[[], Status] | None = None
        self._wants_heartbeat = any(matches(HEARTBEAT, topic) for topic in settings.topics)
        try:
            self._keys = ClientKeys.load(settings.keys) if settings.keys else None
            self._query_endpoint = settings.query_address
        except (ClientError, ValueError) as error:
            raise StartError(str(error)) from error

    async def run(self, shutdown: Shutdown) -> None:
        """Run until asked to end; raises StartError, or what ended a task that should not end."""
        asyncio.get_running_loop().set_exception_handler(fault_in_background)
        nats_link = NatsConnection(self._settings, self.counts)
        journal = JournalPages(self._query_endpoint, self._keys, self._settings.topics)
        writer = JetStreamWriter(self._settings, nats_link, journal, self.counts)
        log.info("from mt4pump on %s to NATS on %s", self._settings.endpoint, ", ".join(self._settings.servers))
        # In this order they are ended: what was read is stored while NATS is still there.
        coroutines = (self._read(nats_link, writer), writer.run(), nats_link.run(), self._report())

        def fault() -> str:
            if not nats_link.is_up:
                return "no connection to NATS"
            return "" if self._status is not None and self._status().alive else "no heartbeat of the daemon"

        def counts() -> dict[str, int]:
            return {**self.counts, "old_logs_deleted": shutdown.old_logs_deleted}

        collector = CountsCollector("mt4pump_nats", counts, fault)
        with health_endpoint(self._settings.health_port, collector):
            tasks = [asyncio.create_task(work) for work in (shutdown.wait_async(), *coroutines)]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                for task in tasks:
                    await _end(task)
                await journal.close()
                self._log_counts()

    async def _read(self, nats_link: NatsConnection, writer: JetStreamWriter) -> None:
        prefix = self._settings.subject_prefix
        async with self._subscriber() as subscriber:
            self._status = lambda: subscriber.status
            count = 0
            async for item in subscriber:
                if isinstance(item, Notice):
                    if item.kind == "lost":
                        self.counts["missed"] += item.count
                    continue
                if isinstance(item, Heartbeat):
                    writer.handle_heartbeat(item)
                if writer.is_stored(item):
                    writer.offer(item)
                elif self._wants_heartbeat or item.kind != HEARTBEAT:
                    await nats_link.publish(subject_of(item.topic, prefix), item.frames[1], headers_of(item))
                count += 1
                if count % EVENTS_PER_YIELD == 0:
                    await asyncio.sleep(0)

    def _subscriber(self) -> AsyncSubscriber:
        try:
            return AsyncSubscriber(
                self._settings.endpoint,
                query_endpoint=self._query_endpoint,
                topics=(*self._settings.topics, HEARTBEAT),
                snapshot=False,
                keys=self._keys,
                notices=True,
            )
        except ClientError as error:
            raise StartError(str(error)) from error

    async def _report(self) -> None:
        interval_s = self._settings.report_interval_s
        while True:
            await asyncio.sleep(interval_s or 3600.0)
            if interval_s:
                self._log_counts()

    def _log_counts(self) -> None:
        counts = ", ".join(f"{name} {count}" for name, count in sorted(self.counts.items()) if count)
        log.info("so far: %s", counts or "nothing")


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel, more than once: nats-py swallows a cancellation while it flushes."""
    for _ in range(CANCELS):
        task.cancel()
        await asyncio.wait({task}, timeout=CANCEL_WAIT_S)
        if task.done():
            return
