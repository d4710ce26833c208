"""`protocol.toml` as typed, frozen objects, and the kinds of event as the settings make them.

The types of record fields come from `mt4pump.mt4.layout`.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from typing import Any

import mt4pump.mt4.layout  # noqa: F401 - registers the records in Record.known
from mt4pump.errors import LayoutError
from mt4pump.mt4.record import PERSONAL, PUBLIC, Field, Record
from mt4pump.wire import KINDS, SESSION, Kind

ALWAYS = "always"
IN_EVENT = "the body is an event and no row of a snapshot"

TYPES = {"bhiq": "int", "BHIQ": "uint", "fd": "float", "su": "str"}
TYPE_OF_LETTER = {letter: kind for letters, kind in TYPES.items() for letter in letters}
"""Type of a decoded record field by its kind in `mt4pump.mt4.record`."""

TomlTable = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One field, or one element of a list or map. `protocol.toml` explains the attributes."""

    type: str
    meaning: str
    unit: str = ""
    when: str = ALWAYS
    event_only: bool = False
    setting: str = ""
    nullable: bool = False
    numbers: Mapping[str, int] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    items: FieldSpec | None = None
    fields: Mapping[str, FieldSpec] = field(default_factory=dict)
    partial: bool = False

    @property
    def is_required(self) -> bool:
        """Return whether every message has the key, events and snapshots alike."""
        return self.when == ALWAYS

    def plain(self) -> dict[str, Any]:
        """Return the field as plain values for the ``describe`` reply; attributes with their default are omitted."""
        optional = {
            "when": "" if self.is_required else self.when,
            "nullable": self.nullable,
            "flags" if self.unit.startswith("flags ") else "enum": dict(self.numbers),
            "words": list(self.words),
            "items": self.items.plain() if self.items else None,
            "fields": plain_fields(self.fields),
            "partial": self.partial,
        }
        given = {name: value for name, value in optional.items() if value}
        return {"type": self.type, "unit": self.unit, "meaning": self.meaning, **given}


FieldSpecs = Mapping[str, FieldSpec]


def plain_fields(specs: FieldSpecs) -> dict[str, Any]:
    """Return each field's `FieldSpec.plain`."""
    return {name: spec.plain() for name, spec in specs.items()}


@dataclass(frozen=True, slots=True)
class KindSpec:
    """Body of one kind of event. ``snapshot`` says whether a snapshot has rows of the kind."""

    meaning: str
    snapshot: bool
    fields: FieldSpecs


@dataclass(frozen=True, slots=True)
class Contract:
    """The whole document; ``records`` holds public and personal fields."""

    common: FieldSpecs
    kinds: Mapping[str, KindSpec]
    requests: Mapping[str, FieldSpecs]
    heads: Mapping[str, FieldSpecs]
    codes: Mapping[str, str]
    records: Mapping[str, FieldSpecs]
    enumerations: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class GatewayMessages:
    """JSON messages of the WebSocket gateway: from clients by ``action``, and to clients."""

    requests: Mapping[str, FieldSpecs]
    messages: Mapping[str, FieldSpecs]


@functools.cache
def contract() -> Contract:
    """Read `protocol.toml`; raise LayoutError when a published field of a record has no note."""
    return contract_from(_document("mt4pump.protocol", "protocol.toml"))


@functools.cache
def gateway_messages() -> GatewayMessages:
    """Read the gateway's messages, which its own package describes."""
    document = _document("mt4pump_consumers.gateway", "messages.toml")
    reader = _Reader(document)
    return GatewayMessages(reader.messages(document["requests"]), reader.messages(document["messages"]))


def contract_from(document: TomlTable) -> Contract:
    """Return the contract that a TOML document describes."""
    reader = _Reader(document)
    return Contract(
        common=reader.specs(document["common"]),
        kinds={name: reader.kind(row) for name, row in document["kinds"].items()},
        requests=reader.messages(document["requests"]),
        heads=reader.messages(document["heads"]),
        codes=document["codes"],
        records=reader.records,
        enumerations=document["enumerations"],
    )


def _document(package: str, file: str) -> dict[str, Any]:
    return tomllib.loads(resources.files(package).joinpath(file).read_text(encoding="utf-8"))


