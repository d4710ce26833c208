"""Events for the archive's tests, and the archive as a reader sees it who knows nothing of ours."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest

from mt4pump.client.event import Event, TopicName
from mt4pump.client.events import CLASSES

DAY_NS = 86_400 * 10**9
TS = 20_000 * DAY_NS
"""2024-10-04 00:00 UTC"""
EPOCH = 1_700_000_000_000


def event(topic: str, seq: int, *, ts: int = TS, epoch: int = EPOCH, **fields: Any) -> Event:
    """Return an event as the client gives it."""
    name = TopicName(topic)
    body = {"epoch": epoch, "seq": seq, "ts": ts, **fields}
    return CLASSES.get(name.kind, Event)(name, body, (topic.encode(), b""))


def quote(seq: int, symbol: str = "EURUSD", **fields: Any) -> Event:
    """Return a quote whose bid tells its number."""
    ts = fields.pop("ts", TS + seq)
    values = {"symbol": symbol, "digits": 5, "bid": 1 + seq / 1e5, "ask": 1 + (seq + 2) / 1e5, "spread": 2}
    more = {"time": ts // 10**9, "high": 2.0, "low": 1.0, "direction": 0}
    return event(f"quote.{symbol}", seq, ts=ts, **{**values, **more, **fields})


def trade(offset: int, login: Any = 7, **fields: Any) -> Event:
    """Return a durable event."""
    values = {"login": login, "order": offset, "open_time": 1_700_000_000, "open_price": 1.5, "change": "opened"}
    return event(f"trade.{login}", offset, offset=offset, **{**values, "before": {"sl": 1.0}, **fields})


def rows(path: Path, kind: str, columns: str = "*") -> list[tuple[Any, ...]]:
    """Return what DuckDB reads of a kind with a glob, in no order."""
    if not list(path.glob(f"{kind}/*/*/*.parquet")):
        return []
    with duckdb.connect() as connection:
        source = f"read_parquet('{path.as_posix()}/{kind}/**/*.parquet', hive_partitioning=true, union_by_name=true)"
        found: list[tuple[Any, ...]] = connection.sql(f"select {columns} from {source}").fetchall()  # noqa: S608 - a test's own words
    return found


class Crash(BaseException):
    """The program is killed."""


@contextmanager
def killed_at(step: int) -> Iterator[list[str]]:
    """Kill the program at its file operation number ``step``: neither this one nor a later one is done."""
    done: list[str] = []

    def counted(name: str) -> Any:
        real = getattr(os, name)

        def call(*args: Any, **named: Any) -> Any:
            if len(done) >= step:
                raise Crash
            done.append(name)
            return real(*args, **named)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("replace", "unlink", "fsync", "mkdir", "rmdir"):
            patch.setattr(os, name, counted(name))
        yield done
