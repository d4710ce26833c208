"""How much each connection, client and all together may be subscribed to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mt4pump.publisher.quotas import Excess, Quotas, SubscriptionLimits

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


def quotas(*clients: str) -> Quotas:
    """Return quotas with connections 1, 2, … of these clients."""
    made = Quotas(SMALL)
    for number, client in enumerate(clients, 1):
        made.receive(number, client)
    return made


def added(made: Quotas, number: int, count: int, size: int = 1) -> Excess:
    found = Excess.NONE
    for _ in range(count):
        found = made.add(number, size)
    return found


def test_each_bound_in_number_is_named_when_it_is_passed() -> None:
    made = quotas("a", "a", "b", "c")
    assert added(made, 1, 3) is Excess.NONE
    assert added(made, 2, 2) is Excess.NONE
    assert added(made, 2, 1) is Excess.CLIENT
    assert added(made, 3, 2) is Excess.NONE
    assert added(made, 4, 1) is Excess.TOTAL
    assert added(quotas("a"), 1, 4) is Excess.CONNECTION


def test_each_bound_in_bytes_is_named_when_it_is_passed() -> None:
    made = quotas("a", "a", "b", "c")
    assert (added(made, 1, 1, 30), added(made, 2, 1, 20)) == (Excess.NONE, Excess.NONE)
    assert (added(made, 3, 1, 30), added(made, 4, 1, 1)) == (Excess.NONE, Excess.TOTAL)
    assert added(made, 2, 1, 1) is Excess.CLIENT
    assert added(made, 1, 1, 1) is Excess.CONNECTION


def test_what_gives_nothing_counts_for_its_client_and_for_nobody_else() -> None:
    made = quotas("idle", "idle", "b")
    assert [made.add_idle(1, 15) for _ in range(3)] == [Excess.NONE, Excess.NONE, Excess.CONNECTION]
    assert made.add_idle(2, 6) is Excess.CLIENT
    assert (made.count, made.size) == (0, 0)
    assert added(made, 3, 3) is Excess.NONE


def test_all_is_given_back_when_a_connection_ends() -> None:
    made = quotas("a", "b")
    added(made, 1, 3, 10)
    made.add_idle(1, 5)
    added(made, 2, 1)
    made.remove(1)
    made.remove(1)
    assert (made.count, made.size) == (1, 1)
    made.receive(1, "a")
    assert added(made, 1, 3, 10) is Excess.NONE


def test_what_was_withdrawn_is_given_back() -> None:
    made = quotas("a")
    for _ in range(100):
        assert made.add(1, 30) is Excess.NONE
        made.drop(1, 30)


def test_the_largest_connection_of_the_largest_client_is_known() -> None:
    made = quotas("a", "b", "b")
    assert made.largest() == 1
    added(made, 1, 1, 20)
    added(made, 2, 1, 10)
    added(made, 3, 1, 15)
    assert made.largest() == 3
    assert Quotas().largest() is None


def test_messages_come_at_once_up_to_a_burst_and_then_at_their_pace() -> None:
    now = [100.0]
    made = Quotas(SMALL, now_s=lambda: now[0])
    assert all(made.receive(1, "a") for _ in range(10))
    assert not made.receive(1, "a")
    now[0] += 2
    assert [made.receive(1, "a") for _ in range(4)] == [True, True, True, False]
    assert made.receive(2, "a")


sizes = st.integers(0, 20)


@given(st.lists(st.tuples(st.integers(1, 4), sizes, st.booleans())))
def test_the_sum_over_all_is_right_whatever_comes_and_goes(steps: list[tuple[int, int, bool]]) -> None:
    made, held = quotas("a", "b", "b", "c"), dict[int, list[int]]()
    for number, size, is_leaving in steps:
        if is_leaving:
            made.remove(number)
            held.pop(number, None)
            made.receive(number, "abbc"[number - 1])
        elif size in held.get(number, []):
            made.drop(number, size)
            held[number].remove(size)
        else:
            made.add(number, size)
            held.setdefault(number, []).append(size)
    every = [size for each in held.values() for size in each]
    assert (made.count, made.size) == (len(every), sum(every))
