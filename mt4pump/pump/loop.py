"""The pump thread, the only owner of the publishing socket.

Each wake-up handles a bounded number of records, commits and publishes the durable events among them as one group, then
reads subscriptions and publishes the heartbeat when it is due. So a flood of events cannot hold up the heartbeat.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable
from threading import Thread
from typing import Any

from mt4pump.mt4.codes import PumpCode
from mt4pump.pump.dispatch import Dispatcher
from mt4pump.pump.heartbeat import HeartbeatPublisher
from mt4pump.pump.inbox import Inbox
from mt4pump.pump.session import FAULTS, STOPPING, Command, count_fault
from mt4pump.pump.snapshot import SnapshotRequest

RECORDS_PER_WAKE_UP = 256
WAITING_SNAPSHOTS_LIMIT = 64
"""Snapshot requests that wait for the baseline; beyond it the oldest is dropped, and its query times out."""
IDLE_WAIT_S, QUIET_AFTER_S, QUIET_WAIT_S = 0.05, 5.0, 0.25
"""Longest wait for a record: bounds how late a new subscription is read when nothing happens. After `QUIET_AFTER_S`
without a record or a new subscription it is `QUIET_WAIT_S`, as each wake-up costs an idle daemon 0.2 ms of a core."""
READS_AFTER_HEARTBEAT = 20
"""Most reads of subscriptions after a heartbeat; each read is itself bounded."""
QUOTES_INTERVAL_S = 0.001
"""Time between two readings of quotes while a large table is read or indexed; on Windows it is some 16 ms."""
SUBSCRIPTIONS_INTERVAL_S, MORE_SUBSCRIPTIONS_INTERVAL_S = 0.005, 0.001
"""Time between two reads of subscriptions while events flow; a read costs as much as a quote. The second: when the last
read left some."""
PERIODIC_INTERVAL_S = 1.0
"""Longest time between two periodic runs."""
BIDASK = int(PumpCode.UPDATE_BIDASK)

log = logging.getLogger(__name__)


class Pump(Thread):
    """Handles the records and commands in the inbox until `finish`.

    ``reconcile_interval_s`` is the time between table reads that no callback asked for; 0: never.
    ``crash`` is the exception that ended the thread, None otherwise. ``iterations`` counts wake-ups: while it does not
    grow, the thread hangs. ``is_busy`` is false while the thread waits for records; the query thread yields to it.
    ``is_shut_down`` is true once the last heartbeat is published and only socket and journal remain to be closed.
    """

    def __init__(
        self,
        inbox: Inbox,
        dispatcher: Dispatcher,
        heartbeat: HeartbeatPublisher,
        *,
        reconcile_interval_s: float,
        anchor_clock: Callable[[], None],
    ) -> None:
        super().__init__(name="pump", daemon=True)
        self.crash: BaseException | None = None
        self.iterations = 0
        self.is_busy = self.is_shut_down = False
        self._inbox = inbox
        self._dispatcher = dispatcher
        dispatcher.current.run_steps = self._run_steps
        self._writer = dispatcher.writer
        self._publisher = dispatcher.writer.publisher
        self._heartbeat = heartbeat
        self._reconcile_interval_s = reconcile_interval_s
        self._anchor_clock = anchor_clock
        self._subscriptions_at_s = self._periodic_at_s = 0.0
        self._now_s = self._active_s = time.monotonic()
        self._periodic_interval_s = min(PERIODIC_INTERVAL_S, heartbeat.settings.heartbeat_interval_s)
        self._reconcile_at_s = time.monotonic() + reconcile_interval_s  # START itself reads all tables
        self._refused_seen = 0
        self._finish_at_s = math.inf
        self._finished = False
        self._waiting_snapshots: list[SnapshotRequest] = []

    def finish(self, within_s: float) -> None:
        """End the thread, from any thread: when all that waits now is published, or after ``within_s``."""
        self._finish_at_s = time.monotonic() + within_s
        self._inbox.put_command(Command.FINISH, None)

    @property
    def _is_finishing(self) -> bool:
        """Return whether `finish` was called: what may take long under a flood of connections is skipped then."""
        return self._finish_at_s < math.inf

    def run(self) -> None:
        """Handle records until `finish`; then publish the last heartbeat and close socket and journal."""
        try:
            while not self._finished:
                self._wake_up()
                self.iterations += 1
            self._shut_down()
        except BaseException as error:
            self.crash = error
            log.exception("the pump thread crashed")
        finally:
            try:
                self._publisher.close()
            finally:
                if self._writer.journal is not None:
                    self._writer.journal.close()

    def _wake_up(self) -> None:
        """Handle a bounded number of waiting records, then do the periodic work that is due."""
        inbox, dispatcher = self._inbox, self._dispatcher
        has_more = dispatcher.quotes.has_more or self._publisher.has_more or dispatcher.work.is_due
        self.is_busy = False
        item = inbox.get(0.0 if has_more else self._idle_wait_s())
        self.is_busy = True
        handled = 0
        while item is not None:
            code, action, data, ts = item
            self._guarded(code, self._handle_item, code, action, data, ts)
            handled += 1
            item = inbox.get() if handled < RECORDS_PER_WAKE_UP else None
        self._writer.flush()
        if dispatcher.quotes.has_more:
            self._guarded(BIDASK, self._handle_quotes, inbox.now_ns())
        if dispatcher.work.is_busy:
            self._guarded("comparison of tables", dispatcher.work.run)
            self._writer.flush()
        self._now_s = now_s = time.monotonic()
        if handled:
            self._active_s = now_s
        if now_s >= self._subscriptions_at_s:
            self._serve_new_subscribers()
            has_more = self._publisher.has_more
            interval_s = MORE_SUBSCRIPTIONS_INTERVAL_S if has_more else SUBSCRIPTIONS_INTERVAL_S
            self._subscriptions_at_s = now_s + interval_s
        if self._waiting_snapshots and not dispatcher.is_reading_baseline:
            waiting, self._waiting_snapshots = self._waiting_snapshots, []
            for request in waiting:
                self._guarded("snapshot", self._answer_snapshot, request)
        if now_s >= self._periodic_at_s and not self._is_finishing:
            self._periodic_at_s = now_s + self._periodic_interval_s
            self._run_periodic(now_s)
        if self._heartbeat.is_due(now_s):
            self._publish_heartbeat()
        if now_s >= self._finish_at_s:
            self._finished = True

    def _idle_wait_s(self) -> float:
        """Return how long to wait for a record, at most until the next heartbeat."""
        if self._now_s - self._active_s < QUIET_AFTER_S:
            return IDLE_WAIT_S
        return max(0.0, min(QUIET_WAIT_S, self._heartbeat.due_at_s - self._now_s))

    def _guarded(self, source: object, task: Callable[..., None], *arguments: Any) -> None:
        """Run ``task``; its error is counted and costs this record (``source`` is its pump code) or task only."""
        try:
            task(*arguments)
        except Exception as error:  # noqa: BLE001 - counted, and logged with its traceback
            source = f"pump code {source}" if isinstance(source, int) else source
            if isinstance(error, FAULTS):
                count_fault(self._dispatcher.fault_counters, f"{source}", error)
            else:
                self._dispatcher.fault_counters.record("internal_error", f"{source}: {error!r}", error)

    def _handle_item(self, code: int, action: int, data: Any, ts: int) -> None:
        if code == BIDASK:
            self._handle_quotes(ts)
        elif code < Command.ATTACH:
            self._dispatcher.handle(code, action, data, ts)
        else:
            self._execute(code, data, ts)

    def _handle_quotes(self, ts: int) -> None:
        quotes = self._dispatcher.quotes
        before = quotes.published
        try:
            quotes.drain(self._dispatcher.current.manager.updated_quotes, ts, self._publisher)
        finally:
            if quotes.published != before:
                self._heartbeat.server_clock.observe(quotes.last_time_s, ts)

    def _run_steps(self, steps: Iterable[None]) -> None:
        """Run steps to their end and publish quotes about every millisecond; records wait."""
        self._writer.flush()  # what waits for its commit does not wait for the steps
        quotes_at_s = 0.0
        for _ in steps:
            if time.perf_counter() >= quotes_at_s:
                self._handle_waiting_quotes()
                quotes_at_s = time.perf_counter() + QUOTES_INTERVAL_S

    def _handle_waiting_quotes(self) -> None:
        doorbell = self._inbox.get_doorbell(BIDASK, Command.ATTACH)  # those behind it are the next session's
        if doorbell is not None or self._dispatcher.quotes.has_more:
            ts = self._inbox.now_ns() if doorbell is None else doorbell[3]
            self._guarded(BIDASK, self._handle_quotes, ts)
            self._writer.flush()

    def _execute(self, command: int, payload: Any, ts: int) -> None:
        """Execute a command of another thread."""
        match command:
            case Command.ATTACH:
                self._dispatcher.current.attach(payload)
            case Command.DETACH:
                session, reason = payload
                self._dispatcher.detach(session, reason, ts)
            case Command.STATE_CHANGED:
                self._publish_heartbeat()
            case Command.SNAPSHOT:
                self._answer_snapshot(payload)
            case Command.SELECT:
                self._dispatcher.tables.select(payload)
            case Command.REREAD:
                if self._inbox.refused == payload:  # else the next periodic run asks again
                    self._reread_all(ts)
            case Command.FINISH:
                self._finished = True

    def _shut_down(self) -> None:
        """Drop and count the records that still wait, and publish the last heartbeat."""
        for command, _, payload, ts in self._inbox.drain(Command.ATTACH):
            if command == Command.DETACH:  # the end of the session must be published
                self._execute(command, payload, ts)
        if self._inbox.dropped_at_end:
            log.warning("no time is left for %d records that still wait: dropped", self._inbox.dropped_at_end)
        self._heartbeat.publish(STOPPING)
        self.is_shut_down = True

    def _serve_new_subscribers(self) -> None:
        self._read_subscriptions()
        if self._publisher.heartbeat_subscribed and self._heartbeat.publish_for_new_subscriber():
            self._publisher.heartbeat_subscribed = False
            self._read_all_subscriptions()

    def _read_subscriptions(self) -> None:
        if self._publisher.read_subscriptions():
            self._active_s = self._now_s
            self._dispatcher.quotes.refresh_wanted(self._publisher.subscriptions.take_changed())

    def _read_all_subscriptions(self) -> None:
        """Read every subscription that libzmq had applied when it sent a heartbeat.

        A subscriber takes its first heartbeat as proof that its subscriptions work. libzmq applies subscriptions while
        it sends, so the heartbeat may reach a subscriber whose other subscriptions are not read yet.
        """
        for _ in range(READS_AFTER_HEARTBEAT):
            self._read_subscriptions()
            if not self._publisher.has_more or self._is_finishing:
                return

    def _publish_heartbeat(self) -> None:
        self._heartbeat.publish()
        self._read_all_subscriptions()

    def _answer_snapshot(self, request: SnapshotRequest) -> None:
        """Answer a request with the state at this moment, or keep the request until the baseline is read."""
        if not request.is_open:  # its client has timed out
            return
        if self._dispatcher.is_reading_baseline:
            waiting = [late for late in self._waiting_snapshots if late.is_open]
            self._waiting_snapshots = [*waiting, request][-WAITING_SNAPSHOTS_LIMIT:]
            return
        try:
            request.answer(self._dispatcher.take_snapshot(request.prefixes, self._inbox.now_ns()))
        except BaseException:
            request.answer(None)
            raise

    def _run_periodic(self, now_s: float) -> None:
        """Run the periodic work; a task that fails is counted and does not stop the others."""
        ts = self._inbox.now_ns()
        for task, *arguments in (
            (self._anchor_clock,),
            (self._dispatcher.maintain_journal, ts),
            (self._publisher.maintain,),
            (self._recover_tables, now_s),
            (self._dispatcher.current.reread_empty_tables, self._inbox.received, ts),
            (self._heartbeat.log_summary, now_s),
        ):
            self._guarded("periodic work", task, *arguments)

    def _recover_tables(self, now_s: float) -> None:
        """Read all tables again after refused records, and every ``reconcile_interval_s`` for missing callbacks."""
        refused, interval_s = self._inbox.refused, self._reconcile_interval_s
        if refused != self._refused_seen:
            lost = refused - self._refused_seen
            self._refused_seen = refused
            # As a command, behind the accepted records: a table read now would be ahead of records that still wait.
            self._inbox.put_command(Command.REREAD, refused)
            text = f"{lost} records did not fit into the inbox ({self._inbox.limit}): tables are re-read"
            self._dispatcher.fault_counters.record("inbox_full", text)
        if not self._dispatcher.current.live:
            self._reconcile_at_s = now_s + interval_s
        elif interval_s and now_s >= self._reconcile_at_s:
            self._reread_all(self._inbox.now_ns())

    def _reread_all(self, ts: int) -> None:
        self._reconcile_at_s = time.monotonic() + self._reconcile_interval_s
        self._dispatcher.reread_all(ts)
