"""What is due when: the schedule and both feeds against a clock of our own."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from mt4pump.mt4.codes import PumpCode, Transaction
from mt4pump.mt4.layout import CON_SYMBOL
from mt4pump.mt4.record import Decoder
from mt4pump.simulator import tick_files as ticks
from mt4pump.simulator.broker import CHUNK, QuoteSchedule, ReplayFeed, SimulatedBroker, WalkFeed
from mt4pump.simulator.market import specification_of
from mt4pump.simulator.options import SimulatorOptions
from mt4pump.simulator.tick_files import TickFiles

from .reader import START_S, collected, decode_quote, write_ticks

FOREVER = math.inf


def walk(rate: float, start_s: float | None = START_S) -> tuple[WalkFeed, SimulatedBroker]:
    options = SimulatorOptions(rate=rate, start_s=start_s, accounts=5)
    broker = SimulatedBroker(options)
    feed = WalkFeed(broker, options)
    assert feed.elapsed_s(100.0) == 0
    return feed, broker


def replay(path: Path, speed: float = 1.0) -> tuple[ReplayFeed, SimulatedBroker]:
    options = SimulatorOptions(ticks=(path,), speed=speed)
    files = TickFiles(options.ticks)
    specs = tuple(specification_of(symbol, digits) for symbol, digits in files.digits.items())
    broker = SimulatedBroker(options, specs)
    return ReplayFeed(broker, files, options), broker


def test_a_walk_makes_the_quotes_that_are_due_and_no_more() -> None:
    feed, broker = walk(10)
    assert feed.advance(100.0, FOREVER, None) == 1
    assert feed.advance(100.0, FOREVER, None) == 0
    assert feed.wait_s(100.0) == pytest.approx(0.1)
    assert feed.advance(100.55, FOREVER, None) == 5
    assert broker.quotes == 6


def test_a_walk_that_is_far_behind_slips_and_does_not_catch_up() -> None:
    feed, _ = walk(1000)
    feed.advance(100.0, FOREVER, None)
    assert feed.advance(200.0, FOREVER, None) == 1
    assert feed.schedule.slips == 1


def test_an_idle_walk_makes_nothing_and_its_time_still_passes() -> None:
    feed, broker = walk(0)
    assert feed.advance(105.0, FOREVER, None) == 0
    assert feed.wait_s(105.0) == FOREVER
    assert feed.elapsed_s(105.0) == 5.0
    assert broker.context.now_s == START_S + 5.0


@pytest.mark.parametrize("rate", [100, math.inf])
def test_a_walk_stops_before_the_next_fault(rate: float) -> None:
    feed, broker = walk(rate)
    quotes = 0
    while feed.elapsed_s(100.0 + quotes) < 0.05:
        quotes += feed.advance(100.0 + quotes, 0.05, None)
    assert broker.quotes == (5 if rate == 100 else 50)


def test_a_walk_without_a_rate_is_divided_into_chunks() -> None:
    feed, broker = walk(math.inf)
    assert feed.advance(100.0, FOREVER, None) == CHUNK
    assert feed.wait_s(100.0) == 0
    assert feed.elapsed_s(0) == CHUNK * 0.001
    assert broker.quotes == CHUNK


def test_without_a_start_time_the_walk_follows_the_wall_clock() -> None:
    feed, broker = walk(math.inf, start_s=None)
    quotes: list[bytes] = []
    feed.advance(100.0, FOREVER, quotes.append)
    assert feed.elapsed_s(103.0) == 3.0
    assert len({decode_quote(quote)["lasttime"] for quote in quotes}) == 1
    assert decode_quote(quotes[0])["lasttime"] == int(broker.context.now_s) + 10800


@pytest.mark.parametrize("speed", [1, 10])
def test_a_replay_keeps_the_original_intervals_over_its_speed(tmp_path: Path, speed: float) -> None:
    rows = ("1000,EURUSD,1.1,1.2", "3000,EURUSD,1.2,1.3", "3500,EURUSD,1.3,1.4")
    feed, _ = replay(write_ticks(tmp_path / "a.csv", *rows), speed)
    quotes: list[bytes] = []
    assert feed.advance(50.0, FOREVER, quotes.append) == 1
    assert feed.wait_s(50.0) == pytest.approx(2 / speed)
    assert feed.advance(50.0 + 1.9 / speed, FOREVER, quotes.append) == 0
    assert feed.advance(50.0 + 2.6 / speed, FOREVER, quotes.append) == 2
    assert feed.exhausted
    assert feed.wait_s(60) == FOREVER
    assert [decode_quote(quote)["lasttime"] for quote in quotes] == [10801, 10803, 10803]


def test_a_paused_replay_goes_on_with_the_next_tick(tmp_path: Path) -> None:
    feed, _ = replay(write_ticks(tmp_path / "a.csv", "0,EURUSD,1.1,1.2", "9000,EURUSD,1.2,1.3", "9500,EURUSD,1.2,1.3"))
    assert feed.advance(0, FOREVER, None) == 1
    feed.schedule.pause()
    assert feed.advance(500, FOREVER, None) == 1
    assert feed.wait_s(500) == 0.5


def test_a_flat_out_replay_stops_before_a_fault(tmp_path: Path) -> None:
    rows = [f"{1000 * second},EURUSD,1.1,1.2" for second in range(10)]
    feed, _ = replay(write_ticks(tmp_path / "a.csv", *rows), math.inf)
    assert feed.advance(0, 3.0, None) == 3
    assert feed.elapsed_s(0) == 3.0
    assert feed.advance(0, FOREVER, None) == 7


def test_time_that_runs_backwards_in_a_file_loses_no_tick(tmp_path: Path) -> None:
    rows = ("5000,EURUSD,1.1,1.2", "1000,EURUSD,1.2,1.3", "6000,EURUSD,1.3,1.4")
    feed, _ = replay(write_ticks(tmp_path / "a.csv", *rows))
    quotes: list[bytes] = []
    feed.advance(0, FOREVER, quotes.append)
    assert len(quotes) == 2
    assert feed.wait_s(0) == 1.0
    feed.advance(1.0, FOREVER, quotes.append)
    assert [decode_quote(quote)["bid"] for quote in quotes] == [1.1, 1.2, 1.3]


def test_digits_grow_when_later_rows_have_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ticks, "SCAN_ROWS", 1)
    feed, broker = replay(write_ticks(tmp_path / "a.csv", "0,EURUSD,1.1,1.2", "1,EURUSD,1.12345,1.2"), math.inf)
    events = collected(broker)
    quotes: list[bytes] = []
    feed.advance(0, FOREVER, quotes.append)
    first, second = (decode_quote(quote) for quote in quotes)
    assert (first["digits"], second["digits"]) == (1, 5)
    assert (second["bid"], second["ask"], second["low"], second["spread"]) == (1.12345, 1.2, 1.1, 7655)
    ((code, action, data),) = events
    assert (code, action, Decoder(CON_SYMBOL)(data)["digits"]) == (PumpCode.UPDATE_SYMBOLS, Transaction.UPDATE, 5)


def test_a_symbol_that_first_appears_later_is_sent_before_its_first_tick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ticks, "SCAN_ROWS", 1)
    rows = ("0,EURUSD,1.1,1.2", "1,GOLD,1900.1,1900.2", "2,GOLD,1900.2,1900.3")
    feed, broker = replay(write_ticks(tmp_path / "a.csv", *rows), math.inf)
    events = collected(broker)
    assert feed.advance(0, FOREVER, None) == 1
    assert feed.awaited == b"GOLD".ljust(12, b"\0")
    assert [(code, action) for code, action, _ in events] == [(PumpCode.UPDATE_SYMBOLS, Transaction.ADD)]
    assert events[0][2] in broker.tables["symbols"]()
    feed.awaited = b""  # the server does so once it is selected, or not in time
    assert feed.advance(0, FOREVER, None) == 2
    assert len(events) == 1


def test_high_and_low_are_reset_with_the_servers_day(tmp_path: Path) -> None:
    rows = (
        "75500000,EURUSD,1.1,1.2",
        "75599999,EURUSD,1.3,1.4",
        "75600000,EURUSD,1.2,1.3",
    )
    feed, _ = replay(write_ticks(tmp_path / "a.csv", *rows), math.inf)
    quotes: list[bytes] = []
    feed.advance(0, FOREVER, quotes.append)
    assert [(q["high"], q["low"]) for q in map(decode_quote, quotes)] == [(1.1, 1.1), (1.3, 1.1), (1.2, 1.2)]


def test_the_first_position_is_due_at_once_and_the_next_ones_are_counted_from_it() -> None:
    schedule = QuoteSchedule()
    assert schedule.wait_s(3.0, 100.0) == 0
    assert schedule.wait_s(3.5, 100.0) == 0.5
    assert schedule.wait_s(3.5, 100.25) == 0.25
    assert schedule.position_s(100.25) == 3.25


def test_a_small_delay_is_caught_up() -> None:
    schedule = QuoteSchedule()
    schedule.wait_s(0, 0)
    assert schedule.wait_s(1.0, 1.5) == 0
    assert schedule.wait_s(2.0, 1.5) == 0.5
    assert schedule.slips == 0


def test_a_long_delay_is_given_up_and_counted() -> None:
    schedule = QuoteSchedule()
    schedule.wait_s(0, 0)
    assert schedule.wait_s(1.0, 11.0) == 0
    assert schedule.wait_s(2.0, 11.0) == 1.0
    assert schedule.slips == 1


def test_after_a_pause_the_next_position_is_due_whenever_it_comes() -> None:
    schedule = QuoteSchedule()
    schedule.wait_s(0, 0)
    schedule.pause()
    assert schedule.position_s(5) == 0
    assert schedule.wait_s(7.0, 1000.0) == 0
    assert schedule.wait_s(7.5, 1000.0) == 0.5
    assert schedule.slips == 0
