"""A replay gives every tick of its files, in order, with the file's digits, whatever happens to the sessions.

Private access: one fault, done without the simulator's thread, because the test moves the feed itself.
"""

from __future__ import annotations

import csv
import math
from heapq import merge
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mt4pump.errors import StartError
from mt4pump.mt4.codes import PumpCode
from mt4pump.mt4.layout import CON_SYMBOL
from mt4pump.mt4.record import Decoder
from mt4pump.simulator import tick_files as ticks
from mt4pump.simulator.market import WIDEST_SPREAD
from mt4pump.simulator.options import SimulatedFault, SimulatorOptions, parse_fault
from mt4pump.simulator.server import Simulator
from mt4pump.simulator.tick_formats import LAST_TIME_MS, are_odd

from .reader import REAL_TICKS, Reader, running, wait_for, write_ticks

NAMES = ("EURUSD-2020-01-01-histdata.csv", "GBPJPY-2012-12-03-dukascopy.csv", "USDJPY-2013-01-01-truefx.csv")
Row = tuple[int, str, str, str]


def rows_of(path: Path) -> list[Row]:
    with path.open(encoding="ascii", newline="") as file:
        return [(int(time_ms), symbol, bid, ask) for time_ms, symbol, bid, ask in list(csv.reader(file))[1:]]


def real(names: tuple[str, ...]) -> tuple[Path, ...]:
    paths = tuple(REAL_TICKS / name for name in names)
    if not all(path.exists() for path in paths):
        pytest.skip(f"the recorded ticks are not at {REAL_TICKS}")
    return paths


def as_rows(reader: Reader, milliseconds: list[int]) -> list[Row]:
    """Return the quotes as rows of the file, prices written with the symbol's digits."""
    rows = []
    for quote, time_ms in zip(reader.decoded_quotes(), milliseconds, strict=True):
        assert quote["lasttime"] == time_ms // 1000 + 10800
        bid, ask = (f"{quote[name]:.{quote['digits']}f}" for name in ("bid", "ask"))
        rows.append((time_ms, quote["symbol"], bid, ask))
    return rows


@pytest.mark.parametrize("names", [*((name,) for name in NAMES), NAMES], ids=["EURUSD", "GBPJPY", "USDJPY", "merged"])
def test_every_tick_of_the_real_files_arrives_in_order_with_its_digits(names: tuple[str, ...]) -> None:
    paths = real(names)
    expected = list(merge(*map(rows_of, paths), key=lambda row: row[0]))
    with running(ticks=paths, speed=math.inf) as simulator:
        reader = Reader(simulator)
        reader.read_until(simulator.finished.is_set)
        assert reader.quote_count() == simulator.ticks_sent == len(expected)
        assert as_rows(reader, [row[0] for row in expected]) == expected
        assert reader.repeatable() == []
        assert simulator.counters()["bad_lines"] == simulator.quote_queue.unread == 0


def test_only_the_files_symbols_exist_with_a_handful_of_accounts(tmp_path: Path) -> None:
    path = write_ticks(tmp_path / "a.csv", "1,GBPJPY,132.141,132.158", "2,GOLD,1900.12,1900.30")
    with running(ticks=(path,), speed=math.inf) as simulator:
        reader = Reader(simulator)
        symbols = {row["symbol"]: row for row in Decoder(CON_SYMBOL).many(reader.manager.table("symbols"))}
        assert {name: row["digits"] for name, row in symbols.items()} == {"GBPJPY": 3, "GOLD": 2}
        assert symbols["GBPJPY"]["margin_currency"] == "GBP"
        assert len(reader.manager.table("users")) == 5 * 1120
        assert reader.manager.table("trades") == reader.manager.table("margins") == b""


def test_a_spread_wider_than_the_record_holds_leaves_bid_and_ask_as_they_are(tmp_path: Path) -> None:
    rows = ("1,BTCUSDT,61234.12000000,61260.25000000", "2,BTCUSDT,61234.12,61212.5", "3,BTCUSDT,61234.12,61234.13")
    with running(ticks=(write_ticks(tmp_path / "a.csv", *rows),), speed=math.inf) as simulator:
        reader = Reader(simulator)
        reader.read_until(simulator.finished.is_set)
        quotes = [(quote["bid"], quote["ask"], quote["spread"]) for quote in reader.decoded_quotes()]
    assert quotes == [
        (61234.12, 61260.25, WIDEST_SPREAD), (61234.12, 61212.5, -WIDEST_SPREAD), (61234.12, 61234.13, 1_000_000)
    ]  # fmt: skip


PRICES = st.sampled_from(
    ["0", "-1", "0.00000001", "1.5", "-0.00000001", "999999999999", "-999999999999", "1234567.12345678"]
)
ROWS = st.tuples(
    st.sampled_from([0, 1, 1_700_000_000_000, LAST_TIME_MS]),
    st.sampled_from(["EURUSD", "USDJPY", "EURJPY", "SEKNOK", "AUDCAD", "XAUUSD", "DE40", "BTCUSDT", "!"]),
    PRICES, PRICES,
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(ROWS, min_size=1, max_size=30), seed=st.integers(0, 9), hours=st.sampled_from([-14, 0, 14]))
def test_no_row_that_is_read_ends_the_simulator(
    tmp_path: Path, rows: list[tuple[int, str, str, str]], seed: int, hours: int
) -> None:
    usable = [row for row in rows if not are_odd(float(row[2]), float(row[3]))]
    assume(usable)
    path = write_ticks(tmp_path / "a.csv", *(",".join(map(str, row)) for row in rows))
    simulator = Simulator(SimulatorOptions(ticks=(path,), seed=seed, speed=math.inf, server_utc_offset_s=hours * 3600))
    quotes: list[bytes] = []
    while not simulator.feed.exhausted:
        simulator.feed.awaited = b""
        simulator.feed.advance(0.0, math.inf, quotes.append)
        simulator._do(SimulatedFault("burst", amount=6))  # noqa: SLF001
        for make in simulator.broker.tables.values():
            make()
    assert len(quotes) == len(usable)


