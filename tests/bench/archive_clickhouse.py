"""``python -m tests.bench.archive_clickhouse``: rows per second into ClickHouse.

A server is started for it (Debian's, of 2018). The archive's figures hold the client's core, batches, the Native format
and the commit; the bare loop decodes the same bodies and posts them with httpx as JSONEachRow, in one INSERT. Rounds
alternate; medians count.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from contextlib import closing

import msgpack
from mt4pump_consumers.archive.clickhouse_http import ClickhouseConnection

from tests.bench.archive import Frames, QuoteReader, quotes
from tests.bench.archive_postgresql import COLUMNS, measured
from tests.consumers.archive.database_servers import PASSWORD, ClickhouseServer, running

TYPES = ("String", "Int64", "Float64", "Float64", *["Int64"] * 2, *["Float64"] * 2, *["Int64"] * 4)


def archived(server: ClickhouseServer, database: str, frames: list[Frames]) -> Callable[[], None]:
    """Return what stores quotes as the program does."""
    store = server.store(database)

    def work() -> None:
        with closing(store):
            store.commit(QuoteReader(store.state).read(frames))

    return work


def bare(server: ClickhouseServer, database: str, frames: list[Frames]) -> Callable[[], None]:
    """Return what posts the bodies with httpx alone."""
    table = ", ".join(f"{name} {kind}" for name, kind in zip(COLUMNS, TYPES, strict=True))
    server.execute(database, f"create table plain ({table}) engine = MergeTree order by (symbol, ts)")
    connection = ClickhouseConnection(server.url(database), PASSWORD)

    def work() -> None:
        with closing(connection):
            rows = "\n".join(json.dumps(msgpack.unpackb(body)) for _, body in frames)
            connection.execute("insert into plain format JSONEachRow", rows.encode())

    return work


def main() -> int:
    """Measure and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.archive_clickhouse", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quotes", type=int, default=200_000)
    options = parser.parse_args()
    frames = quotes(options.quotes)
    server = ClickhouseServer()
    with running(server):
        found = [(measured(archived, server, frames), measured(bare, server, frames)) for _ in range(options.rounds)]
        where = "active and database = 'test1' and table = 'quote'"
        ((size,),) = server.execute("default", f"select sum(bytes_on_disk) from system.parts where {where}")  # noqa: S608
    for number, name in enumerate(("mt4pump-archive", "bare httpx loop")):
        rate, per_cpu_s = (statistics.median(one[number][which] for one in found) for which in (0, 1))
        sys.stdout.write(f"{name}: {rate:,.0f} quotes per second, {per_cpu_s:,.0f} per CPU second of the program\n")
    ratio = statistics.median(mine[0] / other[0] for mine, other in found)
    sys.stdout.write(f"archive/bare {ratio:.2f}; {size / len(frames):.0f} bytes per quote\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
