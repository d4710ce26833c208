"""Topics become subjects that NATS takes, and come back as they were."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mt4pump_consumers.nats_bridge.message import stream_subjects, subject_of, topic_of
from nats.aio.client import _validate_subject

CASES = [
    ("quote.EURUSD", "quote.EURUSD"),
    ("quote.EURUSD.m", "quote.EURUSD.m"),
    ("quote.EURUSD.", "quote.EURUSD%2E"),
    ("quote..EURUSD", "quote.%2EEURUSD"),
    ("quote.A..B", "quote.A%2E.B"),
    ("quote.", "quote.%"),
    ("quote.%", "quote.%25"),
    ("quote.%2E", "quote.%252E"),
    ("group.real USD*>", "group.real%20USD%2A%3E"),
    ("plugin.a\r\nb\t\0", "plugin.a%0D%0Ab%09%00"),
    ("quote.ЗОЛОТО", "quote.ЗОЛОТО"),
    ("trade.1001", "trade.1001"),
    ("heartbeat", "heartbeat"),
]


@pytest.mark.parametrize(("topic", "subject"), CASES)
def test_a_subject_equals_its_topic_but_for_what_it_cannot_hold(topic: str, subject: str) -> None:
    assert subject_of(topic) == subject
    assert topic_of(subject) == topic


@given(st.sampled_from(["quote", "group", "news"]), st.text(max_size=12), st.sampled_from(["", "broker1", "a.b"]))
def test_every_key_makes_a_valid_subject_and_comes_back(kind: str, key: str, prefix: str) -> None:
    topic = f"{kind}.{key}"
    subject = subject_of(topic, prefix)
    _validate_subject(subject, strict=True)
    assert subject.startswith(f"{prefix}.{kind}." if prefix else f"{kind}.")
    assert topic_of(subject, prefix) == topic


@given(st.text(alphabet=".% *>A2E", max_size=6), st.text(alphabet=".% *>A2E", max_size=6))
def test_two_topics_never_share_a_subject(one: str, other: str) -> None:
    assert (subject_of(f"quote.{one}") == subject_of(f"quote.{other}")) == (one == other)


def test_a_stream_listens_to_what_is_stored_and_not_to_pings() -> None:
    assert stream_subjects(["trade", "session"]) == ["session.start", "session.stop", "trade.>"]
    assert stream_subjects(["trade"], "broker1") == ["broker1.trade.>"]
