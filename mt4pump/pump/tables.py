"""Handles symbols, groups, users, online, requests, plugins: published row by row, or as differences of a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from functools import partial
from typing import NamedTuple

import msgpack

from mt4pump.errors import ConnectionLost, LayoutError, ManagerError
from mt4pump.log import FaultCounters
from mt4pump.mt4.codes import Transaction
from mt4pump.mt4.decode import Decoder, Fields
from mt4pump.mt4.layout import CON_GROUP, CON_PLUGIN, CON_SYMBOL, ONLINE_RECORD, PLUGIN_CFG, REQUEST_INFO, USER_RECORD
from mt4pump.mt4.manager import Manager
from mt4pump.pump.event_writer import EventWriter
from mt4pump.pump.session import CurrentSession, rows
from mt4pump.pump.sliced_work import Schedule, Steps, at_once
from mt4pump.pump.snapshot import RowSource, TakeRows
from mt4pump.pump.table_diff import DELETE, UPDATE, Table, TableEvent
from mt4pump.wire import GROUP, ONLINE, PLUGIN, REQUEST, SYMBOL, USER, Kind


class SymbolFilter:
    """Shell patterns (``EUR*``, ``??JPY``, ``[!X]*``); one that begins with ``!`` excludes.

    A symbol is selected when a pattern includes it and none excludes it; excludes alone leave all the others in.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        patterns = [pattern.strip() for pattern in patterns]
        self._excluded = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
        self._included = [pattern for pattern in patterns if not pattern.startswith("!")] or ["*"]

    def selects(self, symbol: str) -> bool:
        """Return whether quotes of ``symbol`` are wanted."""
        if any(fnmatchcase(symbol, pattern) for pattern in self._excluded):
            return False
        return any(fnmatchcase(symbol, pattern) for pattern in self._included)


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

    def read(self, array: bytes) -> None:
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
        except ManagerError as error:
            self._fault_counters.record("read_error", error)
        except LayoutError as error:
            self._fault_counters.record("bad_record", error)
        return None


Shape = Callable[[Fields], Fields]


class TableBinding(NamedTuple):
    """A table, its kind on the bus, the field that its topics are named after, and what shapes a published row."""

    kind: Kind
    table: Table
    key: str
    shape: Shape


