"""Derives what happened to an order: last record + new record → change; pure.

The API's action alone is not enough: a cancelled pending order may come as DELETE or as UPDATE with login 0, a close as
DELETE or as UPDATE with a close time, and the same end may come twice. So the change is derived from the record and the
last record of the order. ``before`` holds the old values of the fields that changed, None when the order was not known.
`classify` decides for an order that is open or new, `OrderStates` for one that ended already or that a table lacks;
`OrderRows` keeps the open orders.
Source of the rules: the vendor's guide and users' reports on it.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from itertools import chain
from typing import Any, NamedTuple

import msgpack

from mt4pump.mt4.codes import CLOSED_STATES, PENDING_COMMANDS, TradeCommand, TradeState, Transaction
from mt4pump.mt4.manager import Array
from mt4pump.mt4.record import Decoder, Fields
from mt4pump.pump.table_diff import ENDED_LIMIT, KEYS_PER_STEP, ROWS_PER_STEP, RunSteps, TableRead
from mt4pump.wire import pack_map

ADD, DELETE, UPDATE, CHANGE_GRP = map(int, Transaction)
TS_DELETED = int(TradeState.TS_DELETED)
"""Plain numbers: to find a member of an enum costs as much as ten comparisons."""
OPENED, PLACED, ACTIVATED, MODIFIED = "opened", "placed", "activated", "modified"
CLOSED, CANCELLED, BALANCE, CREDIT, DELETED = "closed", "cancelled", "balance", "credit", "deleted"
CHANGES = (OPENED, PLACED, ACTIVATED, MODIFIED, CLOSED, CANCELLED, BALANCE, CREDIT, DELETED)
ENDS = frozenset({CLOSED, CANCELLED, BALANCE, CREDIT, DELETED})
"""After one of these an order is no longer open."""

MONEY_CHANGES = {TradeCommand.OP_BALANCE: BALANCE, TradeCommand.OP_CREDIT: CREDIT}

COMPUTED_LOCALLY = frozenset(
    {"activation", "close_price", "profit", "storage", "taxes", "conv_rates", "margin_rate", "timestamp"}
)
"""Fields that the API itself changes with every tick: a table read that differs only in them is no event."""

UNPACKED_LIMIT = 2_000
"""Orders kept as fields, at most; the one kept longest is packed first, also if it changed again."""

IsVisible = Callable[[int], bool]
"""Returns whether this manager sees an account."""


class TradeChange(NamedTuple):
    """One change of one order: its public TradeRecord ``fields``, and ``before`` (see the module)."""

    action: int
    change: str
    fields: Fields
    before: Fields | None

    @property
    def is_repeat(self) -> bool:
        """Return whether the record only repeats what was published, or read from a table, before.

        A change of the account's group shows in ``action`` alone, and a record without a ticket names no order:
        neither is a repeat.
        """
        if self.change != MODIFIED or self.before is None or self.before:
            return False
        return self.action != CHANGE_GRP and self.fields["order"] > 0


def difference(new: Fields, old: Fields) -> Fields:
    """Return the old values of the fields in which ``new`` differs (NaN equals NaN)."""
    if new == old:
        return {}
    return {name: was for name, was in old.items() if new[name] != was and not same(new[name], was)}


def same(one: Any, other: Any) -> bool:
    """Return whether two values are equal, NaN to NaN, also in lists."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) or (is_nan(one) and is_nan(other))


def is_nan(value: object) -> bool:
    """Return whether ``value`` is a float that is no number."""
    return isinstance(value, float) and math.isnan(value)


def is_over(fields: Fields) -> bool:
    """Return whether the order of the record is not open any more."""
    return bool(fields["close_time"]) or fields["state"] in CLOSED_STATES or fields["state"] == TS_DELETED


def is_open_order(fields: Fields) -> bool:
    """Return whether a row of a table is an order that is open; money operations never are."""
    return fields["cmd"] not in MONEY_CHANGES and not is_over(fields)


