"""``mt4pump-archive query``, ``bars``, ``gaps``, ``verify``: read the archive with DuckDB, also while it is written."""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from mt4pump.client import ClientError, ClientKeys, Query, one_line
from mt4pump.client.connection import check_endpoint
from mt4pump.client.connection_fault import query_address, with_reason
from mt4pump.log import drop_output, output_fault
from mt4pump.private_files import private_opener
from mt4pump.process.program import EXIT_FAILED, EXIT_SETTINGS, EXIT_START
from mt4pump_consumers.archive import clickhouse_reading
from mt4pump_consumers.archive.columns import EVENT_KINDS, GAPS, QUOTE, TICK, schema_of
from mt4pump_consumers.archive.commands import PRICES, QUERY_ENDPOINT
from mt4pump_consumers.archive.folder import FolderError, State, read_state
from mt4pump_consumers.archive.settings import POSTGRESQL_LIBRARIES, is_clickhouse
from mt4pump_consumers.archive.store import StoreError
from mt4pump_consumers.spreadsheet import harmless_cell

BATCH_ROWS = 10_000
ATTEMPTS = 5
"""Tries of a command whose files are joined, and deleted, while it starts."""
TABLE_ROWS = 1_000
"""Most rows of the format `table`."""
HIVE = "union_by_name=true, hive_partitioning=true, hive_types={'server_code': varchar, 'date': date}"
SETTLE_S = 5.0
SQL_ERRORS = (duckdb.ProgrammingError, duckdb.DataError, duckdb.NotSupportedError)
GAPS_SQL = """
select ts_utc, kind, event_topic, epoch, from_seq, to_seq, to_seq - from_seq + 1 as missing, why
from gaps order by ts"""
BARS_SQL = """
select make_timestamp_ns(ts // $width * $width) as time, first(price order by {order}) as open, max(price) as high,
  min(price) as low, last(price order by {order}) as close, count(*) as count, avg(ask - bid) as spread,
  (ts // $width + 1) * $width <= $last_ts as final
from (select *, {price} as price from {source} where symbol = $symbol and server_code = $server_code)
group by ts // $width order by time"""


def run(options: argparse.Namespace) -> int:
    """Run one command; return the exit code."""
    try:
        code = _run(options)
        sys.stdout.flush()
    except (StoreError, ClientError, OSError, duckdb.Error) as error:
        print(f"mt4pump-archive: {one_line(str(error))}", file=sys.stderr)  # noqa: T201 - the command's own output
        if isinstance(error, OSError) and options.output is None and output_fault(error) is not None:
            drop_output()
        return _exit_code(error)
    return code


def _exit_code(error: Exception) -> int:
    """Return the exit code of an error: 2 for a wrong folder, flag or SQL, 3 for a daemon or database that is away."""
    is_flag = isinstance(error, ClientError) and error.code in {"keys", "arguments"}
    if is_flag or isinstance(error, (FolderError, *SQL_ERRORS)):
        return EXIT_SETTINGS
    return EXIT_START if isinstance(error, StoreError | ClientError) else EXIT_FAILED


def _run(options: argparse.Namespace) -> int:
    if options.store is not None:
        return _run_on_database(options)
    for _ in range(ATTEMPTS - 1):
        with suppress(duckdb.IOException):  # the archive joined files and deleted one that was found a moment ago
            return _run_on_files(options)
    return _run_on_files(options)


def _run_on_files(options: argparse.Namespace) -> int:
    """Run one command; raises duckdb.IOException only before it has written anything."""
    state = settled_state(options.path)
    if not state.files:
        text = f"note: nothing is committed in {options.path} yet: mt4pump-archive does so every commit_interval_s"
        print(text, file=sys.stderr)  # noqa: T201
    with opened(options.path, state) as connection:
        if options.command == "verify":
            return _verify(connection, state.position or {}, options)
        relation = _relation(connection, state, options)
        if relation is not None:
            _write(relation, options)
    return 0


def _run_on_database(options: argparse.Namespace) -> int:
    """Run `verify`, the one command that reads a database; raises StoreError."""
    if options.command != "verify":
        how = "clickhouse-client" if is_clickhouse(options.store) else "psql: its tables are in the schema mt4pump"
        text = f"reads the files of --path; ask a database itself, as with {how}"
        raise FolderError(f"{options.command} {text}")
    with _database(options.store) as (connection, position):
        return _verify(connection, position, options)


