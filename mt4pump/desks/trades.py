"""Trades, and the marks that the API puts on orders and accounts: activation, margin level.

The book of open orders outlives the daemon in the journal, so that an order closed while no daemon ran is told, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

import msgpack

from mt4pump.desks.reader import Reader
from mt4pump.manager_api.codes import ACTION_NAMES, Transaction
from mt4pump.manager_api.decode import Decoder, Fields
from mt4pump.manager_api.layout import MARGIN_LEVEL, TRADE_RECORD
from mt4pump.pumping.cuts import Take, listed
from mt4pump.pumping.emitter import Emitter
from mt4pump.tables import Marks
from mt4pump.trades import MODIFIED, MONEY_CHANGES, TradeBook, TradeEvent, is_over
from mt4pump.wire import ACTIVATION, MARGIN, TRADE, Kind

UPDATE_NAME = ACTION_NAMES[Transaction.UPDATE]


class TradeDesk:
    """Keeps the book of open orders.

    ``before_start`` counts rows of the API's initial fill that were no news, ``repeats`` records that changed nothing.
    """

    def __init__(self, emitter: Emitter, reader: Reader, encoding: str, in_reach: Callable[[int], bool]) -> None:
        self.book = TradeBook()
        self.before_start = self.repeats = 0
        self._emitter = emitter
        self._reader = reader
        self._in_reach = in_reach
        self._trade = Decoder(TRADE_RECORD, encoding)
        self._margin = Decoder(MARGIN_LEVEL, encoding)
        self._activations = Marks("order", "activation")
        self._levels = Marks("login", "level_type")
        self._primed = False
        self._silent: frozenset[int] = frozenset()

    def recall(self, orders: Mapping[int, bytes]) -> None:
        """Take the open orders of the daemon's last life, so that the read at START tells what ended since.

        A row of a version with other fields is left out: its order is told as new.
        """
        self.book.prime(self._unpacked(orders))
        self._primed = True

    def recall_late(self, orders: Mapping[int, bytes], ts: int) -> None:
        """Do so whenever they get known: what the read at START would have told is told now, marked synthetic."""
        if not self._primed:
            known = self.book.open | self.book.untold(self._unpacked(orders))
            self.book.prime(known.values())
            self._primed = True
            return
        for event in self.book.catch_up(self._unpacked(orders), self._silent, self._in_reach):
            self._tell(event, ts, synthetic=True)
        self._silent = frozenset()

    def _unpacked(self, orders: Mapping[int, bytes]) -> Iterator[Fields]:
        names = self._trade.names
        rows = (msgpack.unpackb(packed) for packed in orders.values())
        return ({name: row[name] for name in names} for row in rows if row.keys() >= set(names))

    def open_orders(self) -> dict[int, bytes]:
        """Return the packed rows of the open orders, by ticket."""
        return {order: msgpack.packb(fields, unicode_errors="replace") for order, fields in self.book.open.items()}

    def states(self) -> Iterator[tuple[Kind, Take]]:
        """Yield what a snapshot shows of this desk: open orders, those with a mark, accounts in margin call."""
        yield TRADE, lambda: listed(self.book.open.values(), "login")
        yield ACTIVATION, lambda: listed(self._activations.marked(), "login")
        yield MARGIN, lambda: listed(self._levels.marked(), "login")

    def take(self, action: int, data: bytes, ts: int) -> None:
        """Tell one trade record, or what differs in the table when the API gave none."""
        if not data:
            if self._reader.live:
                self.reread(ts)
            else:
                self.before_start += 1
            return
        fields = self._trade(data)
        if self._reader.live or _no_table_shows(action, fields):
            event = self.book.apply(action, fields)
            if event.is_repeat:
                self.repeats += 1
            else:
                self._tell(event, ts)
        else:
            self.before_start += 1

    def reread(self, ts: int) -> None:
        """Read TradesGet and tell what happened unseen, marked synthetic; the very first read is nobody's news."""
        rows = self._table(self.reread)
        if rows is not None:
            self._reconcile(rows, ts)

    def reread_after_gap(self, ts: int) -> None:
        """Do the same, and tell the activations that nobody rang for."""
        rows = self._table(self.reread_after_gap)
        if rows is not None:
            self._reconcile(rows, ts)
            self._tell_activations(rows, ts, synthetic=True)

    def _table(self, again: Callable[[int], None]) -> list[Fields] | None:
        """Return TradesGet's rows; None when it is suddenly empty, until the second read by ``again`` agrees."""
        has_rows = bool(self.book.open or self._activations.marked())
        array = self._reader.table("trades", has_rows=has_rows, again=again)
        return None if array is None else list(self._trade.many(array))

    def _reconcile(self, rows: list[Fields], ts: int) -> None:
        if not self._primed:
            self._primed = True
            self.book.prime(rows)
            self._silent = frozenset(self.book.open)
            self._emitter.remember(self.open_orders())
            return
        for event in self.book.reconcile(rows, self._in_reach):
            self._tell(event, ts, synthetic=True)

    def activations(self, ts: int) -> None:
        """Tell orders whose ``activation`` mark changed; TradesGet is what sets it."""
        rows = self._table(self.reread_after_gap) if self._reader.live else None
        if rows is not None:
            self._tell_activations(rows, ts, synthetic=False)

    def _tell_activations(self, rows: Iterable[Fields], ts: int, *, synthetic: bool) -> None:
        for action, fields in self._activations.changes(rows):
            body = {**fields, "action": action}
            self._emitter.emit(ACTIVATION, fields["login"], body, ts, synthetic=synthetic)

    def margins(self, ts: int) -> None:
        """Tell accounts that entered, left or changed margin call."""
        self._tell_margins(ts, synthetic=False)

    def reread_margins(self, ts: int) -> None:
        """Tell the same after a gap, marked synthetic."""
        self._tell_margins(ts, synthetic=True)

    def _tell_margins(self, ts: int, *, synthetic: bool) -> None:
        if not self._reader.live:
            return
        again = partial(self._tell_margins, synthetic=synthetic)
        array = self._reader.table("margins", has_rows=bool(self._levels.marked()), again=again)
        if array is None:
            return
        for action, fields in self._levels.changes(self._margin.many(array)):
            self._emitter.emit(MARGIN, fields["login"], {**fields, "action": action}, ts, synthetic=synthetic)

    def _tell(self, event: TradeEvent, ts: int, *, synthetic: bool = False) -> None:
        action = ACTION_NAMES.get(event.action, UPDATE_NAME)
        body = {**event.fields, "action": action, "change": event.change, "before": event.before}
        order = body["order"]
        is_open = order in self.book.open
        if event.change == MODIFIED and not is_open:
            body["ended"] = True  # a record that came late, or again: nobody should take the order for open
        ticket = order if is_open else -order
        self._emitter.emit(TRADE, body["login"], body, ts, synthetic=synthetic, ticket=ticket if order > 0 else 0)


def _no_table_shows(action: int, fields: Fields) -> bool:
    """Return whether a record is news even before START: an end or a money operation, which TradesGet never lists."""
    return action == Transaction.DELETE or not fields["login"] or is_over(fields) or fields["cmd"] in MONEY_CHANGES
