"""The pump thread, the only owner of the publishing socket.

Each wake-up handles a bounded number of records, commits and publishes the durable events among them as one group, then
reads subscriptions and publishes the heartbeat when it is due. So a flood of events cannot hold up the heartbeat.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from threading import Thread
from typing import Any

from mt4pump.clock import NowNs
from mt4pump.journal import Journal
from mt4pump.log import FaultCounters
from mt4pump.mt4.codes import PumpCode
from mt4pump.pump.dispatch import Dispatcher
from mt4pump.pump.event_writer import EventWriter
from mt4pump.pump.heartbeat import HeartbeatPublisher, ServerClock
from mt4pump.pump.inbox import Inbox
from mt4pump.pump.session import STOPPING, Command
from mt4pump.pump.snapshot import SnapshotRequest, SnapshotRows, StateSnapshot, touches
from mt4pump.wire import KINDS

RECORDS_PER_WAKE_UP = 256
LATE_SNAPSHOTS_LIMIT = 64
"""Snapshot requests that wait for the baseline; beyond it the oldest is dropped, and its asker times out."""
IDLE_WAIT_S = 0.05
"""Longest wait for a record: bounds how late a new subscription is read when nothing happens."""
READS_AFTER_HEARTBEAT = 20
"""Most reads of subscriptions after a heartbeat; each read is itself bounded."""
SUBSCRIPTIONS_INTERVAL_S = 0.001
"""Time between two reads of subscriptions while events flow."""
PERIODIC_INTERVAL_S = 1.0
"""Longest time between two periodic runs: a client whose key is revoked is disconnected within two seconds."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PumpOptions:
    """``reconcile_interval_s`` is the time between table reads that no callback asked for; 0: never.

    ``has_revocation`` returns whether a client lost a permission since its last call.
    """

    reconcile_interval_s: float = 300.0
    has_revocation: Callable[[], bool] = lambda: False


