"""Trades, and the marks that the API puts on orders and accounts: activation, margin level.

The book of open orders outlives the daemon in the journal, so that an order closed while no daemon ran is told, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import msgpack

from mt4pump.mt4.codes import ACTION_NAMES, Transaction
from mt4pump.mt4.decode import Decoder, Fields
from mt4pump.mt4.layout import MARGIN_LEVEL, TRADE_RECORD
from mt4pump.pump.event_writer import EventWriter
from mt4pump.pump.lifecycle import MODIFIED, MONEY_CHANGES, OrderStates, TradeChange, is_over
from mt4pump.pump.session import CurrentSession
from mt4pump.pump.sliced_work import Schedule, Steps, at_once
from mt4pump.pump.snapshot import Take, listed
from mt4pump.pump.table_diff import FlagTable
from mt4pump.pump.table_read import MarkedRows, TableRead
from mt4pump.wire import ACTIVATION, MARGIN, TRADE, Kind

ORDERS_PER_STEP = 200
"""Orders packed in one step: some 0.5 ms."""
UPDATE_NAME = ACTION_NAMES[Transaction.UPDATE]


class TradeHandler:
    """Keeps the book of open orders.

    ``before_start`` counts rows of the API's initial fill that were no news, ``repeats`` records that changed nothing.
    """

    def __init__(
        self,
        writer: EventWriter,
        reader: CurrentSession,
        encoding: str,
        in_reach: Callable[[int], bool],
        schedule: Schedule = at_once,
    ) -> None:
        self.book = OrderStates()
        self._schedule = schedule
        self.before_start = self.repeats = 0
        self._writer = writer
        self._reader = reader
        self._in_reach = in_reach
        self._trade = Decoder(TRADE_RECORD, encoding)
        self._margin = Decoder(MARGIN_LEVEL, encoding)
        self._activations = FlagTable("order", "activation")
        self._activated_rows = MarkedRows(TRADE_RECORD, "order", "activation")
        self._levels = FlagTable("login", "level_type")
        self._level_rows = MarkedRows(MARGIN_LEVEL, "login", "level_type")
        self._primed = False
        self._silent: frozenset[int] = frozenset()

    @property
    def is_primed(self) -> bool:
        """Return whether all open orders are known."""
        return self._primed

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
        for event in self.book.settle(fields["order"]):
            self._tell(event, ts, synthetic=True)
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
        self._schedule("trades", lambda: self._reread(self.reread, ts))

    def reread_after_gap(self, ts: int) -> None:
        """Do the same, and publish the activations that no doorbell rang for."""
        self._schedule("trades/all", lambda: self._reread(self.reread_after_gap, ts, with_marks=True))

    def _reread(self, again: Callable[[int], None], ts: int, *, with_marks: bool = False) -> Steps:
        array = self._table(again)
        if array is None:
            return
        yield from self._reconcile(array, ts)
        if with_marks:
            yield from self._tell_activations(array, ts, synthetic=True)

    def _table(self, again: Callable[[int], None]) -> bytes | None:
        """Return TradesGet's array; None when it is suddenly empty, until the second read by ``again`` agrees."""
        has_rows = bool(self.book.open or self._activations.marked())
        return self._reader.table("trades", has_rows=has_rows, again=again)

    def _reconcile(self, array: bytes, ts: int) -> Steps:
        """Compare a table with the book, in steps; the first one sets the baseline, and publishes nothing of itself."""
        baseline = not self._primed
        read = TableRead(array, TRADE_RECORD, "order", lambda row: self._trade(row)["order"])
        for event in self.book.compare(read, self._trade, self._in_reach, baseline=baseline):
            if event is None:
                yield
            else:
                self._tell(event, ts, synthetic=True)
        if baseline:
            yield from self._remember()
            self._primed = True
            self._silent = frozenset(self.book.silent)

    def _remember(self) -> Steps:
        """Have the journal remember all open orders: pack them in steps, and those once more that changed meanwhile."""
        packed: dict[int, tuple[Fields, bytes]] = {}
        for count, (order, fields) in enumerate(list(self.book.open.items()), 1):
            packed[order] = fields, msgpack.packb(fields, unicode_errors="replace")
            if not count % ORDERS_PER_STEP:
                yield
        rows: dict[int, bytes] = {}
        for order, fields in self.book.open.items():
            known, row = packed.get(order, (None, b""))
            rows[order] = row if known is fields else msgpack.packb(fields, unicode_errors="replace")
        self._writer.remember(rows)

    def activations(self, ts: int) -> None:
        """Tell orders whose ``activation`` mark changed; TradesGet is what sets it."""
        if self._reader.live:
            self._schedule("trades/marks", lambda: self._reread_activations(ts))

    def _reread_activations(self, ts: int) -> Steps:
        array = self._table(self.reread_after_gap)
        if array is not None:
            yield from self._tell_activations(array, ts, synthetic=False)

    def _tell_activations(self, array: bytes, ts: int, *, synthetic: bool) -> Steps:
        found = self._activated_rows.find(array, self._activations.is_marked)
        for event in self._activations.compare(row if row is None else self._trade(row) for row in found):
            if event is None:
                yield
            else:
                body = {**event.fields, "action": event.action}
                self._writer.write(ACTIVATION, event.fields["login"], body, ts, synthetic=synthetic)

    def margins(self, ts: int) -> None:
        """Tell accounts that entered, left or changed margin call."""
        self._schedule("margins", lambda: self._tell_margins(ts, synthetic=False))

    def reread_margins(self, ts: int) -> None:
        """Tell the same after a gap, marked synthetic."""
        self._schedule("margins/all", lambda: self._tell_margins(ts, synthetic=True))

    def _tell_margins(self, ts: int, *, synthetic: bool) -> Steps:
        if not self._reader.live:
            return
        again = self.reread_margins if synthetic else self.margins
        array = self._reader.table("margins", has_rows=bool(self._levels.marked()), again=again)
        if array is None:
            return
        found = self._level_rows.find(array, self._levels.is_marked)
        for event in self._levels.compare(row if row is None else self._margin(row) for row in found):
            if event is None:
                yield
            else:
                body = {**event.fields, "action": event.action}
                self._writer.write(MARGIN, event.fields["login"], body, ts, synthetic=synthetic)

    def _tell(self, event: TradeChange, ts: int, *, synthetic: bool = False) -> None:
        action = ACTION_NAMES.get(event.action, UPDATE_NAME)
        body = {**event.fields, "action": action, "change": event.change, "before": event.before}
        order = body["order"]
        is_open = order in self.book.open
        if event.change == MODIFIED and not is_open:
            body["ended"] = True  # a record that came late, or again: nobody should take the order for open
        ticket = order if is_open else -order
        self._writer.write(TRADE, body["login"], body, ts, synthetic=synthetic, ticket=ticket if order > 0 else 0)


def _no_table_shows(action: int, fields: Fields) -> bool:
    """Return whether a record is news even before START: an end or a money operation, which TradesGet never lists."""
    return action == Transaction.DELETE or not fields["login"] or is_over(fields) or fields["cmd"] in MONEY_CHANGES