def ending(fields: Fields, cmd_before: int) -> str:
    """Return how an order ended, from its last record."""
    if fields["cmd"] in PENDING_COMMANDS or (cmd_before in PENDING_COMMANDS and not fields["close_time"]):
        return CANCELLED
    if fields["state"] == TS_DELETED:
        return DELETED
    if fields["close_time"] or fields["state"] in CLOSED_STATES:
        return CLOSED
    return DELETED


def classify(action: int, fields: Fields, known: Fields | None, *, wiped: bool = False) -> str:
    """Return the change of an order that is open or not known yet.

    ``known`` is its last record, None for an order that is not open. ``wiped`` is true for an UPDATE with login 0, by
    which the API reports that the record was deleted.
    """
    cmd = fields["cmd"]
    if wiped:
        return CANCELLED if (known or fields)["cmd"] in PENDING_COMMANDS else DELETED
    if cmd in MONEY_CHANGES:
        return MODIFIED if known else MONEY_CHANGES[cmd]
    if action == DELETE or is_over(fields):
        return ending(fields, known["cmd"] if known else cmd)
    if known is not None:
        return ACTIVATED if known["cmd"] in PENDING_COMMANDS and cmd not in PENDING_COMMANDS else MODIFIED
    if action == ADD:
        return PLACED if cmd in PENDING_COMMANDS else OPENED
    return MODIFIED


def unpack_fields(packed: bytes) -> Fields:
    """Return the fields of a packed order."""
    fields: Fields = msgpack.unpackb(packed)
    return fields


class OrderRows(MutableMapping[int, Fields]):
    """Ticket → fields of each open order: some that changed lately are kept as fields, all others packed.

    200,000 orders as dicts take 500 MB, and the garbage collector stops the pump thread for tenths of a second to
    traverse them. Packed, an order takes 450 bytes that the collector never visits.
    """

    def __init__(self, rows: Iterable[Fields] = ()) -> None:
        self._unpacked: dict[int, Fields] = {}
        self._packed: dict[int, tuple[int, bytes]] = {}
        """Ticket → login and packed fields: a snapshot selects by login."""
        for row in rows:
            self[row["order"]] = row

    def __len__(self) -> int:
        return len(self._unpacked) + len(self._packed)

    def __iter__(self) -> Iterator[int]:
        yield from self._packed
        yield from self._unpacked

    def __contains__(self, order: object) -> bool:
        return order in self._unpacked or order in self._packed

    def __getitem__(self, order: int) -> Fields:
        fields = self.known(order)
        if fields is None:
            raise KeyError(order)
        return fields

    def __setitem__(self, order: int, fields: Fields) -> None:
        unpacked = self._unpacked
        if order not in unpacked:
            self._packed.pop(order, None)
            if len(unpacked) >= UNPACKED_LIMIT:
                oldest = next(iter(unpacked))
                row = unpacked.pop(oldest)
                self._packed[oldest] = (row["login"], pack_map(row))
        unpacked[order] = fields

    def __delitem__(self, order: int) -> None:
        if self._unpacked.pop(order, None) is None:
            del self._packed[order]

    def known(self, order: int) -> Fields | None:
        """Return the fields of ``order``, None if it is not open."""
        fields = self._unpacked.get(order)
        if fields is None and (packed := self._packed.get(order)) is not None:
            return unpack_fields(packed[1])
        return fields

    def packed(self) -> dict[int, bytes]:
        """Return ticket → packed fields of each order."""
        packed: dict[int, bytes] = {}
        for _ in self.copy_packed(packed):
            pass
        return packed

    def copy_packed(self, target: dict[int, bytes]) -> Iterator[None]:
        """Copy ticket → packed fields of each order into ``target``, in steps; no order may change meanwhile."""
        for count, (order, (_, row)) in enumerate(self._packed.items(), 1):
            target[order] = row
            if not count % ROWS_PER_STEP:
                yield
        target.update((order, pack_map(fields)) for order, fields in self._unpacked.items())

    def take_rows(self) -> Iterator[tuple[int, bytes | Fields]]:
        """Return login and fields, or packed fields, of each order as they are now."""
        unpacked = [(fields["login"], fields) for fields in self._unpacked.values()]
        return chain(unpacked, list(self._packed.values()))