class _Reader:
    """Resolves the references of one document."""

    def __init__(self, document: TomlTable) -> None:
        self._shared: TomlTable = document["shared"]
        self._groups: TomlTable = document["groups"]
        self._enumerations: TomlTable = document.get("enumerations", {})
        self.records: dict[str, FieldSpecs] = {}
        for name, notes in document.get("records", {}).items():  # a nested record comes before the record that holds it
            self.records[name] = dict(self._record(Record.known[name], notes))

    def messages(self, tables: TomlTable) -> dict[str, FieldSpecs]:
        return {name: self.specs(table) for name, table in tables.items()}

    def specs(self, table: TomlTable) -> dict[str, FieldSpec]:
        return {name: self._spec(row) for name, row in table.items()}

    def kind(self, row: TomlTable) -> KindSpec:
        records: Mapping[str, str] = row.get("records") or ({row["record"]: ALWAYS} if "record" in row else {})
        parts = {when: self._published(name, row.get("personal", "")) for name, when in records.items()}
        common = set.intersection(*map(set, parts.values())) if parts else set()
        fields = {name: spec for part in parts.values() for name, spec in part.items() if name in common}
        for when, part in parts.items():
            fields |= {name: replace(spec, when=when) for name, spec in part.items() if name not in fields}
        return KindSpec(row["meaning"], row.get("snapshot", True), {**fields, **self.specs(row["fields"])})

    def _published(self, name: str, setting: str = "") -> dict[str, FieldSpec]:
        """Return the fields of a record; personal ones only where ``setting`` can name them."""
        personal = Record.known[name].names(PERSONAL)
        return {
            field: replace(spec, setting=setting, when=_named_by(setting)) if field in personal else spec
            for field, spec in self.records[name].items()
            if setting or field not in personal
        }

    def _spec(self, row: TomlTable) -> FieldSpec:
        if "shared" in row:
            return self._spec(self._shared[row["shared"]])
        values = dict(row)
        if "setting" in row:
            values.setdefault("when", _named_by(row["setting"]))
        if "event_only" in row:
            values.setdefault("when", IN_EVENT)
        if "items" in row:
            values["items"] = self._spec(row["items"])
        if "fields" in row:
            name = row["fields"]
            values["fields"] = self.specs(self._groups[name]) if name in self._groups else self._published(name)
        kind, _, name = row.get("unit", "").partition(" ")
        if kind in {"enum", "flags"}:
            values["numbers"] = self._enumerations[name]
        values["words"] = tuple(row.get("words", ()))
        return FieldSpec(**values)

    def _record(self, record: Record, notes: TomlTable) -> Iterator[tuple[str, FieldSpec]]:
        published = record.names(PUBLIC, PERSONAL)
        if missing := published - notes.keys():
            raise LayoutError(f"{record.name}: no note says what {', '.join(sorted(missing))} means")
        for member in record.fields:
            if member.name in published:
                note = notes[member.name]
                yield member.name, self._record_field(member, {"meaning": note} if isinstance(note, str) else note)

    def _record_field(self, member: Field, note: TomlTable) -> FieldSpec:
        if member.record:
            nested = FieldSpec("map", note["meaning"], fields=self._published(member.record.name))
            return FieldSpec("list", note["meaning"], items=nested) if member.count else nested
        spec = self._spec({"type": TYPE_OF_LETTER[member.kind], **note})
        is_array = member.count and spec.type != "str"
        return FieldSpec("list", spec.meaning, spec.unit, items=spec) if is_array else spec


def _named_by(setting: str) -> str:
    return f"the setting {setting} names it"


@dataclass(frozen=True, slots=True)
class ContractOptions:
    """What the settings of the same names change about bodies; ``durable`` are the kinds that the journal stores."""

    user_fields: frozenset[str] = frozenset()
    mail_fields: frozenset[str] = frozenset()
    plugin_parameters: bool = False
    durable: frozenset[str] = field(default_factory=lambda: frozenset(k.name for k in KINDS.values() if k.durable))
    topic_suffix: str = ""

    def permits(self, setting: str, name: str) -> bool:
        """Return whether ``setting`` is on, or names the field ``name``."""
        value: bool | frozenset[str] = getattr(self, setting)
        return value if isinstance(value, bool) else name in value


def fields_of(kind: str, options: ContractOptions | None = None) -> dict[str, FieldSpec]:
    """Return the fields of a body of ``kind``, without the common ones; raises KeyError for an unknown kind.

    Without ``options`` it returns all possible fields, each with the setting that it needs as its condition.
    """
    fields = dict(contract().kinds[kind].fields)
    if options is None:
        return fields
    return {
        name: replace(spec, when=IN_EVENT if spec.event_only else ALWAYS) if spec.setting else spec
        for name, spec in fields.items()
        if not spec.setting or options.permits(spec.setting, name)
    }


def topic_form(kind: Kind, suffix: str = "") -> str:
    """Return how a topic of ``kind`` is made, as ``trade.<login>``."""
    key = "start, stop or ping" if kind is SESSION else kind.key
    return (f"{kind.name}.<{key}>" if key else kind.name) + suffix


def kinds_for(options: ContractOptions | None = None) -> dict[str, dict[str, Any]]:
    """Return every kind as plain values: the ``kinds`` of the ``describe`` reply.

    Without ``options`` it returns all possible fields (see `fields_of`) and the defaults of all other settings.
    """
    settings = options or ContractOptions()
    return {
        kind.name: {
            "topic": topic_form(kind, settings.topic_suffix),
            "key": "" if kind is SESSION else kind.key,  # the end of a session's topic is no field of the body
            "codes": [int(code) for code in kind.codes],
            "durable": kind.name in settings.durable,
            "snapshot": contract().kinds[kind.name].snapshot,
            "meaning": contract().kinds[kind.name].meaning,
            "fields": plain_fields(fields_of(kind.name, options)),
        }
        for kind in KINDS.values()
    }


def common_fields() -> dict[str, Any]:
    """Return the keys of every body as plain values: the ``common`` of the ``describe`` reply."""
    return plain_fields(contract().common)
