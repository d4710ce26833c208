"""What a vector is made of: settings, steps that a Manager would cause, and how to write them down.

A step is a plain map with ``do``: ``table`` ``quotes`` ``mail`` ``news_body`` ``parameters`` set what the API would
answer; ``call`` is one call of the pump callback; ``lost`` is the end of a session and the next one, not started yet;
``publish`` is one event of the daemon itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from mt4pump.mt4.codes import PumpCode
from mt4pump.mt4.record import Record
from tests.vectors.plain import plain

Step = dict[str, Any]
FIRST_TS = 1_700_000_000_000_000_000
TS_STEP = 1_000_003
"""Nanoseconds between two calls: odd, so that no digit of a stamp is always 0."""


@dataclass(frozen=True)
class Rec:
    """A record to pack: its name and its fields."""

    name: str
    fields: dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One vector. Messages of ``setup`` are not looked at."""

    name: str
    settings: dict[str, Any]
    setup: list[Step]
    steps: list[Step]


@dataclass
class Script:
    """Makes the steps of one case: records packed, stamps given."""

    encoding: str
    ts: int = field(default=FIRST_TS)

    def written(self, steps: Iterable[Step]) -> list[Step]:
        """Return the steps as they are stored."""
        return [self._step(step) for step in steps]

    def _step(self, step: Step) -> Step:
        done = {name: self._value(value) for name, value in step.items()}
        if step["do"] in {"call", "lost", "publish"}:
            self.ts += TS_STEP
            done["ts"] = self.ts
        return done

    def _value(self, value: Any) -> Any:
        if isinstance(value, Rec):
            packed = Record.known[value.name].pack(value.fields, self.encoding)
            return {"record": value.name, "fields": plain(value.fields), "hex": packed.hex()}
        if isinstance(value, bytes):
            return value.hex()
        if isinstance(value, list | tuple):
            return [self._value(each) for each in value]
        return plain(value)


def rec(record: str, /, *given: dict[str, Any], **fields: Any) -> Rec:
    """Return a record to pack: maps of fields, the later ones first, and single fields."""
    merged: dict[str, Any] = {}
    for each in (*given, fields):
        merged.update(each)
    return Rec(record, merged)


def call(code: int, action: int = 0, record: Rec | None = None, behind: bytes = b"") -> Step:
    """Return one call of the pump callback; without a record its data is NULL."""
    step: Step = {"do": "call", "code": int(code), "action": int(action)}
    if record:
        step |= {"data": record}
    if behind:
        step |= {"behind": behind}
    return step


def table(name: str, *records: Rec) -> Step:
    """Return what a table of the API holds from now on."""
    return {"do": "table", "table": name, "records": records}


def quotes(*records: Rec) -> Step:
    """Return what SymbolInfoUpdated gives next."""
    return {"do": "quotes", "records": records}


def mail_file(record: Rec, text: bytes) -> Step:
    """Return the file that MailLast names from now on."""
    return {"do": "mail", "data": record, "behind": text}


def news_body(key: int, text: bytes) -> Step:
    """Return what NewsBodyGet gives for a key."""
    return {"do": "news_body", "key": key, "text": text}


def parameters(position: int, *records: Rec) -> Step:
    """Return what PluginParamGet gives for a plugin."""
    return {"do": "parameters", "position": position, "records": records}


def lost(reason: str) -> Step:
    """Return the loss of a session; a new one is there afterwards, with the same tables."""
    return {"do": "lost", "reason": reason}


def publish(kind: str, key: Any, fields: dict[str, Any], **more: Any) -> Step:
    """Return an event of the daemon itself; ``more``: ``offset`` or ``seq``."""
    return {"do": "publish", "kind": kind, "key": key, "fields": fields, **more}


START = call(PumpCode.START_PUMPING)


def case(
    name: str, *steps: Step, setup: Iterable[Step] = (), start: bool = True, encoding: str = "cp1252", **settings: Any
) -> Case:
    """Return a case; its session has started, unless set otherwise, after the set-up."""
    script = Script(encoding)
    before = script.written([*setup, *([START] if start else [])])
    return Case(name, {"encoding": encoding, **settings}, before, script.written(steps))
