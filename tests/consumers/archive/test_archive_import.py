"""Tick files of several vendors in the archive: units and zones are stated, and a file is imported once."""

from __future__ import annotations

import errno
import gzip
import json
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("duckdb")

from mt4pump_consumers.archive import folder as folder_module
from mt4pump_consumers.archive import importing
from mt4pump_consumers.archive.folder import ArchiveFolder
from mt4pump_consumers.archive.parquet_store import ParquetStore
from mt4pump_consumers.archive.settings import ArchiveSettings

from mt4pump.errors import EXIT_FAILED, EXIT_OK, EXIT_SETTINGS, EXIT_START
from tests.consumers.archive.archive_run import rows
from tests.consumers.archive.conftest import Command

NOON_NS = 1_704_110_400 * 10**9
"""2024-01-01 12:00 UTC"""
FILES = {
    "mt4pump": ("ticks.csv", "time_ms,symbol,bid,ask\n1704110400000,EURUSD,1.1,1.2\n", ()),
    "HistData ASCII ticks": ("DAT_ASCII_EURUSD_T_202401.csv", "20240101 070000000,1.100000,1.200000,0\n", ()),
    "dukascopy-node": ("eurusd-tick.csv", "timestamp,askPrice,bidPrice\n1704110400000,1.2,1.1\n", ()),
    "TrueFX": ("EURUSD-2024-01.csv", "EUR/USD,20240101 12:00:00.000,1.1,1.2\n", ("--timezone", "UTC")),
    "MT5 export": (
        "EURUSD_2024.csv",
        "<DATE>\t<TIME>\t<BID>\t<ASK>\t<LAST>\t<VOLUME>\t<FLAGS>\n2024.01.01\t14:00:00.000\t1.1\t1.2\t\t\t6\n",
        ("--timezone", "Europe/Athens"),
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_each_vendor_is_imported_with_its_time_in_utc(name: str, tmp_path: Path, command: Command) -> None:
    file, text, flags = FILES[name]
    (tmp_path / file).write_text(text)
    assert command("import", str(tmp_path / file), "--format", name, *flags) == 0
    assert rows(tmp_path / "archive", "tick", "symbol, bid, ask, ts, source") == [("EURUSD", 1.1, 1.2, NOON_NS, file)]


def test_a_zone_is_never_guessed(tmp_path: Path, command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    file, text, _ = FILES["MT5 export"]
    (tmp_path / file).write_text(text)
    assert command("import", str(tmp_path / file)) == EXIT_SETTINGS
    assert "(MT5 export) does not say the zone of its times: give --timezone" in capsys.readouterr().err
    assert command("import", str(tmp_path / file), "--timezone", "UTC", "--format", "TrueFX") == EXIT_SETTINGS
    assert "is of the format MT5 export, not TrueFX" in capsys.readouterr().err
    assert rows(tmp_path / "archive", "tick") == []


def test_a_file_is_imported_once_whatever_its_name(
    tmp_path: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    file, text, _ = FILES["mt4pump"]
    for name in (file, "copy.csv"):
        (tmp_path / name).write_text(text)
    assert command("import", str(tmp_path / file)) == 0
    assert command("import", str(tmp_path / "copy.csv")) == EXIT_SETTINGS
    assert "is imported already, as ticks.csv" in capsys.readouterr().err
    assert len(rows(tmp_path / "archive", "tick")) == 1


def test_days_in_several_parts_are_whole_joined_and_read_as_bars(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importing, "CHUNK_ROWS", 3)
    lines = [f"{1_704_110_400_000 + number * 6 * 3_600_000},EURUSD,1.{number},2" for number in range(1, 9)]
    (tmp_path / "ticks.csv").write_text("\n".join(["time_ms,symbol,bid,ask", *lines, "bad line", ""]))
    assert command("import", str(tmp_path / "ticks.csv")) == 0
    assert "8 ticks imported, 1 bad lines skipped" in capsys.readouterr().out
    folder = ArchiveFolder(tmp_path / "archive")
    ParquetStore(folder).maintain(ArchiveSettings(), NOON_NS + 30 * 86_400 * 10**9)
    assert len(folder.state.files) == len({file.date for file in folder.state.files.values()}) == 3
    folder.close()
    assert command("bars", "EURUSD", "1d", "--source", "tick", "--format", "json") == 0
    bars = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(bar["open"], bar["close"], bar["count"], bar["final"]) for bar in bars] == [
        (1.1, 1.1, 1, True),
        (1.2, 1.5, 4, True),
        (1.6, 1.8, 3, False),
    ]


def test_a_code_that_is_no_part_of_a_path_is_refused(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command("import", "x.csv", "--server-code", "../x")
    assert "is not 1 to 64 letters, digits, - and _" in capsys.readouterr().err


GUIDE = Path(__file__).resolve().parents[3] / "consumers" / "README.md"


def test_the_guides_table_has_the_exit_codes_of_all_programs() -> None:
    pattern = r"^\| exit code \| of .*`import`.*\n\|---\|---\|\n((?:\|.*\n)+)"
    (table,) = re.findall(pattern, GUIDE.read_text("utf-8"), re.MULTILINE)
    codes = [int(line.split("|")[1]) for line in table.splitlines()]
    assert codes == [EXIT_OK, EXIT_FAILED, EXIT_SETTINGS, EXIT_START]


WRONG = {
    "a file that is not there": ("no.csv", None, "cannot be read (No such file or directory)"),
    "a folder": (".", None, "cannot be read (Is a directory)"),
    "a file that is no tick file": ("a.csv", "<html>\n", "a.csv"),
    "a file without a tick": ("a.csv", "time_ms,symbol,bid,ask\n", "has no usable tick"),
    "a damaged compressed file": ("a.csv.gz", "\x1f\x8b\x08 no more", "a.csv.gz"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_ends_it_with_2(
    name: str, tmp_path: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    file, text, reason = WRONG[name]
    if text is not None:
        (tmp_path / file).write_bytes(text.encode("latin-1"))
    assert command("import", str(tmp_path / file)) == EXIT_SETTINGS
    assert reason in capsys.readouterr().err


def test_a_folder_that_another_archive_writes_ends_it_with_2(
    tmp_path: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ticks.csv").write_text(FILES["mt4pump"][1])
    folder = ArchiveFolder(tmp_path / "archive")
    assert command("import", str(tmp_path / "ticks.csv")) == EXIT_SETTINGS
    folder.close()
    assert "another mt4pump-archive writes to" in capsys.readouterr().err


def test_a_full_disk_ends_it_with_1_and_nothing_is_kept(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ticks.csv").write_text(FILES["mt4pump"][1])

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(ArchiveFolder, "stage", full)
        assert command("import", str(tmp_path / "ticks.csv")) == EXIT_FAILED
    assert "No space left on device" in capsys.readouterr().err
    assert rows(tmp_path / "archive", "tick") == []
    assert command("import", str(tmp_path / "ticks.csv")) == EXIT_OK


HEADER = "time_ms,symbol,bid,ask\n"


def lines(first: int, last: int) -> str:
    """Return ticks whose bids are their numbers."""
    return "".join(f"{1_704_110_400_000 + number},EURUSD,1.{number:05d},2.00000\n" for number in range(first, last))


def stored(tmp_path: Path) -> list[float]:
    return sorted(row[0] for row in rows(tmp_path / "archive", "tick", "bid"))


def bids(first: int, last: int) -> list[float]:
    return [float(f"1.{number:05d}") for number in range(first, last)]


@pytest.mark.parametrize("kept", [0.01, 0.5, 0.999])
def test_a_compressed_file_that_is_cut_is_imported_not_at_all_and_later_once(
    tmp_path: Path, command: Command, capsys: pytest.CaptureFixture[str], kept: float
) -> None:
    file = tmp_path / "ticks.csv.gz"
    whole = gzip.compress((HEADER + lines(0, 30_000)).encode())
    file.write_bytes(whole[: int(len(whole) * kept)])
    assert command("import", str(file)) == EXIT_SETTINGS
    said = capsys.readouterr().err
    assert re.search(
        r"ticks\.csv\.gz cannot be read behind byte \d+ of its text .*it is not complete; fetch it again", said
    )
    assert stored(tmp_path) == []
    file.write_bytes(whole)
    assert command("import", str(file)) == EXIT_OK
    assert stored(tmp_path) == bids(0, 30_000)
    (tmp_path / "unpacked.csv").write_text(HEADER + lines(0, 30_000))
    assert command("import", str(tmp_path / "unpacked.csv")) == EXIT_SETTINGS
    assert "is imported already, as ticks.csv.gz" in capsys.readouterr().err


def test_a_file_whose_last_line_is_cut_is_refused_with_line_and_byte(
    tmp_path: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    file, text = tmp_path / "ticks.csv", HEADER + lines(0, 20_000)
    file.write_text(text[:-9])
    assert command("import", str(file)) == EXIT_SETTINGS
    assert f"ends amid line 20001, at byte {len(text) - 9} (" in capsys.readouterr().err
    assert stored(tmp_path) == []
    file.write_text(text)
    assert command("import", str(file)) == EXIT_OK
    assert stored(tmp_path) == bids(0, 20_000)


def test_of_a_file_that_has_grown_the_new_lines_are_imported(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(folder_module, "FULL_EVERY", 2)
    for number, last in enumerate((100, 150, 180)):
        file = tmp_path / f"{number}.csv"
        file.write_text(HEADER + lines(0, last))
        assert command("import", str(file)) == EXIT_OK
    assert "30 ticks imported, 150 that were imported before, 0 bad lines skipped" in capsys.readouterr().out
    assert stored(tmp_path) == bids(0, 180)


def test_a_file_that_goes_on_amid_the_last_line_of_an_imported_one_is_refused(
    tmp_path: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    """The cut line looked like a whole one: its last price is wrong."""
    text = HEADER + lines(0, 100)
    for name, content in (("cut.csv", text[:-3]), ("whole.csv", text)):
        (tmp_path / name).write_text(content)
    assert command("import", str(tmp_path / "cut.csv")) == EXIT_OK
    assert command("import", str(tmp_path / "whole.csv")) == EXIT_SETTINGS
    assert (
        "begins with all of cut.csv, which ended amid a line, so that its last tick is wrong" in capsys.readouterr().err
    )
    assert len(stored(tmp_path)) == 100


def test_a_file_that_changes_while_it_is_read_is_imported_not_at_all(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, real = tmp_path / "ticks.csv", ArchiveFolder.stage
    file.write_text(HEADER + lines(0, 100))

    def stage(*values: Any) -> Any:
        with file.open("a") as more:
            more.write(lines(100, 150))
        return real(*values)

    with monkeypatch.context() as patch:
        patch.setattr(ArchiveFolder, "stage", stage)
        assert command("import", str(file)) == EXIT_SETTINGS
    assert "was changed while it was read: import it when no program writes to it" in capsys.readouterr().err
    assert stored(tmp_path) == []
    assert command("import", str(file)) == EXIT_OK
    assert stored(tmp_path) == bids(0, 150)


def test_a_zip_archive_is_refused_with_what_to_do(
    tmp_path: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    with zipfile.ZipFile(tmp_path / "ticks.zip", "w") as archive:
        archive.writestr("ticks.csv", HEADER + lines(0, 100))
    for content in ((tmp_path / "ticks.zip").read_bytes(), (tmp_path / "ticks.zip").read_bytes()[:50]):
        (tmp_path / "ticks.zip").write_bytes(content)
        assert command("import", str(tmp_path / "ticks.zip")) == EXIT_SETTINGS
        assert "is a zip archive or a workbook: unpack it" in capsys.readouterr().err
    assert stored(tmp_path) == []


def test_a_library_that_is_not_installed_ends_it_with_3(
    command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mt4pump_consumers.archive.importing", None)
    monkeypatch.delattr("mt4pump_consumers.archive.importing")
    assert command("import", "ticks.csv") == EXIT_START
    assert "is not installed" in capsys.readouterr().err