class OrderEnd(NamedTuple):
    """How an order ended: its published ``ends``, its last record, and whether a table alone showed the end.

    The record is kept packed: 20,000 as fields would take 35 MB instead of 14.
    """

    ends: tuple[str, ...]
    packed: bytes
    inferred: bool


class OrderStates:
    """The open orders as last published, by ticket, and how the latest ended orders ended.

    ``has_baseline`` is true once all open orders are known; ``baseline_orders`` are those that the first table added
    with no event.
    """

    def __init__(self, is_visible: IsVisible = lambda _login: True) -> None:
        self.open = OrderRows()
        self.has_baseline = False
        self.baseline_orders: set[int] = set()
        self._is_visible = is_visible
        self._ended: OrderedDict[int, OrderEnd] = OrderedDict()
        self._read: TableRead[TradeChange] | None = None
        self._moved: dict[int, bytes] = {}
        """Of open orders: the published values, packed, of those fields that table reads moved without an event."""

    def apply(self, action: int, fields: Fields) -> TradeChange:
        """Apply one record of the pump and return the change."""
        order = fields["order"]
        known, ended = self.open.known(order), self._ended.get(order)
        last = known or (unpack_fields(ended.packed) if ended else None)
        if last and (moved := self._moved.pop(order, None)):
            last = {**last, **unpack_fields(moved)}
        wiped = action == UPDATE and not fields["login"]
        if last and not fields["login"]:
            fields = {**fields, "login": last["login"]}
        change = classify(action, fields, known, wiped=wiped)
        if ended and last and not known:
            change = self._apply_after_end(action, change, fields, ended, last, wiped=wiped)
        else:
            self._store(order, change, fields)
        return TradeChange(action, change, fields, difference(fields, last) if last else None)

    def set_baseline(self, rows: Iterable[Fields]) -> None:
        """Replace all open orders, with no event."""
        self.open = OrderRows(row for row in rows if is_open_order(row))
        self.has_baseline = True
        self.baseline_orders.clear()
        self._moved.clear()

    def without_events(self, rows: Iterable[Fields]) -> dict[int, Fields]:
        """Return, by ticket, those of ``rows`` whose orders had no event yet."""
        known = self.open.keys() | self._ended.keys()
        return {row["order"]: row for row in rows if row["order"] not in known}

    def compare(
        self, array: Array, decoder: Decoder, run_steps: RunSteps | None = None
    ) -> Iterator[TradeChange | None]:
        """Compare with a whole table and yield the changes that no record reported, in steps (see `table_diff`).

        A missing order is published with its last known record, because the table does not show how it closed. If this
        manager no longer sees its account, the order may still be open: its change is ``deleted``, not ``closed``.
        Until the first comparison has ended, unknown orders are added to `baseline_orders` with no event.
        ``run_steps`` as in `Table.compare`.
        """

        def compare_order(order: int) -> Iterator[TradeChange]:
            of_table = self._read  # not `read`: the two would refer to each other, and the array stay in memory
            row = decoder(of_table.rows(order)[-1]) if of_table is not None and order in of_table else None
            if row is None or row["cmd"] in MONEY_CHANGES:
                yield from self._end_missing(order)
            elif self.has_baseline or order in self.open:
                yield from self._reconcile(order, row)
            elif is_open_order(row):
                self.open[order] = row
                self.baseline_orders.add(order)

        known = list(self.open)
        self._read = read = TableRead(array, decoder, "order", compare_order)
        try:
            if run_steps:
                run_steps(read.index())
            yield from read.index()
            yield from read.settle_all(known, ROWS_PER_STEP, skip=read)
            yield from read.settle_all(read, KEYS_PER_STEP)
            self.has_baseline = True
        finally:
            self._read = None

    def settle(self, order: int) -> Iterator[TradeChange]:
        """Yield the changes that a running comparison finds for the order whose record is applied next."""
        return self._read.settle(order) if self._read else iter(())

    def reconcile(self, rows: Iterable[Fields]) -> Iterator[TradeChange]:
        """Do what `compare` does, at once and with decoded rows."""
        table = {row["order"]: row for row in rows if row["cmd"] not in MONEY_CHANGES}
        for order in [order for order in self.open if order not in table]:
            yield from self._end_missing(order)
        for order, row in table.items():
            yield from self._reconcile(order, row)

    def _end_missing(self, order: int) -> Iterator[TradeChange]:
        """End ``order``, which the table does not list."""
        gone = self.open.known(order)
        if gone is None:
            return
        change = CANCELLED if gone["cmd"] in PENDING_COMMANDS else CLOSED
        change = change if self._is_visible(gone["login"]) else DELETED
        self._store(order, change, gone, inferred=True)
        yield TradeChange(DELETE, change, gone, {})

    def _reconcile(self, order: int, row: Fields) -> Iterator[TradeChange]:
        """Apply the row of a table to an order that it lists."""
        known = self.open.known(order)
        if known is None:
            if not is_over(row):
                self._ended.pop(order, None)
                yield self.apply(ADD, row)
        elif (changed := difference(row, known)).keys() - COMPUTED_LOCALLY:
            yield self.apply(UPDATE, row)
        elif changed:
            self.open[order] = row
            moved = self._moved.get(order)
            self._moved[order] = pack_map(changed | (unpack_fields(moved) if moved else {}))

    def catch_up(self, before: Iterable[Fields]) -> Iterator[TradeChange]:
        """Yield what happened between ``before``, the open orders of an earlier run, and `baseline_orders`.

        For a ``before`` that is read late. An order that had an event since is not published again; an order that
        changed is published as it is now.
        """
        unpublished = self.baseline_orders & self.open.keys()
        published = (self.baseline_orders | self.open.keys() | self._ended.keys()) - unpublished
        earlier = OrderStates(self._is_visible)
        earlier.set_baseline(row for row in before if row["order"] not in published)
        for event in list(earlier.reconcile([self.open[order] for order in sorted(unpublished)])):
            if event.change in ENDS:
                self._store(event.fields["order"], event.change, event.fields, inferred=True)
            yield event
        self.baseline_orders.clear()

    def _apply_after_end(
        self, action: int, change: str, fields: Fields, ended: OrderEnd, last: Fields, *, wiped: bool
    ) -> str:
        """Apply a record that comes after its order's end: a repeat, a restored order, a deletion; return its change.

        A table may be ahead of records that still wait, so an UPDATE does not reopen an order that the table lacked; an
        ADD does, and so does a table that lists the order.
        """
        ends, _, inferred = ended
        order = fields["order"]
        if change in ENDS:
            if BALANCE in ends or CREDIT in ends:
                change = DELETED if wiped or action == DELETE else MODIFIED
            if change in ends:
                change = MODIFIED
            ends = (*ends, change) if change in ENDS else ends
            self._end(order, OrderEnd(ends, pack_map(fields), inferred=False))
        elif inferred and action != ADD:
            change = MODIFIED
            self._end(order, OrderEnd(ends, pack_map(fields), inferred=True))
        elif action == ADD or fields["timestamp"] > last["timestamp"]:
            self._store(order, change, fields)
        return change  # an older UPDATE that came late changes no state

    def _store(self, order: int, change: str, fields: Fields, *, inferred: bool = False) -> None:
        """Keep the record of an order that is open after ``change``, or the end of one that is not."""
        if change in ENDS:
            self._end(order, OrderEnd((change,), pack_map(fields), inferred))
        else:
            self._ended.pop(order, None)
            self.open[order] = fields

    def _end(self, order: int, end: OrderEnd) -> None:
        if order in self.open:  # MutableMapping.pop would unpack the row first
            del self.open[order]
        self._moved.pop(order, None)
        self._ended[order] = end
        self._ended.move_to_end(order)
        if len(self._ended) > ENDED_LIMIT:
            self._ended.popitem(last=False)
