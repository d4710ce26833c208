"""Handles all tables but trades, news and mail: published row by row, or as differences of a whole table."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import msgpack

from mt4pump.errors import ConnectionLost, ManagerError
from mt4pump.log import FaultCounters
from mt4pump.mt4.codes import Transaction
from mt4pump.mt4.layout import (
    CON_GROUP,
    CON_PLUGIN,
    CON_SYMBOL,
    MARGIN_LEVEL,
    ONLINE_RECORD,
    PLUGIN_CFG,
    REQUEST_INFO,
    USER_RECORD,
)
from mt4pump.mt4.manager import Array, Manager
from mt4pump.mt4.record import Decoder, Fields, format_of
from mt4pump.process.values import SymbolFilter
from mt4pump.pump.event_writer import EventWriter
from mt4pump.pump.session import FAULTS, CurrentSession, count_fault
from mt4pump.pump.sliced_work import Schedule, Steps, release
from mt4pump.pump.snapshot import RowSource, TakeRows
from mt4pump.pump.table_diff import DELETE, UPDATE, FlagTable, Table, TableEvent
from mt4pump.settings import Settings
from mt4pump.wire import GROUP, MARGIN, ONLINE, PLUGIN, REQUEST, SYMBOL, USER, Kind

SYMBOL_NAMES = struct.Struct(format_of(CON_SYMBOL, {"symbol"}))

log = logging.getLogger(__name__)


Parameters = list[Fields]


class PluginParameters:
    """The parameters of each plugin as last published; the key of a plugin is its ``file``.

    The API sends the same doorbell for a changed parameter as for a changed plugin, with the plugin's row unchanged.
    """

    def __init__(self, current: CurrentSession, fault_counters: FaultCounters, encoding: str) -> None:
        self._current = current
        self._fault_counters = fault_counters
        self._plugin = Decoder(CON_PLUGIN, encoding)
        self._parameter = Decoder(PLUGIN_CFG, encoding)
        self._plugins: list[Fields] = []
        self._read: dict[str, Parameters] = {}
        self._published: dict[str, Parameters | None] = {}

    def read(self, array: Array) -> None:
        """Read the parameters of the plugins of ``array``, a ConPlugin table; raises ConnectionLost.

        Parameters that cannot be read (never with the 64-bit library) count as unchanged; a failure is counted.
        """
        plugins = list(self._plugin.many(array))
        parameters = {fields["file"]: self._read_one(position) for position, fields in enumerate(plugins)}
        # The API addresses parameters by position: if plugins came or went meanwhile, they may be another plugin's.
        # This read also fails when the session ends, because its answers are not reliable then.
        again = self._plugin.many(self._current.manager.table("plugins"))
        if [fields["file"] for fields in again] != [fields["file"] for fields in plugins]:
            parameters = {}  # the doorbell for that change follows
        self._plugins = plugins
        self._read = {file: read for file, read in parameters.items() if read is not None}

    def changed(self) -> Iterator[Fields]:
        """Yield the plugins whose parameters changed; those of a plugin not known before are the baseline."""
        for fields in self._plugins:
            file = fields["file"]
            if file in self._read and self._published.setdefault(file, self._read[file]) != self._read[file]:
                yield fields

    def with_parameters(self, fields: Fields) -> Fields:
        """Return a plugin's ``fields`` with its ``parameters``, None where they are not known."""
        file = fields["file"]
        if fields["action"] == DELETE:
            self._published.pop(file, None)
            return {**fields, "parameters": None}
        self._published[file] = self._read.get(file)
        return {**fields, "parameters": self._published[file]}

    def _read_one(self, position: int) -> Parameters | None:
        try:
            array = self._current.manager.plugin_parameters(position)
            return None if array is None else list(self._parameter.many(array))
        except ConnectionLost:
            raise
        except FAULTS as fault:
            count_fault(self._fault_counters, "plugin parameters", fault)
            return None


