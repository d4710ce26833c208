"""The server's distance from UTC, inferred from quotes alone."""

from __future__ import annotations

import pytest

from mt4pump.pump.heartbeat import AGREEMENTS, LARGEST_OFFSET_S, ServerClock

UTC_S = 1_700_000_123
HOUR_S = 3600


def feed(
    clock: ServerClock, offset_s: int, *, start_s: int = UTC_S, quotes: int = AGREEMENTS + 1, age_s: float = 0.4
) -> int:
    """Show ``quotes`` fresh quotes of a server ``offset_s`` beside UTC, a second apart; return the UTC after them."""
    for second in range(start_s, start_s + quotes):
        clock.observe(second + offset_s, int((second + age_s) * 1e9))
    return start_s + quotes


@pytest.mark.parametrize(
    "offset_s",
    [0, 2 * HOUR_S, 3 * HOUR_S, -5 * HOUR_S, 20_700, 19_800, -12_600, 45_900, LARGEST_OFFSET_S, -LARGEST_OFFSET_S],
)
def test_every_quarter_of_an_hour_is_found(offset_s: int) -> None:
    clock = ServerClock()
    feed(clock, offset_s)
    assert clock.offset_s == offset_s


@pytest.mark.parametrize("error_s", [-100, -3, 4, 100])
def test_a_server_clock_that_is_a_little_wrong_still_publishes_the_quarter(error_s: int) -> None:
    clock = ServerClock()
    feed(clock, 3 * HOUR_S + error_s)
    assert clock.offset_s == 3 * HOUR_S


@pytest.mark.parametrize("error_s", [-400, -200, 200, 400])
def test_a_distance_between_two_quarters_is_not_believed(error_s: int) -> None:
    clock = ServerClock()
    feed(clock, 3 * HOUR_S + error_s, quotes=100)
    assert clock.offset_s is None


@pytest.mark.parametrize("offset_s", [15 * HOUR_S, -15 * HOUR_S, -UTC_S, 2**31 - 1 - UTC_S])
def test_an_absurd_distance_is_not_believed(offset_s: int) -> None:
    clock = ServerClock()
    feed(clock, offset_s, quotes=50)
    assert clock.offset_s is None


def test_it_is_unknown_until_enough_quotes_agree() -> None:
    clock = ServerClock()
    feed(clock, 7200, quotes=AGREEMENTS)  # the first one publishes nothing: it may be old
    assert clock.offset_s is None
    feed(clock, 7200, start_s=UTC_S + AGREEMENTS, quotes=1)
    assert clock.offset_s == 7200


def test_many_quotes_within_one_second_are_one_witness() -> None:
    clock = ServerClock()
    for _ in range(100):
        clock.observe(UTC_S + 7200, UTC_S * 10**9)
    assert clock.offset_s is None


def test_the_first_quote_may_be_days_old() -> None:
    clock = ServerClock()
    clock.observe(UTC_S + 7200 - 3 * 86_400, UTC_S * 10**9)
    feed(clock, 7200, start_s=UTC_S + 1)
    assert clock.offset_s == 7200


def test_a_market_that_is_still_changes_nothing() -> None:
    clock = ServerClock()
    end_s = feed(clock, 7200)
    for later_s in range(0, 100_000, 450):
        clock.observe(end_s - 1 + 7200, (end_s + later_s) * 10**9)
    assert clock.offset_s == 7200


def test_stale_quotes_are_outvoted() -> None:
    clock = ServerClock()
    end_s = feed(clock, 7200)
    clock.observe(end_s + 7200 - 1800, end_s * 10**9)
    clock.observe(end_s + 7200 - 1799, end_s * 10**9)
    feed(clock, 7200, start_s=end_s + 1)
    assert clock.offset_s == 7200


@pytest.mark.parametrize("change_s", [HOUR_S, -HOUR_S])
def test_daylight_saving_is_followed(change_s: int) -> None:
    clock = ServerClock()
    end_s = feed(clock, 2 * HOUR_S)
    assert clock.offset_s == 2 * HOUR_S
    feed(clock, 2 * HOUR_S + change_s, start_s=end_s, quotes=AGREEMENTS + 2)
    assert clock.offset_s == 2 * HOUR_S + change_s


def test_one_odd_quote_in_between_starts_the_count_again() -> None:
    clock = ServerClock()
    end_s = feed(clock, 7200, quotes=AGREEMENTS)
    clock.observe(end_s + 7200 + 300, end_s * 10**9)
    feed(clock, 7200, start_s=end_s + 400, quotes=AGREEMENTS - 1)
    assert clock.offset_s is None
    feed(clock, 7200, start_s=end_s + 400 + AGREEMENTS, quotes=2)
    assert clock.offset_s == 7200


@pytest.mark.parametrize("fixed_s", [0, 10_800])
def test_a_distance_that_is_set_is_not_inferred(fixed_s: int) -> None:
    clock = ServerClock(fixed_s)
    assert clock.offset_s == fixed_s
    feed(clock, 7200, quotes=50)
    assert clock.offset_s == fixed_s
