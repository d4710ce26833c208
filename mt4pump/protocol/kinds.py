"""The body of every kind of event, as the settings make it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from mt4pump.protocol.contract import ALWAYS, IN_EVENT, FieldSpec, contract, plain_fields
from mt4pump.wire import KINDS, SESSION, Kind


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
