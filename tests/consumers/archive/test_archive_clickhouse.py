"""The ClickHouse store on Debian's server and on the current engine: what the tables hold, once whatever breaks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("duckdb")

import pyarrow as pa
from mt4pump_consumers.archive.clickhouse_http import ClickhouseConnection, ClickhouseError, literal, native_block
from mt4pump_consumers.archive.clickhouse_reading import opened_database
from mt4pump_consumers.archive.clickhouse_store import PASSWORD_VARIABLE
from mt4pump_consumers.archive.clickhouse_tables import COMMIT
from mt4pump_consumers.archive.columns import EVENT_KINDS, GAPS, schema_of
from mt4pump_consumers.archive.folder import ArchiveFolder, read_state
from mt4pump_consumers.archive.parquet_store import ParquetStore
from mt4pump_consumers.archive.reading import opened
from mt4pump_consumers.archive.settings import ArchiveSettings
from mt4pump_consumers.archive.store import StoreChangedError, StoreError

from tests.consumers.archive.archive_run import (
    COMMON_QUERIES,
    DAY_NS,
    EPOCH,
    SQL_TEXTS,
    TS,
    batch_of,
    commit_example,
    event,
    quote,
    sql_events,
    trade,
)
from tests.consumers.archive.clickhouse_run import (
    PASSWORD,
    ChdbServer,
    ClickhouseServer,
    needs_chdb,
    needs_server,
    running,
)

pytestmark = pytest.mark.timeout(600)

SERVERS = [
    pytest.param(ClickhouseServer, marks=[needs_server, pytest.mark.xdist_group("clickhouse")], id="18.16"),
    pytest.param(ChdbServer, marks=[needs_chdb, pytest.mark.xdist_group("chdb")], id="current"),
]


@pytest.fixture(name="server", scope="module", params=SERVERS)
def _server(request: pytest.FixtureRequest) -> Iterator[ClickhouseServer]:
    with running(request.param()) as server:
        yield server


@pytest.fixture(name="both", scope="module")
def _both(server: ClickhouseServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The same events, committed to a folder and to a database."""
    path, database = tmp_path_factory.mktemp("both"), server.database()
    commit_example([ParquetStore(ArchiveFolder(path)), server.store(database)])
    return path, database


@pytest.fixture(name="database")
def _database(server: ClickhouseServer) -> str:
    return server.database()


def offsets(server: ClickhouseServer, database: str) -> list[int]:
    return [row[0] for row in server.execute(database, 'select "offset" from trade order by "offset"')]


def lost_answers(monkeypatch: pytest.MonkeyPatch, of: str, *, before: bool = False) -> list[int]:
    """Let the connection break once after the server did a statement that has ``of``, or ``before`` it did."""
    real, count = ClickhouseConnection.execute, list[int]()

    def execute(self: ClickhouseConnection, statement: str, *args: Any, **more: Any) -> bytes:
        is_lost = of in statement and not count
        answer = b"" if is_lost and before else real(self, statement, *args, **more)
        if is_lost:
            count.append(1)
            raise ClickhouseError("the connection broke")
        return answer

    monkeypatch.setattr(ClickhouseConnection, "execute", execute)
    return count


# ---- what the tables hold ----


def test_each_kind_has_a_table_with_the_contracts_columns(server: ClickhouseServer, database: str) -> None:
    server.store(database).close()
    for kind in (*EVENT_KINDS, GAPS):
        where = f"database = '{database}' and table = '{kind}'"
        found = server.execute(database, f"select name from system.columns where {where}")  # noqa: S608
        assert {row[0] for row in found} == {"server_code", *schema_of(kind).names, COMMIT}


@pytest.mark.parametrize("query", COMMON_QUERIES)
def test_a_query_has_the_same_result_in_files_and_database(
    server: ClickhouseServer, both: tuple[Path, str], query: str
) -> None:
    path, database = both
    with opened(path, read_state(path)) as duck:
        wanted = duck.sql(query).fetchall()
    assert len(wanted) > 0
    found = server.execute(database, query)
    assert len(found) == len(wanted)
    for row, expected in zip(found, wanted, strict=True):
        assert row == [pytest.approx(value) if isinstance(value, float) else value for value in expected]


