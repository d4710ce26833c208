"""What is in the files: columns, gaps, order; read by DuckDB, Polars and pyarrow with no word of ours.

Private access: the reader's functions, its subscriber, the sign that the archive ends and the batch in the making,
because the position must be missing between two events, and an end must come between two subscribers, which nobody can
be made to do at will.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("duckdb")

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from mt4pump_consumers.archive import parquet_store
from mt4pump_consumers.archive.archive import Archive
from mt4pump_consumers.archive.columns import EVENT_KINDS, GAPS, schema_of, table_of
from mt4pump_consumers.archive.folder import ArchiveFolder, place_of
from mt4pump_consumers.archive.gaps import LOST, NEW_RUN, NOT_READING, GapFinder
from mt4pump_consumers.archive.parquet_store import ParquetStore, delete_old, join
from mt4pump_consumers.archive.settings import ArchiveSettings
from mt4pump_consumers.archive.writer import BatchBuilder

from mt4pump.client import Event, Heartbeat, Notice, Position, Subscriber
from mt4pump.client.event import TopicName
from tests.consumers.archive.archive_run import DAY_NS, EPOCH, TS, event, quote, rows, trade


def heartbeat(**fields: Any) -> Heartbeat:
    body = {"epoch": EPOCH, "seq": 1, "ts": TS, "log": "L", "offset": 0, **fields}
    return Heartbeat(TopicName("heartbeat"), body, (b"heartbeat", b""))


@pytest.fixture(name="archive")
def _archive(tmp_path: Path) -> ArchiveFolder:
    """A folder with ten quotes and five trades in two commits."""
    folder = ArchiveFolder(tmp_path)
    builder = BatchBuilder(folder.state, Counter())
    builder.heartbeat(heartbeat(server_code="demo-1"))
    for part in (range(1, 4), range(4, 6)):
        for number in part:
            builder.add(trade(number))
            builder.add(quote(2 * number - 1))
            builder.add(quote(2 * number))
        ParquetStore(folder).commit(builder.take_batch({"log": "L", "confirmed": part[-1], "ahead": {}}))
    return folder


def test_duckdb_polars_and_pyarrow_read_the_same(archive: ArchiveFolder) -> None:
    polars = pytest.importorskip("polars")
    found = rows(archive.path, "quote", 'event_topic, bid, epoch_ns(ts_utc), ts, server_code, "date", time_server')
    assert len(found) == 10
    day = datetime.fromtimestamp(TS / 1e9, UTC)
    assert {row[4:6] for row in found} == {("demo-1", day.date())}
    assert all(row[2] == row[3] for row in found)
    assert {row[6] for row in found} == {day.replace(tzinfo=None)}
    frame = polars.scan_parquet(f"{archive.path}/quote/**/*.parquet", hive_partitioning=True).collect()
    table = ds.dataset(archive.path / "quote", partitioning="hive").to_table()
    assert sorted(frame["bid"]) == sorted(table["bid"].to_pylist()) == sorted(row[1] for row in found)
    assert set(frame["server_code"]) == {"demo-1"}
    assert table.schema.field("ts_utc").type == pa.timestamp("ns", "UTC")


def test_pandas_and_clickhouse_read_the_same(archive: ArchiveFolder) -> None:
    pandas, chdb = pytest.importorskip("pandas"), pytest.importorskip("chdb")
    found = sorted(rows(archive.path, "quote", "event_topic, seq, bid, ts, server_code"))
    frame = pandas.read_parquet(archive.path / "quote")
    names = ["event_topic", "seq", "bid", "ts", "server_code"]
    assert sorted(frame[names].itertuples(index=False, name=None)) == found
    assert str(frame["ts_utc"].dtype) == "datetime64[ns, UTC]"
    assert [time.value for time in frame["ts_utc"]] == list(frame["ts"])
    spread = (frame["ask"] - frame["bid"]).groupby(frame["ts_utc"].dt.hour).mean()
    assert list(spread) == [pytest.approx(2e-5)]
    source = f"file('{archive.path}/quote/*/*/*.parquet')"
    read = chdb.query(f"select event_topic, seq, bid, ts from {source} format JSONCompactEachRow").bytes()  # noqa: S608
    assert sorted(tuple(json.loads(line)) for line in read.splitlines()) == [row[:4] for row in found]


def test_durable_events_have_log_and_offset_and_others_do_not(archive: ArchiveFolder) -> None:
    assert sorted(rows(archive.path, "trade", 'log, "offset", synthetic, before')) == [
        ("L", offset, False, '{"sl": 1.0}') for offset in range(1, 6)
    ]
    assert set(rows(archive.path, "quote", 'log, "offset"')) == {(None, None)}


@pytest.mark.parametrize("kind", EVENT_KINDS)
def test_every_kind_has_the_contracts_columns(kind: str) -> None:
    names = schema_of(kind).names
    assert names[:7] == ["event_topic", "log", "epoch", "seq", "ts", "offset", "synthetic"]
    assert len(set(names)) == len(names)
    empty = table_of(kind, [event(f"{kind}.x", 1)], "L")
    assert empty.schema == schema_of(kind)
    assert empty.schema.metadata[b"mt4pump.schema"] == b"1"


def test_what_has_no_column_or_does_not_fit_is_kept() -> None:
    strange = trade(1, login="seven", conv_rates=[1, "x"], new_field={"a": 1}, open_time=2**62, sl=1)
    (row,) = table_of("trade", [strange], "L").to_pylist()
    assert (row["login"], row["conv_rates"], row["sl"], row["order"]) == (None, None, 1.0, 1)
    assert (row["open_time"], row["open_time_server"]) == (2**62, None)
    assert row["extra"] == '{"login": "seven", "conv_rates": [1, "x"], "new_field": {"a": 1}}'


@pytest.mark.parametrize("slice_rows", [2, 1_000_000])
def test_joined_files_hold_all_rows_in_order(
    archive: ArchiveFolder, monkeypatch: pytest.MonkeyPatch, slice_rows: int
) -> None:
    monkeypatch.setattr(parquet_store, "SLICE_ROWS", slice_rows)
    before = {kind: sorted(map(repr, rows(archive.path, kind))) for kind in ("quote", "trade")}
    ParquetStore(archive).maintain(ArchiveSettings(), TS + DAY_NS)  # the day may still get late events
    assert len(archive.state.files) == 4
    ParquetStore(archive).maintain(ArchiveSettings(), TS + 2 * DAY_NS)
    assert sorted(file.kind for file in archive.state.files.values()) == ["quote", "trade"]
    for file in archive.state.files.values():
        order = {"quote": "seq", "trade": "offset"}[file.kind]
        values = pq.read_table(archive.path / file.path)[order].to_pylist()
        assert values == sorted(values)
    assert {kind: sorted(map(repr, rows(archive.path, kind))) for kind in ("quote", "trade")} == before


def test_files_of_an_older_version_lack_columns_and_are_joined_all_the_same(archive: ArchiveFolder) -> None:
    old = table_of("quote", [quote(99)], None).drop_columns(["high", "extra"]).append_column("gone", pa.array([5]))
    place = place_of("quote", "demo-1", "2024-10-04")
    archive.commit([archive.stage(old, "quote", place)])
    join(archive, [file for file in archive.state.files.values() if file.kind == "quote"])
    found = dict(rows(archive.path, "quote", "seq, (high, gone)"))
    assert (found[99], found[1], len(found)) == ((None, 5), (2.0, None), 11)


def test_old_days_are_deleted_by_age_and_by_size_but_never_the_current_one(archive: ArchiveFolder) -> None:
    builder = BatchBuilder(archive.state, Counter())
    for number in range(11, 14):
        builder.add(quote(number, ts=TS + (number - 10) * DAY_NS))
    ParquetStore(archive).commit(builder.take_batch(None))
    now = TS + 3 * DAY_NS
    delete_old(archive, ArchiveSettings(keep_days=2), now)
    assert {file.date for file in archive.state.files.values()} == {"2024-10-05", "2024-10-06", "2024-10-07"}
    delete_old(archive, ArchiveSettings(max_bytes=1), now)
    assert {file.date for file in archive.state.files.values()} == {"2024-10-07"}
    assert len(rows(archive.path, "quote")) == 1


def test_a_server_code_that_is_no_part_of_a_path_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = ArchiveFolder(tmp_path / "archive")
    builder = BatchBuilder(folder.state, Counter())
    builder.heartbeat(heartbeat(server_code="../../x"))
    builder.add(quote(1))
    ParquetStore(folder).commit(builder.take_batch(None))
    assert [file.place for file in folder.state.files.values()] == [place_of("quote", "", "2024-10-04")]
    assert "not safe as a part of a path" in caplog.text


# ---- gaps ----


def gaps_of(finder: GapFinder) -> list[tuple[Any, ...]]:
    return [(gap["event_topic"], gap["epoch"], gap["from_seq"], gap["to_seq"], gap["why"]) for gap in finder.take()[0]]


def test_numbers_that_are_missing_are_gaps_and_repeats_are_dropped() -> None:
    finder = GapFinder({}, 0)
    first = [quote(5), quote(6), quote(1, "GBPUSD")]
    assert finder.check(first) == first
    assert gaps_of(finder) == []  # the archive began in this run
    assert [each.seq for each in finder.check([quote(6), quote(7), quote(10), quote(10), quote(11)])] == [7, 10, 11]
    assert gaps_of(finder) == [("quote.EURUSD", EPOCH, 8, 9, LOST)]
    assert finder.duplicates == 2
    later = EPOCH + 1
    finder.check([quote(1, epoch=later), quote(4, "GBPUSD", epoch=later), quote(3, "NEW", epoch=later)])
    assert gaps_of(finder) == [("quote.GBPUSD", later, 1, 3, NEW_RUN), ("quote.NEW", later, 1, 2, NEW_RUN)]


def test_what_was_published_while_the_archive_was_down_is_a_gap() -> None:
    finder = GapFinder({"quote.EURUSD": [EPOCH, 5]}, EPOCH)
    finder.check([quote(9)])
    assert gaps_of(finder) == [("quote.EURUSD", EPOCH, 6, 8, NOT_READING)]
    assert finder.seqs["quote.EURUSD"] == [EPOCH, 9]


def test_events_of_a_run_with_a_smaller_epoch_are_kept_and_their_losses_are_gaps(tmp_path: Path) -> None:
    builder = BatchBuilder(ArchiveFolder(tmp_path).state, Counter())
    builder.heartbeat(heartbeat())
    builder.add(quote(1))
    builder.heartbeat(heartbeat(epoch=EPOCH - 1))  # the daemon's folder was deleted
    builder.add(quote(2, epoch=EPOCH - 1))
    builder.add(quote(3, epoch=EPOCH - 1))
    batch = builder.take_batch({"log": "L", "confirmed": 0, "ahead": {}})
    assert batch.rows == 3
    assert [(gap["epoch"], gap["from_seq"], gap["to_seq"]) for gap in batch.tables["", "gaps"][0].to_pylist()] == [
        (EPOCH - 1, 1, 1)
    ]


def test_a_smaller_epoch_than_the_stored_one_is_another_run_before_any_heartbeat() -> None:
    finder = GapFinder({"quote.EURUSD": [EPOCH, 5]}, EPOCH)  # the archive was down as the daemon's folder was deleted
    assert [each.seq for each in finder.check([quote(3, epoch=EPOCH - 1), quote(3, epoch=EPOCH - 1)])] == [3]
    assert gaps_of(finder) == [("quote.EURUSD", EPOCH - 1, 1, 2, NEW_RUN)]
    assert finder.duplicates == 1


def test_durable_losses_are_those_that_the_client_reports_and_are_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = ArchiveFolder(tmp_path)
    builder = BatchBuilder(folder.state, Counter())
    builder.heartbeat(heartbeat())
    builder.add(trade(1))
    builder.lost(Notice("lost", "3 events of trade.7 are lost: not stored", "trade.7", 3))
    builder.lost(Notice("not_whole", "the journal no longer has them"))
    builder.lost(Notice("lost", "1 event of trade.8 is lost", "trade.8", 1))
    builder.add(trade(5))
    ParquetStore(folder).commit(builder.take_batch(None))
    found = rows(tmp_path, GAPS, "kind, event_topic, from_seq, to_seq, why")
    assert sorted(found, key=repr) == [
        ("trade", "trade.7", 2, 4, "3 events of trade.7 are lost: not stored"),
        ("trade", "trade.8", None, None, "1 event of trade.8 is lost"),
        (None, None, None, None, "the journal no longer has them"),
    ]
    assert "3 holes are recorded in the dataset gaps; the last: 1 event of trade.8 is lost" in caplog.text


def test_events_of_the_journal_are_not_committed_before_their_position_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stored without a position, they would be stored again after a restart."""
    settings = ArchiveSettings(path=tmp_path, start="journal", commit_events=1)
    archive = Archive(settings, ParquetStore(ArchiveFolder(tmp_path)))
    subscriber = archive._subscriber  # noqa: SLF001
    assert subscriber is not None
    position: Position | None = None
    monkeypatch.setattr(Subscriber, "position", property(lambda _self: position))
    waiting: list[int] = []

    def page() -> Iterator[Event]:
        nonlocal position
        for number in range(256, 1_025):
            if number == 1_000:
                position = Position("L", 999)
            yield trade(number)
            waiting.append(archive._writer.rows)  # noqa: SLF001

    monkeypatch.setattr(Subscriber, "__iter__", lambda _self: page())
    try:
        archive._follow(subscriber)  # noqa: SLF001
    finally:
        subscriber.close()
    assert max(waiting[:744]) == 0
    assert waiting[-1] > 0


