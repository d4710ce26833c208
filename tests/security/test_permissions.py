"""Entries to prefixes, and the intersection of asked and allowed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mt4pump.errors import SettingsError
from mt4pump.security.permissions import (
    ENTRIES_LIMIT,
    EVERYTHING,
    NOTHING,
    Permissions,
    PermissionsError,
    declared,
    wire_prefix,
)


@pytest.mark.parametrize(
    ("entry", "suffix", "prefix"),
    [
        ("*", "", b""),
        ("quote.*", "", b"quote."),
        ("quote.", "", b"quote."),
        ("quote.", "|", b"quote."),
        ("quote.*", "|", b"quote."),
        ("trade*", "", b"trade"),
        ("trade.100*", "|", b"trade.100"),
        ("trade.100", "|", b"trade.100|"),
        ("quote.EURUSD", "\x1f", b"quote.EURUSD\x1f"),
        ("session.*", "", b"session."),
        ("heartbeat", "", b"heartbeat"),
        ("heartbeat", "|", b"heartbeat|"),
    ],
)
def test_an_entry_stands_for_a_prefix_on_the_wire(entry: str, suffix: str, prefix: bytes) -> None:
    assert wire_prefix(entry, suffix, "a.toml") == prefix


@pytest.mark.parametrize(
    ("entry", "suffix", "reason"),
    [
        ("trade.100", "", "set topic_suffix = '|' for the daemon, or write trade.100*"),
        ("session.start", "", "topic_suffix"),
        ("qoute.*", "", "did you mean quote.*?"),
        ("zzz.*", "", "topics begin with quote, trade"),
        ("tarde.7", "|", "did you mean trade.7?"),
        ("trade", "|", "did you mean trade.*?"),
        ("heartbeats", "|", "did you mean heartbeat?"),
        ("hearbeat", "|", "did you mean heartbeat?"),
        ("heartbeat.*", "", "did you mean heartbeat?"),
        ("heartbeat.", "", "did you mean heartbeat?"),
        ("EURUSD", "|", "did you mean quote.EURUSD?"),
        ("qoute.EURUSD", "|", "did you mean quote.EURUSD?"),
        ("qoute*", "", "did you mean quote.*?"),
        ("US*", "", "did you mean quote.US*?"),
        ("zzz*", "", "did you mean quote.zzz*?"),
        ("quote.*USD", "", "only one * at the end"),
        ("quote.**", "", "only one * at the end"),
        ("quote.EUR???", "|", "only one * at the end"),
        ("trade.1|", "|", "leave it out"),
        ("", "|", "write 1 to 200 bytes"),
        ("quote." + "x" * 200, "|", "write 1 to 200 bytes"),
    ],
)
def test_an_entry_that_cannot_be_kept_is_refused_with_file_entry_and_cure(entry: str, suffix: str, reason: str) -> None:
    with pytest.raises(PermissionsError) as caught:
        wire_prefix(entry, suffix, "clients/a.toml")
    assert "clients/a.toml" in str(caught.value)
    assert repr(entry) in str(caught.value)
    assert reason in str(caught.value)
    assert isinstance(caught.value, SettingsError)


def test_too_many_entries_are_refused() -> None:
    with pytest.raises(PermissionsError, match="at most 1000"):
        declared(["quote.*"] * (ENTRIES_LIMIT + 1), "", "a.toml")


@pytest.mark.parametrize(
    ("entries", "suffix", "asked", "given_"),
    [
        (["quote.*"], "", b"", {b"quote.", b"heartbeat"}),
        (["quote.*"], "", b"quote.EURUSD", {b"quote.EURUSD"}),
        (["quote.*"], "", b"quote", {b"quote."}),
        (["quote.*"], "", b"trade.", set()),
        (["quote.*"], "", b"heart", {b"heartbeat"}),
        (["quote.*"], "", b"heartbeat", {b"heartbeat"}),
        (["trade.100"], "|", b"trade.100", {b"trade.100|"}),
        (["trade.100"], "|", b"trade.100|", {b"trade.100|"}),
        (["trade.100"], "|", b"trade.1001", set()),
        (["trade.100"], "|", b"trade.1001|", set()),
        (["trade.100*"], "|", b"trade.1001|", {b"trade.1001|"}),
        (["trade.100", "trade.1001"], "|", b"trade.10", {b"trade.100|", b"trade.1001|"}),
        (["*"], "", b"anything", {b"anything"}),
        (["*"], "|", b"", {b""}),
        ([], "", b"", {b"heartbeat"}),
    ],
)
def test_what_is_asked_is_narrowed_to_what_is_allowed(
    entries: list[str], suffix: str, asked: bytes, given_: set[bytes]
) -> None:
    assert set(declared(entries, suffix, "a").narrow([asked])) == given_


def test_several_prefixes_are_narrowed_together_and_returned_once() -> None:
    assert declared(["quote.*"], "", "a").narrow([b"quote.A", b"trade.", b"q", b"quote."]) == (b"quote.A", b"quote.")


def test_everything_and_nothing() -> None:
    assert EVERYTHING.narrow([b"", b"x"]) == (b"", b"x")
    assert EVERYTHING.covers(b"anything")
    assert NOTHING.narrow([b"", b"heartbeat"]) == ()
    assert not NOTHING.covers(b"heartbeat")
    assert not NOTHING.query


def test_entries_that_another_one_covers_are_dropped() -> None:
    made = declared(["quote.EURUSD*", "quote.*", "quote.A*", "trade.1*"], "", "a")
    assert made.allowed == (b"heartbeat", b"quote.", b"trade.1")


@pytest.mark.parametrize(
    ("more", "less", "included"),
    [
        (["quote.*"], ["quote.EUR*"], True),
        (["quote.EUR*"], ["quote.*"], False),
        (["*"], ["quote.*", "trade.*"], True),
        (["quote.*"], ["quote.*", "trade.*"], False),
        (["quote.*"], [], True),
    ],
)
def test_it_is_known_whether_permissions_shrank(more: list[str], less: list[str], *, included: bool) -> None:
    assert declared(more, "", "a").includes(declared(less, "", "a")) is included


def test_losing_the_query_endpoint_is_shrinking() -> None:
    with_it, without = declared(["*"], "", "a"), declared(["*"], "", "a", query=False)
    assert with_it.includes(without)
    assert not without.includes(with_it)


def test_who_never_might_query_loses_nothing_when_it_stays_so() -> None:
    before, after = (declared(["*"], "", "a", query=False) for _ in range(2))
    assert after.includes(before)


words = st.lists(st.sampled_from([b"", b"a", b"ab", b"abc", b"b", b"ba", b"bb"]), max_size=4)


@given(words, words)
def test_narrowing_is_exactly_the_intersection(allowed: list[bytes], asked: list[bytes]) -> None:
    made = Permissions(allowed)
    narrowed = tuple(made.narrow(asked))
    for topic in (b"a", b"ab", b"abc", b"abcd", b"b", b"ba", b"bb", b"bbb", b"c"):
        wanted = topic.startswith(tuple(asked)) and topic.startswith(tuple(allowed))
        assert topic.startswith(narrowed) == wanted
        assert made.covers(topic) == topic.startswith(tuple(allowed))
