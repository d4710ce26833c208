"""Who wants what, counted by connection."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mt4pump.publisher.subscriptions import FEW, SubscriptionTable

SUB, UNSUB = b"\x01", b"\x00"


def subscriptions(*messages: bytes) -> SubscriptionTable:
    made = SubscriptionTable()
    for message in messages:
        made.take(message)
    return made


def test_nobody_wants_anything_at_first() -> None:
    assert not SubscriptionTable().has_subscriber(b"quote.EURUSD")
    assert len(SubscriptionTable()) == 0


@pytest.mark.parametrize("others", [0, 2 * FEW], ids=["few", "many"])
@pytest.mark.parametrize(
    ("prefix", "topic", "wanted"),
    [
        (b"", b"quote.EURUSD", True),
        (b"quote.", b"quote.EURUSD", True),
        (b"quote.EURUSD", b"quote.EURUSD", True),
        (b"trade.100", b"trade.1001", True),
        (b"quote.EURUSD.m", b"quote.EURUSD", False),
        (b"trade.", b"quote.EURUSD", False),
        (b"\xff\x00", b"\xff\x00x", True),
    ],
)
def test_a_topic_is_wanted_by_its_prefix(prefix: bytes, topic: bytes, others: int, *, wanted: bool) -> None:
    made = subscriptions(SUB + prefix, *(SUB + b"other.%d" % number for number in range(others)))
    assert made.has_subscriber(topic) is wanted


def test_interest_ends_with_the_unsubscription() -> None:
    made = subscriptions(SUB + b"a", SUB + b"b", UNSUB + b"a")
    assert (made.has_subscriber(b"a1"), made.has_subscriber(b"b1"), len(made)) == (False, True, 1)


def test_a_prefix_is_wanted_until_the_last_connection_left() -> None:
    made = SubscriptionTable()
    assert [made.take(SUB + b"a", 7), made.take(SUB + b"a", 8), made.take(SUB + b"a", 8)] == [True, True, False]
    assert made.remove(8)
    assert made.has_subscriber(b"a")
    assert not made.remove(8)
    assert made.take(UNSUB + b"a", 7)
    assert not made.take(UNSUB + b"a", 7)
    assert (made.has_subscriber(b"a"), len(made)) == (False, 0)


def test_a_connection_cannot_withdraw_what_another_one_holds() -> None:
    made = SubscriptionTable()
    made.take(SUB + b"a", 7)
    assert not made.take(UNSUB + b"a", 8)
    assert not made.take(UNSUB + b"a")
    assert made.has_subscriber(b"a")


@pytest.mark.parametrize("message", [b"", b"\x02a", b"hello", b"\xff"])
def test_a_message_that_is_no_subscription_is_ignored(message: bytes) -> None:
    made = SubscriptionTable()
    assert made.take(message) is False
    assert len(made) == 0


words = st.sampled_from([b"", b"a", b"b", b"ab", b"ba"])


@given(st.lists(st.tuples(st.sampled_from([SUB, UNSUB, b"leave"]), words, st.integers(0, 2))), st.booleans())
def test_random_subscriptions_leave_what_is_left(messages: list[tuple[bytes, bytes, int]], many: bool) -> None:  # noqa: FBT001
    made, expected = SubscriptionTable(), list[tuple[int, bytes]]()
    if many:
        for number in range(FEW + 1):
            made.take(SUB + b"zz%d" % number, 99)
    for word, prefix, connection in messages:
        pair = (connection, prefix)
        if word == b"leave":
            made.remove(connection + 10)
            expected = [each for each in expected if each[0] != connection + 10]
        elif word == SUB:
            made.take(word + prefix, connection)
            if connection == 0 or pair not in expected:
                expected.append(pair)
        else:
            assert made.take(word + prefix, connection) == (pair in expected)
            if pair in expected:
                expected.remove(pair)
        for topic in (b"", b"a", b"ab", b"b", b"ba", b"bb"):
            assert made.has_subscriber(topic) == any(topic.startswith(wanted) for _, wanted in expected)
    assert len(made) == len({prefix for _, prefix in expected}) + many * (FEW + 1)
