"""The CSV file: each execution in one row, wherever a write was cut off."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from mt4pump_consumers.monitor.csv_file import CsvFile
from mt4pump_consumers.monitor.memory import Memory
from mt4pump_consumers.monitor.store import Batch, Store

from tests.consumers.monitor.monitor_run import execution


@pytest.fixture
def store() -> Iterator[Store]:
    with closing(Store(None, webhook=False, backlog=1)) as made:
        yield made


def add(store: Store, *seqs: int) -> None:
    """Commit executions."""
    store.commit(Batch([execution(seq) for seq in seqs]), Memory())


def seqs(path: Path) -> list[int]:
    """Return the numbers in the file, every row of it whole."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file, strict=True))
    assert all(None not in row and None not in row.values() for row in rows), rows
    return [int(row["seq"]) for row in rows]


def test_rows_follow_each_other_over_runs_under_one_head(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "t.csv"
    for start in (1, 4):
        table = CsvFile(path, store)
        add(store, start, start + 1)
        table.write()
        add(store, start + 2)
        table.write()
        assert table.write() is False
    assert seqs(path) == [1, 2, 3, 4, 5, 6]


def test_wherever_a_write_is_cut_off_and_not_noted_the_next_run_completes_it(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "t.csv"
    table = CsvFile(path, store)
    for first, rows in ((1, (1, 2)), (3, (3, 4))):
        note = store.note(table._name)
        before = path.stat().st_size if path.exists() else 0
        add(store, *rows)
        table.write()
        whole = path.read_bytes()
        for cut in range(before, len(whole) + 1):
            path.write_bytes(whole[:cut])
            assert note is not None
            store.set_note(table._name, note)
            table = CsvFile(path, store)
            table.write()
            assert path.read_bytes() == whole, f"cut at {cut}, first row {first}"


def test_rows_committed_before_the_file_was_ever_noted_are_not_passed_over(tmp_path: Path, store: Store) -> None:
    CsvFile(tmp_path / "t.csv", store)  # killed here
    add(store, 1)
    CsvFile(tmp_path / "t.csv", store).write()
    assert seqs(tmp_path / "t.csv") == [1]


def test_a_file_that_was_there_before_keeps_what_is_in_it(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"theirs\r\n")
    table = CsvFile(path, store)
    add(store, 1)
    table.write()
    assert path.read_bytes().startswith(b"theirs\r\n20") or path.read_bytes().startswith(b"theirs\r\n1970")


def test_what_somebody_else_wrote_stays_and_rows_go_on_behind_it(
    tmp_path: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "t.csv"
    table = CsvFile(path, store)
    add(store, 1)
    table.write()
    with path.open("ab") as file:
        file.write(b"a remark")
    add(store, 2)
    with caplog.at_level(logging.WARNING):
        table.write()
    assert b"a remark\r\n" in path.read_bytes()
    assert path.read_bytes().count(b"EURUSD") == 2
    assert "changed by somebody else" in caplog.text


def test_a_file_that_was_taken_away_is_begun_anew_with_its_head(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "t.csv"
    table = CsvFile(path, store)
    add(store, 1)
    table.write()
    path.rename(tmp_path / "old.csv")
    add(store, 2)
    table.write()
    assert (seqs(tmp_path / "old.csv"), seqs(path)) == ([1], [2])


def test_a_folder_that_is_away_costs_no_row(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "share"
    folder.mkdir()
    table = CsvFile(folder / "t.csv", store)
    add(store, 1)
    folder.rename(tmp_path / "gone")
    with pytest.raises(OSError, match="No such file"):
        table.write()
    (tmp_path / "gone").rename(folder)
    add(store, 2)
    table.write()
    assert seqs(folder / "t.csv") == [1, 2]


def test_rows_after_all_before_them_were_forgotten_are_written_too(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "s.db", webhook=False, backlog=1, keep_days=1)) as store:
        table = CsvFile(tmp_path / "t.csv", store)
        for new in ((1, 2, 3), (4, 5)):
            add(store, *new)
            table.write()
            store.forget()
        assert seqs(tmp_path / "t.csv") == [1, 2, 3, 4, 5]


def test_a_store_that_counts_anew_has_all_its_rows_written_once(
    tmp_path: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "t.csv"
    table = CsvFile(path, store)
    add(store, 1, 2, 3)
    table.write()
    store._connection.execute("DELETE FROM executions")  # as keep_days did in stores of an earlier version
    add(store, 4, 5)
    with caplog.at_level(logging.WARNING):
        table = CsvFile(path, store)
    assert "counted anew" in caplog.text
    table.write()
    CsvFile(path, store).write()
    assert seqs(path) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("comment", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1"])
def test_no_comment_is_a_formula_for_a_spreadsheet(tmp_path: Path, store: Store, comment: str) -> None:
    path = tmp_path / "t.csv"
    table = CsvFile(path, store)
    store.commit(Batch([execution(1, comment=comment)]), Memory())
    table.write()
    with path.open(newline="") as file:
        assert next(csv.DictReader(file))["comment"] == f"'{comment}"
