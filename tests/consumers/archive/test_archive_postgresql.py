"""The PostgreSQL store on a real server: what it has beside the other stores in databases."""

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
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("duckdb")
pytest.importorskip("psycopg")

from mt4pump_consumers.archive.commands import PRICES
from mt4pump_consumers.archive.folder import read_state
from mt4pump_consumers.archive.reading import BARS_SQL, opened
from mt4pump_consumers.archive.store import ArchiveBatch, ArchiveStore, StoreChangedError, StoreError

from tests.bus import until
from tests.consumers.archive.archive_run import (
    TS,
    batch_of,
    check_query,
    numbers_as_floats,
    quote,
    trade,
)
from tests.consumers.archive.database_servers import LIMIT_S, PostgresqlServer, needs_postgresql, running

pytestmark = [needs_postgresql, pytest.mark.timeout(600)]

QUERIES = [
    'select event_topic, log, epoch, seq, ts, "offset", synthetic, login, before, server_code from trade order by 6',
    "select extract(hour from ts_utc) as hour, avg(ask - bid) from quote where symbol = 'EURUSD' group by 1 order by 1",
    "select time, time_server, high, direction, extra from quote order by ts, seq, event_topic",
    "select kind, event_topic, epoch, from_seq, to_seq, why, ts_utc from gaps order by event_topic, from_seq",
    "select open_time, open_time_server, comment from trade where comment <> '' order by 3",
]
"""What PostgreSQL and DuckDB alone understand alike."""


@pytest.fixture(name="server", scope="module")
def _server() -> Iterator[PostgresqlServer]:
    server = PostgresqlServer()
    with running(server):
        yield server


# ---- what the tables hold ----


def test_values_that_csv_jsonb_or_postgresql_could_spoil_arrive_as_they_are(
    server: PostgresqlServer, database: str
) -> None:
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


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_has_the_same_result_in_files_and_database(
    server: PostgresqlServer, both: tuple[Path, str], query: str
) -> None:
    path, database = both
    with opened(path, read_state(path)) as duck:
        check_query(duck.sql(query).fetchall(), server.execute(database, query))


def test_the_guides_bars_are_those_of_the_files(server: PostgresqlServer, both: tuple[Path, str]) -> None:
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


def test_a_commit_whose_answer_is_lost_is_not_repeated(server: PostgresqlServer, database: str) -> None:
    with closing(LossyProxy(server.port, loses=2)) as proxy:  # the first COMMIT is of the tables
        address = server.url(database).replace(str(server.port), str(proxy.port))
        with closing(server.store(database, store=address)) as store:
            batch = batch_of(store, trade(1), trade(2), quote(1), confirmed=2)
            with pytest.raises(StoreError):
                store.commit(batch)
            until(lambda: server.offsets(database) == [1, 2], "the server has committed it")
            until(lambda: is_committed(store, batch), "the server has let go of the lock")
            store.commit(batch_of(store, trade(3), confirmed=3))
            assert store.connects == 2
    assert server.offsets(database) == [1, 2, 3]
    assert server.execute(database, "select count(*) from quote") == [(1,)]


def test_a_killed_archives_last_transaction_is_waited_for(server: PostgresqlServer, database: str) -> None:
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


def test_a_second_archive_is_refused(server: PostgresqlServer, database: str) -> None:
    with (
        closing(server.store(database)),
        pytest.raises(StoreError, match="another mt4pump-archive writes to"),
    ):
        server.store(database, waits=False)
    server.store(database).close()


def test_when_somebody_else_wrote_the_archive_stores_nothing_more(server: PostgresqlServer, database: str) -> None:
    with closing(server.store(database)) as store:
        store.commit(batch_of(store, trade(1), confirmed=1))
        server.execute(database, "update archive_state set last_commit = 'of a backup'")
        with pytest.raises(StoreChangedError, match="is not as this archive left it"):
            store.commit(batch_of(store, trade(2), confirmed=2))
    assert server.offsets(database) == [1]


def test_an_offset_cannot_be_stored_twice_by_anybody(server: PostgresqlServer, database: str) -> None:
    with closing(server.store(database)) as store:
        store.commit(batch_of(store, trade(1), confirmed=1))
        with pytest.raises(StoreChangedError, match="duplicate key"):
            store.commit(batch_of(store, trade(1), confirmed=1))
    assert server.offsets(database) == [1]


# ---- tables of other versions, age, TimescaleDB, errors at the start ----


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("alter table quote alter column bid type text", "quote.bid is text, not double precision"),
        ("update archive_state set layout = 99", "newer mt4pump-archive .layout 99.: update this one"),
    ],
)
def test_tables_that_are_not_ours_are_refused(
    server: PostgresqlServer, database: str, statement: str, error: str
) -> None:
    server.store(database).close()
    server.execute(database, statement)
    with pytest.raises(StoreChangedError, match=error):
        server.store(database)


def test_with_timescaledb_tables_are_hypertables_and_old_chunks_are_dropped(
    server: PostgresqlServer, database: str
) -> None:
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


def test_a_wrong_password_is_said_without_it(server: PostgresqlServer, database: str) -> None:
    with pytest.raises(StoreError, match="password authentication failed") as raised:
        server.store(database, waits=False, store_password="of somebody else")  # noqa: S106 - a wrong one
    assert "of somebody else" not in str(raised.value)
