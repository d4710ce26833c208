"""The store in a PostgreSQL database: a batch and its position are one transaction.

Before anything is copied, the transaction locks the row of ``archive_state`` and compares its ``last_commit``. If it is
the batch's own id, the batch was committed and only the answer was lost; if it is another than the last one's, somebody
else has written. So a batch is stored once whatever the connection, the server or a killed archive's last transaction
does. An advisory lock keeps a second archive out.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import psycopg
import pyarrow as pa
from prometheus_client.core import Metric
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from mt4pump.client import one_line
from mt4pump.process.values import is_loopback
from mt4pump_consumers.archive import postgresql_tables as tables
from mt4pump_consumers.archive.database import (
    KINDS,
    MAINTAIN_S,
    add_committed,
    database_metrics,
    newest_durable_ts,
    oldest_kept,
    open_with_retries,
)
from mt4pump_consumers.archive.settings import ArchiveSettings
from mt4pump_consumers.archive.store import ArchiveBatch, StoreChangedError, StoreError, StreamState

LOCK = int.from_bytes(b"mt4pump", "big")
"""Number of the advisory lock that the one archive of a database holds."""
DEFAULTS = {
    "application_name": "mt4pump-archive",
    "target_session_attrs": "read-write",
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""Of libpq: of several hosts the one that can be written; one that is gone is found within half a minute. The URL may
say otherwise."""
SESSION = """
set timezone to 'UTC'; set synchronous_commit to on; set idle_in_transaction_session_timeout to '60s';
set tcp_keepalives_idle to 10; set tcp_keepalives_interval to 5; set tcp_keepalives_count to 3
"""
"""A server with other defaults forgets commits in a crash, or keeps the lock of an archive whose machine is gone."""
DELETE_ROWS, DELETE_STEPS = 50_000, 20
"""Most rows that one statement deletes, and most statements for a table each time."""

log = logging.getLogger(__name__)

PostgresqlConnection = psycopg.Connection[tuple[Any, ...]]


