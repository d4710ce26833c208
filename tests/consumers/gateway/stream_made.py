"""Events and cuts as the client would give them, made by hand."""

from __future__ import annotations

from typing import Any

from mt4pump.client import Event, Snapshot
from mt4pump.client.event import LIVE, SNAPSHOT, TopicName


def event(topic: str, seq: int, *, epoch: int = 1, came: int = LIVE, **body: Any) -> Event:
    """Return one event."""
    return Event(TopicName(topic), {**body, "epoch": epoch, "seq": seq, "ts": seq}, (topic.encode(), b""), came)


def trade(order: int, seq: int, change: str = "opened", *, login: int = 7, **body: Any) -> Event:
    """Return a trade; its offset is its number, unless given."""
    return event(f"trade.{login}", seq, order=order, login=login, change=change, **{"offset": seq, **body})


def snapshot(*rows: tuple[str, int], epoch: int = 1, **seqs: int) -> Snapshot:
    """Return a snapshot with open orders (topic, order); ``seqs`` are last numbers, dots in topics written as ``_``."""
    known = {name.replace("_", "."): seq for name, seq in seqs.items()}
    events = [event(topic, known[topic], epoch=epoch, came=SNAPSHOT, order=order) for topic, order in rows]
    return Snapshot(epoch, "log", 0, 0, known, events)
