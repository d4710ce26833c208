"""One run of the daemon's core: the inbox, the handlers, the event writer and the query handlers, driven by hand."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

import msgpack

from mt4pump.complaints import Complaints
from mt4pump.manager_api.codes import PumpCode
from mt4pump.pumping.cuts import CutRows, touches
from mt4pump.pumping.emitter import Emitter
from mt4pump.pumping.heartbeat import Vitals, heartbeat_fields
from mt4pump.pumping.inbox import Inbox
from mt4pump.pumping.intake import Intake, IntakeOptions
from mt4pump.pumping.state import Cut, CutRequest
from mt4pump.query.answers import Answers
from mt4pump.query.options import QueryOptions
from mt4pump.query.snapshots import Peer
from mt4pump.session import ATTACH, CUT, DETACH, LOST, PUMPING, REREAD, Link, SessionStatus
from mt4pump.wire import HEARTBEAT, KINDS, Encoder
from tests.simulation.broker import Broker, SimulatedManager
from tests.simulation.journal import MemoryJournal
from tests.simulation.wire import Clock, Wire

DURABLE = [kind.name for kind in KINDS.values() if kind.durable]
HEARTBEAT_INTERVAL_S = 1.0
BELLS = {int(PumpCode.UPDATE_BIDASK), int(PumpCode.UPDATE_NEWS_BODY)}
UNHURRIED = QueryOptions(page_rows=7, page_s=1e9, work_s=1e9, cut_idle_s=20.0, cuts_per_connection=1)
"""Small pages, and no page that ends by the real clock."""


class EverythingAllowed:
    """The permissions of everybody."""

    query = True

    def narrow(self, prefixes: Iterable[bytes], /) -> tuple[bytes, ...]:
        """Return all ``prefixes``."""
        return tuple(prefixes) or (b"",)


class Daemon:
    """The daemon from its start to its end. ``unreported`` are callbacks that led to no event and no count."""

    def __init__(self, epoch: int, journal: MemoryJournal, wire: Wire, clock: Clock, *, inbox_limit: int) -> None:
        self.journal = journal
        self.wire = wire
        self.clock = clock
        self.unreported: list[str] = []
        self.inbox = Inbox(inbox_limit, clock.now_ns)
        logger = logging.getLogger("test.simulation")
        self.complaints = Complaints(logger, clock.now_s)
        self.emitter = Emitter(Encoder(epoch), wire, journal, DURABLE)  # type: ignore[arg-type]
        self.intake = Intake(self.emitter, IntakeOptions(), self.complaints)
        if journal.has_mirror:
            self.intake.trades.recall(journal.open_orders())
        self.link: Link | None = None
        self.answers = Answers(
            UNHURRIED,
            allowed=lambda _user: EverythingAllowed(),
            ask_cut=self._ask_cut,
            reader=journal,
            describe=self._describe,
            is_stopping=lambda: False,
            now_s=clock.now_s,
            sleep=clock.advance,
        )
        self._refused_seen = 0
        self._heartbeat_at_s = 0.0
        self._began_s = clock.now_s()

    @property
    def epoch(self) -> int:
        """Return its epoch."""
        return self.emitter.encoder.epoch

    def begin_session(self, broker: Broker, early: Iterable[tuple[int, int, bytes]] = ()) -> None:
        """Connect to the server; ``early`` are callbacks of the API's initial fill."""
        self.link = Link(SimulatedManager(broker), "one:443", 7)
        self.inbox.tell(ATTACH, self.link)
        for callback in early:
            self.inbox.notify(*callback)
        self.inbox.notify(int(PumpCode.START_PUMPING), 0, b"")

    def end_session(self) -> None:
        """Lose the server."""
        if self.link is not None:
            self.inbox.tell(DETACH, (self.link, "lost by the simulation"))
            self.link = None

    def work(self, count: int) -> int:
        """Handle up to ``count`` waiting records and commit and publish what they led to; return how many it were."""
        done = 0
        while done < count and (record := self.inbox.take_now()) is not None:
            self._take(*record)
            done += 1
        self.emitter.flush()
        return done

    def tend(self) -> None:
        """Do the housekeeping of the pump thread."""
        journal, trades = self.journal, self.intake.trades
        self.emitter.flush()
        journal.tend(trades.open_orders)
        if journal.has_unread_mirror:
            orders = journal.open_orders()
            trades.recall_late(orders, self.clock.now_ns())
            self.emitter.flush()
            journal.replace_orders(trades.open_orders())
        if self.inbox.refused != self._refused_seen:
            self._refused_seen = self.inbox.refused
            self.inbox.tell(REREAD, self._refused_seen)

    def reread_all(self) -> None:
        """Compare all tables, as is done at regular intervals."""
        self.intake.reread_all(self.clock.now_ns())
        self.emitter.flush()

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
        self.emitter.flush()
        self.emitter.count_quotes(self.intake.quotes.published)
        journal = self.journal
        vitals = Vitals(
            status=SessionStatus(PUMPING if self.intake.is_live else LOST, 5, "one:443", "", 0),
            interval_s=HEARTBEAT_INTERVAL_S,
            uptime_s=self.clock.now_s() - self._began_s,
            log_id=journal.log_id,
            offset=journal.last_offset,
            offsets={},
            durable=journal.durable,
            journal={"unstored": journal.unstored},
            counts=self.emitter.counts,
            errors=self.complaints.counts,
            skipped=self.intake.skipped(),
            subscriptions=1,
            subscription_bytes=1,
            sent=self.wire.sent,
            slow_readers={"messages": self.wire.queue_filled, "moments": 0, "last_ts": 0},
            connections={},
            query=self.answers.counts,
            last_quote_ts=0,
            server_utc_offset_s=None,
            rss_bytes=1,
            threads=1,
            source={},
        )
        self.emitter.emit(HEARTBEAT, "", heartbeat_fields(vitals, self.inbox), self.clock.now_ns())

    def answer(self, payload: bytes, connection: bytes) -> list[bytes]:
        """Return the frames of the reply to a request."""
        reply = self.answers.answer(payload, Peer(connection, ""))
        return [msgpack.packb(reply.head), *reply.frames]

    def cut(self, prefixes: tuple[bytes, ...] = (b"",)) -> Cut:
        """Return the state at this moment."""
        self.emitter.flush()
        kinds = [kind for kind in KINDS.values() if touches(kind, prefixes)]
        seqs: dict[bytes, int] = {}
        for kind in kinds:
            seqs |= self.intake.seqs(kind)
        return Cut(
            epoch=self.epoch,
            log=self.journal.log_id,
            offset=self.journal.last_offset,
            offsets={},
            ts=self.clock.now_ns(),
            seqs=seqs,
            rows=CutRows(((kind, take()) for kind, take in self.intake.states() if kind in kinds), ""),
        )

    def _ask_cut(self, request: CutRequest) -> None:
        self.inbox.tell(CUT, request)
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
        if code == ATTACH:
            self.intake.attach(data)
        elif code == DETACH:
            self.intake.detach(*data, ts)
        elif code == CUT:
            data.answer(self.cut(data.prefixes))
        elif code == REREAD:
            if self.inbox.refused == data:
                self.intake.reread_all(ts)
        else:
            before = self._accounted()
            self.intake.take(code, action, data, ts)
            if data and self._accounted() == before:
                self.unreported.append(f"code {code} action {action} with {len(data)} bytes")

    def _accounted(self) -> int:
        """Return how many events were published, records skipped and faults counted."""
        counted: tuple[Callable[[], Iterable[int]], ...] = (
            self.emitter.counts.values,
            self.intake.skipped().values,
            self.complaints.counts.values,
        )
        return sum(sum(values()) for values in counted)