class TableHandler:
    """Keeps every table as last published, so that reading it again publishes only differences.

    ``before_start`` counts records and doorbells of the API's initial fill, ``repeats`` records that changed nothing.
    """

    def __init__(
        self,
        writer: EventWriter,
        current: CurrentSession,
        fault_counters: FaultCounters,
        *,
        encoding: str,
        symbols: tuple[str, ...],
        user_fields: frozenset[str],
        plugin_parameters: bool,
        schedule: Schedule = at_once,
    ) -> None:
        self._schedule = schedule
        self.before_start = self.repeats = 0
        self._writer = writer
        self._current = current
        self._fault_counters = fault_counters
        self._encoding = encoding
        self._filter = SymbolFilter(symbols)
        self._selected: set[bytes] = set()
        self._selected_of: Manager | None = None
        self._parameters = PluginParameters(current, fault_counters, encoding) if plugin_parameters else None
        layout: tuple[tuple[str, Kind, Decoder, str, str, Shape], ...] = (
            ("symbols", SYMBOL, Decoder(CON_SYMBOL, encoding), "symbol", "symbol", _unchanged),
            ("groups", GROUP, Decoder(CON_GROUP, encoding), "group", "group", _used_part),
            ("users", USER, Decoder(USER_RECORD, encoding, user_fields), "login", "login", _unchanged),
            ("online", ONLINE, Decoder(ONLINE_RECORD, encoding), "login", "login", _unchanged),
            ("requests", REQUEST, Decoder(REQUEST_INFO, encoding), "id", "login", _unchanged),
            ("plugins", PLUGIN, Decoder(CON_PLUGIN, encoding), "file", "name", _with_name),
        )
        self._bindings = {
            name: TableBinding(kind, Table(decoder, row_key), topic_key, shape)
            for name, kind, decoder, row_key, topic_key, shape in layout
        }

    def handle(self, name: str, action: int, data: bytes, ts: int) -> None:
        """Publish one row of table ``name``, or the differences of the table when the API gave no row.

        Records and doorbells before START are the API's initial fill: they are counted, and START reads the table. A
        table that is half full would publish every row that is not there yet as deleted.
        """
        binding = self._bindings[name]
        if not self._current.live:
            self.before_start += 1
        elif not data:
            self.reread(name, ts)
        else:
            for settled in binding.table.settle(data):
                self._publish(binding, settled, ts, synthetic=True)
            event = binding.table.apply(action, data)
            if event is None:
                self.repeats += 1
            else:
                self._publish(binding, event, ts, synthetic=False)
            if binding.kind is SYMBOL and action != Transaction.DELETE:
                self._select((data,))

    @property
    def has_baseline(self) -> bool:
        """Return whether the rows of every table are known."""
        return all(binding.table.has_baseline for binding in self._bindings.values())

    def states(self) -> Iterator[tuple[Kind, TakeRows]]:
        """Yield the rows of a snapshot, table by table."""
        for binding in self._bindings.values():
            yield binding.kind, partial(_source, binding)

    def select(self, symbols: tuple[str, ...]) -> None:
        """Select the symbols that match the patterns ``symbols`` for quotes, and deselect the others."""
        self._filter = SymbolFilter(symbols)
        if self._current.live:
            self._select(rows(self._current.manager.table("symbols"), CON_SYMBOL.size))

    def is_visible(self, login: int) -> bool:
        """Return whether this manager sees account ``login``; True where the API lists no accounts."""
        users = self._bindings["users"].table
        return not len(users) or login in users

    def reread(self, name: str, ts: int, *, synthetic: bool = False) -> None:
        """Read table ``name`` whole and publish the differences; its first read sets the baseline.

        A table that is suddenly empty changes nothing until a second read agrees, see `CurrentSession.table`.
        """
        self._schedule(name, lambda: self._reread(name, ts, synthetic=synthetic))

    def _reread(self, name: str, ts: int, *, synthetic: bool) -> Steps:
        binding = self._bindings[name]
        again = partial(self.reread, name, synthetic=synthetic)
        array = self._current.table(name, has_rows=len(binding.table) > 0, again=again)
        if array is None:
            return
        if binding.kind is SYMBOL:
            self._select(rows(array, CON_SYMBOL.size))
        parameters = self._parameters if binding.kind is PLUGIN else None
        if parameters:
            parameters.read(array)  # first, because a difference of the rows is published only once
        for event in binding.table.compare(array):
            if event is None:
                yield
            else:
                self._publish(binding, event, ts, synthetic=synthetic)
        for fields in parameters.changed() if parameters else ():
            self._publish(binding, TableEvent(UPDATE, fields), ts, synthetic=synthetic)

    def reread_all(self, ts: int) -> None:
        """Read every table; differences are marked synthetic. A table that cannot be read is counted and skipped."""
        for name in self._bindings:
            try:
                self.reread(name, ts, synthetic=True)
            except ConnectionLost:
                raise
            except ManagerError as error:
                self._fault_counters.record("read_error", error)

    def _publish(self, binding: TableBinding, event: TableEvent, ts: int, *, synthetic: bool) -> None:
        fields = binding.shape({**event.fields, "action": event.action})
        if binding.kind is PLUGIN and self._parameters:
            fields = self._parameters.with_parameters(fields)
        self._writer.write(binding.kind, fields[binding.key], fields, ts, synthetic=synthetic)

    def _select(self, records: Iterable[bytes]) -> None:
        """Select the symbols that the patterns select for quotes, and deselect those that they no longer select.

        Selected ones are selected again, as in the vendor's sample: whether a change of the symbol ends a selection is
        not known. A selection that fails is tried again when the symbol is read again.
        """
        manager = self._current.manager
        if self._selected_of is not manager:  # nothing is selected in a new session
            self._selected_of = manager
            self._selected.clear()
        for name in map(_symbol_name, records):
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


def _symbol_name(record: bytes) -> bytes:
    return record[: CON_SYMBOL.by_name["symbol"].size].partition(b"\0")[0]


def _source(binding: TableBinding) -> RowSource:
    """Return the rows of a table as they are now; they are shaped when they are read."""
    kept, named_by_key = binding.table.copy(), binding.shape is _unchanged and binding.kind is not REQUEST

    def read() -> Iterator[tuple[object, bytes | Fields]]:
        for key, (_, packed) in kept.items():
            if named_by_key:
                yield key, packed
            else:
                fields = (_used_part if binding.kind is GROUP else _shown)(msgpack.unpackb(packed))
                yield fields[binding.key], fields

    return read


def _shown(fields: Fields) -> Fields:
    """Return a row for a snapshot; a plugin's parameters are dropped, because only the session can give them."""
    return _with_name(fields) if "file" in fields else fields


def _unchanged(fields: Fields) -> Fields:
    return fields


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
