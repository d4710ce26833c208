"""The stores in databases, on real servers: what the tables hold, once whatever breaks, and equal to the files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("duckdb")
pytest.importorskip("psycopg")

from mt4pump_consumers.archive import clickhouse_reading, postgresql_reading, postgresql_store
from mt4pump_consumers.archive.columns import EVENT_KINDS, GAPS, schema_of
from mt4pump_consumers.archive.folder import read_state
from mt4pump_consumers.archive.reading import opened
from mt4pump_consumers.archive.settings import ArchiveSettings
from mt4pump_consumers.archive.store import StoreError

from tests.consumers.archive.archive_run import (
    COMMON_QUERIES,
    DAY_NS,
    EPOCH,
    SQL_TEXTS,
    TS,
    batch_of,
    check_query,
    event,
    quote,
    sql_events,
    trade,
)
from tests.consumers.archive.database_servers import CLICKHOUSES, PASSWORD, POSTGRESQL, DatabaseServer, running

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(name="server", scope="module", params=[POSTGRESQL, *CLICKHOUSES])
def _server(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    server = request.param()
    with running(server):
        yield server


# ---- what the tables hold ----


def test_each_kind_has_a_table_with_the_contracts_columns(server: DatabaseServer, database: str) -> None:
    server.store(database).close()
    for kind in (*EVENT_KINDS, GAPS):
        assert server.columns(database, kind) == {"server_code", *schema_of(kind).names, *server.own_columns}


@pytest.mark.parametrize("query", COMMON_QUERIES)
def test_a_query_has_the_same_result_in_files_and_database(
    server: DatabaseServer, both: tuple[Path, str], query: str
) -> None:
    path, database = both
    with opened(path, read_state(path)) as duck:
        check_query(duck.sql(query).fetchall(), server.execute(database, query))


def test_a_new_archive_begins_where_the_last_one_ended(server: DatabaseServer, database: str) -> None:
    with closing(server.store(database)) as store:
        assert (store.state.position, store.durable_ts) == (None, 0)
        store.commit(batch_of(store, trade(1), quote(5), quote(6), confirmed=1))
        store.commit(batch_of(store, quote(7)))
        kept = store.state
    with closing(server.store(database)) as store:
        assert store.state == kept
        assert store.state.position == {"log": "L", "confirmed": 1, "ahead": {}, "server_code": "demo"}
        assert store.state.seqs == {"quote.EURUSD": [EPOCH, 7]}
        assert (store.state.first_epoch, store.durable_ts) == (EPOCH, TS)
        store.commit(batch_of(store, quote(7), quote(9)))
    assert server.execute(database, "select seq from quote order by seq") == [(5,), (6,), (7,), (9,)]
    assert server.execute(database, "select event_topic, from_seq, to_seq from gaps") == [("quote.EURUSD", 8, 8)]


def test_an_unknown_kinds_topic_is_stored_too(server: DatabaseServer, database: str) -> None:
    with closing(server.store(database)) as store:
        store.commit(batch_of(store, event("unknown.x", 1, code=9)))
    assert server.execute(database, 'select event_topic from "unknown"') == [("unknown.x",)]


def test_no_text_of_the_feed_or_the_journal_is_sql(
    server: DatabaseServer, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(server.password_variable, PASSWORD)
    reading = clickhouse_reading if server.own_columns else postgresql_reading
    events = sql_events()
    with closing(server.store(database)) as store:
        store.commit(batch_of(store, *events))
    for text in SQL_TEXTS:
        with closing(server.store(database)) as store:
            assert store.state.seqs == {f"quote.{each}": [EPOCH, 1] for each in SQL_TEXTS}
            batch = batch_of(store)
            batch.position = {"log": text, "confirmed": len(events), "ahead": {text: 1}}
            store.commit(batch)
        with reading.opened_database(server.url(database)) as (_, position):
            assert position == batch.position
    found = [
        {row[0] for row in server.execute(database, f'select {column} from "{kind}"')}  # noqa: S608
        for kind, column in (("quote", "symbol"), ("group", '"group"'), ("trade", "comment"), ("trade", "change"))
    ]
    assert found == [set(SQL_TEXTS)] * 4


# ---- once, whatever breaks ----


def test_a_database_that_is_killed_has_the_batch_once_when_it_is_back(server: DatabaseServer, database: str) -> None:
    with closing(server.store(database)) as store:
        store.commit(batch_of(store, trade(1), confirmed=1))
        server.kill()
        batch = batch_of(store, trade(2), confirmed=2)
        for _ in range(3):
            with pytest.raises(StoreError):
                store.commit(batch)
        assert store.state.position == {"log": "L", "confirmed": 1, "ahead": {}, "server_code": "demo"}
        server.start()
        store.commit(batch)
        samples = [sample for metric in store.metrics() for sample in metric.samples]
        assert [one.value for one in samples if one.name == "mt4pump_archive_reconnects_total"] == [1]
    assert server.offsets(database) == [1, 2]


# ---- tables of other versions, age, errors at the start ----


def test_columns_that_an_older_version_did_not_have_are_added(server: DatabaseServer, database: str) -> None:
    with closing(server.store(database)) as store:
        store.commit(batch_of(store, quote(1)))
    own = "Nullable(Int64)" if server.own_columns else "int"
    for statement in (
        "alter table quote drop column high",
        f"alter table quote add column own {own}",
        "drop table mail",
    ):
        server.execute(database, statement)
    with closing(server.store(database)) as store:
        store.commit(batch_of(store, quote(2)))
    found = server.execute(database, "select seq, high, own from quote order by seq")
    assert found == [(1, None, None), (2, 2.0, None)]
    assert server.execute(database, "select count(*) from mail") == [(0,)]


def test_days_beyond_the_limit_are_deleted(
    server: DatabaseServer, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql_store, "DELETE_ROWS", 2)
    settings = server.settings(database, keep_days=2)
    with closing(server.store(database)) as store:
        days = [quote(1 + number, ts=TS + number // 3 * DAY_NS) for number in range(15)]
        trades = [trade(1 + day, ts=TS + (day - 5) * DAY_NS) for day in range(12)]
        store.commit(batch_of(store, *days, *trades, confirmed=12))
        store.maintain(settings, TS + 4 * DAY_NS + 1)
    days_left = f"select distinct (ts - {TS}) / {DAY_NS} as day from quote order by day"  # noqa: S608
    assert [int(row[0]) for row in server.execute(database, days_left)] == [2, 3, 4]
    assert server.offsets(database) == [8, 9, 10, 11, 12]


@pytest.mark.parametrize(
    ("address", "error"),
    [
        ("mysql://localhost/db", "write the store as postgresql://"),
        ("postgresql://localhost", "write the store as postgresql://"),
        ("postgresql://me:secret@localhost/db", "a password does not belong into the address"),
        ("postgresql://localhost/db?password=secret", "a password does not belong into the address"),
        ("clickhouse://localhost", "or clickhouse://user@host:8123/database"),
        ("clickhouse://localhost:99999/db", "or clickhouse://user@host:8123/database"),
        ("clickhouse://me:secret@localhost/db", "a password does not belong into the address"),
    ],
)
def test_addresses_that_are_refused(address: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        ArchiveSettings(store=address)