class TableBinding(NamedTuple):
    """A table and its kind on the bus. ``shape`` makes a published row of a row; None: the row and its key are used."""

    kind: Kind
    table: Table | FlagTable
    shape: Callable[[Fields], Fields] | None = None

    def take_rows(self) -> RowSource:
        """Return the rows as they are now; they are shaped when they are iterated."""
        return self.table.rows() if self.shape is None else self._shaped(self.table.rows(), self.shape)

    def _shaped(self, rows: RowSource, shape: Callable[[Fields], Fields]) -> RowSource:
        for _, row in rows:
            fields = shape(msgpack.unpackb(row))
            yield fields[self.kind.key], fields


class TableHandler:
    """Keeps every table as last published, so that reading it again publishes only differences."""

    def __init__(
        self,
        writer: EventWriter,
        current: CurrentSession,
        fault_counters: FaultCounters,
        settings: Settings,
        schedule: Schedule,
    ) -> None:
        self._writer = writer
        self._current = current
        self._fault_counters = fault_counters
        self._schedule = schedule
        self._encoding = encoding = settings.encoding
        self._filter = SymbolFilter(settings.symbols)
        self._selected: set[bytes] = set()
        self._selected_of: Manager | None = None
        self._parameters = PluginParameters(current, fault_counters, encoding) if settings.plugin_parameters else None
        self._users = Table(Decoder(USER_RECORD, encoding, settings.user_fields), "login")
        self._bindings = {
            "symbols": TableBinding(SYMBOL, Table(Decoder(CON_SYMBOL, encoding), "symbol")),
            "groups": TableBinding(GROUP, Table(Decoder(CON_GROUP, encoding), "group"), _used_part),
            "users": TableBinding(USER, self._users),
            "online": TableBinding(ONLINE, Table(Decoder(ONLINE_RECORD, encoding), "login")),
            "requests": TableBinding(REQUEST, Table(Decoder(REQUEST_INFO, encoding), "id"), dict),
            "plugins": TableBinding(PLUGIN, Table(Decoder(CON_PLUGIN, encoding), "file"), _with_name),
            "margins": TableBinding(MARGIN, FlagTable(Decoder(MARGIN_LEVEL, encoding), "login", "level_type")),
        }

    def handle(self, name: str, action: int, data: bytes, ts: int) -> None:
        """Publish one row of table ``name``, or the differences of the table when the API gave no row.

        Records and doorbells before START are the API's initial fill: they are counted, and START reads the table. A
        table that is half full would publish every row that is not there yet as deleted.
        """
        binding = self._bindings[name]
        if not self._current.live:
            self._writer.skipped["before_start"] += 1
        elif not data or isinstance(binding.table, FlagTable):
            self.reread(name, ts)
        else:
            for settled in binding.table.settle(data):
                self._publish(binding, settled, ts, synthetic=True)
            event = binding.table.apply(action, data)
            if event is None:
                self._writer.skipped["repeats"] += 1
            else:
                self._publish(binding, event, ts, synthetic=False)
            if binding.kind is SYMBOL and action != Transaction.DELETE:
                self._select(data)

    @property
    def has_baseline(self) -> bool:
        """Return whether the rows of every table are known."""
        return all(binding.table.has_baseline for binding in self._bindings.values())

    def states(self) -> Iterator[tuple[Kind, TakeRows]]:
        """Yield the rows of a snapshot, table by table."""
        for binding in self._bindings.values():
            yield binding.kind, binding.take_rows

    def select(self, symbols: tuple[str, ...]) -> None:
        """Select the symbols that match the patterns ``symbols`` for quotes, and deselect the others."""
        self._filter = SymbolFilter(symbols)
        if self._current.live:
            self._select_all(self._current.manager.table("symbols"))

    def is_visible(self, login: int) -> bool:
        """Return whether this manager sees account ``login``; True where the API lists no accounts."""
        return not len(self._users) or login in self._users

    def reread_all(self, ts: int) -> None:
        """Read every table; differences are marked synthetic."""
        for name in self._bindings:
            self.reread(name, ts, synthetic=True)

    def reread(self, name: str, ts: int, *, synthetic: bool = False) -> None:
        """Read table ``name`` whole and publish the differences; its first read sets the baseline.

        A table that is suddenly empty changes nothing until a second read agrees, see `CurrentSession.table`.
        """
        self._schedule(name, lambda: self._reread(name, ts, synthetic=synthetic))

    def _reread(self, name: str, ts: int, *, synthetic: bool) -> Steps:
        binding, table = self._bindings[name], self._bindings[name].table
        again = partial(self.reread, name, synthetic=synthetic)
        array = self._current.table(name, has_rows=len(table) > 0, again=again)
        if array is None:
            return
        if binding.kind is SYMBOL:  # at once: no quote comes before, and a step would let newer records pass the table
            self._select_all(array)
        parameters = self._parameters if binding.kind is PLUGIN else None
        if parameters:
            parameters.read(array)  # first, because a difference of the rows is published only once
        run_steps = self._current.run_beside(name)
        for event in table.compare(array) if isinstance(table, FlagTable) else table.compare(array, run_steps):
            if event is None:
                yield
            else:
                self._publish(binding, event, ts, synthetic=synthetic)
        yield from release(array)
        for fields in parameters.changed() if parameters else ():
            self._publish(binding, TableEvent(UPDATE, fields), ts, synthetic=synthetic)

    def _publish(self, binding: TableBinding, event: TableEvent, ts: int, *, synthetic: bool) -> None:
        fields = {**event.fields, "action": event.action}
        if binding.shape:
            fields = binding.shape(fields)
        if binding.kind is PLUGIN and self._parameters:
            fields = self._parameters.with_parameters(fields)
        self._writer.write(binding.kind, fields[binding.kind.key], fields, ts, synthetic=synthetic)

    def _select_all(self, array: Array) -> None:
        """Select from the whole table; warn when the patterns select none of it."""
        self._select(array)
        if (count := len(array) // CON_SYMBOL.size) and not self._selected:
            log.warning("the setting symbols selects none of the server's %d symbols: no quotes are published", count)

    def _select(self, array: Array) -> None:
        """Select the symbols that the patterns select for quotes, and deselect those that they no longer select.

        Selected ones are selected again, as in the vendor's sample: whether a change of the symbol ends a selection is
        not known. A selection that fails is tried again when the symbol is read again.
        """
        manager = self._current.manager
        if self._selected_of is not manager:  # nothing is selected in a new session
            self._selected_of = manager
            self._selected.clear()
        whole = len(array) - len(array) % CON_SYMBOL.size
        for (raw,) in SYMBOL_NAMES.iter_unpack(array[:whole]):
            name = raw.partition(b"\0")[0]
            try:
                if self._filter.selects(name.decode(self._encoding, "replace")):
                    manager.select_symbol(name)
                    self._selected.add(name)
                elif name in self._selected:
                    manager.hide_symbol(name)
                    self._selected.discard(name)
            except ConnectionLost:
                raise
            except ManagerError as error:
                self._fault_counters.record("select_error", f"symbol {name!r}: {error}")


def _with_name(fields: Fields) -> Fields:
    """Add a plugin's ``name``, the end of its topic: the name it gives itself, else its file."""
    return {**fields, "name": fields["info"]["name"] or fields["file"]}


def _used_part(fields: Fields) -> Fields:
    """Shorten a group's arrays to their totals; a total out of range leaves the whole array."""
    shortened = dict(fields)
    for array, total in (("secmargins", "secmargins_total"), ("news_languages", "news_languages_total")):
        if 0 <= fields[total] <= len(fields[array]):
            shortened[array] = fields[array][: fields[total]]
    return shortened