def test_a_subscriber_that_is_made_while_the_archive_ends_is_closed_and_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Archive(ArchiveSettings(path=tmp_path), ParquetStore(ArchiveFolder(tmp_path)))
    made = list[Subscriber]()
    assert archive._subscriber is not None  # noqa: SLF001
    archive._subscriber.close()  # noqa: SLF001
    archive._subscriber = None  # noqa: SLF001 - as between two
    make = archive._new_subscriber  # noqa: SLF001

    def make_late() -> Subscriber:
        archive._is_ending = True  # noqa: SLF001 - `run` does, and finds none to close
        made.append(make())
        return made[0]

    monkeypatch.setattr(archive, "_new_subscriber", make_late)
    monkeypatch.setattr(archive, "_follow", lambda _: pytest.fail("it is read"))
    archive._read()  # noqa: SLF001
    assert made[0].receive(None) is None, "it is closed"


def test_events_of_two_days_lie_in_two_files(tmp_path: Path) -> None:
    folder = ArchiveFolder(tmp_path)
    builder = BatchBuilder(folder.state, Counter())
    last = TS + DAY_NS - 1
    for number, ts in enumerate((last, last + 1), 1):
        builder.add(quote(number, ts=ts))
    ParquetStore(folder).commit(builder.take_batch(None))
    assert sorted(rows(tmp_path, "quote", '"date", ts')) == [
        (datetime.fromtimestamp(TS / 1e9, UTC).date(), last),
        ((datetime.fromtimestamp(TS / 1e9, UTC) + timedelta(days=1)).date(), last + 1),
    ]
