"""The tables of each kind in ClickHouse, what makes and changes them, and rows of Arrow tables by partition."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mt4pump_consumers.archive.clickhouse_http import NULLABLE, ClickhouseConnection, literal, quoted
from mt4pump_consumers.archive.columns import QUOTE, TOPIC, schema_of
from mt4pump_consumers.archive.database import KINDS, SERVER_CODE, json_texts
from mt4pump_consumers.archive.store import StoreChangedError

LAYOUT = 1
"""Version of these tables: an archive refuses those of a newer one."""
COMMIT = "commit_number"
"""Column with the number of the commit that stored the row: rows above the last number in ``archive_state`` are of one
that did not end."""
OLDEST_MODERN = (22, 3)
"""From here on a table has a deduplication window, types have names for truth and for parts of a second, and an INSERT
can wait for the disk. Older servers are for the tests."""
FSYNC, WINDOW = "fsync_after_insert = 1, fsync_part_directory = 1", "non_replicated_deduplication_window = 1000"
TYPES = {
    pa.int64(): "Int64",
    pa.float64(): "Float64",
    pa.bool_(): "Bool",
    pa.string(): "String",
    pa.timestamp("ns", "UTC"): "DateTime64(9, 'UTC')",
    pa.timestamp("ms"): "DateTime64(3, 'UTC')",
}
OLD_TYPES = {"Bool": "UInt8", "DateTime64(9, 'UTC')": "DateTime('UTC')", "DateTime64(3, 'UTC')": "DateTime('UTC')"}
REQUIRED = frozenset({SERVER_CODE, COMMIT, "ts", "ts_utc"})
QUOTE_REQUIRED = frozenset({"symbol", TOPIC, "seq"})
WRITERS_TABLE = (
    "create table if not exists archive_writers (number Int64, layout Int64, writer String)"
    " engine = MergeTree order by number"
)
STATE_TABLE = (
    "create table if not exists archive_state (only_row UInt8, number Int64, last_commit String,"
    " position Nullable(String), seqs String, first_epoch Int64, durable_ts Int64, last_offset Int64)"
    " engine = ReplacingMergeTree(number) order by only_row"
)
LAST_STATE = "from archive_state order by number desc limit 1"
STATE_COLUMNS = "number, last_commit, position, seqs, first_epoch, durable_ts, last_offset"


def is_modern(server: ClickhouseConnection) -> bool:
    """Return whether the server has what `OLDEST_MODERN` says."""
    version = str(server.value("select version()")).split(".")
    return tuple(map(int, version[:2])) >= OLDEST_MODERN


def columns_of(kind: str) -> dict[str, str]:
    """Return name and type of each column in a current server; nested values are JSON in a text."""
    required = REQUIRED | QUOTE_REQUIRED if kind == QUOTE else REQUIRED
    found = {SERVER_CODE: "String", **{field.name: TYPES.get(field.type, "String") for field in schema_of(kind)}}
    found[COMMIT] = "Int64"
    return {name: of if name in required else f"{NULLABLE}{of})" for name, of in found.items()}


def partition_function(kind: str) -> str:
    """Return what makes a partition's name of a time: quotes are many, and a day of them is one."""
    return "toYYYYMMDD" if kind == QUOTE else "toYYYYMM"


def migrate(server: ClickhouseConnection, *, modern: bool) -> dict[str, dict[str, str]]:
    """Make what is missing of tables and columns; return the columns' types by kind. Raises StoreChangedError."""
    fsync, more = (f" settings {FSYNC}", f" settings {FSYNC}, {WINDOW}") if modern else ("", "")
    for statement in (WRITERS_TABLE, STATE_TABLE):
        server.execute(statement + fsync)
    layout = server.value("select max(layout) from archive_writers") or 0
    if layout > LAYOUT:
        raise StoreChangedError(f"the tables are of a newer mt4pump-archive (layout {layout}): update this one")
    for kind in KINDS:
        columns = ", ".join(f"{quoted(name)} {_served(of, modern=modern)}" for name, of in columns_of(kind).items())
        order = f"{SERVER_CODE}, symbol, ts, seq" if kind == QUOTE else f"{SERVER_CODE}, ts"
        server.execute(
            f"create table if not exists {quoted(kind)} ({columns}) engine = MergeTree"
            f" partition by {partition_function(kind)}(ts_utc) order by ({order}){more}"
        )
    return {kind: _with_columns(server, kind, modern=modern) for kind in KINDS}


def _served(of: str, *, modern: bool) -> str:
    """Return the type that the server has for ``of``."""
    for name, old in OLD_TYPES.items():
        of = of if modern else of.replace(name, old)
    return of


def _with_columns(server: ClickhouseConnection, kind: str, *, modern: bool) -> dict[str, str]:
    """Add the columns that an older version did not have; raises StoreChangedError when one has another type."""
    where = f"database = {literal(server.database)} and table = {literal(kind)}"
    found: dict[str, str] = dict(server.rows(f"select name, type from system.columns where {where}"))  # noqa: S608
    types = {}
    for name, wanted in columns_of(kind).items():
        served = _served(wanted, modern=modern)
        if name not in found:
            server.execute(f"alter table {quoted(kind)} add column {quoted(name)} {served}")
        elif found[name] not in {wanted, _served(wanted, modern=False)}:
            text = f"the column {kind}.{name} is {found[name]}, not {served}: rename that table"
            raise StoreChangedError(text)
        types[name] = found.get(name, served)
    return types


def by_partition(table: pa.Table, kind: str) -> Iterator[tuple[str, pa.Table]]:
    """Yield the rows of each partition with its name."""
    names = pc.strftime(table["ts_utc"], "%Y%m%d" if kind == QUOTE else "%Y%m")
    for name in sorted(pc.unique(names).to_pylist()):
        yield name, table.filter(pc.equal(names, name))


def sent_columns(table: pa.Table, server_code: str, number: int) -> dict[str, pa.Array]:
    """Return the columns of rows as they are sent."""
    table = table.combine_chunks()
    columns: dict[str, Any] = {SERVER_CODE: pa.repeat(server_code, table.num_rows)}
    for name, column in zip(table.column_names, table.columns, strict=True):
        columns[name] = json_texts(column) if pa.types.is_nested(column.type) else _whole(column)
    columns[COMMIT] = pa.repeat(pa.scalar(number, pa.int64()), table.num_rows)
    return columns


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)
