"""What `verify` compares with the journal when the store is a ClickHouse database: position and offsets."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import duckdb

from mt4pump.client import one_line
from mt4pump_consumers.archive.clickhouse_http import ClickhouseConnection, ClickhouseError, literal, quoted
from mt4pump_consumers.archive.clickhouse_store import PASSWORD_VARIABLE
from mt4pump_consumers.archive.clickhouse_tables import COMMIT, LAST_STATE
from mt4pump_consumers.archive.columns import EVENT_KINDS
from mt4pump_consumers.archive.database import offsets_table
from mt4pump_consumers.archive.store import StoreError


@contextmanager
def opened_database(url: str) -> Iterator[tuple[duckdb.DuckDBPyConnection, Mapping[str, Any]]]:
    """Give a connection of DuckDB with log and offset of each kind as of the last commit, and the position then.

    A password is in ``CLICKHOUSE_PASSWORD``. Raises StoreError.
    """
    try:
        with (
            closing(ClickhouseConnection(url, os.environ.get(PASSWORD_VARIABLE))) as server,
            duckdb.connect() as connection,
        ):
            rows = server.rows(f"select number, position {LAST_STATE}")
            number, position = rows[0] if rows else (0, None)
            found = json.loads(position) if position else {}
            for kind in EVENT_KINDS:
                where = f"log = {literal(found.get('log'))} and {COMMIT} <= {number}"
                text = f'select log, "offset" from {quoted(kind)} where {where} format CSV'  # noqa: S608
                connection.from_arrow(offsets_table(server.execute(text))).create_view(kind)
            yield connection, found
    except ClickhouseError as error:
        raise StoreError(one_line(str(error))) from error
