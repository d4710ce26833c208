"""The PostgreSQL store on a real server: what the tables hold, once whatever breaks, and that it equals the files."""

from __future__ import annotations

import math
import re
import select
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("duckdb")
pytest.importorskip("psycopg")

from mt4pump_consumers.archive import postgresql_store
from mt4pump_consumers.archive.columns import EVENT_KINDS, GAPS, schema_of
from mt4pump_consumers.archive.folder import ArchiveFolder, read_state
from mt4pump_consumers.archive.parquet_store import ParquetStore
from mt4pump_consumers.archive.postgresql_reading import opened_database
from mt4pump_consumers.archive.reading import BARS_SQL, PRICES, opened
from mt4pump_consumers.archive.settings import ArchiveSettings
from mt4pump_consumers.archive.store import ArchiveBatch, ArchiveStore, StoreChangedError, StoreError

from tests.bus import until
from tests.consumers.archive.archive_run import (
    COMMON_QUERIES,
    DAY_NS,
    EPOCH,
    SQL_TEXTS,
    TS,
    batch_of,
    commit_example,
    quote,
    sql_events,
    trade,
)
from tests.consumers.archive.postgresql_run import LIMIT_S, PASSWORD, Server, needs_server, running_server

pytestmark = [needs_server, pytest.mark.timeout(600)]

QUERIES = [
    'select count(*), min("offset"), max("offset"), sum(sl) from trade',
    'select event_topic, log, epoch, seq, ts, "offset", synthetic, login, before, server_code from trade order by 6',
    "select symbol, count(*), min(bid), max(ask), sum(spread) from quote group by symbol order by symbol",
    "select extract(hour from ts_utc) as hour, avg(ask - bid) from quote where symbol = 'EURUSD' group by 1 order by 1",
    "select time, time_server, high, direction, extra from quote order by ts, seq, event_topic",
    "select kind, event_topic, epoch, from_seq, to_seq, why, ts_utc from gaps order by event_topic, from_seq",
    "select open_time, open_time_server, comment from trade where comment <> '' order by 3",
    'select "user".login, "user".name from "user" order by 1',
]


@pytest.fixture(name="server", scope="module")
def _server() -> Iterator[Server]:
    with running_server() as server:
        yield server


