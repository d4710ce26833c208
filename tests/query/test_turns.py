"""Who is next: nobody gets more by asking more or waits behind another one's pile, and what waits is bounded."""

from __future__ import annotations

from mt4pump.query.limits import QueryOptions
from mt4pump.query.replies import OutgoingReply
from mt4pump.query.requests import EVERY_TOPIC, DescribeRequest, ReplayRequest, Request, SnapshotQuery
from mt4pump.query.turns import FairQueue, WaitingRequest, WaitingRequests

HEAVY = ReplayRequest(EVERY_TOPIC, 0, None, None, None, 1_000)
CHEAP = DescribeRequest()


def connection(name: str, client: str = "") -> WaitingRequests:
    return WaitingRequests(name.encode(), 1, "", client or name)


def ask(request: Request | OutgoingReply = HEAVY, size: int = 50, since_s: float = 0.0) -> WaitingRequest:
    return WaitingRequest((), {}, request, size, since_s)


def served(turns: FairQueue, count: int, work_s: float = 1.0) -> list[str]:
    """Return the names of the connections whose turn it is, ``count`` times, each request ``work_s`` of work."""
    names = []
    for _ in range(count):
        first = turns.first(lambda _connection, _ask: True)
        assert first is not None
        turns.take(first)
        turns.spend(first, work_s)
        names.append(first.name.decode())
    return names


def test_one_client_of_many_connections_gets_no_more_than_one_of_one() -> None:
    turns = FairQueue(QueryOptions())
    for number in range(50):
        greedy = connection(f"greedy{number}", "greedy")
        for _ in range(10):
            turns.add(greedy, ask())
    honest = connection("honest")
    for _ in range(5):
        turns.add(honest, ask())
    assert served(turns, 10).count("honest") == 5


def test_connections_of_one_client_are_served_in_turn_by_the_time_they_used() -> None:
    turns = FairQueue(QueryOptions())
    many, few = connection("many", "same"), connection("few", "same")
    for _ in range(100):
        turns.add(many, ask())
    served(turns, 20)
    for _ in range(10):
        turns.add(few, ask())
    assert served(turns, 20).count("few") == 10


def test_who_was_idle_has_no_right_to_more_later() -> None:
    turns = FairQueue(QueryOptions())
    busy, late = connection("busy"), connection("late")
    for _ in range(100):
        turns.add(busy, ask())
    served(turns, 50)
    for _ in range(100):
        turns.add(late, ask())
    assert served(turns, 20).count("busy") in {9, 10, 11}


def test_cheap_requests_come_before_all_others() -> None:
    turns = FairQueue(QueryOptions())
    for number in range(200):
        turns.add(connection(f"heavy{number}"), ask())
    turns.add(connection("cheap"), ask(CHEAP))
    assert served(turns, 1) == ["cheap"]


def test_a_connection_is_answered_in_the_order_of_its_requests() -> None:
    turns, only = FairQueue(QueryOptions()), connection("only")
    for request in (HEAVY, CHEAP, HEAVY):
        turns.add(only, ask(request))
    assert [turns.take(only).request for _ in range(3)] == [HEAVY, CHEAP, HEAVY]
    assert turns.first(lambda _connection, _ask: True) is None


def test_who_cannot_take_a_reply_or_is_not_ready_is_passed_over() -> None:
    turns = FairQueue(QueryOptions())
    blocked, cutting, third = connection("blocked"), connection("cutting"), connection("third")
    blocked.blocked = (), b"", OutgoingReply({}, [])
    turns.add(blocked, ask())
    turns.add(cutting, ask(SnapshotQuery(EVERY_TOPIC, None, 10, values=True)))
    turns.add(third, ask())
    assert turns.first(lambda _connection, ask: not ask.wants_cut) is third


def test_what_waits_is_bounded_by_number_and_bytes_per_connection_and_in_all() -> None:
    turns = FairQueue(QueryOptions(waiting_limit=3, waiting_bytes=100, waiting_bytes_total=250))
    first, second, third = connection("first"), connection("second"), connection("third")
    assert [turns.add(first, ask(size=10)) for _ in range(4)] == [True, True, True, False]
    assert [turns.add(second, ask(size=60)) for _ in range(2)] == [True, False]
    assert turns.add(third, ask(size=150))  # one alone may be larger
    assert not turns.add(connection("fourth"), ask(size=11))
    assert (turns.waiting, turns.waiting_bytes) == (5, 240)
    assert turns.remove(first) == 3
    assert (turns.waiting, turns.waiting_bytes) == (2, 210)


def test_what_waited_for_too_long_waits_no_longer() -> None:
    turns, slow = FairQueue(QueryOptions()), connection("slow")
    slow.blocked = (), b"", OutgoingReply({}, [])
    for since_s in (1.0, 2.0, 9.0):
        turns.add(slow, ask(since_s=since_s))
    assert [late.since_s for _, late in turns.late(5.0)] == [1.0, 2.0]
    assert turns.waiting == 1


def test_clients_that_came_once_are_forgotten() -> None:
    turns = FairQueue(QueryOptions(connections_limit=10))
    for number in range(1_000):
        turns.add(connection(f"{number}"), ask())
        served(turns, 1)
    assert len(turns._clients) <= 11
