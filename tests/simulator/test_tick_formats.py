"""Tick files as people have them: read where they can be recognised, else refused with what they are and the cure."""

from __future__ import annotations

import gzip
import logging
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mt4pump.errors import CONSTRAINTS_PLACE, StartError
from mt4pump.simulator import tick_formats
from mt4pump.simulator.tick_files import SYMBOLS_MAX, TickFiles
from mt4pump.simulator.tick_formats import TickClock, TickOptions, symbol_of_file, zone_of

OURS = "time_ms,symbol,bid,ask\n1577916000065,EURUSD,1.12120,1.12172\n"
EXPECTED = [(1577916000065, "EURUSD", 1.1212, 1.12172)]
MT5 = """\
<DATE>\t<TIME>\t<BID>\t<ASK>\t<LAST>\t<VOLUME>\t<FLAGS>
2022.11.10\t14:59:59.900\t\t0.86710\t\t\t4
2022.11.10\t15:00:00.017\t0.86682\t0.86712\t\t\t6
2022.11.10\t15:00:00.228\t\t0.86710\t\t\t4
2022.11.10\t15:00:00.300\t0.86680\t\t\t\t2
"""
Seen = list[tuple[int, str, float, float]]


def ms(text: str) -> int:
    """Return a moment of UTC in ms since 1970."""
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def seen(path: Path, **options: Any) -> Seen:
    """Return the ticks of a file."""
    return [(tick[0], tick[2], tick[3], tick[4]) for tick in TickFiles([path], options=TickOptions(**options))]


READ: dict[str, tuple[str, str, dict[str, str], Seen]] = {
    "MT5 export": (
        "EURUSD_202211101500_202211102359.csv",
        MT5,
        {"zone": "+02:00"},
        [
            (ms("2022-11-10T13:00:00.017"), "EURUSD", 0.86682, 0.86712),
            (ms("2022-11-10T13:00:00.228"), "EURUSD", 0.86682, 0.8671),
            (ms("2022-11-10T13:00:00.300"), "EURUSD", 0.8668, 0.8671),
        ],
    ),
    "backtrader": (
        "bidask.csv",
        "TIMESTAMP,BID,ASK\n02/03/2010 16:53:50,0.5346,0.5347\n02/03/2010 16:53:51,0.5343,0.5347\n",
        {"symbol": "XYZ", "dates": "mdy"},
        [
            (ms("2010-02-03T16:53:50"), "XYZ", 0.5346, 0.5347),
            (ms("2010-02-03T16:53:51"), "XYZ", 0.5343, 0.5347),
        ],
    ),
    "HistData": (
        "DAT_ASCII_EURUSD_T_202001.csv",
        "20200101 170000065,1.121200,1.121720,0\n20200101 170010447,1.121200,1.121920,0\n",
        {},
        [(1577916000065, "EURUSD", 1.1212, 1.12172), (1577916010447, "EURUSD", 1.1212, 1.12192)],
    ),
    "duka": (
        "GBPJPY-2012_12_03-2012_12_03.csv",
        "time,ask,bid,ask_volume,bid_volume\n2012-12-03 01:00:01.883000,132.158,132.141,1.5,2.25\n",
        {"zone": "+01:00"},
        [(1354492801883, "GBPJPY", 132.141, 132.158)],
    ),
    "dukascopy-node": (
        "gbpjpy-tick-2012-12-03-2012-12-04.csv",
        "timestamp,askPrice,bidPrice,askVolume,bidVolume\n1354492801883,132.158,132.141,1.5,2.25\n",
        {},
        [(1354492801883, "GBPJPY", 132.141, 132.158)],
    ),
    "JForex": (
        "EURUSD_Ticks_01.01.2020-01.01.2020.csv",
        "Gmt time,Ask,Bid,AskVolume,BidVolume\n02.01.2020 22:00:00.065,1.12172,1.12120,1,1\n",
        {},
        [(ms("2020-01-02T22:00:00.065"), "EURUSD", 1.1212, 1.12172)],
    ),
    "JForex, local time with its offset": (
        "EURUSD.csv",
        "Local time,Ask,Bid\n02.01.2020 23:00:00.065 GMT+0100,1.12172,1.12120\n",
        {},
        [(ms("2020-01-02T22:00:00.065"), "EURUSD", 1.1212, 1.12172)],
    ),
    "TrueFX": (
        "USDJPY-2013-01.csv",
        "USD/JPY,20130101 21:00:00.295,86.655,86.728\n",
        {},
        [(ms("2013-01-01T21:00:00.295"), "USDJPY", 86.655, 86.728)],
    ),
    "ours": ("t.csv", OURS, {}, EXPECTED),
    "ours, semicolons and decimal commas": (
        "t.csv",
        "time_ms;symbol;bid;ask\n1577916000065;EURUSD;1,12120;1,12172\n",
        {},
        EXPECTED,
    ),
    "ours, ask and bid swapped": (
        "t.csv",
        "time_ms,symbol,ask,bid\n1577916000065,EURUSD,1.12172,1.12120\n",
        {},
        EXPECTED,
    ),
    "ours, quoted": (
        "t.csv",
        '"time_ms","symbol","bid","ask"\n"1577916000065","EURUSD","1.12120","1.12172"\n',
        {},
        EXPECTED,
    ),
    "ours, dates": ("t.csv", "time_ms,symbol,bid,ask\n2020-01-01T22:00:00.065Z,EURUSD,1.12120,1.12172\n", {}, EXPECTED),
    "ours, e-notation": (
        "t.csv",
        "time_ms,symbol,bid,ask\n1577916000065,SHIBUSD,8.1e-06,8.2e-06\n",
        {},
        [(1577916000065, "SHIBUSD", 0.0000081, 0.0000082)],
    ),
    "columns by their names": (
        "t.csv",
        "id|Instrument|DateTime|Offer|Bid\n7|EUR/USD|2020-01-01 22:00:00.065+00:00|1.12172|1.12120\n",
        {},
        EXPECTED,
    ),
}


