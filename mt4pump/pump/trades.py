"""Handles trades, and the activations that the API sets on orders. `lifecycle` classifies: opened, closed, ….

The journal keeps the open orders, so that an order that closed while no daemon ran is published at the next start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from mt4pump.mt4.codes import ACTION_NAMES, Transaction
from mt4pump.mt4.layout import TRADE_RECORD
from mt4pump.mt4.manager import Array
from mt4pump.mt4.record import Decoder, Fields
from mt4pump.pump.event_writer import EventWriter
from mt4pump.pump.lifecycle import MODIFIED, MONEY_CHANGES, IsVisible, OrderStates, TradeChange, is_over, unpack_fields
from mt4pump.pump.session import CurrentSession
from mt4pump.pump.sliced_work import Schedule, Steps, release
from mt4pump.pump.snapshot import TakeRows, rows_by_field
from mt4pump.pump.table_diff import UPDATE, FlagTable
from mt4pump.wire import ACTIVATION, TRADE, Kind


class TradeHandler:
    """Publishes changes of orders (``orders``) and activations."""

    def __init__(
        self, writer: EventWriter, current: CurrentSession, encoding: str, is_visible: IsVisible, schedule: Schedule
    ) -> None:
        self.orders = OrderStates(is_visible)
        self._writer = writer
        self._current = current
        self._schedule = schedule
        self._trade = Decoder(TRADE_RECORD, encoding)
        self._activations = FlagTable(self._trade, "order", "activation")

    def restore_orders(self, orders: Mapping[int, bytes]) -> None:
        """Set the open orders of the daemon's last run, so that the read at START publishes what closed since.

        A row of a version with other fields is dropped: its order is published as new.
        """
        self.orders.set_baseline(self._unpacked(orders))

    def restore_late_orders(self, orders: Mapping[int, bytes], ts: int) -> None:
        """Set them when the journal opens late: publish, as synthetic, what the read at START would have published."""
        if not self.orders.has_baseline:
            known = {**self.orders.open, **self.orders.without_events(self._unpacked(orders))}
            self.orders.set_baseline(known.values())
            return
        for event in self.orders.catch_up(self._unpacked(orders)):
            self._publish(event, ts, synthetic=True)

    def _unpacked(self, orders: Mapping[int, bytes]) -> Iterator[Fields]:
        names = self._trade.names
        wanted = set(names)
        rows = map(unpack_fields, orders.values())
        return ({name: row[name] for name in names} for row in rows if row.keys() >= wanted)

    def open_orders(self) -> dict[int, bytes]:
        """Return the packed rows of the open orders, by ticket."""
        return self.orders.open.packed()

    def states(self) -> Iterator[tuple[Kind, TakeRows]]:
        """Yield the rows of a snapshot: open orders, orders with an activation."""
        yield TRADE, self.orders.open.take_rows
        yield ACTIVATION, lambda: rows_by_field(self._activations.flagged.values(), "login")

    def handle(self, action: int, data: bytes, ts: int) -> None:
        """Publish one trade record, or the differences of the table when the API gave none."""
        if not data:
            if self._current.live:
                self.reread(ts)
            else:
                self._writer.skipped["before_start"] += 1
            return
        fields = self._trade(data)
        for event in self.orders.settle(fields["order"]):
            self._publish(event, ts, synthetic=True)
        if self._current.live or _is_never_in_table(action, fields):
            event = self.orders.apply(action, fields)
            if event.is_repeat:
                self._writer.skipped["repeats"] += 1
            else:
                self._publish(event, ts)
        else:
            self._writer.skipped["before_start"] += 1

    def reread(self, ts: int) -> None:
        """Read TradesGet and publish the differences, marked synthetic; the first read sets the baseline."""
        self._schedule("trades", lambda: self._reread(self.reread, ts))

    def reread_after_gap(self, ts: int) -> None:
        """Do the same, and publish the activations that changed without a doorbell."""
        self._schedule("trades/all", lambda: self._reread(self.reread_after_gap, ts, with_activations=True))

    def _reread(self, again: Callable[[int], None], ts: int, *, with_activations: bool = False) -> Steps:
        array = self._table(again)
        if array is None:
            return
        is_first, run_steps = not self.orders.has_baseline, self._current.run_beside("trades")
        for event in self.orders.compare(array, self._trade, run_steps):
            if event is None:
                yield
            else:
                self._publish(event, ts, synthetic=True)
        if is_first:
            orders: dict[int, bytes] = {}
            (run_steps or list)(self.orders.open.copy_packed(orders))  # of a large server that takes some 20 ms
            self._writer.store_orders(orders)
        if with_activations:
            yield from self._publish_activations(array, ts, synthetic=True)
        yield from release(array)

    def _table(self, again: Callable[[int], None]) -> Array | None:
        """Return TradesGet's array; None when it is suddenly empty until the second read (``again``) agrees."""
        has_rows = bool(self.orders.open or self._activations.flagged)
        return self._current.table("trades", has_rows=has_rows, again=again)

    def handle_activation(self, ts: int) -> None:
        """Publish the orders whose ``activation`` changed; TradesGet sets it."""
        if self._current.live:
            self._schedule("trades/activations", lambda: self._reread_activations(ts))

    def _reread_activations(self, ts: int) -> Steps:
        array = self._table(self.reread_after_gap)
        if array is not None:
            yield from self._publish_activations(array, ts, synthetic=False)
            yield from release(array)

    def _publish_activations(self, array: Array, ts: int, *, synthetic: bool) -> Steps:
        for event in self._activations.compare(array):
            if event is None:
                yield
            else:
                body = {**event.fields, "action": event.action}
                self._writer.write(ACTIVATION, event.fields["login"], body, ts, synthetic=synthetic)

    def _publish(self, event: TradeChange, ts: int, *, synthetic: bool = False) -> None:
        action = ACTION_NAMES.get(event.action, UPDATE)
        body = {**event.fields, "action": action, "change": event.change, "before": event.before}
        order = body["order"]
        is_open = order in self.orders.open
        if event.change == MODIFIED and not is_open:
            body["ended"] = True  # a record that came late or twice: the order is not open
        ticket = order if is_open else -order
        self._writer.write(TRADE, body["login"], body, ts, synthetic=synthetic, ticket=ticket if order > 0 else 0)


def _is_never_in_table(action: int, fields: Fields) -> bool:
    """Return whether TradesGet never lists the record, so that it is published even before START: an end, money."""
    return action == Transaction.DELETE or not fields["login"] or is_over(fields) or fields["cmd"] in MONEY_CHANGES
