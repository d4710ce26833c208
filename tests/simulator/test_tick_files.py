"""Tick files are read as they are, merged by time, and refused with file, line and reason."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from mt4pump.errors import StartError
from mt4pump.simulator.tick_files import LOGGED_BAD_LINES, TickFiles
from mt4pump.simulator.tick_formats import HEADER, RowReader, Tick, TickOptions, layout_of

from .reader import write_ticks


def read_row(row: str) -> Tick | None:
    return RowReader(layout_of(HEADER), TickOptions(), "", 3).read(row)


def test_a_row_becomes_a_tick_with_its_decimals() -> None:
    assert read_row("1577916000065,EURUSD,1.12120,1.12172\n") == (1577916000065, 3, "EURUSD", 1.1212, 1.12172, 5)
    assert read_row("0,US30,39127,39130.5\r\n") == (0, 3, "US30", 39127.0, 39130.5, 1)
    assert read_row("0,USOIL,-37.63,-37.60") == (0, 3, "USOIL", -37.63, -37.6, 2)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("1,EURUSD,1.1", "3 columns"),
        ("1,EURUSD,1.1,1.2,9", "5 columns"),
        ("soon,EURUSD,1.1,1.2", "time 'soon'"),
        ("-5,EURUSD,1.1,1.2", "time_ms '-5'"),
        ("1.5e9,EURUSD,1.1,1.2", "time_ms '1.5e9'"),
        ("2147483648000,EURUSD,1.1,1.2", "time '2147483648000'"),
        ("1577916000,EURUSD,1.1,1.2", "looks like seconds"),
        ("999999999,EURUSD,1.1,1.2", "looks like seconds"),
        ("1577916000.065,EURUSD,1.1,1.2", "time_ms '1577916000.065'"),
        ("1577916000065123,EURUSD,1.1,1.2", "looks like microseconds"),
        ("1577916000065123456,EURUSD,1.1,1.2", "looks like nanoseconds"),
        ("132223896000650000,EURUSD,1.1,1.2", "is not UTC milliseconds"),
        ("1,EUR USD,1.1,1.2", "without spaces"),
        ("1,NATGAS.cash1,1.1,1.2", "1 to 11"),
        ("1,EURUSD,0,1.2", "are no quote"),
        ("1,EURUSD,1.1,0.0000", "are no quote"),
        ("1,EURUSD,1.1,112172", "are no quote"),
        ("1,EURUSD,112120,1.12", "are no quote"),
        ("1,EURUSD,1e300,1e300", "bid '1e300'"),
        ("1,EURUSD,1e999999999,1.1", "bid '1e999999999'"),
        ("1,EURUSD,,1.2", "bid"),
        ("1,,1.1,1.2", "symbol ''"),
        ("1,EURUSD.TOOLONG,1.1,1.2", "symbol"),
        ("1,\N{EURO SIGN}URUSD,1.1,1.2", "symbol"),
        ("1,EURUSD,nan,1.2", "bid 'nan'"),
        ("1,EURUSD,1.1,inf", "ask 'inf'"),
        ("1,EURUSD,1_0.1,1.2", "bid '1_0.1'"),
        ("1,EURUSD,1.123456789,1.2", "more than 8 decimals; round it"),
        ("1,EURUSD,1.1,123456789012.12345", "ask"),
    ],
)
def test_a_bad_row_is_no_tick_and_says_why(row: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        read_row(row)


def test_files_are_merged_by_time(tmp_path: Path) -> None:
    one = write_ticks(tmp_path / "a.csv", "10,EURUSD,1.1,1.2", "30,EURUSD,1.3,1.4")
    two = write_ticks(tmp_path / "b.csv", "20,USDJPY,80.001,80.010", "30,USDJPY,80.002,80.011")
    merged = list(TickFiles([one, two]))
    assert [(tick[0], tick[2]) for tick in merged] == [(10, "EURUSD"), (20, "USDJPY"), (30, "EURUSD"), (30, "USDJPY")]


def test_digits_are_the_most_decimals_seen(tmp_path: Path) -> None:
    path = write_ticks(tmp_path / "a.csv", "1,EURUSD,1.1,1.2", "2,EURUSD,1.12345,1.2", "3,US30,39000,39003")
    assert TickFiles([path]).digits == {"EURUSD": 5, "US30": 0}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "is empty"),
        ("\n", "is empty"),
        ("time,symbol,bid,ask\n1,EURUSD,1.1,1.2\n", "line 2: time '1' has an unknown unit"),
        ("when,symbol,bid,ask\n1,EURUSD,1.1,1.2\n", "line 1 is 'when,symbol,bid,ask'"),
        ("1,EURUSD,1.1,1.2\n", "should be time_ms,symbol,bid,ask"),
        ("time_ms,symbol,bid,ask\n", "no usable tick"),
        ("time_ms,symbol,bid,ask\n\n1,EURUSD,x,1.2\n", "line 3: bid 'x'"),
    ],
)
def test_a_file_that_is_no_tick_file_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(StartError, match=reason) as error:
        TickFiles([path])
    assert str(path) in str(error.value)


@pytest.mark.parametrize("name", ["missing.csv", "."])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(StartError, match="cannot be read"):
        TickFiles([tmp_path / name])


def test_bytes_that_are_no_text_are_a_bad_file_and_no_crash(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(bytes(range(256)) * 10)
    with pytest.raises(StartError, match="line 1"):
        TickFiles([path])


def test_bad_lines_in_the_middle_are_skipped_counted_and_logged_a_few_times(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_ticks(tmp_path / "a.csv", "1,EURUSD,1.1,1.2", *["2,EURUSD,bad,1.2"] * 20, "", "3,EURUSD,1.3,1.4")
    files = TickFiles([path])
    with caplog.at_level(logging.WARNING):
        assert [tick[0] for tick in files] == [1, 3]
    assert files.bad_lines == 20
    assert len(caplog.records) == LOGGED_BAD_LINES
    assert f"{path} line 3 skipped: bid 'bad'" in caplog.text
    assert "only counted" in caplog.records[-1].message


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbftime_ms,symbol,bid,ask\r\n1,EURUSD,1.1,1.2\r\n")
    files = TickFiles([path])
    assert len(list(files)) == 1
    assert files.bad_lines == 0