def test_nothing_moves_before_the_first_session(tmp_path: Path) -> None:
    path = write_ticks(tmp_path / "a.csv", *(f"{n},EURUSD,1.1,1.2" for n in range(100)))
    with running(ticks=(path,), speed=math.inf) as simulator:
        simulator.inject("skip")
        wait_for(lambda: simulator.faults_done)
        assert simulator.ticks_sent == simulator.ticks_unseen == 0
        reader = Reader(simulator)
        reader.read_until(simulator.finished.is_set)
        assert reader.quote_count() == 100


@pytest.mark.parametrize("fault", ["drop", "mute"])
def test_no_tick_is_lost_between_two_sessions(tmp_path: Path, fault: str) -> None:
    path = write_ticks(tmp_path / "a.csv", *(f"{n},EURUSD,1.{n:05},2.0" for n in range(20_000)))
    with running(ticks=(path,), speed=math.inf, quote_buffer=1024, faults=(parse_fault(f"{fault}@7"),)) as simulator:
        first = Reader(simulator)
        first.read_until(lambda: simulator.faults_done == 1)
        first.read()
        assert not simulator.finished.is_set()
        first.manager.close()
        second = Reader(simulator)
        second.read_until(simulator.finished.is_set)
        bids = [quote["bid"] for quote in (*first.decoded_quotes(), *second.decoded_quotes())]
        assert bids == [float(f"1.{n:05}") for n in range(20_000)]


def test_the_feed_waits_until_a_late_symbol_is_selected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ticks, "SCAN_ROWS", 2)
    rows = [f"{n},EURUSD,1.1,1.2" for n in range(10)] + [f"{n},GOLD,1900.1,1900.2" for n in range(10, 600)]
    with running(ticks=(write_ticks(tmp_path / "a.csv", *rows),), speed=math.inf) as simulator:
        reader = Reader(simulator)

        def select_new() -> bool:
            if PumpCode.UPDATE_SYMBOLS in reader.codes():
                reader.manager.select_symbol(b"GOLD")
            return simulator.finished.is_set()

        reader.read_until(select_new)
        assert simulator.ticks_sent == 600
        assert simulator.quote_queue.unread == 0
        assert reader.quote_count() == 600


def test_a_late_symbol_that_nobody_selects_delays_nothing_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ticks, "SCAN_ROWS", 2)
    rows = ("0,EURUSD,1.1,1.2", "1,EURUSD,1.1,1.2", "2,GOLD,1900.1,1900.2", "3,EURUSD,1.1,1.2")
    with running(ticks=(write_ticks(tmp_path / "a.csv", *rows),), speed=math.inf) as simulator:
        reader = Reader(simulator, select=False)
        reader.manager.select_symbol(b"EURUSD")
        reader.read_until(simulator.finished.is_set)
        assert reader.quote_count() == 3
        assert simulator.quote_queue.unread == 1


def test_bad_lines_are_counted_and_the_rest_arrives(tmp_path: Path) -> None:
    path = write_ticks(tmp_path / "a.csv", "1,EURUSD,1.1,1.2", "oops", "2,EURUSD,1.3,1.4")
    with running(ticks=(path,), speed=math.inf) as simulator:
        reader = Reader(simulator)
        reader.read_until(simulator.finished.is_set)
        assert [quote["bid"] for quote in reader.decoded_quotes()] == [1.1, 1.3]
        assert simulator.counters()["bad_lines"] == 1


def test_a_finished_replay_goes_on_pinging(tmp_path: Path) -> None:
    path = write_ticks(tmp_path / "a.csv", "1,EURUSD,1.1,1.2")
    with running(ticks=(path,), speed=math.inf, ping_interval_s=0.02) as simulator:
        reader = Reader(simulator)
        reader.read_until(simulator.finished.is_set)
        reader.read_until(lambda: reader.codes().count(PumpCode.PING) >= 3)
        assert reader.manager.is_connected()


def test_a_burst_works_in_a_replay_too(tmp_path: Path) -> None:
    path = write_ticks(tmp_path / "a.csv", "1,EURUSD,1.1,1.2", "2,GOLD,1900.1,1900.2")
    with running(ticks=(path,), speed=math.inf) as simulator:
        reader = Reader(simulator)
        reader.read_until(simulator.finished.is_set)
        simulator.inject("burst", 10)
        reader.read_until(lambda: len(reader.trades()) == 20)


def test_a_missing_file_is_refused_before_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"missing\.csv cannot be read"):
        Simulator(SimulatorOptions(ticks=(tmp_path / "missing.csv",)))
