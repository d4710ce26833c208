"""The pump thread: the only owner of the publishing socket, from the inbox to the wire.

Each wake-up takes a bounded number of records, has what is durable committed and published as one group, then looks
after subscriptions and the heartbeat, so that neither a flood of events nor silence can hold up the other.
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
LATE_CUTS_LIMIT = 64
"""Requests for a cut that wait for the end of the first reads; beyond it the oldest is forgotten, and asks again."""
IDLE_WAIT_S = 0.05
"""How late, at most, a new subscription is noticed when nothing happens."""
LOOKS_AFTER_BEAT = 20
"""Bound of the looks, each itself bounded, for subscriptions that came before a heartbeat."""
LOOK_EVERY_S = 0.001
"""How often subscriptions are looked at while events flow."""
HOUSE_INTERVAL_S = 1.0
"""How often, at least, permissions, journal and inbox are looked after: a revoked client is out two seconds later."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PumpOptions:
    """``reconcile_interval_s`` is the time between table reads that nobody rang for; 0 for none.

    ``has_new_revocations`` tells whether a client lost a permission since it was last asked.
    """

    reconcile_interval_s: float = 300.0
    has_new_revocations: Callable[[], bool] = lambda: False


class Pump(Thread):
    """Runs `Dispatcher` on what the inbox holds until `finish`. ``crash`` is what ended it when it should not have.

    ``turns`` counts its wake-ups: a number that stands still means that the thread hangs. ``is_busy`` tells whether it
    is at work, for threads that make way; ``has_parted`` whether the last heartbeat is out, so that all that is left
    to do is to close socket and journal.
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
        self.turns = 0
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
        self._look_at_s = self._house_at_s = 0.0
        self._house_interval_s = min(HOUSE_INTERVAL_S, heartbeat.interval_s)
        self._reconcile_at_s = time.monotonic() + options.reconcile_interval_s  # START itself reads all tables
        self._refused_seen = 0
        self._finish_at_s = math.inf
        self._finished = False
        self.is_busy = self.has_parted = False
        self._late_cuts: list[SnapshotRequest] = []

    def finish(self, within_s: float) -> None:
        """Have the thread end, from any thread: once all that waits now is told, or when ``within_s`` have passed."""
        self._finish_at_s = time.monotonic() + within_s
        self._inbox.tell(Command.FINISH, None)

    def run(self) -> None:
        """Turn records into messages until told to finish; then say goodbye and close socket and journal."""
        try:
            while not self._finished:
                self._wake_up()
                self.turns += 1
            self._part()
        except BaseException as error:
            self.crash = error
            log.exception("the pump thread crashed")
        finally:
            self._writer.publisher.close()
            if self._journal is not None:
                self._journal.close()

    def _wake_up(self) -> None:
        """Take what waits, a bounded lot, then do the housekeeping that is due."""
        inbox = self._inbox
        goes_on = self._dispatcher.more_quotes or self._writer.publisher.has_more or self._dispatcher.work.is_due
        self.is_busy = False
        record = inbox.take_now() if goes_on else inbox.take(IDLE_WAIT_S)
        self.is_busy = True
        for _ in range(RECORDS_PER_WAKE_UP):
            if record is None:
                break
            self._take(*record)
            record = inbox.take_now()
        else:
            if record is not None:
                self._take(*record)
        self._writer.flush()
        if self._dispatcher.more_quotes:
            self._take(PumpCode.UPDATE_BIDASK, 0, b"", self._now_ns())
        if self._dispatcher.work.is_busy:
            self._go_on_comparing()
        now_s = time.monotonic()
        if now_s >= self._look_at_s:
            self._look_at_s = now_s + LOOK_EVERY_S
            self._look_after_subscribers()
        self._answer_late_cuts()
        if now_s >= self._house_at_s:
            self._house_at_s = now_s + self._house_interval_s
            self._keep_house(now_s)
        if self._heartbeat.is_due(now_s):
            self._beat()
        if now_s >= self._finish_at_s:
            self._finished = True

    def _go_on_comparing(self) -> None:
        """Compare tables for one slice; answer the cuts that waited for the first reads once those are done."""
        self._guarded(self._dispatcher.work.run)
        self._writer.flush()

    def _answer_late_cuts(self) -> None:
        if self._late_cuts and not self._dispatcher.is_reading_baseline:
            waiting, self._late_cuts = self._late_cuts, []
            for request in waiting:
                self._guarded(partial(self._cut, request))

    def _part(self) -> None:
        """Give up what still waits, counted, and say goodbye."""
        for word, _, payload, ts in self._inbox.abandon(Command.ATTACH):
            if word == Command.DETACH:  # of all that waits, the end of the session must not go untold
                self._execute(word, payload, ts)
        if self._inbox.abandoned:
            log.warning("no time is left for %d records that still wait: dropped", self._inbox.abandoned)
        self._heartbeat.publish(STOPPING)
        self.has_parted = True

    def _look_after_subscribers(self) -> None:
        publisher = self._writer.publisher
        self._look_for_subscriptions()
        if publisher.heartbeat_subscribed and self._heartbeat.publish_for_newcomer():
            publisher.heartbeat_subscribed = False
            self._look_for_all_subscriptions()

    def _look_for_subscriptions(self) -> None:
        if self._writer.publisher.read_subscriptions():
            self._dispatcher.quotes.refresh_interest()

    def _look_for_all_subscriptions(self) -> None:
        """After a heartbeat, know what libzmq knew when it sent it.

        Who hears his first heartbeat takes it for proof that his subscriptions work. libzmq applies them while it
        sends, so it may have gone to somebody whose other topics were still thought to interest nobody.
        """
        for _ in range(LOOKS_AFTER_BEAT):
            self._look_for_subscriptions()
            if not self._writer.publisher.has_more:
                return

    def _beat(self) -> None:
        self._heartbeat.publish()
        self._look_for_all_subscriptions()

    def _take(self, code: int, action: int, data: Any, ts: int) -> None:
        """Take one record, or one word of the daemon. An error of our own costs this record only, and is counted."""
        try:
            if code == PumpCode.UPDATE_BIDASK:
                self._take_quotes(ts)
            elif code < Command.ATTACH:
                self._dispatcher.handle(code, action, data, ts)
            else:
                self._execute(code, data, ts)
        except Exception as error:
            self._fault_counters.record("internal_error", f"pump code {code}: {error!r}")
            log.debug("pump code %s", code, exc_info=True)

    def _take_quotes(self, ts: int) -> None:
        quotes = self._dispatcher.quotes
        before = quotes.published
        self._dispatcher.handle(PumpCode.UPDATE_BIDASK, 0, b"", ts)
        if quotes.published != before:
            self._heartbeat.last_quote_ts = ts
            self._server_clock.observe(quotes.last_time_s, ts)

    def _execute(self, command: int, payload: Any, ts: int) -> None:
        """Do what another thread asked for."""
        match command:
            case Command.ATTACH:
                self._dispatcher.attach(payload)
            case Command.DETACH:
                session, reason = payload
                self._dispatcher.detach(session, reason, ts)
            case Command.STATE_CHANGED:
                self._beat()
            case Command.CUT:
                self._cut(payload)
            case Command.SELECT:
                self._dispatcher.tables.select(payload)
            case Command.REREAD:
                self._reread_after_loss(payload, ts)
            case Command.FINISH:
                self._finished = True

    def _cut(self, request: SnapshotRequest) -> None:
        """Answer with the state at this moment: all that was taken so far is committed and published, nothing else."""
        if not request.is_open:  # who asked gave up
            return
        if self._dispatcher.is_reading_baseline:
            self._late_cuts = [late for late in self._late_cuts if late.is_open][-LATE_CUTS_LIMIT + 1 :]
            self._late_cuts.append(request)
            return
        try:
            request.answer(self._cut_now(request.prefixes))
        except BaseException:
            request.answer(None)
            raise

    def _cut_now(self, prefixes: tuple[bytes, ...]) -> StateSnapshot:
        self._writer.flush()
        kinds = [kind for kind in KINDS.values() if touches(kind, prefixes)]
        seqs: dict[bytes, int] = {}
        for kind in kinds:
            seqs |= self._dispatcher.seqs(kind)
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

    def _keep_house(self, now_s: float) -> None:
        """Follow the wall clock and the permissions, tend the journal, heal, sum up; what fails costs only itself."""
        self._guarded(self._anchor_clock)
        self._guarded(self._tend_journal)
        self._guarded(self._look_at_permissions)
        self._guarded(self._writer.publisher.maintain)
        self._guarded(partial(self._heal, now_s))
        self._guarded(lambda: self._dispatcher.reread_empty(self._inbox.received, self._now_ns()))
        self._guarded(partial(self._heartbeat.sum_up, now_s))

    def _guarded(self, look_after: Callable[[], None]) -> None:
        try:
            look_after()
        except Exception as error:
            self._fault_counters.record("internal_error", f"housekeeping: {error!r}")
            log.debug("housekeeping", exc_info=True)

    def _tend_journal(self) -> None:
        journal, trades = self._journal, self._dispatcher.trades
        if journal is None or self._dispatcher.is_reading_baseline:  # the open orders are not known yet
            return
        self._writer.flush()  # what waits has its offsets, and tending may change where they go on
        journal.tend(trades.open_orders)
        if journal.has_unread_mirror:  # its file could not be opened at the start
            orders = journal.open_orders()
            if journal.durable:
                trades.recall_late(orders, self._now_ns())
                self._writer.flush()
                journal.replace_orders(trades.open_orders())

    def _look_at_permissions(self) -> None:
        if self._options.has_new_revocations():
            count = self._writer.publisher.disconnect_revoked()
            log.warning("a client lost permissions: %d of its connections end, to be judged by what holds now", count)

    def _heal(self, now_s: float) -> None:
        """Have all tables read again after refused records; read them now and then, for what the API swallowed."""
        refused, interval_s = self._inbox.refused, self._options.reconcile_interval_s
        if refused != self._refused_seen:
            lost = refused - self._refused_seen
            self._refused_seen = refused
            # Behind all that was accepted before: a table read now would be ahead of records that still wait.
            self._inbox.tell(Command.REREAD, refused)
            self._fault_counters.record(
                "inbox_full", f"{lost} records did not fit into the inbox ({self._inbox.limit}): tables are re-read"
            )
        if not self._dispatcher.is_live:
            self._reconcile_at_s = now_s + interval_s
        elif interval_s and now_s >= self._reconcile_at_s:
            self._reread_all(self._now_ns())

    def _reread_after_loss(self, refused: int, ts: int) -> None:
        """Read all tables again unless more was ``refused`` since: then the next housekeeping asks once more."""
        if self._inbox.refused == refused:
            self._reread_all(ts)

    def _reread_all(self, ts: int) -> None:
        self._reconcile_at_s = time.monotonic() + self._options.reconcile_interval_s
        self._dispatcher.reread_all(ts)
