"""``python -m tests.bench.archive_postgresql ``: rows per second into PostgreSQL.

A server is started for it. The archive's figures hold the client's core, batches, COPY, indexes and the commit; the
bare loop decodes the same bodies and copies tuples with psycopg into a table without indexes. Rounds alternate; medians
count.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import closing
from typing import Protocol, TypeVar

import msgpack

from tests.bench.archive import Frames, QuoteReader, quotes
from tests.consumers.archive.database_servers import PostgresqlServer, running

COLUMNS = ("symbol", "digits", "bid", "ask", "spread", "time", "high", "low", "direction", "epoch", "seq", "ts")
TYPES = ("text", "int", "float8", "float8", *["bigint"] * 2, *["float8"] * 2, "int", *["bigint"] * 3)


def archived(server: PostgresqlServer, database: str, frames: list[Frames]) -> Callable[[], None]:
    """Return what stores quotes as the program does."""
    store = server.store(database)

    def work() -> None:
        with closing(store):
            store.commit(QuoteReader(store.state).read(frames))

    return work


def bare(server: PostgresqlServer, database: str, frames: list[Frames]) -> Callable[[], None]:
    """Return what copies the bodies with psycopg alone."""
    table = ", ".join(f"{name} {kind}" for name, kind in zip(COLUMNS, TYPES, strict=True))
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


class Databases(Protocol):
    """A server that makes databases."""

    def database(self) -> str: ...


AnyServer = TypeVar("AnyServer", bound=Databases)


def measured(
    prepared: Callable[[AnyServer, str, list[Frames]], Callable[[], None]], server: AnyServer, frames: list[Frames]
) -> tuple[float, float]:
    """Return rows per second, and per second of this process's CPU time."""
    work = prepared(server, server.database(), frames)
    began_s, began_cpu_s = time.monotonic(), time.process_time()
    work()
    return len(frames) / (time.monotonic() - began_s), len(frames) / (time.process_time() - began_cpu_s)


def main() -> int:
    """Measure and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.archive_postgresql", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quotes", type=int, default=200_000)
    options = parser.parse_args()
    frames = quotes(options.quotes)
    server = PostgresqlServer()
    with running(server):
        found = [(measured(archived, server, frames), measured(bare, server, frames)) for _ in range(options.rounds)]
        (size,) = server.execute(f"test{2 * options.rounds - 1}", "select pg_total_relation_size('mt4pump.quote')")[0]
    for number, name in enumerate(("mt4pump-archive", "bare psycopg loop")):
        rate, per_cpu_s = (statistics.median(one[number][which] for one in found) for which in (0, 1))
        sys.stdout.write(f"{name}: {rate:,.0f} quotes per second, {per_cpu_s:,.0f} per CPU second of the program\n")
    ratio = statistics.median(mine[0] / other[0] for mine, other in found)
    sys.stdout.write(f"archive/bare {ratio:.2f}; {size / len(frames):.0f} bytes per quote with indexes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
