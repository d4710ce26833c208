"""A stand-in for the client's Query: answers from memory, and remembers what it was asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Self

import pytest

from mt4pump.errors import PumpError

DESCRIPTION: dict[str, Any] = {
    "ok": True,
    "protocol": 1,
    "version": "9.9",
    "epoch": 1_000,
    "log": "abc123",
    "offset": 7,
    "topic_suffix": "\x1f",
    "encoding": "cp1252",
    "heartbeat_interval_s": 1.0,
    "server_utc_offset_s": 7200,
    "pub_endpoint": "tcp://127.0.0.1:5556",
    "retention": {"max_age_s": 604_800.0, "max_bytes": 4 * 1024**3},
    "kinds": {
        "quote": {
            "key": "symbol",
            "durable": False,
            "snapshot": True,
            "meaning": "best bid and ask of a symbol",
            "fields": {"bid": {"type": "float", "unit": "quote currency", "meaning": "best bid"}},
        },
        "heartbeat": {"key": "", "durable": False, "snapshot": False, "meaning": "state", "fields": {}},
    },
}


@dataclass(slots=True)
class Answered:
    """An event or a row of a snapshot, as far as commands look at it."""

    topic: str
    offset: int | None
    ts: int
    body: dict[str, Any]
    kind: str = ""


def trade(login: int, offset: int | None, ts: int = 1_577_916_000_000_000_000) -> Answered:
    body = {"login": login, "order": 5, "change": "opened", "seq": 3, "ts": ts, "offset": offset}
    return Answered(f"trade.{login}", offset, ts, body, "trade")


@dataclass(slots=True)
class Snapshot:
    """One moment."""

    events: list[Answered]
    epoch: int = 1_000
    log: str | None = "abc123"
    offset: int = 7
    seqs: dict[str, int] = field(default_factory=dict)


class Replayed:
    """What a replay yields; ``whole`` after its end."""

    def __init__(self, events: Sequence[Answered], *, whole: bool, error: PumpError | None) -> None:
        self.whole = whole
        self._events = events
        self._error = error

    def __iter__(self) -> Iterator[Answered]:
        yield from self._events
        if self._error:
            raise self._error


class FakeQuery:
    """Set what it answers on the class that `put_in` returns."""

    description: dict[str, Any] = DESCRIPTION
    events: Sequence[Answered] = ()
    whole = True
    error: PumpError | None = None
    asked: list[tuple[Any, ...]]
    made: list[tuple[Any, ...]]

    def __init__(self, endpoint: str, keys: object = None, timeout_s: float = 5.0) -> None:
        self.made.append((endpoint, keys, timeout_s))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def describe(self) -> dict[str, Any]:
        self.asked.append(("describe",))
        if self.error:
            raise self.error
        return self.description

    def snapshot(self, topics: Sequence[str]) -> Snapshot:
        self.asked.append(("snapshot", list(topics)))
        if self.error:
            raise self.error
        return Snapshot(self._matching(topics))

    def replay(
        self, topics: Sequence[str], *, after: int | None, since: int | None, until: int | None = None
    ) -> Replayed:
        self.asked.append(("replay", list(topics), after, since, until))
        return Replayed(self._matching(topics), whole=self.whole, error=self.error)

    def _matching(self, topics: Sequence[str]) -> list[Answered]:
        return [event for event in self.events if any(fnmatchcase(event.topic, topic) for topic in topics)]


def put_in(monkeypatch: pytest.MonkeyPatch) -> type[FakeQuery]:
    """Have commands ask a fresh stand-in; return its class."""

    class Fake(FakeQuery):
        asked: list[tuple[Any, ...]] = []  # noqa: RUF012 - this class is made for one test
        made: list[tuple[Any, ...]] = []  # noqa: RUF012

    monkeypatch.setattr("mt4pump.cli.arguments.Query", Fake)
    return Fake
