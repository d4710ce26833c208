"""Raw records to events, code by code: who takes which, and the session's own events. Runs on the pump thread.

A record with data is told as it is. A code without data is a doorbell: its table is read again and the difference told.
Before START_PUMPING the API fills its tables: rows told then are not news, for the tables are read whole at START.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from mt4pump.errors import ConnectionLost, LayoutError, ManagerError
from mt4pump.log import FaultCounters
from mt4pump.mt4.codes import PumpCode
from mt4pump.mt4.decode import Fields
from mt4pump.pump.event_writer import EventWriter
from mt4pump.pump.news_mail import NewsMailHandler
from mt4pump.pump.quotes import QuoteStream
from mt4pump.pump.session import LOST, PUMPING, CurrentSession, ManagerSession
from mt4pump.pump.sliced_work import SlicedWork
from mt4pump.pump.snapshot import Source, Take, listed
from mt4pump.pump.tables import TableHandler
from mt4pump.pump.trades import TradeHandler
from mt4pump.supervisor import explained
from mt4pump.wire import QUOTE, SESSION, UNKNOWN, Kind

DRAIN_ROUNDS = 8
"""Reads of changed quotes per look: some 2,000 quotes, so that a trade behind them waits a few ms at most."""

FAULTS = (ManagerError, LayoutError)
"""What a single record or table may cost: itself, and a count."""


@dataclass(frozen=True, slots=True)
class DispatcherOptions:
    """What to read and how; the settings of the same names.

    ``slice_s`` is how long the comparison of whole tables may go on in one go; infinite: to its end.
    """

    encoding: str = "cp1252"
    symbols: tuple[str, ...] = ("*",)
    user_fields: frozenset[str] = frozenset()
    mail_fields: frozenset[str] = frozenset()
    plugin_parameters: bool = False
    slice_s: float = math.inf


class Dispatcher:
    """Turns what `Inbox` holds into published events. ``more_quotes`` tells that a drain stopped at its bound."""

    def __init__(self, writer: EventWriter, options: DispatcherOptions, fault_counters: FaultCounters) -> None:
        self.quotes = QuoteStream(
            writer.encoder,
            options.encoding,
            writer.publisher.subscriptions.has_subscriber,
            self._emit_quote if writer.is_durable(QUOTE) else None,
        )
        self.more_quotes = False
        self._session: tuple[str, Fields] | None = None
        self._writer = writer
        self._fault_counters = fault_counters
        self._reader = CurrentSession()
        self.work = SlicedWork(options.slice_s, FAULTS, self._count_read)
        self.messages = NewsMailHandler(writer, self._reader, options.encoding, options.mail_fields)
        self.tables = TableHandler(
            writer,
            self._reader,
            fault_counters,
            encoding=options.encoding,
            symbols=options.symbols,
            user_fields=options.user_fields,
            plugin_parameters=options.plugin_parameters,
            schedule=self.work.add,
        )
        self.trades = TradeHandler(writer, self._reader, options.encoding, self.tables.in_reach, self.work.add)

    @property
    def is_live(self) -> bool:
        """Return whether there is a session that pumps."""
        return self._reader.live

    @property
    def is_reading_baseline(self) -> bool:
        """Return whether a first read is still compared: until its end a snapshot would lack rows, with no events."""
        return self.work.is_busy and not (self.tables.is_primed and self.trades.is_primed)

    def skipped(self) -> dict[str, int]:
        """Return what was taken in and not told, by reason; each has its sense, and none goes uncounted.

        ``before_start``: rows and bells of the API's initial fill; ``repeats``: records that say what was published, or
        read from a table, before; ``news_repeats``: headers told before; ``news_bodies_given_up``: bodies asked for
        that never came; ``empty_tables``: reads that found a table suddenly empty, until a second read agrees.
        """
        return {
            "before_start": self.trades.before_start + self.tables.before_start,
            "repeats": self.trades.repeats + self.tables.repeats,
            "news_repeats": self.messages.repeats,
            "news_bodies_given_up": self.messages.bodies_given_up,
            "empty_tables": self._reader.empty_tables,
        }

    def attach(self, link: ManagerSession) -> None:
        """Read from this session from now on."""
        self._reader.link, self._reader.live = link, False

    def detach(self, link: ManagerSession, reason: str, ts: int) -> None:
        """Read from it no more; tell its stop unless STOP_PUMPING did."""
        if self._reader.link is link:
            self._tell_stop(link, reason, ts)
            self.work.clear()
            self._reader.link = None

    def handle(self, code: int, action: int, data: bytes, ts: int) -> None:
        """Turn one raw record into events; what fails is counted and logged, and costs this record only."""
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
                self.trades.take(action, data, ts)
            case PumpCode.UPDATE_ACTIVATION:
                self.trades.activations(ts)
            case PumpCode.UPDATE_MARGINCALL:
                self.trades.margins(ts)
            case PumpCode.UPDATE_SYMBOLS:
                self.tables.take("symbols", action, data, ts)
            case PumpCode.UPDATE_GROUPS:
                self.tables.take("groups", action, data, ts)
            case PumpCode.UPDATE_USERS:
                self.tables.take("users", action, data, ts)
            case PumpCode.UPDATE_REQUESTS:
                self.tables.take("requests", action, data, ts)
            case PumpCode.UPDATE_ONLINE:  # its data is a login or a pointer to one: never looked at
                self.tables.take("online", action, b"", ts)
            case PumpCode.UPDATE_PLUGINS:
                self.tables.take("plugins", action, b"", ts)
            case PumpCode.UPDATE_NEWS:
                self.messages.news(data, ts)
            case PumpCode.UPDATE_NEWS_NEW:
                self.messages.news_new(data, ts)
            case PumpCode.UPDATE_NEWS_BODY:
                self.messages.bodies(ts)
            case PumpCode.UPDATE_MAIL:
                self.messages.mail(data, ts)
            case PumpCode.START_PUMPING:
                self._start(ts)
            case PumpCode.STOP_PUMPING:
                self._stop(ts)
            case PumpCode.PING:
                self._ping(ts)
            case _:
                self._take_unknown(code, action, ts)

    def drain_quotes(self, ts: int) -> None:
        """Publish what changed since the last drain, in a bounded number of reads."""
        self.more_quotes = False
        publisher, publish = self._writer.publisher, self.quotes.publish
        updated_quotes = self._reader.manager.updated_quotes
        for _ in range(DRAIN_ROUNDS):
            records = updated_quotes()
            if not records:
                return
            publisher.sent += publish(records, ts, publisher)
        self.more_quotes = True

    def reread_all(self, ts: int) -> None:
        """Read every table and tell what differs, as after a gap; before START there is nothing whole to read."""
        if not self._reader.live:
            return
        for code, read in (
            (PumpCode.START_PUMPING, self.tables.reread_all),  # accounts first: they tell which orders are in reach
            (PumpCode.UPDATE_TRADES, self.trades.reread_after_gap),
            (PumpCode.UPDATE_MARGINCALL, self.trades.reread_margins),
        ):
            try:
                read(ts)
            except FAULTS as fault:
                self._count(code, fault)

    def reread_empty(self, received: int, ts: int) -> None:
        """Read the tables a second time that were suddenly empty; ``received`` counts the callbacks so far."""
        for read in self._reader.second_reads(received):
            try:
                read(ts)
            except FAULTS as fault:
                self._count(PumpCode.START_PUMPING, fault)

    def states(self) -> Iterator[tuple[Kind, Take]]:
        """Yield what a snapshot shows, kind by kind."""
        yield QUOTE, lambda: listed(self.quotes.latest(), "symbol")
        yield from self.trades.states()
        yield from self.tables.states()
        yield SESSION, self._session_source

    def _session_source(self) -> Source:
        session = self._session
        return lambda: () if session is None else (session,)

    def seqs(self, kind: Kind) -> dict[bytes, int]:
        """Return the last number of every topic of ``kind``."""
        return self.quotes.seqs() if kind is QUOTE else self._writer.seqs(kind)

    def _emit_quote(self, symbol: str, fields: Fields, ts: int) -> None:
        self._writer.write(QUOTE, symbol, fields, ts)

    def _emit_session(self, state: str, fields: Fields, ts: int) -> None:
        """Tell a turn of the session; a ping is no turn, and not worth keeping."""
        self._session = (state, {**fields, "ts": ts})
        self._writer.write(SESSION, state, fields, ts)

    def _count(self, code: int, fault: Exception) -> None:
        """Count what went wrong with one record or one table."""
        if isinstance(fault, LayoutError):
            self._fault_counters.record("bad_record", f"pump code {code}: {fault}")
        else:
            self._fault_counters.record("session_gone" if isinstance(fault, ConnectionLost) else "read_error", fault)

    def _count_read(self, table: str, fault: Exception) -> None:
        """Count what went wrong with the read of a table."""
        if isinstance(fault, LayoutError):
            self._fault_counters.record("bad_record", f"table {table}: {fault}")
        else:
            self._fault_counters.record("session_gone" if isinstance(fault, ConnectionLost) else "read_error", fault)

    def _take_unknown(self, code: int, action: int, ts: int) -> None:
        self._fault_counters.record("unknown_code", f"pump code {code} (type {action}) is not known to this version")
        self._writer.write(UNKNOWN, code, {"code": code, "action": action}, ts)

    def _start(self, ts: int) -> None:
        link = self._reader.link
        if link is None:
            self._fault_counters.record("session_gone", "START_PUMPING of a session that was given up")
            return
        self._reader.live = True
        self._emit_session("start", _session_fields(link, PUMPING, "START_PUMPING"), ts)
        link.tell_started()
        self.reread_all(ts)
        self.messages.ask_again()

    def _stop(self, ts: int) -> None:
        link = self._reader.link
        if link is not None:
            self._tell_stop(link, explained("STOP_PUMPING", link.manager), ts)
            link.tell_stopped()

    def _ping(self, ts: int) -> None:
        link = self._reader.link
        if link is not None:
            self._writer.write(SESSION, "ping", _session_fields(link, PUMPING, "PING"), ts, passing=True)

    def _tell_stop(self, link: ManagerSession, reason: str, ts: int) -> None:
        """Publish session.stop once per session that had started."""
        self.work.clear()
        if self._reader.live:
            self._reader.live = False
            self._emit_session("stop", _session_fields(link, LOST, reason), ts)


def _session_fields(link: ManagerSession, state: str, reason: str) -> Fields:
    return {"server": link.server, "login": link.login, "state": state, "reason": reason}
