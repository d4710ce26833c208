"""The body of every kind of event, field by field; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mt4pump.mt4 import layout
from mt4pump.mt4.codes import ACTION_NAMES
from mt4pump.mt4.record import PERSONAL
from mt4pump.protocol.fields import (
    BOOL,
    FLOAT,
    IN_EVENT,
    INT,
    STR,
    UINT,
    Spec,
    Specs,
    fixed,
    numbers_of,
    plain_fields,
    record_fields,
    rows_of,
)
from mt4pump.protocol.heartbeat import HEARTBEAT_FIELDS, SESSION_STATES
from mt4pump.pump.lifecycle import CHANGES
from mt4pump.wire import KINDS, SESSION, Kind

WITHOUT_SNAPSHOT = frozenset({"news", "mail", "unknown", "heartbeat"})
"""Kinds without a last value: a snapshot has no rows of them."""

INFERRED = "the daemon inferred the event from a table and did not receive it"
STORED = "the kind is durable and the journal took the event; never for session.ping"
IN_SNAPSHOT = "the body is a row of a snapshot and not an event"
OLD_NEWS, NEW_NEWS = "the header came as NewsTopic", "the header came as NewsTopicNew"

COMMON_FIELDS: Specs = {
    "epoch": Spec(UINT, "when this run of the daemon began", "ms since 1970"),
    "seq": Spec(UINT, "1, 2, 3 … per topic within the epoch; in a snapshot the topic's last one, 0 before the first"),
    "ts": Spec(
        UINT,
        "when the API called back; for a heartbeat or a synthetic event, when the daemon read the state",
        "ns since 1970",
    ),
    "offset": Spec(UINT, "number of the event in the log, greater with every durable event", when=STORED),
    "synthetic": Spec(BOOL, "true", when=INFERRED),
    "snapshot": Spec(BOOL, "true", when=IN_SNAPSHOT),
}
"""Keys of every body."""

ACTION = Spec(
    STR,
    "what the API did to the row; for an order see `change` as well",
    when=IN_EVENT,
    words=tuple(ACTION_NAMES.values()),
)


@dataclass(frozen=True, slots=True)
class ContractOptions:
    """What the settings change about bodies; the settings of the same names.

    ``durable`` are the kinds that go to the journal.
    """

    user_fields: frozenset[str] = frozenset()
    mail_fields: frozenset[str] = frozenset()
    plugin_parameters: bool = False
    durable: frozenset[str] = field(default_factory=lambda: frozenset(k.name for k in KINDS.values() if k.durable))
    topic_suffix: str = ""


def fields_of(kind: str, options: ContractOptions | None = None) -> dict[str, Spec]:
    """Return the fields of a body of ``kind``, without the common ones; raises KeyError for an unknown kind.

    Without ``options`` it returns all possible fields, each with the setting that it needs as its condition.
    """
    fields = dict(_FIELDS[kind])
    if options is not None and kind == "user":
        return {**record_fields(layout.USER_RECORD, options.user_fields), "action": ACTION}
    if options is not None and kind == "mail":
        return _mail(options.mail_fields)
    if options is not None and kind == "plugin":
        parameters = fields.pop("parameters").only(IN_EVENT)
        return {**fields, "parameters": parameters} if options.plugin_parameters else fields
    return fields


def topic_key(kind: Kind) -> str:
    """Return the field that ends a topic of ``kind``; empty where none does (``session.start`` names the event)."""
    return "" if kind is SESSION else kind.key


def topic_form(kind: Kind, suffix: str = "") -> str:
    """Return how a topic of ``kind`` is made, as ``trade.<login>``."""
    if kind is SESSION:
        return f"{kind.name}.<start, stop or ping>{suffix}"
    return (f"{kind.name}.<{kind.key}>" if kind.key else kind.name) + suffix


def kinds_for(options: ContractOptions | None = None) -> dict[str, dict[str, Any]]:
    """Return every kind as plain values: the ``kinds`` of the ``describe`` reply.

    Without ``options`` it returns all possible fields (see `fields_of`) and the defaults of all other settings.
    """
    settings = options or ContractOptions()
    return {
        kind.name: {
            "topic": topic_form(kind, settings.topic_suffix),
            "key": topic_key(kind),
            "codes": [int(code) for code in kind.codes],
            "durable": kind.name in settings.durable,
            "snapshot": kind.name not in WITHOUT_SNAPSHOT,
            "meaning": kind.meaning,
            "fields": plain_fields(fields_of(kind.name, options)),
        }
        for kind in KINDS.values()
    }


def common_fields() -> dict[str, Any]:
    """Return the keys of every body as plain values: the ``common`` of the ``describe`` reply."""
    return plain_fields(COMMON_FIELDS)


def _quote() -> dict[str, Spec]:
    direction = Spec(
        INT, "direction of the last change", "enum SymbolDirection", numbers=numbers_of("enum SymbolDirection")
    )
    return {
        "symbol": Spec(STR, "symbol"),
        "digits": Spec(INT, "decimal places of the prices", "digits"),
        "bid": Spec(FLOAT, "best bid", "price"),
        "ask": Spec(FLOAT, "best ask", "price"),
        "spread": Spec(INT, "ask - bid; nil when the prices give no whole number", "points", nullable=True),
        "time": Spec(INT, "when the quote came to the server", "s, server clock"),
        "high": Spec(FLOAT, "highest bid, presumably of the day", "price"),
        "low": Spec(FLOAT, "lowest bid, presumably of the day", "price"),
        "direction": direction,
    }


def _trade() -> dict[str, Spec]:
    record = record_fields(layout.TRADE_RECORD)
    change = Spec(STR, "what happened to the order", when=IN_EVENT, words=CHANGES)
    before = fixed(
        "old values of the fields that changed; empty: none did; nil: the order was not known",
        record,
        when=IN_EVENT,
        nullable=True,
        partial=True,
    )
    ended = Spec(
        BOOL,
        "true: the order is not open",
        when="a `modified` is of an order whose end was published before, or of a balance or credit operation",
    )
    return {**record, "action": ACTION, "change": change, "before": before, "ended": ended}


def _news() -> dict[str, Spec]:
    old, new = record_fields(layout.NEWS_TOPIC), record_fields(layout.NEWS_TOPIC_NEW)
    return {
        "key": old["key"],
        "category": old["category"],
        **{name: spec.only(OLD_NEWS) for name, spec in old.items() if name not in new},
        **{name: spec.only(NEW_NEWS) for name, spec in new.items() if name not in old},
        "body": Spec(STR, "text; nil: not known yet, or the API gives none", nullable=True),
        "action": Spec(STR, "add: a news; update: the body of a news published before", words=("add", "update")),
    }


def _mail(named: frozenset[str]) -> dict[str, Spec]:
    body = {"body": Spec(STR, "text; nil: the API gives none", nullable=True)} if "body" in named else {}
    return {**record_fields(layout.MAIL_BOX, named), **body, "action": Spec(STR, "add", words=("add",))}


def _plugin() -> dict[str, Spec]:
    parameter = fixed("one parameter", record_fields(layout.PLUGIN_CFG))
    return {
        **record_fields(layout.CON_PLUGIN),
        "name": Spec(STR, "key of the topic: the plugin's name, or its file where it has no name"),
        "action": ACTION,
        "parameters": rows_of(
            "parameters; nil: deleted, or not available (64-bit DLL, or a failed read, which is counted)",
            parameter,
            nullable=True,
            when="the setting plugin_parameters is on, and the body is no row of a snapshot",
        ),
    }


def _user() -> dict[str, Spec]:
    personal = layout.USER_RECORD.names(PERSONAL)
    record = record_fields(layout.USER_RECORD, personal)
    named = "the setting user_fields names it"
    shown = {name: spec.only(named) if name in personal else spec for name, spec in record.items()}
    return {**shown, "action": ACTION}


def _every_mail() -> dict[str, Spec]:
    named = "the setting mail_fields names it"
    personal = layout.MAIL_PERSONAL
    return {name: spec.only(named) if name in personal else spec for name, spec in _mail(personal).items()}


def _session() -> dict[str, Spec]:
    return {
        "server": Spec(STR, "MT4 server of the session"),
        "login": Spec(INT, "manager account"),
        "state": Spec(STR, "pumping after start and ping, lost after stop", words=SESSION_STATES),
        "reason": Spec(STR, "the pump code that reported it, or why the session was ended"),
    }


def _unknown() -> dict[str, Spec]:
    return {
        "code": Spec(INT, "the pump code, which this version does not know"),
        "action": Spec(INT, "second argument of the callback, as it came"),
    }


_FIELDS: Mapping[str, Specs] = {
    "quote": _quote(),
    "trade": _trade(),
    "user": _user(),
    "online": {**record_fields(layout.ONLINE_RECORD), "action": ACTION},
    "margin": {**record_fields(layout.MARGIN_LEVEL), "action": ACTION},
    "symbol": {**record_fields(layout.CON_SYMBOL), "action": ACTION},
    "group": {**record_fields(layout.CON_GROUP), "action": ACTION},
    "request": {**record_fields(layout.REQUEST_INFO), "action": ACTION},
    "activation": {**record_fields(layout.TRADE_RECORD), "action": ACTION},
    "news": _news(),
    "mail": _every_mail(),
    "plugin": _plugin(),
    "session": _session(),
    "unknown": _unknown(),
    "heartbeat": HEARTBEAT_FIELDS,
}