class PostgresqlStore:
    """Tables of the schema ``mt4pump``; ``pause`` waits some seconds at the start and returns whether to end.

    Raises StoreError when the database cannot be used within `START_LIMIT_S`.
    """

    def __init__(self, settings: ArchiveSettings, pause: Callable[[float], bool]) -> None:
        password = {"password": settings.store_password.get_secret_value()} if settings.store_password else {}
        try:
            self._conninfo: dict[str, Any] = {**DEFAULTS, **conninfo_to_dict(settings.store or ""), **password}
        except psycopg.Error as error:
            raise StoreError(f"store is no address of PostgreSQL: {one_line(str(error))}") from error
        host, database = (self._conninfo.get(part, "") for part in ("host", "dbname"))
        self.name = f"postgresql://{host}/{database}"
        self.state = StreamState()
        self.durable_ts = self.connects = self._bytes = 0
        self._last_commit = ""
        self._maintained_s = float("-inf")
        self._connection: PostgresqlConnection | None = None
        self._open(pause)

    def _open(self, pause: Callable[[float], bool]) -> None:
        def attempt() -> None:
            with self._errors():
                connection = self._connected()
                _migrate(connection)
                self._read_state(connection)

        open_with_retries(self.name, attempt, pause)

    @property
    def newest_ts(self) -> int:
        """Return the time of the newest event of the journal's kinds that is committed; 0: none is."""
        return self.durable_ts

    def commit(self, batch: ArchiveBatch) -> None:
        """Store a batch with its position, once; raises StoreError, and then the same batch may be tried again."""
        with self._errors():
            connection = self._connected()
            with connection.transaction():
                (found,) = connection.execute(
                    sql.SQL("select last_commit from {}.archive_state for update").format(sql.Identifier(tables.SCHEMA))
                ).fetchone() or (None,)
                if found not in {self._last_commit, batch.id}:
                    raise StoreChangedError(
                        f"{self.name} is not as this archive left it: another one wrote to it, or it was restored"
                    )
                if found != batch.id:  # else the last try did it, and its answer was lost
                    self._write(connection, batch)
        self._last_commit = batch.id
        add_committed(self.state, batch)
        self.durable_ts = max(self.durable_ts, newest_durable_ts(batch))

    def _write(self, connection: PostgresqlConnection, batch: ArchiveBatch) -> None:
        schema = sql.Identifier(tables.SCHEMA)
        with connection.cursor() as cursor:
            for (code, kind), parts in batch.tables.items():
                with cursor.copy(tables.copy_statement(kind)) as copy:
                    for rows in tables.copy_rows(pa.concat_tables(parts), code):
                        copy.write(rows)
            topics = [topic.replace(tables.NUL, tables.NUL_REPLACEMENT) for topic in batch.seqs]
            cursor.execute(
                sql.SQL(
                    "insert into {}.archive_topics select * from unnest(%s::text[], %s::bigint[], %s::bigint[])"
                    " on conflict (event_topic) do update set epoch = excluded.epoch, seq = excluded.seq"
                ).format(schema),
                [topics, [epoch for epoch, _ in batch.seqs.values()], [seq for _, seq in batch.seqs.values()]],
            )
            cursor.execute(
                sql.SQL(
                    "update {}.archive_state set last_commit = %s, position = coalesce(%s, position),"
                    " first_epoch = coalesce(nullif(%s, 0), first_epoch), durable_ts = greatest(durable_ts, %s)"
                ).format(schema),
                [
                    batch.id,
                    json.dumps(batch.position) if batch.position else None,
                    batch.first_epoch,
                    newest_durable_ts(batch),
                ],
            )

    def maintain(self, settings: ArchiveSettings, feed_ts: int) -> None:
        """Delete rows of days beyond ``keep_days``, some at a time; raises StoreError."""
        if time.monotonic() - self._maintained_s < MAINTAIN_S:
            return
        oldest = oldest_kept(settings, feed_ts)
        try:
            with psycopg.connect(**self._conninfo, autocommit=True) as connection:
                (self._bytes,) = connection.execute("select pg_database_size(current_database())").fetchone() or (0,)
                has_timescaledb = _has_timescaledb(connection)
                for kind in KINDS if settings.keep_days else ():
                    _delete(connection, kind, oldest, has_timescaledb=has_timescaledb)
        except psycopg.Error as error:
            raise StoreError(one_line(str(error))) from error
        self._maintained_s = time.monotonic()

    def metrics(self) -> Iterator[Metric]:
        """Yield the size of the database and how often the connection broke."""
        yield from database_metrics(self._bytes, max(0, self.connects - 1))

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn errors of the database into StoreError, and close the connection after them: its state is not known."""
        try:
            yield
        except (psycopg.Error, StoreError) as error:
            self.close()
            if isinstance(error, StoreError):
                raise
            if isinstance(error, psycopg.errors.UniqueViolation):
                text = f"{self.name} has an event already that comes after its position: restore both together"
                raise StoreChangedError(f"{text} ({one_line(str(error))})") from error
            raise StoreError(one_line(str(error))) from error

    def _connected(self) -> PostgresqlConnection:
        """Return the connection, a new one where there is none; it holds the lock."""
        if self._connection is None:
            connection = self._connection = psycopg.connect(**self._conninfo, autocommit=True)
            connection.execute(SESSION)
            (is_alone,) = connection.execute("select pg_try_advisory_lock(%s)", [LOCK]).fetchone() or (False,)
            if not is_alone:
                raise StoreError(f"another mt4pump-archive writes to {self.name}: stop it, or give another database")
            self.connects += 1
            if self.connects == 1 and not (connection.pgconn.ssl_in_use or _is_near(connection.info.host)):
                log.warning("the connection to %s is not encrypted: add ?sslmode=verify-full to store", self.name)
        return self._connection

    def _read_state(self, connection: PostgresqlConnection) -> None:
        schema = sql.Identifier(tables.SCHEMA)
        row = connection.execute(
            sql.SQL("select last_commit, position, first_epoch, durable_ts from {}.archive_state for update").format(
                schema
            )
        ).fetchone()  # waits for the last transaction of an archive that was killed
        if row is None:
            raise StoreChangedError(f"{tables.SCHEMA}.archive_state of {self.name} is empty: restore it from a backup")
        self._last_commit, position, self.state.first_epoch, self.durable_ts = row
        self.state.position = json.loads(position) if position else None
        topics = connection.execute(sql.SQL("select event_topic, epoch, seq from {}.archive_topics").format(schema))
        self.state.seqs = {topic: [epoch, seq] for topic, epoch, seq in topics}


def _is_near(host: str) -> bool:
    return host.startswith("/") or is_loopback(host)


def _migrate(connection: PostgresqlConnection) -> None:
    """Make what is missing of schema, tables and columns, in one transaction; raises StoreError, psycopg.Error."""
    schema = sql.Identifier(tables.SCHEMA)
    (encoding,) = connection.execute("show server_encoding").fetchone() or ("",)
    if encoding != "UTF8":
        raise StoreChangedError(f"the database has the encoding {encoding}: give one that was made with UTF8")
    has_timescaledb = _has_timescaledb(connection)
    with connection.transaction():
        connection.execute("set local client_min_messages to warning")  # not a notice for each that is there
        if connection.execute("select to_regnamespace(%s)", [tables.SCHEMA]).fetchone() == (None,):
            connection.execute(sql.SQL("create schema {}").format(schema))  # a user without this right may own one
        connection.execute(tables.STATE_TABLES)
        connection.execute(
            sql.SQL("insert into {}.archive_state (layout) values (%s) on conflict do nothing").format(schema),
            [tables.LAYOUT],
        )
        (layout,) = connection.execute(sql.SQL("select layout from {}.archive_state").format(schema)).fetchone() or (0,)
        if layout > tables.LAYOUT:
            raise StoreChangedError(f"the tables are of a newer mt4pump-archive (layout {layout}): update this one")
        for kind in KINDS:
            connection.execute(tables.create_table(kind))
            if has_timescaledb:
                connection.execute(
                    "select create_hypertable(%s::regclass, 'ts_utc', chunk_time_interval => interval '1 day',"
                    " if_not_exists => true, migrate_data => true)",
                    [tables.table_name(kind).as_string(connection)],
                )
            _add_columns(connection, kind)
            for statement in tables.create_indexes(kind):
                connection.execute(statement)


def _has_timescaledb(connection: PostgresqlConnection) -> bool:
    (found,) = connection.execute(
        "select exists (select from pg_extension where extname = 'timescaledb')"
    ).fetchone() or (False,)
    return bool(found)


def _add_columns(connection: PostgresqlConnection, kind: str) -> None:
    """Add the columns that an older version did not have; raises StoreError when one has another type."""
    found: dict[str, str] = dict(
        connection.execute(
            "select column_name, data_type from information_schema.columns where table_schema = %s and table_name = %s",
            [tables.SCHEMA, kind],
        )
    )
    for name, wanted in tables.columns_of(kind).items():
        if name not in found:
            connection.execute(
                sql.SQL("alter table {} add column {} {}").format(
                    tables.table_name(kind), sql.Identifier(name), sql.SQL(wanted)
                )
            )
        elif found[name] != wanted:
            where = f"{tables.SCHEMA}.{kind}.{name}"
            raise StoreChangedError(f"the column {where} is {found[name]}, not {wanted}: rename that table")


def _delete(connection: PostgresqlConnection, kind: str, oldest: datetime, *, has_timescaledb: bool) -> None:
    name = tables.table_name(kind)
    if has_timescaledb:
        connection.execute("select drop_chunks(%s::regclass, %s)", [name.as_string(connection), oldest])
        return
    statement = sql.SQL(
        "delete from {0} where ctid = any(array(select ctid from {0} where ts_utc < %s limit %s))"
    ).format(name)
    for _ in range(DELETE_STEPS):
        deleted = connection.execute(statement, [oldest, DELETE_ROWS]).rowcount
        if deleted:
            log.info("%s: %d rows before %s deleted", kind, deleted, oldest.date())
        if deleted < DELETE_ROWS:
            return
