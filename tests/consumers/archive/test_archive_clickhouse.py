"""The ClickHouse store on Debian's server and on the current engine: what it has beside the other databases.

Private access: the commit that is in doubt, because the store would count its rows and send nothing again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("duckdb")

import pyarrow as pa
from mt4pump_consumers.archive.clickhouse_http import ClickhouseConnection, ClickhouseError, literal, native_block
from mt4pump_consumers.archive.clickhouse_tables import COMMIT
from mt4pump_consumers.archive.store import StoreChangedError, StoreError

from tests.consumers.archive.archive_run import DAY_NS, TS, batch_of, quote, trade
from tests.consumers.archive.database_servers import (
    CLICKHOUSES,
    ChdbServer,
    ClickhouseServer,
    needs_chdb,
    needs_clickhouse,
    running,
)

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(name="server", scope="module", params=CLICKHOUSES)
def _server(request: pytest.FixtureRequest) -> Iterator[ClickhouseServer]:
    server = request.param()
    with running(server):
        yield server


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
    assert first == (comment, "", "inf", 0.1 + 0.2, "[1.5, null]", '{"login": "seven"}', None, None)
    assert second[0] == "x" * 70_000


def test_with_the_current_engine_times_have_all_nanoseconds(server: ClickhouseServer, database: str) -> None:
    with closing(server.store(database)) as store:
        store.commit(batch_of(store, quote(1)))
    ((found,),) = server.execute(database, "select toString(ts_utc) from quote")
    assert found == ("2024-10-04 00:00:00.000000001" if isinstance(server, ChdbServer) else "2024-10-04 00:00:00")


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
        assert store.state.position == {"log": "L", "confirmed": 1, "ahead": {}, "server_code": "demo"}
        store.commit(batch)
        assert store.reconnects == 1
        store.commit(batch_of(store, trade(4), confirmed=4))
    assert server.offsets(database) == [1, 2, 3, 4]
    assert server.execute(database, "select seq from quote") == [(1,)]


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
        assert store.state.position == {"log": "L", "confirmed": 1, "ahead": {}, "server_code": "demo"}
        assert server.offsets(database) == [1]
        store.commit(batch_of(store, trade(2), quote(2), confirmed=2))
    assert server.offsets(database) == [1, 2]
    assert server.execute(database, "select seq from quote order by seq") == [(1,), (2,)]


def test_the_archive_that_began_last_may_write_and_the_one_before_ends(server: ClickhouseServer, database: str) -> None:
    with closing(server.store(database)) as first:
        first.commit(batch_of(first, trade(1), confirmed=1))
        with closing(server.store(database)) as second:
            with pytest.raises(StoreChangedError, match="is not as this archive left it: another one wrote to it"):
                first.commit(batch_of(first, trade(2), confirmed=2))
            second.commit(batch_of(second, trade(2), confirmed=2))
    assert server.offsets(database) == [1, 2]


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
            assert server.offsets(database) == []
            second.commit(batch_of(second, trade(1), confirmed=1))
    assert server.offsets(database) == [1]


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
    server = ChdbServer()
    with running(server):
        database = server.database()
        with closing(server.store(database)) as store:
            batch = batch_of(store, trade(1), confirmed=1)
            with monkeypatch.context() as patch:
                lost_answers(patch, 'insert into "trade"')
                with pytest.raises(StoreError):
                    store.commit(batch)
            monkeypatch.setattr(store, "_in_doubt", "")
            store.commit(batch)
        assert server.offsets(database) == [1]


# ---- tables of other versions, age, errors at the start ----


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


@needs_clickhouse
def test_a_wrong_password_is_said_without_it() -> None:
    server = ClickhouseServer()
    with running(server):
        with pytest.raises(StoreError, match="password") as raised:
            server.store("default", waits=False, store_password="of somebody else")  # noqa: S106 - a wrong one
        assert "of somebody else" not in str(raised.value)
        with pytest.raises(StoreError, match="Database nothing doesn't exist"):
            server.store("nothing", waits=False)


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
