"""Journals that change: one that comes back is stored once, and another daemon's events are refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("duckdb")
pytest.importorskip("psycopg")

from mt4pump_consumers.archive.folder import ArchiveFolder
from mt4pump_consumers.archive.journals import EARLIER_LIMIT, KnownJournals, last_offset
from mt4pump_consumers.archive.parquet_store import ParquetStore
from mt4pump_consumers.archive.store import ArchiveStore, StoreChangedError
from mt4pump_consumers.archive.writer import BatchBuilder

from mt4pump.client import Heartbeat
from mt4pump.client.event import TopicName
from tests.bus import until
from tests.consumers.archive.archive_run import EPOCH, TS, rows, trade
from tests.consumers.archive.database_servers import CLICKHOUSES, POSTGRESQL, DatabaseServer, running
from tests.consumers.archive.test_archive_program import LIMIT_S, ArchivePrograms

pytestmark = pytest.mark.timeout(600)


def heartbeat(log: str | None, server_code: str = "demo") -> Heartbeat:
    body = {"epoch": EPOCH, "seq": 1, "ts": TS, "log": log, "offset": 0, "server_code": server_code}
    return Heartbeat(TopicName("heartbeat"), body, (b"heartbeat", b""))


def archive(store: ArchiveStore, *parts: tuple[str, int, int], ahead: int = 0) -> BatchBuilder:
    """Commit trades (log, first, last) as one batch, whose position is ``ahead`` events behind the last one."""
    builder = BatchBuilder(store.state, Counter())
    for log, first, last in parts:
        builder.heartbeat(heartbeat(log))
        for offset in range(first, last + 1):
            builder.add(trade(offset))
    log, _, last = parts[-1]
    more = {"trade.7": last} if ahead else {}
    store.commit(builder.take_batch({"log": log, "confirmed": last - ahead, "ahead": more}))
    return builder


class FilesOnly:
    """Stands where a test has a database server otherwise."""


@pytest.fixture(name="server", scope="module", params=[pytest.param(FilesOnly, id="parquet"), POSTGRESQL, *CLICKHOUSES])
def _server(request: pytest.FixtureRequest) -> Iterator[DatabaseServer | None]:
    if request.param is FilesOnly:
        yield None
        return
    with running(request.param()) as server:
        yield server


def test_events_of_a_journal_that_comes_back_are_stored_once(server: DatabaseServer | None, tmp_path: Path) -> None:
    """The daemon's folder is lost, a new one is used, then the old one is found: each step in a new archive."""
    database = server.database() if server is not None else ""
    steps: Sequence[tuple[list[tuple[str, int, int]], int]] = (
        ([("a", 1, 5)], 2),
        ([("a", 6, 7), ("b", 1, 3)], 0),
        ([("b", 4, 4), ("a", 1, 4)], 0),
        ([("a", 5, 9)], 0),
        ([("b", 1, 6)], 0),
        ([("a", 1, 12)], 0),
    )
    repeated = 0
    for parts, ahead in steps:
        store: Any = ParquetStore(ArchiveFolder(tmp_path)) if server is None else server.store(database)
        try:
            repeated += archive(store, *parts, ahead=ahead).counts["duplicates", ""]
        finally:
            store.close()
    found = (
        rows(tmp_path, "trade", 'log, "offset"')
        if server is None
        else server.execute(database, 'select log, "offset" from trade')
    )
    assert sorted(found) == [*(("a", offset) for offset in range(1, 13)), *(("b", offset) for offset in range(1, 7))]
    assert repeated == 4 + 3 + 4 + 9


def test_earlier_journals_are_forgotten_at_a_limit_and_when_they_are_read_again() -> None:
    journals = KnownJournals({})
    for number in range(EARLIER_LIMIT + 5):
        position = journals.position({"log": f"log {number}", "confirmed": 10, "ahead": {"trade.1": 12}})
    assert position is not None
    assert list(position["earlier"]) == [f"log {number}" for number in range(4, EARLIER_LIMIT + 4)]
    assert (last_offset(position, "log 5"), last_offset(position, "log 0"), last_offset(None, "")) == (12, 0, 0)
    for confirmed, is_known in ((11, True), (12, False)):
        position = journals.position({"log": "log 5", "confirmed": confirmed, "ahead": {}})
        assert position is not None
        assert ("log 5" in position["earlier"]) is is_known
    assert journals.position(None) is None


def test_another_journal_with_another_server_code_is_another_daemon() -> None:
    journals = KnownJournals({"log": "a", "confirmed": 1, "ahead": {}, "server_code": "demo"})
    with pytest.raises(StoreChangedError, match="of the daemon with server_code demo, and this one has live"):
        journals.check("b", "live")


@pytest.mark.parametrize(("log", "server_code"), [("b", "demo"), ("b", ""), ("a", "live"), (None, "live")])
def test_the_same_journal_or_the_same_server_code_is_the_same_daemon(log: str | None, server_code: str) -> None:
    journals = KnownJournals({"log": "a", "confirmed": 1, "ahead": {}, "server_code": "demo"})
    journals.check(log, server_code)
    assert journals.new(log, [trade(1)])


def test_a_second_daemon_is_refused_and_the_first_one_goes_on(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    programs, other = ArchivePrograms(tmp_path), ArchivePrograms(tmp_path / "other", server_code="live")
    with programs.running():
        programs.reaches(5)
        assert programs.archive.stop() == 0
        with other.running():
            other.reaches(1)
            other.archive.kill()
            other.path = programs.path
            wrong = other.new_archive("--metrics-port", "0")
            wrong.start()
            assert wrong.running is not None
            assert wrong.running.wait(LIMIT_S) == 1, wrong.text[-3000:]
            assert "of the daemon with server_code demo, and this one has live: give each daemon" in wrong.text
        programs.archive.start()
        programs.check(least=5)
        until(lambda: {row[0] for row in programs.rows("session", "server_code")} == {"demo"}, "no event of the other")
