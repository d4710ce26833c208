"""Symbols, groups, users, online, requests, plugins: tables told row by row, or by their differences."""

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
from mt4pump.pump.snapshot import Source, Take
from mt4pump.pump.table_diff import DELETE, UPDATE, Table, TableEvent
from mt4pump.wire import GROUP, ONLINE, PLUGIN, REQUEST, SYMBOL, USER, Kind


class SymbolFilter:
    """Patterns in the shell's way (``EUR*``, ``??JPY``, ``[!X]*``); one that begins with ``!`` excludes.

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
    """The parameters of each plugin as last told; a plugin is known by its ``file``.

    The API rings for a changed parameter as for a changed plugin, and the plugin's row is then the same as before.
    """

    def __init__(self, reader: CurrentSession, fault_counters: FaultCounters, encoding: str) -> None:
        self._reader = reader
        self._fault_counters = fault_counters
        self._plugin = Decoder(CON_PLUGIN, encoding)
        self._parameter = Decoder(PLUGIN_CFG, encoding)
        self._plugins: list[Fields] = []
        self._read: dict[str, Parameters] = {}
        self._told: dict[str, Parameters | None] = {}

    def read(self, array: bytes) -> None:
        """Read the parameters of the plugins of ``array``, a ConPlugin table; raises ConnectionLost.

        Those that cannot be read, or not at all with this library (64 bit), are no change; a failure is counted.
        """
        plugins = list(self._plugin.many(array))
        parameters = {fields["file"]: self._read_one(position) for position, fields in enumerate(plugins)}
        # The API knows parameters by position: if plugins came or went meanwhile, they may be those of another one.
        # This read also fails when the session is dying, as its answers are not to be believed then.
        again = self._plugin.many(self._reader.manager.table("plugins"))
        if [fields["file"] for fields in again] != [fields["file"] for fields in plugins]:
            parameters = {}  # the bell for what changed is on its way
        self._plugins = plugins
        self._read = {file: read for file, read in parameters.items() if read is not None}

    def changed(self) -> Iterator[Fields]:
        """Yield the plugins whose parameters are others than last told; those not known before are nobody's news."""
        for fields in self._plugins:
            file = fields["file"]
            if file in self._read and self._told.setdefault(file, self._read[file]) != self._read[file]:
                yield fields

    def with_parameters(self, fields: Fields) -> Fields:
        """Return a plugin's ``fields`` as they are told: with its parameters, None where they are not known."""
        file = fields["file"]
        if fields["action"] == DELETE:
            self._told.pop(file, None)
            return {**fields, "parameters": None}
        self._told[file] = self._read.get(file)
        return {**fields, "parameters": self._told[file]}

    def _read_one(self, position: int) -> Parameters | None:
        try:
            array = self._reader.manager.plugin_parameters(position)
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
    """A table, the kind it is told as, the field that its topic is named after, and the last touch to a row."""

    kind: Kind
    table: Table
    key: str
    shape: Shape


