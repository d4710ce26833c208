"""Events for the archive's tests, and the archive as a reader sees it who knows nothing of ours."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from mt4pump_consumers.archive.store import ArchiveBatch, ArchiveStore
from mt4pump_consumers.archive.writer import BatchBuilder

from mt4pump.client import Heartbeat, Notice
from mt4pump.client.event import Event, TopicName
from mt4pump.client.events import CLASSES

DAY_NS = 86_400 * 10**9
TS = 20_000 * DAY_NS
"""2024-10-04 00:00 UTC"""
COMMON_QUERIES = [
    'select count(*), min("offset"), max("offset"), sum(sl) from trade',
    'select event_topic, log, epoch, seq, ts, "offset", login, before, server_code from trade order by "offset"',
    "select symbol, count(*), min(bid), max(ask), sum(spread) from quote group by symbol order by symbol",
    """select symbol, ts - ts % 3600000000000 as hour, avg(ask - bid), count(*) from quote
    group by symbol, hour order by symbol, hour""",
    "select time, high, direction, extra from quote order by ts, seq, event_topic",
    "select kind, event_topic, epoch, from_seq, to_seq, why, ts from gaps order by event_topic, from_seq",
    "select open_time, comment from trade where comment <> '' order by comment",
    'select "user".login, "user".name from "user" order by "user".login',
]
"""SQL that each database understands; what it reads `commit_example` wrote."""
EPOCH = 1_700_000_000_000
SQL_TEXTS = (
    *("'; drop table quote; --", "\\'; drop table quote; --", '"; drop table "quote"; --', "$$; drop table quote; $$"),
    *("\\", "'", "''", '"', "`", "a\\", "/*", "-- x", "%s {0} :x ?", "{x:String}", "\n\\.\n", "x\t'y\\'"),
)
"""Texts that a server may use as names, and that are part of no statement."""


def event(topic: str, seq: int, *, ts: int = TS, epoch: int = EPOCH, **fields: Any) -> Event:
    """Return an event as the client gives it."""
    name = TopicName(topic)
    body = {"epoch": epoch, "seq": seq, "ts": ts, **fields}
    return CLASSES.get(name.kind, Event)(name, body, (topic.encode(), b""))


def quote(seq: int, symbol: str = "EURUSD", **fields: Any) -> Event:
    """Return a quote whose bid is its number."""
    ts = fields.pop("ts", TS + seq)
    values = {"symbol": symbol, "digits": 5, "bid": 1 + seq / 1e5, "ask": 1 + (seq + 2) / 1e5, "spread": 2}
    more = {"time": ts // 10**9, "high": 2.0, "low": 1.0, "direction": 0}
    return event(f"quote.{symbol}", seq, ts=ts, **{**values, **more, **fields})


def trade(offset: int, login: Any = 7, **fields: Any) -> Event:
    """Return a durable event."""
    values = {"login": login, "order": offset, "open_time": 1_700_000_000, "open_price": 1.5, "change": "opened"}
    return event(f"trade.{login}", offset, offset=offset, **{**values, "before": {"sl": 1.0}, **fields})


def batch_of(store: ArchiveStore, *events: Event | Notice, confirmed: int = 0) -> ArchiveBatch:
    """Return what the archive would commit of these events."""
    builder = BatchBuilder(store.state, Counter())
    body = {"epoch": EPOCH, "seq": 1, "ts": TS, "log": "L", "offset": 0, "server_code": "demo"}
    builder.heartbeat(Heartbeat(TopicName("heartbeat"), body, (b"heartbeat", b"")))
    for each in events:
        if isinstance(each, Notice):
            builder.lost(each)
        else:
            builder.add(each)
    return builder.take_batch({"log": "L", "confirmed": confirmed, "ahead": {}} if confirmed else None)


def sql_events() -> list[Event]:
    """Return events with `SQL_TEXTS` as symbol, group, comment, change and key; their offsets begin at 1."""
    made: list[Event] = []
    for number, text in enumerate(SQL_TEXTS):
        made += [
            quote(1, text),
            event(f"group.{text}", 1, offset=2 * number + 1, group=text),
            trade(2 * number + 2, comment=text, change=text, before={text: text}),
        ]
    return made


def commit_example(stores: Iterable[ArchiveStore]) -> None:
    """Commit the same events to each store, and close it."""
    for store in stores:
        for part in range(3):
            numbers = range(1 + 40 * part, 41 + 40 * part)
            times = [TS + number * 3_600 * 10**9 // 8 for number in numbers]
            both = list(zip(numbers, times, strict=True))
            quotes = [quote(seq, symbol, ts=ts + seq) for symbol in ("EURUSD", "GBPUSD") for seq, ts in both]
            trades = [trade(number, sl=number / 3, ts=ts, comment=f"n {number}") for number, ts in both]
            users = [event("user.7", at, offset=1000 + at, login=at, name=f"é {at}") for at in numbers]
            lost = Notice("lost", "3 events of trade.7 are lost: not stored", "trade.7", 3)
            store.commit(batch_of(store, *trades[:5], lost, *trades[7:], *users, *quotes[5:], confirmed=numbers[-1]))
        store.close()


def check_query(wanted: Iterable[tuple[Any, ...]], found: Iterable[tuple[Any, ...]]) -> None:
    """Check that a query has the same rows in files and in a database, and some."""
    expected = [numbers_as_floats(row) for row in wanted]
    assert expected != []
    assert [numbers_as_floats(row) for row in found] == [
        [pytest.approx(value) if isinstance(value, float) else value for value in row] for row in expected
    ]


def numbers_as_floats(row: tuple[Any, ...]) -> list[Any]:
    """Return a row whose numbers are of one type: an average has others in each database, and sums end differently."""
    return [float(value) if isinstance(value, int | float | Decimal) else value for value in row]


def answer(url: str) -> str:
    """Return what the program answers, whatever the status."""
    try:
        with urllib.request.urlopen(url, timeout=30) as response:  # noqa: S310 - our own address
            text: str = response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            text = error.read().decode()
    return text


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
