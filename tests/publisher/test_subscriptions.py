"""Who subscribed to what, and how much each connection, client and all together may subscribe to.

Private access: the building of the index, because that it is not built again shows only in time.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mt4pump.publisher.subscriptions import (
    CHANGES_KEPT,
    FEW,
    NO_CONNECTION,
    Excess,
    SubscriptionLimits,
    SubscriptionTable,
    is_subscription,
)

SUB, UNSUB = b"\x01", b"\x00"


def apply(made: SubscriptionTable, message: bytes, connection: int = NO_CONNECTION) -> bool:
    return (made.add if message[:1] == SUB else made.drop)(message[1:], connection)


def subscriptions(*messages: bytes) -> SubscriptionTable:
    made = SubscriptionTable()
    for message in messages:
        apply(made, message)
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
    assert [apply(made, SUB + b"a", 7), apply(made, SUB + b"a", 8), apply(made, SUB + b"a", 8)] == [True, True, False]
    assert made.remove(8)
    assert made.has_subscriber(b"a")
    assert not made.remove(8)
    assert apply(made, UNSUB + b"a", 7)
    assert not apply(made, UNSUB + b"a", 7)
    assert (made.has_subscriber(b"a"), len(made)) == (False, 0)


def test_a_connection_cannot_withdraw_what_another_one_holds() -> None:
    made = SubscriptionTable()
    apply(made, SUB + b"a", 7)
    assert not apply(made, UNSUB + b"a", 8)
    assert not apply(made, UNSUB + b"a")
    assert made.has_subscriber(b"a")


@pytest.mark.parametrize("message", [b"", b"\x02a", b"hello", b"\xff"])
def test_anything_else_is_no_subscription(message: bytes) -> None:
    assert not is_subscription(message)


words = st.sampled_from([b"", b"a", b"b", b"ab", b"ba"])


@given(st.lists(st.tuples(st.sampled_from([SUB, UNSUB, b"leave"]), words, st.integers(0, 2))), st.booleans())
def test_random_subscriptions_leave_what_is_left(messages: list[tuple[bytes, bytes, int]], many: bool) -> None:  # noqa: FBT001
    made, expected = SubscriptionTable(), list[tuple[int, bytes]]()
    if many:
        for number in range(FEW + 1):
            apply(made, SUB + b"zz%d" % number, 99)
    for word, prefix, connection in messages:
        pair = (connection, prefix)
        if word == b"leave":
            made.remove(connection + 10)
            expected = [each for each in expected if each[0] != connection + 10]
        elif word == SUB:
            apply(made, word + prefix, connection)
            if connection == 0 or pair not in expected:
                expected.append(pair)
        else:
            assert apply(made, word + prefix, connection) == (pair in expected)
            if pair in expected:
                expected.remove(pair)
        for topic in (b"", b"a", b"ab", b"b", b"ba", b"bb"):
            assert made.has_subscriber(topic) == any(topic.startswith(wanted) for _, wanted in expected)
    assert len(made) == len({prefix for _, prefix in expected}) + many * (FEW + 1)


@given(st.lists(st.tuples(st.sampled_from([SUB, UNSUB, b"leave"]), words, st.integers(1, 2))), st.integers(0, 2 * FEW))
def test_every_topic_whose_subscribers_changed_begins_with_a_changed_prefix(
    messages: list[tuple[bytes, bytes, int]], others: int
) -> None:
    made, topics = SubscriptionTable(), (b"", b"a", b"ab", b"b", b"ba", b"bb", b"zz1")
    for number in range(others):
        apply(made, SUB + b"zz%d" % number, 99)
    changed = made.take_changed()
    assert (len(changed) == others) if others <= CHANGES_KEPT else changed == (b"",)
    before = {topic: made.has_subscriber(topic) for topic in topics}
    for at, (word, prefix, connection) in enumerate(messages):
        if word == b"leave":
            made.remove(connection)
        else:
            apply(made, word + prefix, connection)
        if at % 3:  # several changes between two readings
            continue
        changed = made.take_changed()
        for topic in topics:
            now = made.has_subscriber(topic)
            assert now == before[topic] or topic.startswith(changed)
            before[topic] = now


def test_a_flip_among_many_prefixes_costs_neither_a_new_index_nor_an_update_of_all_topics(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = subscriptions(*(SUB + b"quote.S%03d" % number for number in range(2 * FEW)), SUB + b"quote.S999")
    assert made.has_subscriber(b"quote.S000")
    made.take_changed()
    monkeypatch.setattr(made, "_build_index", lambda: pytest.fail("the index was built again"))
    for message in (UNSUB, SUB, UNSUB):
        apply(made, message + b"quote.S999")
        assert made.has_subscriber(b"quote.S999") is (message == SUB)
        assert made.take_changed() == (b"quote.S999",)


SMALL = SubscriptionLimits(
    per_connection=3,
    per_client=5,
    total=8,
    bytes_per_connection=30,
    bytes_per_client=50,
    bytes_total=80,
    messages_burst=10,
    messages_per_s=2,
)


def limited(*clients: str) -> SubscriptionTable:
    """Return a table with small limits and connections 1, 2, … of these clients."""
    made = SubscriptionTable(SMALL)
    for number, client in enumerate(clients, 1):
        made.receive(number, client)
    return made


def added(made: SubscriptionTable, number: int, count: int, size: int = 1) -> Excess:
    """Add prefixes of ``size`` bytes that ``number`` does not have; return the limit that is exceeded."""
    for _ in range(count):
        assert made.add(made.total.count.to_bytes(size, "little"), number)
    return made.excess(number)


def test_each_limit_of_the_number_is_named_when_it_is_exceeded() -> None:
    made = limited("a", "a", "b", "c")
    assert added(made, 1, 3) is Excess.NONE
    assert added(made, 2, 2) is Excess.NONE
    assert added(made, 2, 1) is Excess.CLIENT
    assert added(made, 3, 2) is Excess.NONE
    assert added(made, 4, 1) is Excess.TOTAL
    assert added(limited("a"), 1, 4) is Excess.CONNECTION


def test_each_limit_of_the_bytes_is_named_when_it_is_exceeded() -> None:
    made = limited("a", "a", "b", "c")
    assert (added(made, 1, 1, 30), added(made, 2, 1, 20)) == (Excess.NONE, Excess.NONE)
    assert (added(made, 3, 1, 30), added(made, 4, 1, 1)) == (Excess.NONE, Excess.TOTAL)
    assert added(made, 2, 1, 1) is Excess.CLIENT
    assert added(made, 1, 1, 1) is Excess.CONNECTION


def test_a_text_that_gives_nothing_counts_for_its_client_alone() -> None:
    made = limited("idle", "idle", "b")
    found = []
    for _ in range(3):
        made.add_idle(15, 1)
        found.append(made.excess(1))
    assert found == [Excess.NONE, Excess.NONE, Excess.CONNECTION]
    made.add_idle(6, 2)
    assert made.excess(2) is Excess.CLIENT
    assert (made.total.count, made.total.size) == (0, 0)
    assert added(made, 3, 3) is Excess.NONE


def test_all_is_freed_when_a_connection_ends() -> None:
    made = limited("a", "b")
    added(made, 1, 3, 10)
    made.add_idle(5, 1)
    added(made, 2, 1)
    made.remove(1)
    made.remove(1)
    assert (made.total.count, made.total.size) == (1, 1)
    made.receive(1, "a")
    assert added(made, 1, 3, 10) is Excess.NONE


def test_an_unsubscription_frees_what_it_used() -> None:
    made = limited("a")
    for _ in range(100):
        assert added(made, 1, 1, 30) is Excess.NONE
        assert made.drop(bytes(30), 1)


def test_the_largest_connection_of_the_largest_client_is_known() -> None:
    made = limited("a", "b", "b")
    assert made.largest() == 1
    added(made, 1, 1, 20)
    added(made, 2, 1, 10)
    added(made, 3, 1, 15)
    assert made.largest() == 3
    assert SubscriptionTable().largest() is None


def test_messages_come_at_once_up_to_a_burst_and_then_at_their_rate() -> None:
    now = [100.0]
    made = SubscriptionTable(SMALL, now_s=lambda: now[0])
    assert all(made.receive(1, "a") for _ in range(10))
    assert not made.receive(1, "a")
    now[0] += 2
    assert [made.receive(1, "a") for _ in range(5)] == [True, True, True, True, False]
    assert made.receive(2, "a")


def test_all_connections_of_a_client_share_a_burst_and_a_rate() -> None:
    now = [100.0]
    limits = SubscriptionLimits(messages_burst_per_client=10, messages_per_s_per_client=2)
    made = SubscriptionTable(limits, now_s=lambda: now[0])
    assert all(made.receive(number, "a") for number in range(1, 11))
    assert not any(made.receive(number, "a") for number in range(11, 1_000))
    assert made.receive(1_000, "b")
    now[0] += 2
    assert [made.receive(number, "a") for number in range(1, 6)] == [True, True, True, True, False]


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 20), st.booleans())))
def test_the_sum_over_all_is_right_whatever_comes_and_goes(steps: list[tuple[int, int, bool]]) -> None:
    made, held = limited("a", "b", "b", "c"), dict[int, list[int]]()
    for number, size, is_leaving in steps:
        if is_leaving:
            made.remove(number)
            held.pop(number, None)
            made.receive(number, "abbc"[number - 1])
        elif size in held.get(number, []):
            made.drop(bytes(size), number)
            held[number].remove(size)
        else:
            made.add(bytes(size), number)
            held.setdefault(number, []).append(size)
    every = [size for each in held.values() for size in each]
    assert (made.total.count, made.total.size) == (len(every), sum(every))