class TableHandler:
    """Keeps what was last told of every table, so that a re-read tells only differences.

    ``before_start`` counts rows and doorbells of the API's initial fill, ``repeats`` rows that changed nothing.
    """

    def __init__(
        self,
        writer: EventWriter,
        reader: CurrentSession,
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
        self._reader = reader
        self._fault_counters = fault_counters
        self._encoding = encoding
        self._filter = SymbolFilter(symbols)
        self._selected: set[bytes] = set()
        self._selected_of: Manager | None = None
        self._parameters = PluginParameters(reader, fault_counters, encoding) if plugin_parameters else None
        layout: tuple[tuple[str, Kind, Decoder, str, str, Shape], ...] = (
            ("symbols", SYMBOL, Decoder(CON_SYMBOL, encoding), "symbol", "symbol", _as_it_is),
            ("groups", GROUP, Decoder(CON_GROUP, encoding), "group", "group", _used_part),
            ("users", USER, Decoder(USER_RECORD, encoding, user_fields), "login", "login", _as_it_is),
            ("online", ONLINE, Decoder(ONLINE_RECORD, encoding), "login", "login", _as_it_is),
            ("requests", REQUEST, Decoder(REQUEST_INFO, encoding), "id", "login", _as_it_is),
            ("plugins", PLUGIN, Decoder(CON_PLUGIN, encoding), "file", "name", _named),
        )
        self._rooms = {
            name: TableBinding(kind, Table(decoder, row_key), topic_key, shape)
            for name, kind, decoder, row_key, topic_key, shape in layout
        }

    def take(self, name: str, action: int, data: bytes, ts: int) -> None:
        """Tell one row of table ``name``, or what differs in the table when the API gave no row.

        Rows and doorbells before START are the API's initial fill: counted, and left to the read at START. A table that
        is only half full then would tell every row that is not there yet as deleted.
        """
        room = self._rooms[name]
        if not self._reader.live:
            self.before_start += 1
        elif not data:
            self.reread(name, ts)
        else:
            for settled in room.table.settle(data):
                self._tell(room, settled, ts, synthetic=True)
            event = room.table.apply(action, data)
            if event is None:
                self.repeats += 1
            else:
                self._tell(room, event, ts, synthetic=False)
            if room.kind is SYMBOL and action != Transaction.DELETE:
                self._select((data,))

    @property
    def is_primed(self) -> bool:
        """Return whether the rows of every table are known."""
        return all(room.table.primed for room in self._rooms.values())

    def states(self) -> Iterator[tuple[Kind, Take]]:
        """Yield what a snapshot shows of each table."""
        for room in self._rooms.values():
            yield room.kind, partial(_source, room)

    def select(self, symbols: tuple[str, ...]) -> None:
        """Ask for the quotes of other ``symbols`` from now on, and no more for those that fell out."""
        self._filter = SymbolFilter(symbols)
        if self._reader.live:
            self._select(rows(self._reader.manager.table("symbols"), CON_SYMBOL.size))

    def in_reach(self, login: int) -> bool:
        """Return whether account ``login`` is one that this manager sees; True where no accounts are told at all."""
        users = self._rooms["users"].table
        return not len(users) or login in users

    def reread(self, name: str, ts: int, *, synthetic: bool = False) -> None:
        """Read table ``name`` whole and publish the differences; its first read sets the baseline.

        A table that is suddenly empty changes nothing until a second read agrees, see `CurrentSession.table`.
        """
        self._schedule(name, lambda: self._reread(name, ts, synthetic=synthetic))

    def _reread(self, name: str, ts: int, *, synthetic: bool) -> Steps:
        room = self._rooms[name]
        again = partial(self.reread, name, synthetic=synthetic)
        array = self._reader.table(name, has_rows=len(room.table) > 0, again=again)
        if array is None:
            return
        if room.kind is SYMBOL:
            self._select(rows(array, CON_SYMBOL.size))
        parameters = self._parameters if room.kind is PLUGIN else None
        if parameters:
            parameters.read(array)  # first, as the rows' differences are told but once
        for event in room.table.compare(array):
            if event is None:
                yield
            else:
                self._tell(room, event, ts, synthetic=synthetic)
        for fields in parameters.changed() if parameters else ():
            self._tell(room, TableEvent(UPDATE, fields), ts, synthetic=synthetic)

    def reread_all(self, ts: int) -> None:
        """Read every table; differences are marked synthetic. One that cannot be read does not keep the others."""
        for name in self._rooms:
            try:
                self.reread(name, ts, synthetic=True)
            except ConnectionLost:
                raise
            except ManagerError as error:
                self._fault_counters.record("read_error", error)

    def _tell(self, room: TableBinding, event: TableEvent, ts: int, *, synthetic: bool) -> None:
        fields = room.shape({**event.fields, "action": event.action})
        if room.kind is PLUGIN and self._parameters:
            fields = self._parameters.with_parameters(fields)
        self._writer.write(room.kind, fields[room.key], fields, ts, synthetic=synthetic)

    def _select(self, records: Iterable[bytes]) -> None:
        """Ask for the quotes of the symbols that the settings want, and no more for those that they want no more.

        Also for those asked for before: whether a selection outlives a change of the symbol is not known; the vendor's
        sample asks again, too. What fails is tried again whenever the symbol is read again.
        """
        manager = self._reader.manager
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


def _source(room: TableBinding) -> Source:
    """Return the rows of a room as they are now, shaped when somebody reads them."""
    kept, named_by_key = room.table.copy(), room.shape is _as_it_is and room.kind is not REQUEST

    def read() -> Iterator[tuple[object, bytes | Fields]]:
        for key, (_, packed) in kept.items():
            if named_by_key:
                yield key, packed
            else:
                fields = (_used_part if room.kind is GROUP else _shown)(msgpack.unpackb(packed))
                yield fields[room.key], fields

    return read


def _shown(fields: Fields) -> Fields:
    """Return a row as a snapshot shows it; a plugin's parameters would need the session, so they are left out."""
    return _named(fields) if "file" in fields else fields


def _as_it_is(fields: Fields) -> Fields:
    return fields


def _named(fields: Fields) -> Fields:
    """Add a plugin's ``name``, which its topic ends in: the name it gives itself, else its file."""
    return {**fields, "name": fields["info"]["name"] or fields["file"]}


def _used_part(fields: Fields) -> Fields:
    """Cut a group's arrays to the part in use, as its own totals say; a total out of range shows the whole array."""
    cut = dict(fields)
    for array, total in (("secmargins", "secmargins_total"), ("news_languages", "news_languages_total")):
        if 0 <= fields[total] <= len(fields[array]):
            cut[array] = fields[array][: fields[total]]
    return cut
