"""Moments as people write them."""

from __future__ import annotations

from argparse import ArgumentTypeError
from datetime import UTC, datetime, timedelta, timezone

import pytest

from mt4pump.cli.arguments import TIME_EXAMPLE, time_ns

NOW = datetime(2026, 11, 23, 11, 9, 38, 123456, tzinfo=UTC)


def ns(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("90s", timedelta(seconds=90)),
        ("10m", timedelta(minutes=10)),
        (" 1.5 h ", timedelta(minutes=90)),
        ("3d", timedelta(days=3)),
        ("2w", timedelta(days=14)),
        ("1d12h", timedelta(hours=36)),
        ("1h 30m 10s", timedelta(hours=1, minutes=30, seconds=10)),
        ("0s", timedelta()),
    ],
)
def test_so_long_ago(text: str, ago: timedelta) -> None:
    assert time_ns(text, NOW) == ns(NOW - ago)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-23T11:00Z", datetime(2026, 11, 23, 11, tzinfo=UTC)),
        ("2026-11-23 11:00:05.25+02:00", datetime(2026, 11, 23, 9, 0, 5, 250_000, tzinfo=UTC)),
        ("2026-11-23T11:00", datetime(2026, 11, 23, 11).astimezone()),
        ("2026-11-23", datetime(2026, 11, 23).astimezone()),
        ("1970-01-01T00:00Z", datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_written_time_is_local_unless_it_names_a_zone(text: str, moment: datetime) -> None:
    assert time_ns(text, NOW) == ns(moment)


def test_a_time_of_day_is_todays_where_the_reader_is() -> None:
    local = NOW.astimezone()
    assert time_ns("9:05", local) == ns(local.replace(hour=9, minute=5, second=0, microsecond=0))
    assert time_ns("23:59:59", local) == ns(local.replace(hour=23, minute=59, second=59, microsecond=0))


def test_days_by_name_begin_at_midnight_where_the_reader_is() -> None:
    local = NOW.astimezone()
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    assert time_ns("today", local) == ns(midnight.astimezone())
    assert time_ns("yesterday", local) == ns((midnight - timedelta(days=1)).astimezone())
    assert time_ns("yesterday 9:05", local) == ns((midnight - timedelta(hours=14, minutes=55)).astimezone())


def test_nothing_is_lost_to_rounding() -> None:
    assert time_ns("2026-11-23T11:09:38.123457Z", NOW) == 1_795_432_178_123_457_000


@pytest.mark.parametrize(
    "text",
    ["", "soon", "10", "10x", "1d12", "yesterday noon", "tomorrow", "-5m", "25:00", "11:61", "2026-13-01", "9" * 30],
)
def test_what_is_no_time_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="; write 10m, 2h or 1d12h") as caught:
        time_ns(text, NOW)
    assert str(caught.value).endswith(TIME_EXAMPLE)


def test_before_1970_is_refused() -> None:
    for text in ("1969-12-31T23:59Z", "3000w", "999999999w"):
        with pytest.raises(ArgumentTypeError, match="is before 1970"):
            time_ns(text, NOW.astimezone(timezone(timedelta(hours=1))))
