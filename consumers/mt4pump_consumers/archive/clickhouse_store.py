"""The store in a ClickHouse database, which has no transactions: rows first, then the row that commits them.

Each row has the number of its commit. A commit inserts the rows of each kind and partition as one block, with a
deduplication token, then one row into ``archive_state`` with position and number. Rows with a higher number than the
last one there are of a commit that did not end: after a fault the same batch is compared with them and completed, at
the start they are deleted. ``archive_writers`` names the archive that may commit: the one that began last.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc
from prometheus_client.core import Metric

from mt4pump.client import one_line
from mt4pump.process.values import is_loopback
from mt4pump_consumers.archive import clickhouse_tables as tables
from mt4pump_consumers.archive.clickhouse_http import (
    ClickhouseConnection,
    ClickhouseError,
    columns_sql,
    literal,
    native_block,
    quoted,
)
from mt4pump_consumers.archive.columns import NOT_IN_JOURNAL
from mt4pump_consumers.archive.database import (
    KINDS,
    MAINTAIN_S,
    SERVER_CODE,
    add_committed,
    database_metrics,
    newest_durable_ts,
    oldest_kept,
    open_with_retries,
)
from mt4pump_consumers.archive.journals import last_offset
from mt4pump_consumers.archive.settings import ArchiveSettings
from mt4pump_consumers.archive.store import ArchiveBatch, StoreChangedError, StoreError, StreamState

PASSWORD_VARIABLE = "CLICKHOUSE_PASSWORD"  # noqa: S105 - its name, which is that of clickhouse-client
QUERY_ID = "mt4pump-archive"
"""Begins the id of each statement that writes, so that one of a killed archive is found."""
DELETE_LIMIT_S, DELETE_CHECK_S = 600.0, 0.1
WRITER_BITS = 32
"""The number of a commit is that of the writer, then one of its commits: two writers never have the same."""
BLOCK_ROWS = 1 << 40
"""Above all: a block is never divided, so that it is stored whole or not at all."""

log = logging.getLogger(__name__)


class ClickhouseStore:
    """Tables of one database; ``pause`` waits some seconds at the start and returns whether to end.

    Raises StoreError when the database cannot be used within the limit of `open_with_retries`.
    """

    def __init__(self, settings: ArchiveSettings, pause: Callable[[float], bool]) -> None:
        password = settings.store_password.get_secret_value() if settings.store_password else None
        try:
            self._server = ClickhouseConnection(settings.store or "", password or os.environ.get(PASSWORD_VARIABLE))
        except ClickhouseError as error:
            raise StoreError(one_line(str(error))) from error
        self.name = self._server.name
        self.state = StreamState()
        self.durable_ts = self.reconnects = self._bytes = self._number = self._last_offset = 0
        self._last_commit = self._in_doubt = ""
        self._writer = secrets.token_hex(8)
        self._writer_number = 0
        self._is_modern = self._is_away = False
        self._types: dict[str, dict[str, str]] = {}
        self._maintained_s = float("-inf")
        if not (self._server.is_encrypted or is_loopback(self._server.host)):
            log.warning("the connection to %s is not encrypted: write clickhouses:// in store", self.name)
        try:
            open_with_retries(self.name, self._open, pause)
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        with self._errors():
            self._is_modern = tables.is_modern(self._server)
            self._types = tables.migrate(self._server, modern=self._is_modern)
            if not self._writer_number:
                number = (self._server.value("select max(number) from archive_writers") or 0) + 1
                values = f"({number}, {tables.LAYOUT}, {literal(self._writer)})"
                self._server.execute(f"insert into archive_writers values {values}", settings=self._written("writer"))  # noqa: S608
                self._writer_number = number
            self._check_idle()
            self._read_state()
            for kind in KINDS:
                self._delete(kind, f"{tables.COMMIT} > {self._number}")
            self._check_offsets()

    def _written(self, what: str) -> dict[str, object]:
        """Return the settings of a statement that writes."""
        more = {"async_insert": 0} if self._is_modern else {}
        return {"query_id": f"{QUERY_ID}-{self._server.database}-{what}-{secrets.token_hex(8)}", **more}

    def _check_idle(self) -> None:
        """Raise StoreError while a statement that an archive sent before is still at work."""
        prefix = literal(f"{QUERY_ID}-{self._server.database}-")
        text = f"select count() from system.processes where startsWith(query_id, {prefix})"  # noqa: S608
        if self._server.value(text):
            raise StoreError("an INSERT of before is still at work")

    def _read_state(self) -> None:
        rows = self._server.rows(f"select {tables.STATE_COLUMNS} {tables.LAST_STATE}")
        if rows:
            self._number, self._last_commit, position, seqs, first_epoch, self.durable_ts, self._last_offset = rows[0]
            self.state = StreamState(json.loads(position) if position else None, json.loads(seqs), first_epoch)

    def _check_offsets(self) -> None:
        """Compare the highest offset of each table with what was committed; raises StoreChangedError."""
        log_id = (self.state.position or {}).get("log")
        for kind in KINDS:
            if kind in NOT_IN_JOURNAL or log_id is None:
                continue
            text = f'select max("offset") from {quoted(kind)} where log = {literal(log_id)}'  # noqa: S608
            if (self._server.value(text) or 0) > self._last_offset:
                raise StoreChangedError(
                    f"{self.name} has an event already that comes after its position: restore both together ({kind})"
                )

    @property
    def newest_ts(self) -> int:
        """Return the time of the newest event of the journal's kinds that is committed; 0: none is."""
        return self.durable_ts

    def commit(self, batch: ArchiveBatch) -> None:
        """Store a batch with its position, once; raises StoreError, and then the same batch may be tried again."""
        number = max(self._number, self._writer_number << WRITER_BITS) + 1
        with self._errors():
            is_again, self._in_doubt = self._in_doubt == batch.id, batch.id
            if is_again:
                self._check_idle()
            found = self._server.value(f"select last_commit {tables.LAST_STATE}") or ""
            if found not in {self._last_commit, batch.id} or self._last_writer() != self._writer:
                raise StoreChangedError(self._changed())
            last_offset = self._highest_offset(batch)
            if found != batch.id:  # else the last try did it, and its answer was lost
                self._insert(batch, number, is_again=is_again)
                self._insert_state(batch, number, last_offset)
        self._number, self._last_offset, self._last_commit, self._in_doubt = number, last_offset, batch.id, ""
        self.reconnects += self._is_away
        self._is_away = False
        add_committed(self.state, batch)
        self.durable_ts = max(self.durable_ts, newest_durable_ts(batch))

    def _changed(self) -> str:
        return f"{self.name} is not as this archive left it: another one wrote to it, or it was restored"

    def _last_writer(self) -> str | None:
        text = "select writer from archive_writers order by number desc, writer desc limit 1"
        found: str | None = self._server.value(text)
        return found

    def _insert(self, batch: ArchiveBatch, number: int, *, is_again: bool) -> None:
        for (code, kind), parts in batch.tables.items():
            for partition, table in tables.by_partition(pa.concat_tables(parts), kind):
                where = f"{tables.COMMIT} = {number} and {SERVER_CODE} = {literal(code)}"
                where += f" and {tables.partition_function(kind)}(ts_utc) = {partition}"
                if is_again:
                    stored = self._server.value(f"select count() from {quoted(kind)} where {where}")  # noqa: S608
                    if stored == table.num_rows:
                        continue
                    self._delete(kind, where)
                settings = self._written("rows")
                settings["max_insert_block_size"] = BLOCK_ROWS
                if self._is_modern:
                    settings["insert_deduplication_token"] = f"{batch.id}-{code}-{partition}"
                columns = tables.sent_columns(table, code, number)
                statement = f"insert into {quoted(kind)} ({columns_sql(columns)}) format Native"
                self._server.execute(statement, native_block(columns, self._types[kind]), settings)

    def _insert_state(self, batch: ArchiveBatch, number: int, last_offset: int) -> None:
        """Commit, if this archive is still the one that may; else delete its rows and raise StoreChangedError."""
        position = dict(batch.position) if batch.position else self.state.position
        values = [
            f"toUInt8(1), toInt64({number}), {literal(batch.id)}",
            f"cast({literal(json.dumps(position) if position else None)} as Nullable(String))",
            literal(json.dumps({**self.state.seqs, **batch.seqs})),
            f"toInt64({batch.first_epoch or self.state.first_epoch})",
            f"toInt64({max(self.durable_ts, newest_durable_ts(batch))}), toInt64({last_offset})",
        ]
        self._server.execute(
            f"insert into archive_state (only_row, {tables.STATE_COLUMNS}) select {', '.join(values)} from"  # noqa: S608
            " (select writer from archive_writers order by number desc, writer desc limit 1)"
            f" where writer = {literal(self._writer)}",
            settings=self._written("state"),
        )
        if self._server.value(f"select last_commit {tables.LAST_STATE}") != batch.id:
            for kind in KINDS:
                self._delete(kind, f"{tables.COMMIT} = {number}")
            raise StoreChangedError(self._changed())

    def _highest_offset(self, batch: ArchiveBatch) -> int:
        """Return the highest offset of the position's log that is stored after ``batch``."""
        before, after = ((each or {}).get("log") for each in (self.state.position, batch.position))
        after = after or before
        found = [self._last_offset if after == before else 0]
        found += [last_offset(each, after or "") for each in (self.state.position, batch.position)]
        for (_, kind), parts in batch.tables.items():
            for table in parts if kind not in NOT_IN_JOURNAL and after is not None else ():
                offsets = table["offset"].filter(pc.equal(table["log"], after))
                found.append(pc.max(offsets).as_py() or 0)
        return max(found)

    def maintain(self, settings: ArchiveSettings, feed_ts: int) -> None:
        """Delete days beyond ``keep_days``; raises StoreError."""
        if time.monotonic() - self._maintained_s < MAINTAIN_S:
            return
        try:
            where = f"active and database = {literal(self._server.database)}"
            self._bytes = self._server.value(f"select sum(bytes_on_disk) from system.parts where {where}") or 0  # noqa: S608
            for kind in KINDS if settings.keep_days else ():
                self._delete_before(kind, oldest_kept(settings, feed_ts))
        except ClickhouseError as error:
            raise StoreError(one_line(str(error))) from error
        self._maintained_s = time.monotonic()

    def _delete_before(self, kind: str, oldest: datetime) -> None:
        """Drop the partitions that are too old as a whole, then delete what is too old of the next one."""
        limit = oldest.strftime("%Y%m%d" if tables.partition_function(kind) == "toYYYYMMDD" else "%Y%m")
        where = f"active and database = {literal(self._server.database)} and table = {literal(kind)}"
        found = self._server.rows(f"select distinct partition from system.parts where {where}")  # noqa: S608
        for (partition,) in found:
            if int(partition) < int(limit):
                self._server.execute(f"alter table {quoted(kind)} drop partition {int(partition)}")
                log.info("%s: the partition %s deleted", kind, partition)
        self._delete(kind, f"ts < {int(oldest.timestamp()) * 10**9}")

    def _delete(self, kind: str, where: str) -> None:
        """Delete rows, if there are any, and wait until they are; raises StoreError."""
        if not (count := self._server.value(f"select count() from {quoted(kind)} where {where}")):  # noqa: S608
            return
        self._server.execute(f"alter table {quoted(kind)} delete where {where}")
        table = f"database = {literal(self._server.database)} and table = {literal(kind)}"
        deadline_s = time.monotonic() + DELETE_LIMIT_S
        while self._server.value(f"select count() from system.mutations where {table} and not is_done"):  # noqa: S608
            if time.monotonic() > deadline_s:
                raise StoreError(f"rows of {kind} are still being deleted")
            time.sleep(DELETE_CHECK_S)
        log.info("%s: %d rows deleted where %s", kind, count, where)

    def metrics(self) -> Iterator[Metric]:
        """Yield the size of the database and how often it was away."""
        yield from database_metrics(self._bytes, self.reconnects)

    def close(self) -> None:
        """Close the connections."""
        self._server.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn errors of the server into StoreError."""
        try:
            yield
        except ClickhouseError as error:
            self._is_away = bool(self._writer_number)
            raise StoreError(one_line(str(error))) from error