@pytest.fixture(name="both", scope="module")
def _both(server: Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The same events, committed to a folder and to a database."""
    path, database = tmp_path_factory.mktemp("both"), server.database()
    commit_example([ParquetStore(ArchiveFolder(path)), server.store(database)])
    return path, database


@pytest.fixture(name="database")
def _database(server: Server) -> str:
    return server.database()


def offsets(server: Server, database: str) -> list[int]:
    return [row[0] for row in server.execute(database, 'select "offset" from trade order by 1')]


# ---- what the tables hold ----


@pytest.mark.parametrize("kind", [*EVENT_KINDS, GAPS])
def test_each_kind_has_a_table_with_the_contracts_columns(server: Server, kind: str) -> None:
    database = "postgres"  # one for all kinds
    server.store(database).close()
    sql = f"select column_name from information_schema.columns where table_name = '{kind}' order by ordinal_position"  # noqa: S608
    assert [row[0] for row in server.execute(database, sql)] == ["server_code", *schema_of(kind).names]


def test_values_that_csv_jsonb_or_postgresql_could_spoil_arrive_as_they_are(server: Server, database: str) -> None:
    comment = 'a\n\\.\n\\N,"b";\t\\x ü\u2028'
    strange = trade(1, comment=comment, symbol="", sl=math.inf, tp=math.nan, conv_rates=[1.5, math.nan], login="seven")
    with closing(server.store(database)) as store:
        store.commit(batch_of(store, strange, trade(2, comment="nul\x00byte"), confirmed=2))
    first, second = server.execute(
        database, 'select comment, symbol, sl, tp, conv_rates, extra, magic, login from trade order by "offset"'
    )
    assert first[:3] == (comment, "", math.inf)
    assert math.isnan(first[3])
    assert first[4:] == ([1.5, None], '{"login": "seven"}', None, None)
    assert second[0] == "nul\ufffdbyte"


def test_no_text_of_the_feed_or_the_journal_is_sql(
    server: Server, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
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


def test_a_new_archive_begins_where_the_last_one_ended(server: Server, database: str) -> None:
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
    assert server.execute(database, "select seq from quote order by 1") == [(5,), (6,), (7,), (9,)]
    assert server.execute(database, "select event_topic, from_seq, to_seq from gaps") == [("quote.EURUSD", 8, 8)]


@pytest.mark.parametrize("query", [*QUERIES, *COMMON_QUERIES])
def test_a_query_has_the_same_result_in_files_and_database(server: Server, both: tuple[Path, str], query: str) -> None:
    path, database = both
    with opened(path, read_state(path)) as duck:
        wanted = [numbers_as_floats(row) for row in duck.sql(query).fetchall()]
    assert len(wanted) > 0
    found = [numbers_as_floats(row) for row in server.execute(database, query)]
    assert len(found) == len(wanted)
    for row, expected in zip(found, wanted, strict=True):
        assert row == [pytest.approx(value) if isinstance(value, float) else value for value in expected]


def numbers_as_floats(row: tuple[Any, ...]) -> list[Any]:
    """Return a row whose numbers are of one type: an average has others in each database, and sums end differently."""
    return [float(value) if isinstance(value, int | float | Decimal) else value for value in row]


def test_the_guides_bars_are_those_of_the_files(server: Server, both: tuple[Path, str]) -> None:
    path, database = both
    guide = (Path(__file__).parents[3] / "consumers" / "README.md").read_text(encoding="utf-8")
    (query,) = re.findall(r"^```sql\n(.*?mt4pump\.quote.*?)```", guide, re.MULTILINE | re.DOTALL)
    found = [numbers_as_floats(row) for row in server.execute(database, query)]
    assert found
    names = {"order": "ts, seq", "price": PRICES["bid"], "source": "quote"}
    values = {"width": 60 * 10**9, "symbol": "EURUSD", "server_code": "demo", "last_ts": 0}
    with opened(path, read_state(path)) as duck:
        bars = duck.sql(BARS_SQL.format(**names), params=values).fetchall()
    for row, (time, *bar, _) in zip(found, bars, strict=True):
        assert row == [time.replace(tzinfo=UTC), *(pytest.approx(value) for value in bar)]


# ---- once, whatever breaks ----


class LossyProxy:
    """Passes bytes to a server; at the COMMIT number ``loses`` the connection breaks instead of passing the answer."""

    def __init__(self, port: int, loses: int) -> None:
        self._target, self._loses, self._commits = port, loses, 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client, socket.create_connection(("127.0.0.1", self._target)) as server:
                self._pass(client, server)

    def _pass(self, client: socket.socket, server: socket.socket) -> None:
        others = {client: server, server: client}
        while True:
            for one in select.select(list(others), [], [])[0]:
                data = one.recv(1 << 16)
                if not data:
                    return
                others[one].sendall(data)
                self._commits += one is client and b"COMMIT" in data
                if one is client and b"COMMIT" in data and self._commits == self._loses:
                    server.recv(1 << 16)
                    return

    def close(self) -> None:
        self._listener.close()


def is_committed(store: ArchiveStore, batch: ArchiveBatch) -> bool:
    """Try to commit, as the writer does again and again."""
    try:
        store.commit(batch)
    except StoreChangedError:
        raise
    except StoreError:
        return False
    return True


def test_a_commit_whose_answer_is_lost_is_not_repeated(server: Server, database: str) -> None:
    with closing(LossyProxy(server.port, loses=2)) as proxy:  # the first COMMIT is of the tables
        address = server.url(database).replace(str(server.port), str(proxy.port))
        with closing(server.store(database, store=address)) as store:
            batch = batch_of(store, trade(1), trade(2), quote(1), confirmed=2)
            with pytest.raises(StoreError):
                store.commit(batch)
            until(lambda: offsets(server, database) == [1, 2], "the server has committed it")
            until(lambda: is_committed(store, batch), "the server has let go of the lock")
            store.commit(batch_of(store, trade(3), confirmed=3))
            assert store.connects == 2
    assert offsets(server, database) == [1, 2, 3]
    assert server.execute(database, "select count(*) from quote") == [(1,)]


def test_a_database_that_is_killed_has_the_batch_once_when_it_is_back(server: Server, database: str) -> None:
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


def test_a_killed_archives_last_transaction_is_waited_for(server: Server, database: str) -> None:
    """Its server process may still be at work when the next archive reads the position."""
    server.store(database).close()
    with server.connect(database) as last, ThreadPoolExecutor(1) as pool:
        with last.transaction():
            last.execute("select from archive_state for update")
            opening = pool.submit(server.store, database)
            waiting = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
            until(lambda: server.execute(database, waiting) != [], "the next archive waits", LIMIT_S)
            last.execute("""update archive_state set position = '{"log": "L", "confirmed": 9}', last_commit = 'x'""")
        store = opening.result(LIMIT_S)
    with closing(store):
        assert store.state.position == {"log": "L", "confirmed": 9}


def test_a_second_archive_is_refused(server: Server, database: str) -> None:
    with (
        closing(server.store(database)),
        pytest.raises(StoreError, match="another mt4pump-archive writes to"),
    ):
        server.store(database, waits=False)
    server.store(database).close()


def test_when_somebody_else_wrote_the_archive_stores_nothing_more(server: Server, database: str) -> None:
    with closing(server.store(database)) as store:
        store.commit(batch_of(store, trade(1), confirmed=1))
        server.execute(database, "update archive_state set last_commit = 'of a backup'")
        with pytest.raises(StoreChangedError, match="is not as this archive left it"):
            store.commit(batch_of(store, trade(2), confirmed=2))
    assert offsets(server, database) == [1]


def test_an_offset_cannot_be_stored_twice_by_anybody(server: Server, database: str) -> None:
    with closing(server.store(database)) as store:
        store.commit(batch_of(store, trade(1), confirmed=1))
        with pytest.raises(StoreChangedError, match="duplicate key"):
            store.commit(batch_of(store, trade(1), confirmed=1))
    assert offsets(server, database) == [1]


# ---- tables of other versions, age, TimescaleDB, errors at the start ----


def test_columns_that_an_older_version_did_not_have_are_added(server: Server, database: str) -> None:
    with closing(server.store(database)) as store:
        store.commit(batch_of(store, quote(1)))
    server.execute(database, "alter table quote drop column high, add column own int; drop table mail")
    with closing(server.store(database)) as store:
        store.commit(batch_of(store, quote(2)))
    assert server.execute(database, "select seq, high, own from quote order by 1") == [(1, None, None), (2, 2.0, None)]
    assert server.execute(database, "select count(*) from mail") == [(0,)]


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("alter table quote alter column bid type text", "quote.bid is text, not double precision"),
        ("update archive_state set layout = 99", "newer mt4pump-archive .layout 99.: update this one"),
    ],
)
def test_tables_that_are_not_ours_are_refused(server: Server, database: str, statement: str, error: str) -> None:
    server.store(database).close()
    server.execute(database, statement)
    with pytest.raises(StoreChangedError, match=error):
        server.store(database)


def test_days_beyond_the_limit_are_deleted_some_rows_at_a_time(
    server: Server, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql_store, "DELETE_ROWS", 2)
    settings = server.settings(database, keep_days=2)
    with closing(server.store(database)) as store:
        days = [quote(1 + number, ts=TS + number // 3 * DAY_NS) for number in range(15)]
        store.commit(batch_of(store, *days, trade(1), confirmed=1))
        store.maintain(settings, TS + 4 * DAY_NS + 1)
    dates = "select distinct (ts_utc at time zone 'UTC')::date::text from quote order by 1"
    assert server.execute(database, dates) == [("2024-10-06",), ("2024-10-07",), ("2024-10-08",)]
    assert offsets(server, database) == []


def test_with_timescaledb_tables_are_hypertables_and_old_chunks_are_dropped(server: Server, database: str) -> None:
    """Debian has no TimescaleDB: functions with the parameters of its manual stand for it, and record their calls."""
    server.execute(
        database,
        """set allow_system_table_mods = on;
        insert into pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
          values (99999, 'timescaledb', 10, 2200, false, '2');
        create table calls (name text, relation regclass, value text);
        create function create_hypertable(relation regclass, time_column_name name, chunk_time_interval interval,
          if_not_exists boolean, migrate_data boolean) returns void language sql as
          $$ insert into public.calls values ('create', relation, time_column_name || ' ' || chunk_time_interval) $$;
        create function drop_chunks(relation regclass, older_than timestamptz) returns setof text language sql as
          $$ insert into public.calls values ('drop', relation, older_than::text); select ''::text $$""",
    )
    with closing(server.store(database)) as store:
        store.maintain(server.settings(database, keep_days=2), TS)
    calls = server.execute(database, "select name, relation::text, value from calls where relation = 'quote'::regclass")
    assert calls == [("create", "quote", "ts_utc 1 day"), ("drop", "quote", "2024-10-02 00:00:00+00")]


def test_a_wrong_password_is_said_without_it(server: Server, database: str) -> None:
    with pytest.raises(StoreError, match="password authentication failed") as raised:
        server.store(database, waits=False, store_password="of somebody else")  # noqa: S106 - a wrong one
    assert "of somebody else" not in str(raised.value)


@pytest.mark.parametrize(
    ("address", "error"),
    [
        ("mysql://localhost/db", "write the store as postgresql://"),
        ("postgresql://localhost", "write the store as postgresql://"),
        ("postgresql://me:secret@localhost/db", "a password does not belong into the address"),
        ("postgresql://localhost/db?password=secret", "a password does not belong into the address"),
    ],
)
def test_addresses_that_are_refused(address: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        ArchiveSettings(store=address)
