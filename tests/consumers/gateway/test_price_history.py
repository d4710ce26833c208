"""The history of prices: bars of a minute, bounded, in the order of time."""

from __future__ import annotations

import math

from mt4pump_consumers.gateway.last_values import BARS, TICKS, PriceHistory

from mt4pump.client import Event
from tests.consumers.gateway.stream_made import event

MINUTE_NS = 60 * 10**9


def quote(bid: float, ts: int, symbol: str = "EURUSD") -> Event:
    return event(f"quote.{symbol}", ts, symbol=symbol, bid=bid, ask=bid + 0.5)  # its number is its time


def test_quotes_of_a_minute_are_one_bar() -> None:
    history = PriceHistory()
    for bid, ts in (
        (2.0, MINUTE_NS),
        (3.0, MINUTE_NS + 1_000_000),
        (1.0, 2 * MINUTE_NS - 1_000_000),
        (5.0, 2 * MINUTE_NS),
    ):
        history.keep(quote(bid, ts))
    assert history.of("EURUSD") == {
        "type": "history",
        "symbol": "EURUSD",
        "ticks": [[60.0, 2.0, 2.5], [60.001, 3.0, 3.5], [119.999, 1.0, 1.5], [120.0, 5.0, 5.5]],
        "bars": [[60.0, 2.0, 3.0, 1.0, 1.0], [120.0, 5.0, 5.0, 5.0, 5.0]],
    }


def test_the_oldest_ticks_and_bars_are_removed() -> None:
    history = PriceHistory()
    for number in range(1, 1_000):
        history.keep(quote(float(number), number * MINUTE_NS))
    found = history.of("EURUSD")
    assert [tick[1] for tick in found["ticks"]] == [float(number) for number in range(1_000 - TICKS, 1_000)]
    assert [bar[1] for bar in found["bars"]] == [float(number) for number in range(1_000 - BARS, 1_000)]


def test_a_quote_that_is_not_newer_or_no_number_changes_nothing() -> None:
    history = PriceHistory()
    first = 5 * MINUTE_NS
    for bid, ts in ((2.0, first), (9.0, first), (9.0, first - MINUTE_NS // 60), (math.nan, first + MINUTE_NS)):
        history.keep(quote(bid, ts))
    history.keep(event("quote.EURUSD", first + MINUTE_NS, symbol="EURUSD", bid=None, ask="1.1"))
    assert history.of("EURUSD")["bars"] == [[300.0, 2.0, 2.0, 2.0, 2.0]]


def test_after_a_clock_that_was_ahead_for_a_moment_the_history_goes_on() -> None:
    history = PriceHistory()
    for bid, ts in ((2.0, 5 * MINUTE_NS), (9.0, 900 * MINUTE_NS), (3.0, 6 * MINUTE_NS), (4.0, 7 * MINUTE_NS)):
        history.keep(quote(bid, ts))
    assert history.of("EURUSD")["bars"] == [[360.0, 3.0, 3.0, 3.0, 3.0], [420.0, 4.0, 4.0, 4.0, 4.0]]


def test_symbols_beyond_the_limit_are_counted_and_have_no_history() -> None:
    history = PriceHistory(symbols_limit=1)
    history.keep(quote(1.0, MINUTE_NS))
    history.keep(quote(1.0, MINUTE_NS, "USDJPY"))
    assert history.unkept == 1
    assert history.of("USDJPY") == {"type": "history", "symbol": "USDJPY", "ticks": [], "bars": []}
