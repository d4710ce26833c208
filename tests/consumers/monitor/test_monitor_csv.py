"""The CSV file: each execution in one row, wherever a write was cut off."""

from __future__ import annotations

import csv
import logging
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from mt4pump_consumers.monitor.recorder import CsvFile
from mt4pump_consumers.monitor.rules import RuleMemory
from mt4pump_consumers.monitor.store import Batch, MonitorStore
from mt4pump_consumers.spreadsheet import harmless

from tests.consumers.monitor.monitor_run import execution


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MonitorStore]:
    with closing(MonitorStore(tmp_path / "s.db", webhook=False, backlog=1)) as made:
        yield made


def add(store: MonitorStore, *seqs: int) -> None:
    """Commit executions."""
    store.commit(Batch([execution(seq) for seq in seqs]), RuleMemory())


def seqs(path: Path) -> list[int]:
    """Return the numbers in the file, every row of it whole."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file, strict=True))
    assert all(None not in row and None not in row.values() for row in rows), rows
    return [int(row["seq"]) for row in rows]


def test_rows_follow_each_other_over_runs_under_one_head(tmp_path: Path, store: MonitorStore) -> None:
    path = tmp_path / "t.csv"
    for start in (1, 4):
        table = CsvFile(path, store)
        add(store, start, start + 1)
        table.write()
        add(store, start + 2)
        table.write()
        assert table.write() is False
    assert seqs(path) == [1, 2, 3, 4, 5, 6]


def test_wherever_a_write_is_cut_off_and_not_noted_the_next_run_completes_it(
    tmp_path: Path, store: MonitorStore
) -> None:
    path = tmp_path / "t.csv"
    table, name = CsvFile(path, store), f"csv {path.absolute()}"
    for first, rows in ((1, (1, 2)), (3, (3, 4))):
        note = store.note(name)
        before = path.stat().st_size if path.exists() else 0
        add(store, *rows)
        table.write()
        whole = path.read_bytes()
        for cut in range(before, len(whole) + 1):
            path.write_bytes(whole[:cut])
            assert note is not None
            store.set_note(name, note)
            table = CsvFile(path, store)
            table.write()
            assert path.read_bytes() == whole, f"cut at {cut}, first row {first}"


def test_rows_committed_before_the_file_was_ever_noted_are_not_passed_over(tmp_path: Path, store: MonitorStore) -> None:
    CsvFile(tmp_path / "t.csv", store)  # killed here
    add(store, 1)
    CsvFile(tmp_path / "t.csv", store).write()
    assert seqs(tmp_path / "t.csv") == [1]


def test_a_file_that_was_there_before_keeps_what_is_in_it(tmp_path: Path, store: MonitorStore) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"theirs\r\n")
    table = CsvFile(path, store)
    add(store, 1)
    table.write()
    assert path.read_bytes().startswith(b"theirs\r\n20") or path.read_bytes().startswith(b"theirs\r\n1970")


def test_what_somebody_else_wrote_stays_and_rows_go_on_behind_it(
    tmp_path: Path, store: MonitorStore, caplog: pytest.LogCaptureFixture
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


def test_a_file_that_was_taken_away_is_begun_anew_with_its_head(tmp_path: Path, store: MonitorStore) -> None:
    path = tmp_path / "t.csv"
    table = CsvFile(path, store)
    add(store, 1)
    table.write()
    path.rename(tmp_path / "old.csv")
    add(store, 2)
    table.write()
    assert (seqs(tmp_path / "old.csv"), seqs(path)) == ([1], [2])


def test_a_folder_that_is_away_costs_no_row(tmp_path: Path, store: MonitorStore) -> None:
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
    with closing(MonitorStore(tmp_path / "s.db", webhook=False, backlog=1, keep_days=1)) as store:
        table = CsvFile(tmp_path / "t.csv", store)
        for new in ((1, 2, 3), (4, 5)):
            add(store, *new)
            table.write()
            store.forget()
        assert seqs(tmp_path / "t.csv") == [1, 2, 3, 4, 5]


def test_a_store_that_counts_anew_has_all_its_rows_written_once(
    tmp_path: Path, store: MonitorStore, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "t.csv"
    table = CsvFile(path, store)
    add(store, 1, 2, 3)
    table.write()
    assert store.path is not None
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("DELETE FROM executions")  # as keep_days did in stores of an earlier version
    add(store, 4, 5)
    with caplog.at_level(logging.WARNING):
        table = CsvFile(path, store)
    assert "counted anew" in caplog.text
    table.write()
    CsvFile(path, store).write()
    assert seqs(path) == [1, 2, 3, 4, 5]


FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "=cmd|' /C calc'!A0", "\uff1d1+1", "-2+3+cmd|' /C calc'!A0")
BEFORE = (
    "",
    " ",
    "\t",
    "\r",
    "\n",
    ";",
    ",",
    "|",
    '"',
    "'",
    "x;",
    "x,",
    "x|",
    "x\t",
    'x";',
    'x","',
    "x\n",
    "x; ",
    'a;"',
    "x =;",
)
STARTS = ("=", "+", "@", "\uff1d", "\uff0b", "\uff20", "-", "\uff0d", "\u2212")


def cells_of(line: str, separator: str) -> Iterator[str]:
    """Yield every cell as a program reads it that splits at ``separator``, with and without regard to quotes."""
    yield from next(csv.reader([line], delimiter=separator))
    for cell in line.split(separator):
        yield cell
        yield cell.strip()
        yield cell.strip().strip('"').strip()


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("formula", FORMULAS)
def test_no_text_is_a_formula_for_a_spreadsheet_whatever_parts_its_cells(
    tmp_path: Path, store: MonitorStore, before: str, formula: str
) -> None:
    path = tmp_path / "t.csv"
    table = CsvFile(path, store)
    texts = dict.fromkeys(("comment", "symbol", "change", "topic"), before + formula)
    store.commit(Batch([execution(1, **texts)._replace(profit=-5.25)]), RuleMemory())
    table.write()
    _, *lines = path.read_text(encoding="utf-8").split("\n")
    assert lines.pop() == ""
    (line,) = [each.rstrip("\r") for each in lines]
    for separator in ",;|\t":
        for cell in cells_of(line, separator):
            assert not cell.startswith(STARTS) or re.fullmatch(r"-?[0-9.]+", cell), (separator, cell)
    with path.open(newline="") as file:
        row = next(csv.DictReader(file))
    assert float(row["profit"]) == -5.25


@pytest.mark.parametrize(
    "text", ["EURUSD", "EURUSD.m", "#AAPL", "to be closed at 5.00", "a-b", "SL -20", "[sl] 1.2", ""]
)
def test_harmless_text_stays_as_it_is(text: str) -> None:
    assert harmless(text) == text
