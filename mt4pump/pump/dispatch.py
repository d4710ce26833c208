"""Hands each raw record to the handler of its pump code, and publishes the session's own events; on the pump thread.

A record with data becomes one event. A code without data is a doorbell: its table is read again and the differences are
published. Before START_PUMPING the API fills its tables; those records are counted and not published, because START
reads all tables whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mt4pump.errors import ConnectionLost, LayoutError, ManagerError
from mt4pump.log import FaultCounters
from mt4pump.mt4.codes import PumpCode
from mt4pump.mt4.decode import Fields
from mt4pump.pump.event_writer import EventWriter
from mt4pump.pump.news_mail import NewsMailHandler
from mt4pump.pump.quotes import QuoteStream
from mt4pump.pump.session import LOST, PUMPING, CurrentSession, ManagerSession, with_library_faults
from mt4pump.pump.sliced_work import SlicedWork
from mt4pump.pump.snapshot import RowSource, TakeRows, rows_by_field
from mt4pump.pump.tables import TableHandler
from mt4pump.pump.trades import TradeHandler
from mt4pump.wire import QUOTE, SESSION, UNKNOWN, Kind

DRAIN_ROUNDS = 8
"""Reads of changed quotes per BIDASK: some 2,000 quotes, so that a trade behind them waits a few ms at most."""

FAULTS = (ManagerError, LayoutError)
"""Errors that cost one record or table: it is counted and skipped."""


@dataclass(frozen=True, slots=True)
class DispatcherOptions:
    """What to read and how; the settings of the same names.

    ``slice_s`` is the longest time that the comparison of whole tables takes at once; infinite: no limit.
    """

    encoding: str = "cp1252"
    symbols: tuple[str, ...] = ("*",)
    user_fields: frozenset[str] = frozenset()
    mail_fields: frozenset[str] = frozenset()
    plugin_parameters: bool = False
    slice_s: float = math.inf


class Dispatcher:
    """Turns raw records into published events. ``more_quotes`` is true after a drain that stopped at its bound."""

    def __init__(self, writer: EventWriter, options: DispatcherOptions, fault_counters: FaultCounters) -> None:
        self.quotes = QuoteStream(
            writer.encoder,
            options.encoding,
            writer.publisher.subscriptions.has_subscriber,
            self._write_quote if writer.is_durable(QUOTE) else None,
        )
        self.more_quotes = False
        self._last_session_event: tuple[str, Fields] | None = None
        self._writer = writer
        self._fault_counters = fault_counters
        self._current = CurrentSession()
        self.work = SlicedWork(options.slice_s, FAULTS, self._count_read)
        self.messages = NewsMailHandler(writer, self._current, options.encoding, options.mail_fields)
        self.tables = TableHandler(
            writer,
            self._current,
            fault_counters,
            encoding=options.encoding,
            symbols=options.symbols,
            user_fields=options.user_fields,
            plugin_parameters=options.plugin_parameters,
            schedule=self.work.add,
        )
        self.trades = TradeHandler(writer, self._current, options.encoding, self.tables.is_visible, self.work.add)

    @property
    def is_live(self) -> bool:
        """Return whether a session pumps."""
        return self._current.live

    @property
    def is_reading_baseline(self) -> bool:
        """Return whether the first read of a table is not compared to its end yet: a snapshot would lack rows."""
        return self.work.is_busy and not (self.tables.has_baseline and self.trades.has_baseline)

    def skipped(self) -> dict[str, int]:
        """Return the number of records that were handled and not published, by reason.

        ``before_start``: records of the API's initial fill; ``repeats``: records that repeat what was published or read
        from a table; ``news_repeats``: news headers published before; ``news_bodies_given_up``: requested bodies that
        never came; ``empty_tables``: reads that found a table suddenly empty and wait for a second read to agree.
        """
        return {
            "before_start": self.trades.before_start + self.tables.before_start,
            "repeats": self.trades.repeats + self.tables.repeats,
            "news_repeats": self.messages.repeats,
            "news_bodies_given_up": self.messages.bodies_given_up,
            "empty_tables": self._current.empty_tables,
        }

    def attach(self, session: ManagerSession) -> None:
        """Read from this session from now on."""
        self._current.session, self._current.live = session, False

    def detach(self, session: ManagerSession, reason: str, ts: int) -> None:
        """Stop reading from the session; publish its end unless STOP_PUMPING did."""
        if self._current.session is session:
            self._publish_stop(session, reason, ts)
            self.work.clear()
            self._current.session = None

    def handle(self, code: int, action: int, data: bytes, ts: int) -> None:
        """Publish what one raw record says; an error is counted, logged, and costs this record only."""
        try:
            self._dispatch(code, action, data, ts)
        except FAULTS as fault:
            self._count(code, fault)

    def _dispatch(self, code: int, action: int, data: bytes, ts: int) -> None:  # noqa: PLR0912 - one case per code
        """Hand the record to the handler of its pump code."""
        match code:
            case PumpCode.UPDATE_BIDASK:
                self.drain_quotes(ts)
            case PumpCode.UPDATE_TRADES:
                self.trades.handle(action, data, ts)
            case PumpCode.UPDATE_ACTIVATION:
                self.trades.handle_activation(ts)
            case PumpCode.UPDATE_MARGINCALL:
                self.trades.handle_margin_call(ts)
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
                self._handle_unknown(code, action, ts)

    def drain_quotes(self, ts: int) -> None:
        """Publish what changed since the last drain, in a bounded number of reads."""
        self.more_quotes = False
        publisher, publish = self._writer.publisher, self.quotes.publish
        updated_quotes = self._current.manager.updated_quotes
        for _ in range(DRAIN_ROUNDS):
            records = updated_quotes()
            if not records:
                return
            publisher.sent += publish(records, ts, publisher)
        self.more_quotes = True

    def reread_all(self, ts: int) -> None:
        """Read every table and publish the differences, marked synthetic; before START no table is whole."""
        if not self._current.live:
            return
        for code, read in (
            (
                PumpCode.START_PUMPING,
                self.tables.reread_all,
            ),  # accounts first: orders of accounts that are gone are not closed
            (PumpCode.UPDATE_TRADES, self.trades.reread_after_gap),
            (PumpCode.UPDATE_MARGINCALL, self.trades.reread_margins),
        ):
            try:
                read(ts)
            except FAULTS as fault:
                self._count(code, fault)

    def reread_empty_tables(self, received: int, ts: int) -> None:
        """Read suddenly empty tables a second time, when due; ``received`` is the number of callbacks so far."""
        for read in self._current.second_reads(received):
            try:
                read(ts)
            except FAULTS as fault:
                self._count(PumpCode.START_PUMPING, fault)

    def states(self) -> Iterator[tuple[Kind, TakeRows]]:
        """Yield each kind of a snapshot and the function that captures its rows."""
        yield QUOTE, lambda: rows_by_field(self.quotes.latest(), "symbol")
        yield from self.trades.states()
        yield from self.tables.states()
        yield SESSION, self._session_source

    def _session_source(self) -> RowSource:
        session = self._last_session_event
        return lambda: () if session is None else (session,)

    def seqs(self, kind: Kind) -> Mapping[bytes, int]:
        """Return the last number of every topic of ``kind``."""
        return self.quotes.seqs() if kind is QUOTE else self._writer.seqs(kind)

    def _write_quote(self, symbol: str, fields: Fields, ts: int) -> None:
        self._writer.write(QUOTE, symbol, fields, ts)

    def _write_session(self, state: str, fields: Fields, ts: int) -> None:
        """Publish a change of the session's state, and keep it for snapshots; a ping is no change."""
        self._last_session_event = (state, {**fields, "ts": ts})
        self._writer.write(SESSION, state, fields, ts)

    def _count(self, code: int, fault: Exception) -> None:
        """Count the error of one record."""
        if isinstance(fault, LayoutError):
            self._fault_counters.record("bad_record", f"pump code {code}: {fault}")
        else:
            self._fault_counters.record("session_gone" if isinstance(fault, ConnectionLost) else "read_error", fault)

    def _count_read(self, table: str, fault: Exception) -> None:
        """Count the error of one table read."""
        if isinstance(fault, LayoutError):
            self._fault_counters.record("bad_record", f"table {table}: {fault}")
        else:
            self._fault_counters.record("session_gone" if isinstance(fault, ConnectionLost) else "read_error", fault)

    def _handle_unknown(self, code: int, action: int, ts: int) -> None:
        self._fault_counters.record("unknown_code", f"pump code {code} (type {action}) is not known to this version")
        self._writer.write(UNKNOWN, code, {"code": code, "action": action}, ts)

    def _start(self, ts: int) -> None:
        session = self._current.session
        if session is None:
            self._fault_counters.record("session_gone", "START_PUMPING of a session that was closed")
            return
        self._current.live = True
        self._write_session("start", _session_fields(session, PUMPING, "START_PUMPING"), ts)
        session.mark_started()
        self.reread_all(ts)
        self.messages.request_bodies_again()

    def _stop(self, ts: int) -> None:
        session = self._current.session
        if session is not None:
            self._publish_stop(session, with_library_faults("STOP_PUMPING", session.manager), ts)
            session.mark_stopped()

    def _ping(self, ts: int) -> None:
        session = self._current.session
        if session is not None:
            self._writer.write(SESSION, "ping", _session_fields(session, PUMPING, "PING"), ts, transient=True)

    def _publish_stop(self, session: ManagerSession, reason: str, ts: int) -> None:
        """Publish session.stop once per session that had started."""
        self.work.clear()
        if self._current.live:
            self._current.live = False
            self._write_session("stop", _session_fields(session, LOST, reason), ts)


def _session_fields(session: ManagerSession, state: str, reason: str) -> Fields:
    return {"server": session.server, "login": session.login, "state": state, "reason": reason}
