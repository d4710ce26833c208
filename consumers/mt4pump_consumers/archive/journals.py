"""Which journals the archive has events of, so that those of one that comes back are stored once; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mt4pump.client import Event
from mt4pump_consumers.archive.store import StoreChangedError

EARLIER_LIMIT = 8
"""Journals before the current one that are remembered."""


class KnownJournals:
    """The journal of the last position, and those before it.

    A position of the archive is the client's, and ``server_code`` and ``earlier`` with it: the positions in earlier
    journals. A journal comes back when the daemon's folder is restored, or another daemon answers for a while.
    """

    def __init__(self, position: Mapping[str, Any]) -> None:
        self._last, self._server_code = dict(position), str(position.get("server_code", ""))
        self._earlier: dict[str, dict[str, Any]] = dict(self._last.pop("earlier", {}))
        self._added: dict[str, dict[str, int]] = {}

    def check(self, log: str | None, server_code: str) -> None:
        """Raise StoreChangedError when another daemon answers: one with another journal and another server code."""
        known = self._last.get("log")
        is_known = None not in {log, known} and "" not in {server_code, self._server_code}
        if is_known and log != known and server_code != self._server_code:
            text = f"the events here are of the daemon with server_code {self._server_code}, and this one has"
            raise StoreChangedError(f"{text} {server_code}: give each daemon a folder or database of its own")
        self._server_code = server_code or self._server_code

    def new(self, log: str | None, events: Sequence[Event]) -> list[Event]:
        """Return the durable events that are not stored yet."""
        earlier = self._earlier.get(log or "")
        if earlier is not None:
            confirmed, ahead = earlier["confirmed"], earlier["ahead"]
            events = [one for one in events if (one.offset or 0) > max(confirmed, ahead.get(one.topic, 0))]
        return list(events)

    def add(self, log: str | None, events: Iterable[Event]) -> None:
        """Note events that the next commit stores."""
        if log:
            offsets = {event.topic: event.offset for event in events if event.offset is not None}
            self._added.setdefault(log, {}).update(offsets)

    def position(self, position: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """Return the position to commit with the events that were added; ``position`` is the client's."""
        if position is None:
            return None
        log, before = position.get("log"), self._last.get("log")
        if before not in {None, log}:
            self._remember(str(before), self._last)
        for each, offsets in self._added.items():
            if each != log:
                self._remember(each, {"ahead": offsets})
        self._added.clear()
        self._last = dict(position)
        if position["confirmed"] >= last_offset({"earlier": self._earlier}, str(log)):
            self._earlier.pop(str(log), None)
        more = {"server_code": self._server_code, "earlier": dict(self._earlier)}
        return {**position, **{name: value for name, value in more.items() if value}}

    def _remember(self, log: str, position: Mapping[str, Any]) -> None:
        known = self._earlier.pop(log, {"confirmed": 0, "ahead": {}})
        confirmed = max(known["confirmed"], position.get("confirmed", 0))
        ahead = dict(known["ahead"])
        for topic, offset in position.get("ahead", {}).items():
            ahead[topic] = max(ahead.get(topic, 0), offset)
        ahead = {topic: offset for topic, offset in ahead.items() if offset > confirmed}
        self._earlier[log] = {"confirmed": confirmed, "ahead": ahead}
        while len(self._earlier) > EARLIER_LIMIT:
            del self._earlier[next(iter(self._earlier))]


def last_offset(position: Mapping[str, Any] | None, log: str) -> int:
    """Return the highest offset of an earlier journal that ``position`` has as stored; 0: it is not known."""
    earlier = ((position or {}).get("earlier") or {}).get(log)
    return max(earlier["confirmed"], *earlier["ahead"].values(), 0) if earlier else 0
