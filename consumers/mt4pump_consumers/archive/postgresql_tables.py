"""The tables of each kind in PostgreSQL, and rows of Arrow tables as the CSV that COPY reads; no connection."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql
from pyarrow import csv

from mt4pump_consumers.archive.columns import QUOTE, schema_of
from mt4pump_consumers.archive.database import SERVER_CODE, json_texts

SCHEMA = "mt4pump"
LAYOUT = 1
"""Version of these tables: an archive refuses those of a newer one."""
COPY_ROWS = 20_000
NUL, NUL_REPLACEMENT = "\x00", "\ufffd"
"""PostgreSQL's texts cannot hold the first."""
TYPES = {
    pa.int64(): "bigint",
    pa.float64(): "double precision",
    pa.bool_(): "boolean",
    pa.string(): "text",
    pa.timestamp("ns", "UTC"): "timestamp with time zone",
    pa.timestamp("ms"): "timestamp without time zone",
}
STATE_TABLES = sql.SQL("""
create table if not exists {schema}.archive_state (
  only_row boolean primary key default true check (only_row),
  layout integer not null,
  last_commit text not null default '',
  position text,
  first_epoch bigint not null default 0,
  durable_ts bigint not null default 0
);
create table if not exists {schema}.archive_topics (
  event_topic text primary key,
  epoch bigint not null,
  seq bigint not null
);
""").format(schema=sql.Identifier(SCHEMA))


def columns_of(kind: str) -> dict[str, str]:
    """Return name and type of each column; nested values are jsonb."""
    return {SERVER_CODE: "text", **{field.name: TYPES.get(field.type, "jsonb") for field in schema_of(kind)}}


def table_name(kind: str) -> sql.Identifier:
    """Return the name of a kind's table."""
    return sql.Identifier(SCHEMA, kind)


def create_table(kind: str) -> sql.Composed:
    """Return the statement that makes the table of a kind if there is none."""
    required = {SERVER_CODE, "ts", "ts_utc"}
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}{}").format(
            sql.Identifier(name), sql.SQL(kind_of), sql.SQL(" not null" if name in required else "")
        )
        for name, kind_of in columns_of(kind).items()
    )
    return sql.SQL("create table if not exists {} ({})").format(table_name(kind), columns)


def create_indexes(kind: str) -> Iterator[sql.Composed]:
    """Yield the statements that make the indexes of a kind: by time, by symbol, and one row for each offset."""
    names = columns_of(kind)
    found = {"ts_utc": ("", "using brin (ts_utc)")}
    if kind == QUOTE:
        found["symbol"] = ("", "(symbol, ts_utc)")
    if "offset" in names:  # TimescaleDB requires the time in a unique index; an offset has one ts_utc
        found["offset"] = ("unique ", '(log, "offset", ts_utc) where "offset" is not null')
    for name, (unique, what) in found.items():
        yield sql.SQL("create {}index if not exists {} on {} {}").format(
            sql.SQL(unique), sql.Identifier(f"{kind}_{name}"), table_name(kind), sql.SQL(what)
        )


def copy_statement(kind: str) -> sql.Composed:
    """Return the statement that reads what `copy_rows` yields."""
    columns = sql.SQL(", ").join(map(sql.Identifier, columns_of(kind)))
    return sql.SQL("copy {} ({}) from stdin (format csv)").format(table_name(kind), columns)


def copy_rows(table: pa.Table, server_code: str) -> Iterator[memoryview]:
    """Yield the rows as CSV: null is nothing, an empty text is ``""``. Times become microseconds."""
    columns = [pa.repeat(server_code, table.num_rows), *map(_copied, table.columns)]
    rows = pa.table(columns, [SERVER_CODE, *table.column_names])
    for batch in rows.to_batches(COPY_ROWS):
        buffer = pa.BufferOutputStream()
        csv.write_csv(batch, buffer, csv.WriteOptions(include_header=False))
        yield memoryview(buffer.getvalue())


def _copied(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_string(column.type):
        return pc.replace_substring(column, NUL, NUL_REPLACEMENT)
    if pa.types.is_nested(column.type):
        return json_texts(column, lambda text: text.replace(NUL, NUL_REPLACEMENT))
    if pa.types.is_timestamp(column.type) and column.type.tz:
        return column.cast(pa.timestamp("us", column.type.tz), safe=False)
    return column