def test_values_arrive_as_they_are(server: ClickhouseServer, database: str) -> None:
    comment = 'a\n\\.\n\\N,"b";\t\\x ü\u2028\'nul\x00byte'
    strange = trade(1, comment=comment, symbol="", sl=math.inf, tp=0.1 + 0.2, conv_rates=[1.5, math.nan], login="seven")
    long = trade(2, comment="x" * 70_000)
    with closing(server.store(database)) as store:
        store.commit(batch_of(store, strange, long, confirmed=2))
    first, second = server.execute(
        database,
        'select comment, symbol, toString(sl), tp, conv_rates, extra, magic, login from trade order by "offset"',
    )
    assert first == [comment, "", "inf", 0.1 + 0.2, "[1.5, null]", '{"login": "seven"}', None, None]
    assert second[0] == "x" * 70_000


def test_no_text_of_the_feed_or_the_journal_is_sql(
    server: ClickhouseServer, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    events = sql_events()
    with closing(server.store(database)) as store:
        store.commit(batch_of(store, *events))
    for text in SQL_TEXTS:
        with closing(server.store(database)) as store:
            assert store.state.seqs == {f"quote.{each}": [EPOCH, 1] for each in SQL_TEXTS}
            batch = batch_of(store)
            batch.position = {"log": text, "confirmed": len(events), "ahead": {text: 1}}
            store.commit(batch)
        with opened_database(server.url(database)) as (_, position):
            assert position == batch.position
    found = [
        {row[0] for row in server.execute(database, f'select {column} from "{kind}"')}  # noqa: S608
        for kind, column in (("quote", "symbol"), ("group", '"group"'), ("trade", "comment"), ("trade", "change"))
    ]
    assert found == [set(SQL_TEXTS)] * 4


def test_with_the_current_engine_times_have_all_nanoseconds(server: ClickhouseServer, database: str) -> None:
    with closing(server.store(database)) as store:
        store.commit(batch_of(store, quote(1)))
    ((found,),) = server.execute(database, "select toString(ts_utc) from quote")
    assert found == ("2024-10-04 00:00:00.000000001" if isinstance(server, ChdbServer) else "2024-10-04 00:00:00")


def test_a_new_archive_begins_where_the_last_one_ended(server: ClickhouseServer, database: str) -> None:
    with closing(server.store(database)) as store:
        assert (store.state.position, store.durable_ts) == (None, 0)
        store.commit(batch_of(store, trade(1), quote(5), quote(6), confirmed=1))
        store.commit(batch_of(store, quote(7)))
        kept = store.state
    with closing(server.store(database)) as store:
        assert store.state == kept
        assert store.state.position == {"log": "L", "confirmed": 1, "ahead": {}}
        assert store.state.seqs == {"quote.EURUSD": [EPOCH, 7]}
        assert (store.state.first_epoch, store.durable_ts) == (EPOCH, TS)
        store.commit(batch_of(store, quote(7), quote(9)))
    assert server.execute(database, "select seq from quote order by seq") == [[5], [6], [7], [9]]
    assert server.execute(database, "select event_topic, from_seq, to_seq from gaps") == [["quote.EURUSD", 8, 8]]


# ---- once, whatever breaks ----


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("statement", ['insert into "trade"', 'insert into "quote"', "insert into archive_state"])
def test_a_batch_whose_connection_breaks_is_completed_once(
    server: ClickhouseServer, database: str, monkeypatch: pytest.MonkeyPatch, statement: str, *, before: bool
) -> None:
    with closing(server.store(database)) as store:
        store.commit(batch_of(store, trade(1), confirmed=1))
        batch = batch_of(store, trade(2), trade(3, ts=TS + 40 * DAY_NS), quote(1), confirmed=3)
        with monkeypatch.context() as patch:
            broken = lost_answers(patch, statement, before=before)
            with pytest.raises(StoreError, match="the connection broke"):
                store.commit(batch)
            assert broken
        assert store.state.position == {"log": "L", "confirmed": 1, "ahead": {}}
        store.commit(batch)
        assert store.reconnects == 1
        store.commit(batch_of(store, trade(4), confirmed=4))
    assert offsets(server, database) == [1, 2, 3, 4]
    assert server.execute(database, "select seq from quote") == [[1]]


@pytest.mark.parametrize("statement", ['insert into "trade"', 'insert into "quote"', "insert into archive_state"])
def test_rows_of_a_commit_that_a_killed_archive_did_not_end_are_deleted_at_the_start(
    server: ClickhouseServer, database: str, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    with closing(server.store(database)) as store:
        store.commit(batch_of(store, trade(1), quote(1), confirmed=1))
        with monkeypatch.context() as patch:
            lost_answers(patch, statement, before=statement.endswith("state"))
            with pytest.raises(StoreError):
                store.commit(batch_of(store, trade(2), quote(2), confirmed=2))
    with closing(server.store(database)) as store:
        assert store.state.position == {"log": "L", "confirmed": 1, "ahead": {}}
        assert offsets(server, database) == [1]
        store.commit(batch_of(store, trade(2), quote(2), confirmed=2))
    assert offsets(server, database) == [1, 2]
    assert server.execute(database, "select seq from quote order by seq") == [[1], [2]]


def test_a_database_that_is_killed_has_the_batch_once_when_it_is_back(server: ClickhouseServer, database: str) -> None:
    with closing(server.store(database)) as store:
        store.commit(batch_of(store, trade(1), confirmed=1))
        server.kill()
        batch = batch_of(store, trade(2), confirmed=2)
        for _ in range(3):
            with pytest.raises(StoreError):
                store.commit(batch)
        assert store.state.position == {"log": "L", "confirmed": 1, "ahead": {}}
        server.start()
        store.commit(batch)
        samples = [sample for metric in store.metrics() for sample in metric.samples]
        assert [one.value for one in samples if one.name == "mt4pump_archive_reconnects_total"] == [1]
    assert offsets(server, database) == [1, 2]


def test_the_archive_that_began_last_may_write_and_the_one_before_ends(server: ClickhouseServer, database: str) -> None:
    with closing(server.store(database)) as first:
        first.commit(batch_of(first, trade(1), confirmed=1))
        with closing(server.store(database)) as second:
            with pytest.raises(StoreChangedError, match="is not as this archive left it: another one wrote to it"):
                first.commit(batch_of(first, trade(2), confirmed=2))
            second.commit(batch_of(second, trade(2), confirmed=2))
    assert offsets(server, database) == [1, 2]


def test_an_archive_that_another_one_replaces_during_a_commit_deletes_its_rows(
    server: ClickhouseServer, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(server.store(database)) as first:
        real, began = ClickhouseConnection.execute, list[Any]()

        def execute(self: ClickhouseConnection, statement: str, *args: Any, **more: Any) -> bytes:
            if "into archive_state" in statement and not began:
                began.append(None)
                began.append(server.store(database))
            return real(self, statement, *args, **more)

        monkeypatch.setattr(ClickhouseConnection, "execute", execute)
        with pytest.raises(StoreChangedError):
            first.commit(batch_of(first, trade(1), confirmed=1))
        with closing(began[1]) as second:
            assert offsets(server, database) == []
            second.commit(batch_of(second, trade(1), confirmed=1))
    assert offsets(server, database) == [1]


def test_events_after_the_position_of_a_restored_state_are_noticed(server: ClickhouseServer, database: str) -> None:
    with closing(server.store(database)) as store:
        store.commit(batch_of(store, trade(1), confirmed=1))
    row = f"""(server_code, ts, log, "offset", {COMMIT}) values ('', 1, 'L', 9, 0)"""
    server.execute(database, f"insert into trade {row}")
    with pytest.raises(StoreChangedError, match="has an event already that comes after its position"):
        server.store(database)


@needs_chdb
def test_the_current_engine_drops_a_block_whose_token_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sent again although it is there, as when an INSERT of before ends after its rows were counted."""
    with running(ChdbServer()) as server:
        database = server.database()
        with closing(server.store(database)) as store:
            batch = batch_of(store, trade(1), confirmed=1)
            with monkeypatch.context() as patch:
                lost_answers(patch, 'insert into "trade"')
                with pytest.raises(StoreError):
                    store.commit(batch)
            monkeypatch.setattr(store, "_in_doubt", "")
            store.commit(batch)
        assert offsets(server, database) == [1]


# ---- tables of other versions, age, errors at the start ----


def test_columns_that_an_older_version_did_not_have_are_added(server: ClickhouseServer, database: str) -> None:
    with closing(server.store(database)) as store:
        store.commit(batch_of(store, quote(1)))
    server.execute(database, "alter table quote drop column high")
    server.execute(database, "alter table quote add column own Nullable(Int64)")
    server.execute(database, "drop table mail")
    with closing(server.store(database)) as store:
        store.commit(batch_of(store, quote(2)))
    found = server.execute(database, "select seq, high, own from quote order by seq")
    assert found == [[1, None, None], [2, 2.0, None]]
    assert server.execute(database, "select count(*) from mail") == [[0]]


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        (
            "alter table quote modify column bid Nullable(String)",
            "quote.bid is Nullable.String., not",
        ),
        ("insert into archive_writers values (9, 99, '')", "newer mt4pump-archive .layout 99.: update this one"),
    ],
)
def test_tables_that_are_not_ours_are_refused(
    server: ClickhouseServer, database: str, statement: str, error: str
) -> None:
    server.store(database).close()
    server.execute(database, statement)
    with pytest.raises(StoreChangedError, match=error):
        server.store(database)


def test_days_beyond_the_limit_are_deleted(server: ClickhouseServer, database: str) -> None:
    settings = server.settings(database, keep_days=2)
    with closing(server.store(database)) as store:
        days = [quote(1 + number, ts=TS + number // 3 * DAY_NS) for number in range(15)]
        trades = [trade(1 + day, ts=TS + (day - 5) * DAY_NS) for day in range(12)]
        store.commit(batch_of(store, *days, *trades, confirmed=12))
        store.maintain(settings, TS + 4 * DAY_NS + 1)
    dates = "select distinct toString(toDate(ts_utc)) as date from quote order by date"
    assert server.execute(database, dates) == [["2024-10-06"], ["2024-10-07"], ["2024-10-08"]]
    assert offsets(server, database) == [8, 9, 10, 11, 12]


@needs_server
def test_a_wrong_password_is_said_without_it() -> None:
    with running(ClickhouseServer()) as server:
        with pytest.raises(StoreError, match="password") as raised:
            server.store("default", waits=False, store_password="of somebody else")  # noqa: S106 - a wrong one
        assert "of somebody else" not in str(raised.value)
        with pytest.raises(StoreError, match="Database nothing doesn't exist"):
            server.store("nothing", waits=False)


@pytest.mark.parametrize(
    ("address", "error"),
    [
        ("clickhouse://localhost", "or clickhouse://user@host:8123/database"),
        ("clickhouse://localhost:99999/db", "or clickhouse://user@host:8123/database"),
        ("clickhouse://me:secret@localhost/db", "a password does not belong into the address"),
    ],
)
def test_addresses_that_are_refused(address: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        ArchiveSettings(store=address)


@pytest.mark.parametrize(
    ("address", "encrypted"),
    [
        ("clickhouse://db/x", False),
        ("clickhouse://db/x?secure=true", True),
        ("clickhouses://db:9443/x", True),
    ],
)
def test_an_address_says_whether_the_connection_is_encrypted(address: str, *, encrypted: bool) -> None:
    with closing(ClickhouseConnection(address, None)) as connection:
        assert (connection.is_encrypted, connection.name) == (encrypted, "clickhouse://db/x")


def test_a_block_of_the_native_format_has_the_documented_bytes() -> None:
    columns = {"a": pa.array([1, None, 3])[1:], "b": pa.array(["x", "é"])}
    block = native_block(columns, {"a": "Nullable(Int64)", "b": "String"})
    head = b"\x02\x02" + b"\x01a\x0fNullable(Int64)"
    assert block == head + b"\x01\x00" + bytes(8) + b"\x03" + bytes(7) + b"\x01b\x06String" + b"\x01x\x02\xc3\xa9"
    assert literal("a'b\\") == "'a\\'b\\\\'"


def test_an_unknown_kinds_topic_is_stored_too(server: ClickhouseServer, database: str) -> None:
    with closing(server.store(database)) as store:
        store.commit(batch_of(store, event("unknown.x", 1, code=9)))
    assert server.execute(database, 'select event_topic from "unknown"') == [["unknown.x"]]
