"""One run of the daemon's core: the inbox, the handlers, the event writer and the query handlers, driven by hand."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from mt4pump.log import FaultCounters
from mt4pump.mt4.codes import PumpCode
from mt4pump.pump.dispatch import Dispatcher
from mt4pump.pump.event_writer import EventWriter
from mt4pump.pump.inbox import Inbox
from mt4pump.pump.session import FAULTS, LOST, PUMPING, Command, ManagerSession, count_fault
from mt4pump.pump.snapshot import SnapshotRequest, StateSnapshot
from mt4pump.query.handlers import QuerySources, RequestHandler
from mt4pump.query.limits import QueryOptions, YieldToPump
from mt4pump.query.snapshots import Peer
from mt4pump.security import EVERYTHING
from mt4pump.settings import Settings
from mt4pump.wire import HEARTBEAT, KINDS, PROTOCOL, Encoder
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
        self.dispatcher = Dispatcher(self.writer, Settings(source="simulator"), self.fault_counters)
        if journal.has_orders:
            self.dispatcher.trades.restore_orders(journal.open_orders())
        self.session: ManagerSession | None = None
        sources = QuerySources(
            lambda _user: EVERYTHING,
            self._request_snapshot,
            journal,  # type: ignore[arg-type]
            self._describe,
            YieldToPump(lambda: False),
        )
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
        self.session = ManagerSession(SimulatedManager(broker), "one:443", 7)
        self.inbox.put_command(Command.ATTACH, self.session)
        for callback in early:
            self.inbox.notify(*callback)
        self.inbox.notify(int(PumpCode.START_PUMPING), 0, b"")

    def end_session(self) -> None:
        """Lose the server."""
        if self.session is not None:
            self.inbox.put_command(Command.DETACH, (self.session, "lost by the simulation"))
            self.session = None

    def work(self, count: int) -> int:
        """Handle up to ``count`` waiting records and commit and publish what they led to; return how many it were."""
        done = 0
        while done < count and (record := self.inbox.get()) is not None:
            self._take(*record)
            done += 1
        self.writer.flush()
        return done

    def maintain(self) -> None:
        """Run the periodic work of the pump thread."""
        self.dispatcher.maintain_journal(self.clock.now_ns())
        if self.inbox.refused != self._refused_seen:
            self._refused_seen = self.inbox.refused
            self.inbox.put_command(Command.REREAD, self._refused_seen)

    def reread_all(self) -> None:
        """Compare all tables, as is done at regular intervals."""
        self.dispatcher.reread_all(self.clock.now_ns())
        self.writer.flush()

    def heartbeat_if_due(self) -> bool:
        """Publish a heartbeat when an interval has passed; return whether it did."""
        now_s = self.clock.now_s()
        if now_s < self._heartbeat_at_s:
            return False
        self._heartbeat_at_s = now_s + HEARTBEAT_INTERVAL_S
        self.heartbeat()
        return True

    def heartbeat(self) -> None:
        """Publish a heartbeat."""
        self.writer.flush()
        journal = self.journal
        inbox = self.inbox
        body = {
            "state": PUMPING if self.dispatcher.current.live else LOST,
            "since": 5,
            "reason": "",
            "server": "one:443",
            "server_code": "",
            "version": "0",
            "protocol": PROTOCOL,
            "interval_s": HEARTBEAT_INTERVAL_S,
            "uptime_s": self.clock.now_s() - self._began_s,
            "log": journal.log_id,
            "offset": journal.last_offset,
            "offsets": {},
            "durable": journal.durable,
            "journal": {"unstored": journal.unstored, "stored": journal.stored_count},
            "counts": self.dispatcher.counts,
            "dropped": inbox.refused + inbox.dropped_at_end,
            "inbox": {"received": inbox.received, "coalesced": inbox.coalesced, "refused": inbox.refused},
            "errors": dict(self.fault_counters.counts),
            "skipped": self.dispatcher.skipped(),
            "slow_readers": {"messages": self.wire.queue_filled, "moments": 0, "last_ts": 0},
            "query": dict(self.requests.counts),
        }
        self.writer.write(HEARTBEAT, "", body, self.clock.now_ns())

    def answer(self, payload: bytes, connection: bytes) -> list[bytes]:
        """Return the frames of the reply to a request."""
        return self.requests.reply(*self.requests.parse(payload), Peer(connection, ""))

    def snapshot(self, prefixes: tuple[bytes, ...] = (b"",)) -> StateSnapshot:
        """Return the state at this moment."""
        snapshot = self.dispatcher.take_snapshot(prefixes, self.clock.now_ns())
        return replace(snapshot, rows=tuple(snapshot.rows))  # every reader is compared with it

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
            self.dispatcher.current.attach(data)
        elif code == Command.DETACH:
            session, reason = data
            self.dispatcher.detach(session, reason, ts)
        elif code == Command.SNAPSHOT:
            data.answer(self.snapshot(data.prefixes))
        elif code == Command.REREAD:
            if self.inbox.refused == data:
                self.dispatcher.reread_all(ts)
        else:
            before = self._accounted()
            try:
                if code == PumpCode.UPDATE_BIDASK:
                    updated_quotes = self.dispatcher.current.manager.updated_quotes
                    self.dispatcher.quotes.drain(updated_quotes, ts, self.wire)
                else:
                    self.dispatcher.handle(code, action, data, ts)
            except FAULTS as fault:
                count_fault(self.fault_counters, f"pump code {code}", fault)
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
