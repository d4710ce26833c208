"""The state that a reader makes of events and snapshot rows alone, to be compared with the daemon's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgpack

from mt4pump.pump.lifecycle import ENDS
from mt4pump.pump.snapshot import StateSnapshot
from mt4pump.wire import COMMON_KEYS, OFFSET, Body

NOT_OF_THE_ROW = frozenset({*COMMON_KEYS, OFFSET, "action", "change", "before", "synthetic", "snapshot"})
KEYS = {
    "quote": "symbol",
    "trade": "order",
    "user": "login",
    "online": "login",
    "symbol": "symbol",
    "group": "group",
    "request": "id",
    "plugin": "file",
}
MARKS = {"margin": ("login", "level_type"), "activation": ("order", "activation")}
"""Of marked rows only the mark counts: their money moves with every tick, which is no event."""

Rows = dict[tuple[str, Any], Any]


class Folded:
    """``rows`` by kind and key: what a reader knows after the events that `take` was given."""

    def __init__(self) -> None:
        self.rows: Rows = {}

    def take(self, kind: str, body: Mapping[str, Any]) -> None:
        """Take one event, or one row of a snapshot."""
        if kind == "session":
            if body.get("state") in {"pumping", "lost"} and body.get("reason") != "PING":
                self.rows[kind, ""] = _row(body)
            return
        place = place_of(kind, body)
        if place is None:
            return
        gone = body.get("action") == "delete"
        if kind == "trade":
            gone = body.get("change") in ENDS or body.get("ended", False)
        if gone and not body.get("snapshot"):
            self.rows.pop(place, None)
        else:
            self.rows[place] = _seen(kind, body)

    def take_row(self, kind: str, packed: bytes | Mapping[str, Any]) -> None:
        """Take one row of the daemon's state."""
        fields: Body = msgpack.unpackb(packed) if isinstance(packed, bytes) else dict(packed)
        self.take(kind, {**fields, "snapshot": True})


def place_of(kind: str, body: Mapping[str, Any]) -> tuple[str, Any] | None:
    """Return under what a row is kept; None for kinds without a state."""
    key = KEYS.get(kind) or (MARKS[kind][0] if kind in MARKS else None)
    return None if key is None else (kind, body[key])


def rows_of(cut: StateSnapshot, kinds: Iterable[str] = (*KEYS, *MARKS, "session")) -> Rows:
    """Return the rows of the daemon's own cut in the same form."""
    folded, wanted = Folded(), set(kinds)
    for topic, packed in cut.rows:
        kind = topic.partition(b".")[0].decode()
        if kind in wanted:
            folded.take_row(kind, packed)
    return folded.rows


def differences(ours: Rows, theirs: Rows, limit: int = 10) -> list[str]:
    """Return in words what is in one of the two only, or differs; nothing when they are equal."""
    found = [f"only built from events: {place}" for place in ours.keys() - theirs.keys()]
    found += [f"only in the daemon: {place}" for place in theirs.keys() - ours.keys()]
    for place in ours.keys() & theirs.keys():
        if repr(ours[place]) != repr(theirs[place]):  # NaN equals NaN
            unlike = {name: (ours[place].get(name), value) for name, value in theirs[place].items()}
            unlike = {name: pair for name, pair in unlike.items() if repr(pair[0]) != repr(pair[1])}
            found.append(f"{place} differs in {unlike or 'its names'}")
    return sorted(found)[:limit]


def _seen(kind: str, body: Mapping[str, Any]) -> dict[str, Any]:
    if kind in MARKS:
        return {name: body[name] for name in MARKS[kind]}
    return _row(body)


def _row(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: body[name] for name in sorted(body) if name not in NOT_OF_THE_ROW}
