"""Hands each raw record to the handler of its pump code, and publishes the session's own events; on the pump thread.

A record with data becomes one event. A code without data is a doorbell: its table is read again and the differences are
published. Before START_PUMPING the API fills its tables; those records are counted and not published, because START
reads all tables whole. Quotes do not pass here: the loop hands them to `QuoteStream.drain`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

from mt4pump.log import FaultCounters
from mt4pump.mt4.codes import PumpCode
from mt4pump.mt4.record import Fields
from mt4pump.pump.event_writer import EventWriter
from mt4pump.pump.news_mail import NewsMailHandler
from mt4pump.pump.quotes import QuoteStream
from mt4pump.pump.session import (
    FAULTS,
    LOST,
    PUMPING,
    CurrentSession,
    ManagerSession,
    count_fault,
    with_library_faults,
)
from mt4pump.pump.sliced_work import SlicedWork
from mt4pump.pump.snapshot import StateSnapshot, TakeRows, rows_by_field, state_rows, touches
from mt4pump.pump.tables import TableHandler
from mt4pump.pump.trades import TradeHandler
from mt4pump.settings import Settings
from mt4pump.wire import KINDS, QUOTE, SESSION, UNKNOWN, Kind


class Dispatcher:
    """Turns raw records into published events. ``work`` are the comparisons of tables that go on in slices.

    ``slice_s`` is the longest time that a comparison takes at once.
    """

    def __init__(
        self, writer: EventWriter, settings: Settings, fault_counters: FaultCounters, *, slice_s: float = math.inf
    ) -> None:
        self.writer = writer
        self.fault_counters = fault_counters
        self.current = CurrentSession()
        self.work = SlicedWork(slice_s, FAULTS, self._count_read_fault)
        self.quotes = QuoteStream(
            writer.encoder,
            settings.encoding,
            writer.publisher.subscriptions.has_subscriber,
            partial(writer.write, QUOTE) if QUOTE.name in writer.durable else None,
        )
        self.messages = NewsMailHandler(writer, self.current, settings.encoding, settings.mail_fields)
        self.tables = TableHandler(writer, self.current, fault_counters, settings, self.work.add)
        self.trades = TradeHandler(writer, self.current, settings.encoding, self.tables.is_visible, self.work.add)
        self._last_session_event: tuple[str, Fields] | None = None

    @property
    def is_reading_baseline(self) -> bool:
        """Return whether the first read of a table is not compared to its end yet: a snapshot would lack rows."""
        return self.work.is_busy and not (self.tables.has_baseline and self.trades.orders.has_baseline)

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of events of each kind so far, with or without a subscriber."""
        return {**self.writer.counts, QUOTE.name: self.quotes.published}

    def skipped(self) -> dict[str, int]:
        """Return the number of records and reads of tables that were handled and not published, by reason."""
        return {**self.writer.skipped, "empty_tables": self.current.empty_tables}

    def detach(self, session: ManagerSession, reason: str, ts: int) -> None:
        """Stop reading from the session; publish its end unless STOP_PUMPING did."""
        if self.current.session is session:
            self._end_session(session, reason, ts)
            self.current.session = None

    def handle(self, code: int, action: int, data: bytes, ts: int) -> None:  # noqa: PLR0912 - one case per code
        """Hand one raw record to the handler of its pump code; raises one of `FAULTS`, which costs this record only."""
        match code:
            case PumpCode.UPDATE_TRADES:
                self.trades.handle(action, data, ts)
            case PumpCode.UPDATE_ACTIVATION:
                self.trades.handle_activation(ts)
            case PumpCode.UPDATE_MARGINCALL:
                self.tables.handle("margins", action, b"", ts)
            case PumpCode.UPDATE_SYMBOLS:
                self.tables.handle("symbols", action, data, ts)
            case PumpCode.UPDATE_GROUPS:
                self.tables.handle("groups", action, data, ts)
            case PumpCode.UPDATE_USERS:
                self.tables.handle("users", action, data, ts)
            case PumpCode.UPDATE_REQUESTS:
                self.tables.handle("requests", action, data, ts)
            case PumpCode.UPDATE_ONLINE:  # data is a login or a pointer to one: never used
                self.tables.handle("online", action, b"", ts)
            case PumpCode.UPDATE_PLUGINS:
                self.tables.handle("plugins", action, b"", ts)
            case PumpCode.UPDATE_NEWS:
                self.messages.handle_news(data, ts)
            case PumpCode.UPDATE_NEWS_NEW:
                self.messages.handle_news_new(data, ts)
            case PumpCode.UPDATE_NEWS_BODY:
                self.messages.handle_news_body(ts)
            case PumpCode.UPDATE_MAIL:
                self.messages.handle_mail(data, ts)
            case PumpCode.START_PUMPING:
                self._start(ts)
            case PumpCode.STOP_PUMPING:
                self._stop(ts)
            case PumpCode.PING:
                self._ping(ts)
            case _:
                text = f"pump code {code} (type {action}) is not known to this version"
                self.fault_counters.record("unknown_code", text)
                self.writer.write(UNKNOWN, code, {"code": code, "action": action}, ts)

    def reread_all(self, ts: int) -> None:
        """Read every table and publish the differences, marked synthetic; before START no table is whole.

        A table that cannot be read is counted and skipped. Accounts come first, so that orders of accounts that are
        gone are not closed.
        """
        if self.current.live:
            self.tables.reread_all(ts)
            self.trades.reread_after_gap(ts)

    def take_snapshot(self, prefixes: tuple[bytes, ...], ts: int) -> StateSnapshot:
        """Return the state now, of the kinds that topics with one of ``prefixes`` may have."""
        self.writer.flush()
        kinds = [kind for kind in KINDS.values() if touches(kind, prefixes)]
        seqs: dict[bytes, int] = {}
        for kind in kinds:
            seqs |= self.quotes.seqs() if kind is QUOTE else self.writer.seqs(kind)  # the only copy: 8 ms for 400,000
        journal, encoder = self.writer.journal, self.writer.encoder
        return StateSnapshot(
            epoch=encoder.epoch,
            log=journal.log_id if journal else None,
            offset=journal.last_offset if journal else 0,
            offsets=dict(journal.last_offsets) if journal else {},
            ts=ts,
            seqs=seqs,
            rows=state_rows([(kind, take()) for kind, take in self._states() if kind in kinds], encoder.suffix),
        )

    def _states(self) -> Iterator[tuple[Kind, TakeRows]]:
        """Yield each kind of a snapshot and the function that captures its rows."""
        yield QUOTE, lambda: rows_by_field(self.quotes.latest(), "symbol")
        yield from self.trades.states()
        yield from self.tables.states()
        yield SESSION, lambda: [self._last_session_event] if self._last_session_event else []

    def restore_orders(self) -> None:
        """Restore the open orders of the daemon's last run from the journal."""
        journal = self.writer.journal
        if journal is not None and journal.has_orders:
            orders = journal.open_orders()
            if journal.durable:  # else they are read and published when the file opens again
                self.trades.restore_orders(orders)

    def maintain_journal(self, ts: int) -> None:
        """Have the journal maintain its file; when it opened late, publish what closed while no daemon ran."""
        journal, trades = self.writer.journal, self.trades
        if journal is None or self.is_reading_baseline:  # the open orders are not known yet
            return
        self.writer.flush()  # waiting events have their offsets, and maintenance may move the next offset
        journal.maintain(trades.open_orders)
        if journal.has_unread_orders:  # its file could not be opened at the start
            orders = journal.open_orders()
            if journal.durable:
                trades.restore_late_orders(orders, ts)
                self.writer.flush()
                journal.replace_orders(trades.open_orders())

    def _count_read_fault(self, table: str, fault: Exception) -> None:
        count_fault(self.fault_counters, f"table {table}", fault)

    def _start(self, ts: int) -> None:
        session = self.current.session
        if session is None:
            self.fault_counters.record("session_gone", "START_PUMPING of a session that was closed")
            return
        self.current.live = True
        self._write_session("start", session, PUMPING, "START_PUMPING", ts)
        session.mark_started()
        self.reread_all(ts)
        self.messages.request_bodies_again()

    def _stop(self, ts: int) -> None:
        if (session := self.current.session) is not None:
            self._end_session(session, with_library_faults("STOP_PUMPING", session.manager), ts)
            session.mark_stopped()

    def _ping(self, ts: int) -> None:
        if (session := self.current.session) is not None:
            self.writer.write(SESSION, "ping", _session_fields(session, PUMPING, "PING"), ts, transient=True)

    def _end_session(self, session: ManagerSession, reason: str, ts: int) -> None:
        """Drop the comparisons that still run; publish session.stop once per session that had started."""
        self.work.clear()
        if self.current.live:
            self.current.live = False
            self._write_session("stop", session, LOST, reason, ts)

    def _write_session(self, key: str, session: ManagerSession, state: str, reason: str, ts: int) -> None:
        """Publish a change of the session's state, and keep it for snapshots; a ping is no change."""
        fields = _session_fields(session, state, reason)
        self._last_session_event = (key, {**fields, "ts": ts})
        self.writer.write(SESSION, key, fields, ts)


def _session_fields(session: ManagerSession, state: str, reason: str) -> Fields:
    return {"server": session.server, "login": session.login, "state": state, "reason": reason}