@pytest.mark.parametrize("name", READ)
def test_a_known_format_is_read(tmp_path: Path, name: str) -> None:
    file, text, options, expected = READ[name]
    path = tmp_path / file
    path.write_text(text, encoding="utf-8")
    assert seen(path, **options) == expected


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_encodings_line_ends_and_gzip_are_read(tmp_path: Path, encoding: str, ends: str, *, packed: bool) -> None:
    path = tmp_path / "t.csv"
    data = OURS.replace("\n", ends).encode(encoding)
    path.write_bytes(gzip.compress(data) if packed else data)
    assert seen(path) == EXPECTED


REFUSED = {
    "MT4 history centre": ("2020.01.02,00:00,1.12120,1.12172,1.12100,1.12150,120\n", "holds bars"),
    "HistData bars": ("20200101 170000;1.1;1.1;1.1;1.1;0\n", "holds bars"),
    "MT5 bars": ("<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\n", "holds bars"),
    "seconds": (
        "time_ms,symbol,bid,ask\n1577916000,EURUSD,1.1,1.2\n",
        "line 2: .*looks like seconds.*multiply by 1,000",
    ),
    "seconds under a header without a unit": (
        "timestamp,bid,ask\n1577916000,1.1,1.2\n",
        "line 2: .*looks like seconds",
    ),
    "seconds with a fraction": ("timestamp,bid,ask\n1577916000.065,1.1,1.2\n", "line 2: .*looks like seconds"),
    "microseconds": ("time_ms,symbol,bid,ask\n1577916000065000,EURUSD,1.1,1.2\n", "microseconds.*divide by 1,000"),
    "nanoseconds": ("timestamp,bid,ask\n1577916000065000000,1.1,1.2\n", "nanoseconds.*divide by 1,000,000"),
    "day or month": ("TIMESTAMP,BID,ASK\n02/03/2010 16:53:50,0.5346,0.5347\n", "line 2: .*tick_dates"),
    "no such day": ("TIMESTAMP,BID,ASK\n2010-02-30 16:53:50,0.5346,0.5347\n", "line 2: .*does not exist"),
    "another century": ("TIMESTAMP,BID,ASK\n1970-01-01 00:00:01,0.5346,0.5347\n", "line 2: .*between 1980 and 2038"),
    "nine decimals": ("time_ms,symbol,bid,ask\n1577916000065,X,0.000008123,0.000008125\n", "line 2: .*round it"),
    "a symbol of twelve": ("time_ms,symbol,bid,ask\n1577916000065,NATGAS.cash1,1.1,1.2\n", "line 2: symbol"),
    "the newest first": (
        "time_ms,symbol,bid,ask\n" + "".join(f"{1577916000065 - n},EURUSD,1.1,1.2\n" for n in range(20)),
        "not in order of time.*oldest row first",
    ),
    "columns swapped": (
        "time_ms,symbol,bid,ask\n" + "".join(f"{1577916000065 + n},EURUSD,1.2,1.1\n" for n in range(20)),
        "are the two columns swapped",
    ),
    "prices of two units": ("time_ms,symbol,bid,ask\n1577916000065,X,1.1,110000\n", "line 2: .*are no quote"),
    "something else": ("hello\n", "line 1 is 'hello'; it should be time_ms,symbol,bid,ask.*MT5 export"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_with_file_line_and_cure(tmp_path: Path, name: str) -> None:
    text, words = REFUSED[name]
    path = tmp_path / "EURUSD.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(StartError, match=words) as error:
        TickFiles([path])
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"PK\x03\x04" + b"x" * 100, "zip archive"),
        (b"]\x00\x00\x10" + b"x" * 100, "bi5"),
        (b"\xfd7zXZ\x00" + b"x" * 100, "xz"),
        (b"SQLite format 3\x00" + b"x" * 100, "database"),
        (gzip.compress(OURS.encode() * 1000, mtime=0)[:60], "cannot be read"),
        (b"\x1f\x8b" + b"x" * 100, "cannot be read"),
        (b"x" * 1_000_000, "line 1 is"),
        (b"\0" * 1_000_000, "line 1 is"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_bytes_that_are_no_text_are_refused_with_what_they_are(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(data)
    with pytest.raises(StartError, match=words):
        TickFiles([path])


def test_a_file_that_breaks_off_later_is_played_as_far_as_it_goes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = "".join(f"{1577916000065 + n},EURUSD,1.{n:05},1.2\n" for n in range(30_000))
    packed = gzip.compress(("time_ms,symbol,bid,ask\n" + rows).encode())
    path = tmp_path / "t.csv.gz"
    path.write_bytes(packed[: len(packed) * 9 // 10])
    files = TickFiles([path])
    assert 10_000 < len(list(files)) < 30_000
    assert files.bad_lines >= 1
    assert "its replay ends here" in caplog.text


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("EURUSD.csv", "EURUSD"),
        ("eurusd-tick-2020.csv", "EURUSD"),
        ("EUR_USD.csv", "EURUSD"),
        ("DAT_ASCII_XAUUSD_T_202001.csv", "XAUUSD"),
        ("ticks_2020_GBPJPY.csv.gz", "GBPJPY"),
        ("US30_202001.csv", "US30"),
        ("DAT_ASCII_SPXUSD_T_202001.csv", "SPXUSD"),
        ("monthly report.csv", "monthly"),
        ("averyverylongname.csv", ""),
    ],
)
def test_the_symbol_is_read_from_the_name_of_a_file(name: str, symbol: str) -> None:
    assert symbol_of_file(Path("EURGBP", name)) == symbol


def test_a_file_without_a_symbol_is_refused_with_the_setting(tmp_path: Path) -> None:
    path = tmp_path / "averyverylongname.csv"
    path.write_text("timestamp,bid,ask\n1577916000065,1.1,1.2\n", encoding="utf-8")
    with pytest.raises(StartError, match="set tick_symbol"):
        TickFiles([path])
    assert seen(path, symbol="GOLD") == [(1577916000065, "GOLD", 1.1, 1.2)]


@pytest.mark.parametrize("name", ["MT5 export", "HistData", "duka", "TrueFX", "backtrader"])
def test_nothing_about_zone_or_symbol_is_assumed_silently(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    file, text, _, _ = READ[name]
    path = tmp_path / file
    path.write_text(text, encoding="utf-8")
    with caplog.at_level(logging.INFO):
        TickFiles([path], options=TickOptions(dates="mdy"))
    assert "times are read as" in caplog.text
    assert ("set tick_zone" in caplog.text) == (name != "HistData")
    assert ("symbol" in caplog.text) == (name != "TrueFX")


def test_milliseconds_need_no_log_line_about_zones(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "t.csv"
    path.write_text(OURS, encoding="utf-8")
    with caplog.at_level(logging.INFO):
        TickFiles([path])
    assert not caplog.records


def test_rows_out_of_order_are_played_counted_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "t.csv"
    path.write_text("time_ms,symbol,bid,ask\n5000,X,1.1,1.2\n4000,X,1.1,1.2\n6000,X,1.1,1.2\n", encoding="utf-8")
    files = TickFiles([path])
    assert [tick[0] for tick in files] == [5000, 4000, 6000]
    assert (files.bad_lines, files.late_lines) == (0, 1)
    assert "line 3 played at once: its time is 1.000 s before" in caplog.text


def test_a_zone_with_daylight_saving_is_followed() -> None:
    clock = TickClock(zone_of("America/New_York"), None)
    assert clock.ms("2022.01.10 17:00:00") == ms("2022-01-10T22:00:00")
    assert clock.ms("2022.07.10 17:00:00.5") == ms("2022-07-10T21:00:00.500")


@pytest.mark.parametrize(
    "text", ["", "CEST5", "+25:00", "+02:60", "../../etc/passwd", "/etc/passwd", "x\0y", "Mars/Olympus"]
)
def test_a_zone_that_nobody_knows_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no time zone; write UTC"):
        zone_of(text)


@pytest.mark.parametrize(
    ("platform", "has_tzdata", "is_named"),
    [("linux", False, False), ("win32", True, False), ("win32", False, True)],
    ids=["Linux", "Windows", "Windows without tzdata"],
)
def test_what_to_install_is_named_only_where_windows_has_no_zones(
    monkeypatch: pytest.MonkeyPatch, platform: str, *, has_tzdata: bool, is_named: bool
) -> None:
    monkeypatch.setattr(tick_formats, "sys", SimpleNamespace(platform=platform))
    monkeypatch.setattr(tick_formats, "find_spec", lambda _: object() if has_tzdata else None)
    with pytest.raises(ValueError, match="is no time zone") as raised:
        zone_of("Mars/Olympus")
    cure = "write UTC, an offset as +02:00, or a name as Europe/Athens"
    install = f"; names need: pip install -c deploy/constraints.txt tzdata ({CONSTRAINTS_PLACE})" if is_named else ""
    assert str(raised.value) == f"'Mars/Olympus' is no time zone; {cure}{install}"


def test_a_number_above_12_decides_the_order_for_the_rows_after_it() -> None:
    clock = TickClock(UTC, None)
    assert clock.ms("25/12/2020 00:00:00") == ms("2020-12-25")
    assert clock.ms("02/03/2020 00:00:00") == ms("2020-03-02")


def test_memory_is_bounded_whatever_the_length_of_lines_and_the_number_of_symbols(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    with gzip.open(path, "wb") as file:
        file.write(OURS.encode())
        for _ in range(60):
            file.write(b"x" * 1_000_000)
        file.writelines(b"1577916000066,S%d,1.1,1.2\n" % n for n in range(SYMBOLS_MAX + 10))
    tracemalloc.start()
    try:
        files = TickFiles([path])
        count = sum(1 for _ in files)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count <= SYMBOLS_MAX
    assert files.bad_lines > 10
    assert peak < 20_000_000
