"""``python -m tests.bench.archive_databases postgresql`` (or ``clickhouse``): rows per second into a database.

A server is started for it (Debian's; its ClickHouse is of 2018). The archive's figures hold the client's core, batches,
COPY with indexes or the Native format, and the commit. The bare loop decodes the same bodies and stores them with the
database's library alone: psycopg copies tuples into a table without indexes, httpx posts JSONEachRow in one INSERT.
Rounds alternate; medians count.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import msgpack
from mt4pump_consumers.archive.clickhouse_http import ClickhouseConnection

from tests.bench.archive import Frames, QuoteReader, quotes
from tests.consumers.archive.database_servers import (
    PASSWORD,
    ClickhouseServer,
    DatabaseServer,
    PostgresqlServer,
    running,
)

COLUMNS = ("symbol", "digits", "bid", "ask", "spread", "time", "high", "low", "direction", "epoch", "seq", "ts")
POSTGRESQL_TYPES = ("text", "int", "float8", "float8", *["bigint"] * 2, *["float8"] * 2, "int", *["bigint"] * 3)
CLICKHOUSE_TYPES = ("String", "Int64", "Float64", "Float64", *["Int64"] * 2, *["Float64"] * 2, *["Int64"] * 4)

Prepared = Callable[[Any, str, list[Frames]], Callable[[], None]]
"""Takes a server, a database of it and quotes; returns what stores them."""


def archived(server: DatabaseServer, database: str, frames: list[Frames]) -> Callable[[], None]:
    """Return what stores quotes as the program does."""
    store = server.store(database)

    def work() -> None:
        with closing(store):
            store.commit(QuoteReader(store.state).read(frames))

    return work


def by_psycopg(server: PostgresqlServer, database: str, frames: list[Frames]) -> Callable[[], None]:
    """Return what copies the bodies with psycopg alone."""
    table = ", ".join(f"{name} {kind}" for name, kind in zip(COLUMNS, POSTGRESQL_TYPES, strict=True))
    server.execute(database, f"create table plain ({table})")
    connection = server.connect(database)

    def work() -> None:
        with (
            connection,
            connection.cursor() as cursor,
            cursor.copy(f"copy plain ({', '.join(COLUMNS)}) from stdin") as copy,
        ):
            for _, body in frames:
                found = msgpack.unpackb(body)
                copy.write_row([found[name] for name in COLUMNS])

    return work


def by_httpx(server: ClickhouseServer, database: str, frames: list[Frames]) -> Callable[[], None]:
    """Return what posts the bodies with httpx alone."""
    table = ", ".join(f"{name} {kind}" for name, kind in zip(COLUMNS, CLICKHOUSE_TYPES, strict=True))
    server.execute(database, f"create table plain ({table}) engine = MergeTree order by (symbol, ts)")
    connection = ClickhouseConnection(server.url(database), PASSWORD)

    def work() -> None:
        with closing(connection):
            rows = "\n".join(json.dumps(msgpack.unpackb(body)) for _, body in frames)
            connection.execute("insert into plain format JSONEachRow", rows.encode())

    return work


@dataclass(frozen=True)
class Database:
    """``bare`` stores with ``library`` alone; ``size_query`` selects the bytes of a database's quotes."""

    server: type[DatabaseServer]
    library: str
    bare: Prepared
    size_query: str


DATABASES = {
    "postgresql": Database(PostgresqlServer, "psycopg", by_psycopg, "select pg_total_relation_size('mt4pump.quote')"),
    "clickhouse": Database(
        ClickhouseServer,
        "httpx",
        by_httpx,
        "select sum(bytes_on_disk) from system.parts where active and database = currentDatabase() and table = 'quote'",
    ),
}


def measured(prepared: Prepared, server: DatabaseServer, frames: list[Frames]) -> tuple[float, float]:
    """Return rows per second, and per second of this process's CPU time."""
    work = prepared(server, server.database(), frames)
    began_s, began_cpu_s = time.monotonic(), time.process_time()
    work()
    return len(frames) / (time.monotonic() - began_s), len(frames) / (time.process_time() - began_cpu_s)


def main() -> int:
    """Measure and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.archive_databases", description=__doc__)
    parser.add_argument("database", choices=DATABASES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quotes", type=int, default=200_000)
    options = parser.parse_args()
    database, frames = DATABASES[options.database], quotes(options.quotes)
    with running(database.server()) as server:
        works = (archived, database.bare)
        found = [tuple(measured(work, server, frames) for work in works) for _ in range(options.rounds)]
        ((size,),) = server.execute("test1", database.size_query)  # the archive's first
    for number, name in enumerate(("mt4pump-archive", f"bare {database.library} loop")):
        rate, per_cpu_s = (statistics.median(one[number][which] for one in found) for which in (0, 1))
        sys.stdout.write(f"{name}: {rate:,.0f} quotes per second, {per_cpu_s:,.0f} per CPU second of the program\n")
    ratio = statistics.median(mine[0] / other[0] for mine, other in found)
    sys.stdout.write(f"archive/bare {ratio:.2f}; {int(size) / len(frames):.0f} bytes per quote, indexes included\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
