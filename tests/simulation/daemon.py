"""One run of the daemon's core: the inbox, the handlers, the event writer and the query handlers, driven by hand."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from mt4pump.log import FaultCounters
from mt4pump.mt4.codes import PumpCode
from mt4pump.pump.dispatch import Dispatcher, DispatcherOptions
from mt4pump.pump.event_writer import EventWriter
from mt4pump.pump.heartbeat import HeartbeatSources, heartbeat_fields
from mt4pump.pump.inbox import Inbox
from mt4pump.pump.session import LOST, PUMPING, Command, ManagerSession, SessionStatus
from mt4pump.pump.snapshot import SnapshotRequest, SnapshotRows, StateSnapshot, touches
from mt4pump.query.handlers import QuerySources, RequestHandler
from mt4pump.query.limits import QueryOptions
from mt4pump.query.snapshots import Peer
from mt4pump.security import EVERYTHING
from mt4pump.wire import HEARTBEAT, KINDS, Encoder
from tests.simulation.broker import Broker, SimulatedManager
from tests.simulation.journal import MemoryJournal
from tests.simulation.wire import Clock, Wire

DURABLE = [kind.name for kind in KINDS.values() if kind.durable]
HEARTBEAT_INTERVAL_S = 1.0
BELLS = {int(PumpCode.UPDATE_BIDASK), int(PumpCode.UPDATE_NEWS_BODY)}
UNHURRIED = QueryOptions(page_rows=7, page_s=1e9, work_s=1e9, snapshot_idle_s=20.0, snapshots_per_connection=1)
"""Small pages, and no page that ends by the real clock."""


class Daemon:
    """The daemon from its start to its end. ``unreported`` are callbacks that led to no event and no count."""

    def __init__(self, epoch: int, journal: MemoryJournal, wire: Wire, clock: Clock, *, inbox_limit: int) -> None:
        self.journal = journal
        self.wire = wire
        self.clock = clock
        self.unreported: list[str] = []
        self.inbox = Inbox(inbox_limit, clock.now_ns)
        logger = logging.getLogger("test.simulation")
        self.fault_counters = FaultCounters(logger, clock.now_s)
        self.writer = EventWriter(Encoder(epoch), wire, journal, DURABLE)  # type: ignore[arg-type]
        self.dispatcher = Dispatcher(self.writer, DispatcherOptions(), self.fault_counters)
        if journal.has_orders:
            self.dispatcher.trades.restore_orders(journal.open_orders())
        self.link: ManagerSession | None = None
        sources = QuerySources(lambda _user: EVERYTHING, self._request_snapshot, journal, self._describe)  # type: ignore[arg-type]
        self.requests = RequestHandler(UNHURRIED, sources, now_s=clock.now_s, sleep=clock.advance)
        self._refused_seen = 0
        self._heartbeat_at_s = 0.0
        self._began_s = clock.now_s()

    @property
    def epoch(self) -> int:
        """Return its epoch."""
        return self.writer.encoder.epoch

    def begin_session(self, broker: Broker, early: Iterable[tuple[int, int, bytes]] = ()) -> None:
        """Connect to the server; ``early`` are callbacks of the API's initial fill."""
        self.link = ManagerSession(SimulatedManager(broker), "one:443", 7)
        self.inbox.put_command(Command.ATTACH, self.link)
        for callback in early:
            self.inbox.notify(*callback)
        self.inbox.notify(int(PumpCode.START_PUMPING), 0, b"")

    def end_session(self) -> None:
        """Lose the server."""
        if self.link is not None:
            self.inbox.put_command(Command.DETACH, (self.link, "lost by the simulation"))
            self.link = None

    def work(self, count: int) -> int:
        """Handle up to ``count`` waiting records and commit and publish what they led to; return how many it were."""
        done = 0
        while done < count and (record := self.inbox.get_nowait()) is not None:
            self._take(*record)
            done += 1
        self.writer.flush()
        return done

    def tend(self) -> None:
        """Do the housekeeping of the pump thread."""
        journal, trades = self.journal, self.dispatcher.trades
        self.writer.flush()
        journal.maintain(trades.open_orders)
        if journal.has_unread_orders:
            orders = journal.open_orders()
            trades.restore_late_orders(orders, self.clock.now_ns())
            self.writer.flush()
            journal.replace_orders(trades.open_orders())
        if self.inbox.refused != self._refused_seen:
            self._refused_seen = self.inbox.refused
            self.inbox.put_command(Command.REREAD, self._refused_seen)

    def reread_all(self) -> None:
        """Compare all tables, as is done at regular intervals."""
        self.dispatcher.reread_all(self.clock.now_ns())
        self.writer.flush()

    def beat_if_due(self) -> bool:
        """Publish a heartbeat when an interval has passed; return whether it did."""
        now_s = self.clock.now_s()
        if now_s < self._heartbeat_at_s:
            return False
        self._heartbeat_at_s = now_s + HEARTBEAT_INTERVAL_S
        self.beat()
        return True

    def beat(self) -> None:
        """Publish a heartbeat."""
        self.writer.flush()
        self.writer.count_quotes(self.dispatcher.quotes.published)
        journal = self.journal
        vitals = HeartbeatSources(
            status=SessionStatus(PUMPING if self.dispatcher.is_live else LOST, 5, "one:443", "", 0),
            server_code="",
            interval_s=HEARTBEAT_INTERVAL_S,
            uptime_s=self.clock.now_s() - self._began_s,
            log_id=journal.log_id,
            offset=journal.last_offset,
            offsets={},
            durable=journal.durable,
            journal={"unstored": journal.unstored, "stored": journal.stored_count},
            counts=self.writer.counts,
            errors=self.fault_counters.counts,
            skipped=self.dispatcher.skipped(),
            subscriptions=1,
            subscription_bytes=1,
            sent=self.wire.sent,
            slow_readers={"messages": self.wire.queue_filled, "moments": 0, "last_ts": 0},
            connections={},
            query=self.requests.counts,
            last_quote_ts=0,
            server_utc_offset_s=None,
            rss_bytes=1,
            threads=1,
            source={},
        )
        self.writer.write(HEARTBEAT, "", heartbeat_fields(vitals, self.inbox), self.clock.now_ns())

    def answer(self, payload: bytes, connection: bytes) -> list[bytes]:
        """Return the frames of the reply to a request."""
        return self.requests.handle(payload, Peer(connection, ""))

    def cut(self, prefixes: tuple[bytes, ...] = (b"",)) -> StateSnapshot:
        """Return the state at this moment."""
        self.writer.flush()
        kinds = [kind for kind in KINDS.values() if touches(kind, prefixes)]
        seqs: dict[bytes, int] = {}
        for kind in kinds:
            seqs |= self.dispatcher.seqs(kind)
        return StateSnapshot(
            epoch=self.epoch,
            log=self.journal.log_id,
            offset=self.journal.last_offset,
            offsets={},
            ts=self.clock.now_ns(),
            seqs=seqs,
            rows=SnapshotRows(((kind, take()) for kind, take in self.dispatcher.states() if kind in kinds), ""),
        )

    def _request_snapshot(self, request: SnapshotRequest) -> None:
        self.inbox.put_command(Command.SNAPSHOT, request)
        while request.is_open:
            self.work(1)

    def _describe(self) -> dict[str, Any]:
        return {
            "protocol": 1,
            "epoch": self.epoch,
            "log": self.journal.log_id,
            "offset": self.journal.last_offset,
            "topic_suffix": "",
            "kinds": {kind.name: {"durable": kind.durable} for kind in KINDS.values()},
        }

    def _take(self, code: int, action: int, data: Any, ts: int) -> None:
        if code == Command.ATTACH:
            self.dispatcher.attach(data)
        elif code == Command.DETACH:
            session, reason = data
            self.dispatcher.detach(session, reason, ts)
        elif code == Command.SNAPSHOT:
            data.answer(self.cut(data.prefixes))
        elif code == Command.REREAD:
            if self.inbox.refused == data:
                self.dispatcher.reread_all(ts)
        else:
            before = self._accounted()
            self.dispatcher.handle(code, action, data, ts)
            if data and self._accounted() == before:
                self.unreported.append(f"code {code} action {action} with {len(data)} bytes")

    def _accounted(self) -> int:
        """Return how many events were published, records skipped and faults counted."""
        counted: tuple[Callable[[], Iterable[int]], ...] = (
            self.writer.counts.values,
            self.dispatcher.skipped().values,
            self.fault_counters.counts.values,
        )
        return sum(sum(values()) for values in counted)