class Pump(Thread):
    """Hands the records in the inbox to `Dispatcher` until `finish`.

    ``crash`` is the exception that ended the thread, None otherwise. ``iterations`` counts wake-ups: while it does not
    grow, the thread hangs. ``is_busy`` is false while the thread waits for records; the query thread yields to it.
    ``is_shut_down`` is true once the last heartbeat is published and only socket and journal remain to be closed.
    """

    def __init__(
        self,
        *,
        inbox: Inbox,
        writer: EventWriter,
        dispatcher: Dispatcher,
        heartbeat: HeartbeatPublisher,
        journal: Journal | None,
        fault_counters: FaultCounters,
        server_clock: ServerClock,
        options: PumpOptions,
        anchor_clock: Callable[[], None],
        now_ns: NowNs,
    ) -> None:
        super().__init__(name="pump", daemon=True)
        self.crash: BaseException | None = None
        self.iterations = 0
        self._inbox = inbox
        self._writer = writer
        self._dispatcher = dispatcher
        self._heartbeat = heartbeat
        self._journal = journal
        self._fault_counters = fault_counters
        self._server_clock = server_clock
        self._options = options
        self._anchor_clock = anchor_clock
        self._now_ns = now_ns
        self._subscriptions_at_s = self._periodic_at_s = 0.0
        self._periodic_interval_s = min(PERIODIC_INTERVAL_S, heartbeat.interval_s)
        self._reconcile_at_s = time.monotonic() + options.reconcile_interval_s  # START itself reads all tables
        self._refused_seen = 0
        self._finish_at_s = math.inf
        self._finished = False
        self.is_busy = self.is_shut_down = False
        self._late_snapshots: list[SnapshotRequest] = []

    def finish(self, within_s: float) -> None:
        """End the thread, from any thread: when all that waits now is published, or after ``within_s``."""
        self._finish_at_s = time.monotonic() + within_s
        self._inbox.put_command(Command.FINISH, None)

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
            self._writer.publisher.close()
            if self._journal is not None:
                self._journal.close()

    def _wake_up(self) -> None:
        """Handle a bounded number of waiting records, then do the periodic work that is due."""
        inbox = self._inbox
        has_more = self._dispatcher.more_quotes or self._writer.publisher.has_more or self._dispatcher.work.is_due
        self.is_busy = False
        record = inbox.get_nowait() if has_more else inbox.get(IDLE_WAIT_S)
        self.is_busy = True
        for _ in range(RECORDS_PER_WAKE_UP):
            if record is None:
                break
            self._handle_item(*record)
            record = inbox.get_nowait()
        else:
            if record is not None:
                self._handle_item(*record)
        self._writer.flush()
        if self._dispatcher.more_quotes:
            self._handle_item(PumpCode.UPDATE_BIDASK, 0, b"", self._now_ns())
        if self._dispatcher.work.is_busy:
            self._continue_comparing()
        now_s = time.monotonic()
        if now_s >= self._subscriptions_at_s:
            self._subscriptions_at_s = now_s + SUBSCRIPTIONS_INTERVAL_S
            self._serve_new_subscribers()
        self._answer_late_snapshots()
        if now_s >= self._periodic_at_s:
            self._periodic_at_s = now_s + self._periodic_interval_s
            self._run_periodic(now_s)
        if self._heartbeat.is_due(now_s):
            self._publish_heartbeat()
        if now_s >= self._finish_at_s:
            self._finished = True

    def _continue_comparing(self) -> None:
        """Compare tables for one slice of time."""
        self._guarded(self._dispatcher.work.run)
        self._writer.flush()

    def _answer_late_snapshots(self) -> None:
        """Answer the snapshot requests that waited for the baseline."""
        if self._late_snapshots and not self._dispatcher.is_reading_baseline:
            waiting, self._late_snapshots = self._late_snapshots, []
            for request in waiting:
                self._guarded(partial(self._answer_snapshot, request))

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
        publisher = self._writer.publisher
        self._read_subscriptions()
        if publisher.heartbeat_subscribed and self._heartbeat.publish_for_new_subscriber():
            publisher.heartbeat_subscribed = False
            self._read_all_subscriptions()

    def _read_subscriptions(self) -> None:
        if self._writer.publisher.read_subscriptions():
            self._dispatcher.quotes.refresh_wanted()

    def _read_all_subscriptions(self) -> None:
        """Read every subscription that libzmq had applied when it sent a heartbeat.

        A subscriber takes its first heartbeat as proof that its subscriptions work. libzmq applies subscriptions while
        it sends, so the heartbeat may reach a subscriber whose other subscriptions are not read yet.
        """
        for _ in range(READS_AFTER_HEARTBEAT):
            self._read_subscriptions()
            if not self._writer.publisher.has_more:
                return

    def _publish_heartbeat(self) -> None:
        self._heartbeat.publish()
        self._read_all_subscriptions()

    def _handle_item(self, code: int, action: int, data: Any, ts: int) -> None:
        """Handle one record or command. An internal error is counted and costs this record only."""
        try:
            if code == PumpCode.UPDATE_BIDASK:
                self._handle_quotes(ts)
            elif code < Command.ATTACH:
                self._dispatcher.handle(code, action, data, ts)
            else:
                self._execute(code, data, ts)
        except Exception as error:
            self._fault_counters.record("internal_error", f"pump code {code}: {error!r}")
            log.debug("pump code %s", code, exc_info=True)

    def _handle_quotes(self, ts: int) -> None:
        quotes = self._dispatcher.quotes
        before = quotes.published
        self._dispatcher.handle(PumpCode.UPDATE_BIDASK, 0, b"", ts)
        if quotes.published != before:
            self._heartbeat.last_quote_ts = ts
            self._server_clock.observe(quotes.last_time_s, ts)

    def _execute(self, command: int, payload: Any, ts: int) -> None:
        """Execute a command of another thread."""
        match command:
            case Command.ATTACH:
                self._dispatcher.attach(payload)
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
                self._reread_after_loss(payload, ts)
            case Command.FINISH:
                self._finished = True

    def _answer_snapshot(self, request: SnapshotRequest) -> None:
        """Answer a request with the state at this moment, or keep the request until the baseline is read."""
        if not request.is_open:  # the asker has timed out
            return
        if self._dispatcher.is_reading_baseline:
            self._late_snapshots = [late for late in self._late_snapshots if late.is_open][-LATE_SNAPSHOTS_LIMIT + 1 :]
            self._late_snapshots.append(request)
            return
        try:
            request.answer(self._take_snapshot(request.prefixes))
        except BaseException:
            request.answer(None)
            raise

    def _take_snapshot(self, prefixes: tuple[bytes, ...]) -> StateSnapshot:
        self._writer.flush()
        kinds = [kind for kind in KINDS.values() if touches(kind, prefixes)]
        seqs: dict[bytes, int] = {}
        for kind in kinds:
            seqs |= self._dispatcher.seqs(kind)  # the only copy: 8 ms for 400,000 topics
        journal, encoder = self._journal, self._writer.encoder
        rows = SnapshotRows(
            ((kind, take()) for kind, take in self._dispatcher.states() if kind in kinds), encoder.suffix
        )
        return StateSnapshot(
            epoch=encoder.epoch,
            log=journal.log_id if journal else None,
            offset=journal.last_offset if journal else 0,
            offsets=dict(journal.last_offsets) if journal else {},
            ts=self._now_ns(),
            seqs=seqs,
            rows=rows,
        )

    def _run_periodic(self, now_s: float) -> None:
        """Run the periodic work; a task that fails is counted and does not stop the others."""
        self._guarded(self._anchor_clock)
        self._guarded(self._maintain_journal)
        self._guarded(self._disconnect_revoked)
        self._guarded(self._writer.publisher.maintain)
        self._guarded(partial(self._recover_tables, now_s))
        self._guarded(lambda: self._dispatcher.reread_empty_tables(self._inbox.received, self._now_ns()))
        self._guarded(partial(self._heartbeat.log_summary, now_s))

    def _guarded(self, task: Callable[[], None]) -> None:
        try:
            task()
        except Exception as error:
            self._fault_counters.record("internal_error", f"periodic work: {error!r}")
            log.debug("periodic work", exc_info=True)

    def _maintain_journal(self) -> None:
        journal, trades = self._journal, self._dispatcher.trades
        if journal is None or self._dispatcher.is_reading_baseline:  # the open orders are not known yet
            return
        self._writer.flush()  # waiting events have their offsets, and maintenance may move the next offset
        journal.maintain(trades.open_orders)
        if journal.has_unread_orders:  # its file could not be opened at the start
            orders = journal.open_orders()
            if journal.durable:
                trades.restore_late_orders(orders, self._now_ns())
                self._writer.flush()
                journal.replace_orders(trades.open_orders())

    def _disconnect_revoked(self) -> None:
        if self._options.has_revocation():
            count = self._writer.publisher.disconnect_revoked()
            log.warning(
                "a client lost permissions: %d connections were closed, and are checked anew when they return", count
            )

    def _recover_tables(self, now_s: float) -> None:
        """Read all tables again after refused records, and every ``reconcile_interval_s`` for missing callbacks."""
        refused, interval_s = self._inbox.refused, self._options.reconcile_interval_s
        if refused != self._refused_seen:
            lost = refused - self._refused_seen
            self._refused_seen = refused
            # As a command, behind the accepted records: a table read now would be ahead of records that still wait.
            self._inbox.put_command(Command.REREAD, refused)
            self._fault_counters.record(
                "inbox_full", f"{lost} records did not fit into the inbox ({self._inbox.limit}): tables are re-read"
            )
        if not self._dispatcher.is_live:
            self._reconcile_at_s = now_s + interval_s
        elif interval_s and now_s >= self._reconcile_at_s:
            self._reread_all(self._now_ns())

    def _reread_after_loss(self, refused: int, ts: int) -> None:
        """Read all tables again, unless more records were ``refused`` since: then the next periodic run asks again."""
        if self._inbox.refused == refused:
            self._reread_all(ts)

    def _reread_all(self, ts: int) -> None:
        self._reconcile_at_s = time.monotonic() + self._options.reconcile_interval_s
        self._dispatcher.reread_all(ts)