def _database(url: str) -> AbstractContextManager[tuple[duckdb.DuckDBPyConnection, Mapping[str, Any]]]:
    """Return what opens the database of an address; raises StoreError where its library is missing."""
    if is_clickhouse(url):
        return clickhouse_reading.opened_database(url)
    try:
        from mt4pump_consumers.archive import postgresql_reading  # noqa: PLC0415 - an extra of its own
    except ImportError as error:
        raise StoreError(f"the library {error.name} is not installed: {POSTGRESQL_LIBRARIES}") from error
    return postgresql_reading.opened_database(url)


def settled_state(path: Path) -> State:
    """Return the committed state once all its files are in their places; raises FolderError."""
    if not path.is_dir():
        raise FolderError(f"there is no archive at {path}; give --path")
    deadline_s = time.monotonic() + SETTLE_S
    while True:
        state = read_state(path)
        missing = [file.path for file in state.files.values() if not (path / file.path).exists()]
        if not missing:
            return state
        if time.monotonic() > deadline_s:
            raise FolderError(f"{missing[0]} is missing: start mt4pump-archive, which moves it, or restore it")
        time.sleep(SETTLE_S / 50)


@contextmanager
def opened(path: Path, state: State) -> Iterator[duckdb.DuckDBPyConnection]:
    """Give a connection with a view of each kind over exactly the files of the last commit."""
    with duckdb.connect(config={"autoinstall_known_extensions": False}) as connection:
        connection.execute("set timezone = 'UTC'")
        for kind in (*EVENT_KINDS, GAPS, TICK):
            files = [(path / file.path).as_posix() for file in state.files.values() if file.kind == kind]
            if files:
                quoted = ", ".join("'" + name.replace("'", "''") + "'" for name in files)
                connection.execute(f'create view "{kind}" as from read_parquet([{quoted}], {HIVE})')
            else:
                hive = [pa.field("server_code", pa.string()), pa.field("date", pa.date32())]
                connection.from_arrow(pa.schema([*schema_of(kind), *hive]).empty_table()).create_view(kind)
        yield connection


def _relation(
    connection: duckdb.DuckDBPyConnection, state: State, options: argparse.Namespace
) -> duckdb.DuckDBPyRelation | None:
    if options.command == "query":
        return connection.sql(options.sql)
    if options.command == "gaps":
        return connection.sql(GAPS_SQL)
    order = "ts, seq" if options.source == QUOTE else "ts"
    ours = f"/server_code={options.server_code}/"
    is_tick = options.source == TICK  # ticks prove nothing about live quotes, nor the other way round
    feed = [file.last_ts for file in state.files.values() if ours in file.path and (file.kind == TICK) == is_tick]
    last_ts = max(feed, default=0)
    values = {"width": options.width, "symbol": options.symbol, "server_code": options.server_code, "last_ts": last_ts}
    return connection.sql(
        BARS_SQL.format(price=PRICES[options.price], source=options.source, order=order), params=values
    )


def _write(relation: duckdb.DuckDBPyRelation, options: argparse.Namespace) -> None:
    reader = _begun(relation.to_arrow_reader(BATCH_ROWS))
    if options.format == "parquet":
        if options.output is None:
            raise FolderError("parquet needs a file: give --output")
        with (
            open(options.output, "wb", opener=private_opener) as binary,
            pq.ParquetWriter(binary, reader.schema, compression="zstd") as writer,
        ):
            for batch in reader:
                writer.write_batch(batch)
        return
    if options.output is None:
        _write_text(reader, options.format, sys.stdout)
        return
    with open(options.output, "w", encoding="utf-8", newline="", opener=private_opener) as file:
        _write_text(reader, options.format, file)


def _begun(reader: pa.RecordBatchReader) -> pa.RecordBatchReader:
    """Return the same batches, the first of which is read: by then most results are whole."""
    first = next(iter(reader), None)

    def batches() -> Iterator[pa.RecordBatch]:
        if first is not None:
            yield first
        try:
            yield from reader
        except duckdb.IOException as error:  # what was written cannot be taken back
            raise OSError(f"a file went away amid the result: ask again ({error})") from error

    return pa.RecordBatchReader.from_batches(reader.schema, batches())


