"""Moments as people write them, the topics that a word asks for, and the addresses to connect to."""

from __future__ import annotations

from argparse import ArgumentTypeError
from datetime import UTC, datetime, timedelta, timezone

import pytest

from mt4pump.cli.arguments import TIME_EXAMPLE, TopicFilter, connectable, is_heartbeat, requested_topics, time_ns
from mt4pump.errors import SettingsError

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


@pytest.mark.parametrize(
    ("word", "subscription", "wanted", "unwanted"),
    [
        ("trade.100", b"trade.100", ["trade.100"], ["trade.1001", "trade.10", "xtrade.100"]),
        ("quote.EURUSD", b"quote.EURUSD", ["quote.EURUSD"], ["quote.EURUSD.x", "quote.EURUSDm"]),
        ("quote.", b"quote.", ["quote.EURUSD", "quote."], ["quotes", "trade.1"]),
        ("quote", b"quote.", ["quote.EURUSD"], ["quote", "quotex"]),
        ("heartbeat", b"heartbeat", ["heartbeat"], ["heartbeats"]),
        ("trade.*", b"trade.", ["trade.1", "trade.1001"], ["trade", "user.1"]),
        ("quote.EUR*", b"quote.EUR", ["quote.EURUSD", "quote.EUR"], ["quote.USDEUR", "quote.eurusd"]),
        ("quote.???JPY", b"quote.", ["quote.USDJPY"], ["quote.USDJPYm", "quote.JPY"]),
        ("quote.[EG]*", b"quote.", ["quote.EURUSD", "quote.GBPUSD"], ["quote.USDJPY"]),
        ("*", b"", ["anything", "quote.EURUSD"], []),
        ("", b"", ["anything"], []),
        ("wörd.ü", "wörd.ü".encode(), ["wörd.ü"], ["word.u"]),
    ],
)
def test_one_word(word: str, subscription: bytes, wanted: list[str], unwanted: list[str]) -> None:
    topics = TopicFilter([word])
    assert topics.subscriptions == (subscription,)
    assert [topic for topic in [*wanted, *unwanted] if topics.wants(topic)] == wanted


def test_a_word_that_is_no_text_is_a_wrong_setting() -> None:
    with pytest.raises(SettingsError, match=r"topic 'quote\.\\udcff' is neither a name as quote.EURUSD nor a pattern"):
        TopicFilter(["trade.1", "quote.\udcff"])


def test_no_word_is_everything() -> None:
    topics = TopicFilter()
    assert topics.subscriptions == (b"",)
    assert topics.wants("anything")


def test_words_add_up() -> None:
    topics = TopicFilter(["trade.5", "quote.E*", "news"])
    assert topics.subscriptions == (b"news.", b"quote.E", b"trade.5")
    assert all(topics.wants(topic) for topic in ("trade.5", "quote.EURUSD", "news.7"))
    assert not topics.wants("trade.55")


@pytest.mark.parametrize(
    ("bound", "connected"),
    [
        ("tcp://*:5556", "tcp://127.0.0.1:5556"),
        ("tcp://0.0.0.0:5556", "tcp://127.0.0.1:5556"),
        ("tcp://[::]:5556", "tcp://[::1]:5556"),
        ("tcp://10.0.0.1:5556", "tcp://10.0.0.1:5556"),
        ("ipc:///tmp/x", "ipc:///tmp/x"),
    ],
)
def test_an_address_to_bind_becomes_one_to_connect_to(bound: str, connected: str) -> None:
    assert connectable(bound) == connected


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("quote", "quote.*"),
        ("quote.", "quote.*"),
        ("", "*"),
        ("quote.EURUSD", "quote.EURUSD"),
        ("trade.10*", "trade.10*"),
        ("heartbeat", "heartbeat"),
    ],
)
def test_the_client_gets_names_and_patterns(word: str, name: str) -> None:
    assert TopicFilter([word]).names == (name,)
    assert TopicFilter().names == ("*",)


@pytest.mark.parametrize("suffix", ["|", ",", "\x1f"])
def test_a_character_that_ends_all_topics_does_not_matter(suffix: str) -> None:
    exact, pattern = TopicFilter(["trade.100"]), TopicFilter(["quote.EUR???"])
    assert exact.wants(f"trade.100{suffix}")
    assert not exact.wants(f"trade.1001{suffix}")
    assert not exact.wants("trade.100x")
    assert pattern.wants(f"quote.EURUSD{suffix}")
    assert is_heartbeat("heartbeat")
    assert is_heartbeat(f"heartbeat{suffix}")
    assert not is_heartbeat("heartbeats")
    assert not is_heartbeat("")


def test_a_word_that_can_match_nothing_is_warned_about_and_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert requested_topics("tail", ["EURUSD", "quote"]).names == ("EURUSD", "quote.*")
    text = "topic 'EURUSD' can match nothing that a daemon publishes; did you mean 'quote.EURUSD'?"
    assert capsys.readouterr().err == f"mt4pump tail: {text}\n"
