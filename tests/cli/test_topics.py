"""Which topics a word of the command line asks for, and what is subscribed for it."""

from __future__ import annotations

import pytest

from mt4pump.cli.arguments import TopicFilter, connectable, is_heartbeat, requested_topics
from mt4pump.errors import SettingsError


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
