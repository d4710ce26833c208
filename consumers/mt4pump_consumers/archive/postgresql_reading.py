"""What `verify` compares with the journal when the store is a PostgreSQL database: position and offsets."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import duckdb
import psycopg
import pyarrow as pa
from psycopg import sql

from mt4pump.client import one_line
from mt4pump_consumers.archive.columns import EVENT_KINDS
from mt4pump_consumers.archive.database import offsets_table
from mt4pump_consumers.archive.postgresql_tables import SCHEMA, table_name
from mt4pump_consumers.archive.store import StoreError


@contextmanager
def opened_database(url: str) -> Iterator[tuple[duckdb.DuckDBPyConnection, Mapping[str, Any]]]:
    """Give a connection of DuckDB with log and offset of each kind as of one moment, and the position then.

    A password is in libpq's PGPASSWORD or ~/.pgpass. Raises StoreError.
    """
    try:
        with psycopg.connect(url, connect_timeout=10) as database, duckdb.connect() as connection:
            database.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            row = database.execute(
                sql.SQL("select position from {}.archive_state").format(sql.Identifier(SCHEMA))
            ).fetchone()
            position = json.loads(row[0]) if row and row[0] else {}
            for kind in EVENT_KINDS:
                connection.from_arrow(_offsets(database, kind, position.get("log"))).create_view(kind)
            yield connection, position
    except psycopg.Error as error:
        raise StoreError(one_line(str(error))) from error


def _offsets(database: psycopg.Connection[tuple[Any, ...]], kind: str, log: str | None) -> pa.Table:
    """Return the offsets of one log, which is all that is compared."""
    statement = sql.SQL('copy (select log, "offset" from {} where log = {}) to stdout (format csv)').format(
        table_name(kind), sql.Literal(log)
    )
    with database.cursor() as cursor, cursor.copy(statement) as copy:
        content = b"".join(map(bytes, copy))
    return offsets_table(content)