def _write_text(reader: pa.RecordBatchReader, style: str, file: TextIO) -> None:
    names = reader.schema.names
    if style == "json":
        file.writelines(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in _rows(reader))
    elif style == "csv":
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(map(harmless_cell, names))  # PIVOT makes names of values
        is_number = [pa.types.is_temporal(of) or pa.types.is_decimal(of) for of in reader.schema.types]
        for row in _rows(reader):
            cells = zip(_flat(row), is_number, strict=True)
            writer.writerow([cell if of or not isinstance(cell, str) else harmless_cell(cell) for cell, of in cells])
    else:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in names:
            table.add_column(Text(one_line(name)))  # a text: rich would take [...] in a foreign one for its markup
        for number, row in enumerate(_rows(reader)):
            if number == TABLE_ROWS:
                table.caption = f"the first {TABLE_ROWS} rows; --format csv shows all"
                break
            table.add_row(*(Text(one_line("" if value is None else str(value))) for value in _flat(row)))
        Console(file=file).print(table)


def _rows(reader: pa.RecordBatchReader) -> Iterator[list[Any]]:
    """Yield rows of values that JSON has; times are text, as 2026-11-28 10:00:00.000000001Z."""
    for batch in reader:
        columns = [
            (
                column.cast(pa.string())
                if pa.types.is_temporal(column.type) or pa.types.is_decimal(column.type)
                else column
            )
            for column in batch.columns
        ]
        for row in zip(*(column.to_pylist() for column in columns), strict=True):
            yield [None if isinstance(value, float) and not math.isfinite(value) else value for value in row]


def _flat(row: Sequence[Any]) -> list[Any]:
    return [json.dumps(value) if isinstance(value, list | dict) else value for value in row]


@contextmanager
def _open_query(options: argparse.Namespace) -> Iterator[Query]:
    """Yield a query connection to the daemon that the flags name; raises ClientError that says why nothing answers."""
    given = options.query_endpoint or options.endpoint
    endpoint = QUERY_ENDPOINT if given is None else given
    check_endpoint(endpoint)
    keys = ClientKeys.load(options.keys) if options.keys else None
    may_publish = given is not None and not options.query_endpoint
    endpoint, fault, text = query_address(endpoint, keys, or_next_port=may_publish)
    with Query(endpoint, keys) as query, with_reason(fault, text):
        yield query


def _verify(connection: duckdb.DuckDBPyConnection, position: Mapping[str, Any], options: argparse.Namespace) -> int:
    confirmed, log_id = position.get("confirmed", 0), position.get("log")
    offsets, kinds = array("q"), list[str]()
    columns = TextColumn("journal"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    with _open_query(options) as query, bar:
        if query.describe().get("log") != log_id:
            raise FolderError(
                f"the daemon's journal is not the archive's last one ({log_id}): there is nothing to compare"
            )
        replay = query.replay(options.topics.split(","), to=confirmed)
        task = bar.add_task("journal", total=None)
        for event in replay:
            offsets.append(event.offset or 0)
            kinds.append(event.kind)
            if len(offsets) % 1_000 == 0:
                bar.update(task, completed=event.offset, total=confirmed)
    journal = pa.table({"journal_offset": pa.array(offsets, pa.int64()), "kind": pa.array(kinds, pa.string())})
    connection.from_arrow(journal).create_view("journal_events")
    each = 'select \'{0}\' as kind, log, "offset" as number from "{0}"'
    stored = " union all ".join(each.format(kind) for kind in EVENT_KINDS)
    relation = connection.sql(
        f"""select kind, count(*) as journal, count(*) filter (times >= 1) as archived,
        count(*) filter (coalesce(times, 0) = 0) as missing, count(*) filter (times > 1) as doubled
        from journal_events left join
          (select kind as k, number, count(*) as times from ({stored}) where log = $log group by all)
          on k = kind and number = journal_offset
        group by kind order by kind""",  # noqa: S608
        params={"log": log_id},
    )
    found = relation.fetchall()
    _write(connection.from_arrow(relation.to_arrow_table()), options)
    if replay.whole is False:
        print("note: the journal has deleted, or never stored, some events up to here", file=sys.stderr)  # noqa: T201
    return EXIT_FAILED if any(missing or doubled for _, _, _, missing, doubled in found) else 0
