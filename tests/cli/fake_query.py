"""A fake of the client's Query: replies from memory, and records the requests."""

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
class FakeEvent:
    """An event or a row of a snapshot, as far as commands read it."""

    topic: str
    offset: int | None
    ts: int
    body: dict[str, Any]
    kind: str = ""


def trade(login: int, offset: int | None, ts: int = 1_577_916_000_000_000_000) -> FakeEvent:
    body = {"login": login, "order": 5, "change": "opened", "seq": 3, "ts": ts, "offset": offset}
    return FakeEvent(f"trade.{login}", offset, ts, body, "trade")


@dataclass(slots=True)
class Snapshot:
    """One moment."""

    events: list[FakeEvent]
    epoch: int = 1_000
    log: str | None = "abc123"
    offset: int = 7
    seqs: dict[str, int] = field(default_factory=dict)


class Replayed:
    """What a replay yields; ``whole`` after its end."""

    def __init__(self, events: Sequence[FakeEvent], *, whole: bool, error: PumpError | None) -> None:
        self.whole = whole
        self._events = events
        self._error = error

    def __iter__(self) -> Iterator[FakeEvent]:
        yield from self._events
        if self._error:
            raise self._error


class FakeQuery:
    """Set the replies on the class that `install_fake_query` returns."""

    description: dict[str, Any] = DESCRIPTION
    events: Sequence[FakeEvent] = ()
    whole = True
    error: PumpError | None = None
    requests: list[tuple[Any, ...]]
    made: list[tuple[Any, ...]]

    def __init__(self, endpoint: str, keys: object = None, timeout_s: float = 5.0, *, warn: bool = True) -> None:
        assert not warn, "commands warn by themselves"
        self.made.append((endpoint, keys, timeout_s))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def describe(self) -> dict[str, Any]:
        self.requests.append(("describe",))
        if self.error:
            raise self.error
        return self.description

    def snapshot(self, topics: Sequence[str]) -> Snapshot:
        self.requests.append(("snapshot", list(topics)))
        if self.error:
            raise self.error
        return Snapshot(self._matching(topics))

    def replay(
        self, topics: Sequence[str], *, after: int | None, since: int | None, until: int | None = None
    ) -> Replayed:
        self.requests.append(("replay", list(topics), after, since, until))
        return Replayed(self._matching(topics), whole=self.whole, error=self.error)

    def _matching(self, topics: Sequence[str]) -> list[FakeEvent]:
        return [event for event in self.events if any(fnmatchcase(event.topic, topic) for topic in topics)]


def install_fake_query(monkeypatch: pytest.MonkeyPatch) -> type[FakeQuery]:
    """Make commands use a new fake; return its class."""

    class Fake(FakeQuery):
        requests: list[tuple[Any, ...]] = []  # noqa: RUF012 - this class is made for one test
        made: list[tuple[Any, ...]] = []  # noqa: RUF012

    monkeypatch.setattr("mt4pump.cli.arguments.Query", Fake)
    monkeypatch.setattr("mt4pump.client.connection_fault.connection_fault", lambda *_: ("", ""))
    return Fake
