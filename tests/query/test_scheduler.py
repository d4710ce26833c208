"""Whose request is next: a client gains nothing by sending more, and what is queued is bounded.

Private access: the clients that are remembered, because that their number is bounded shows only in memory.
"""

from __future__ import annotations

from mt4pump.query.connections import PeerConnection, QueuedRequest, RequestScheduler
from mt4pump.query.limits import QueryOptions
from mt4pump.query.requests import ParsedRequest, RequestError

HEAVY = ParsedRequest("replay")
CHEAP = ParsedRequest("describe")


def connection(name: str, client: str = "") -> PeerConnection:
    return PeerConnection(name.encode(), 1, "", client or name)


def ask(request: ParsedRequest | RequestError = HEAVY, size: int = 50, since_s: float = 0.0) -> QueuedRequest:
    return QueuedRequest((), {}, request, size, since_s)


def served(scheduler: RequestScheduler, count: int, work_s: float = 1.0) -> list[str]:
    """Return the names of the connections that are next, ``count`` times, each request ``work_s`` of work."""
    names = []
    for _ in range(count):
        first = scheduler.first(lambda _connection, _ask: True)
        assert first is not None
        scheduler.take(first)
        scheduler.spend(first, work_s)
        names.append(first.name.decode())
    return names


def test_one_client_of_many_connections_gets_no_more_than_one_of_one() -> None:
    scheduler = RequestScheduler(QueryOptions())
    for number in range(50):
        greedy = connection(f"greedy{number}", "greedy")
        for _ in range(10):
            scheduler.add(greedy, ask())
    honest = connection("honest")
    for _ in range(5):
        scheduler.add(honest, ask())
    assert served(scheduler, 10).count("honest") == 5


def test_connections_of_one_client_are_served_by_the_time_they_used() -> None:
    scheduler = RequestScheduler(QueryOptions())
    many, few = connection("many", "same"), connection("few", "same")
    for _ in range(100):
        scheduler.add(many, ask())
    served(scheduler, 20)
    for _ in range(10):
        scheduler.add(few, ask())
    assert served(scheduler, 20).count("few") == 10


def test_who_was_idle_has_no_right_to_more_later() -> None:
    scheduler = RequestScheduler(QueryOptions())
    busy, late = connection("busy"), connection("late")
    for _ in range(100):
        scheduler.add(busy, ask())
    served(scheduler, 50)
    for _ in range(100):
        scheduler.add(late, ask())
    assert served(scheduler, 20).count("busy") in {9, 10, 11}


def test_cheap_requests_come_before_all_others() -> None:
    scheduler = RequestScheduler(QueryOptions())
    for number in range(200):
        scheduler.add(connection(f"heavy{number}"), ask())
    scheduler.add(connection("cheap"), ask(CHEAP))
    assert served(scheduler, 1) == ["cheap"]


def test_a_connection_is_answered_in_the_order_of_its_requests() -> None:
    scheduler, only = RequestScheduler(QueryOptions()), connection("only")
    for request in (HEAVY, CHEAP, HEAVY):
        scheduler.add(only, ask(request))
    assert [scheduler.take(only).request for _ in range(3)] == [HEAVY, CHEAP, HEAVY]
    assert scheduler.first(lambda _connection, _ask: True) is None


def test_who_cannot_take_a_reply_or_is_not_ready_is_passed_over() -> None:
    scheduler = RequestScheduler(QueryOptions())
    blocked, snapshot, third = connection("blocked"), connection("snapshot"), connection("third")
    blocked.blocked = (), []
    scheduler.add(blocked, ask())
    scheduler.add(snapshot, ask(ParsedRequest("snapshot")))
    scheduler.add(third, ask())
    assert scheduler.first(lambda _connection, ask: not ask.needs_snapshot) is third


def test_what_waits_is_bounded_by_number_and_bytes_per_connection_and_in_all() -> None:
    scheduler = RequestScheduler(QueryOptions(waiting_limit=3, waiting_bytes=100, waiting_bytes_total=250))
    first, second, third = connection("first"), connection("second"), connection("third")
    assert [scheduler.add(first, ask(size=10)) for _ in range(4)] == [True, True, True, False]
    assert [scheduler.add(second, ask(size=60)) for _ in range(2)] == [True, False]
    assert scheduler.add(third, ask(size=150))  # one alone may be larger
    assert not scheduler.add(connection("fourth"), ask(size=11))
    assert (scheduler.waiting, scheduler.waiting_bytes) == (5, 240)
    assert scheduler.remove(first) == 3
    assert (scheduler.waiting, scheduler.waiting_bytes) == (2, 210)


def test_what_waited_for_too_long_waits_no_longer() -> None:
    scheduler, slow = RequestScheduler(QueryOptions()), connection("slow")
    slow.blocked = (), []
    for since_s in (1.0, 2.0, 9.0):
        scheduler.add(slow, ask(since_s=since_s))
    assert [late.since_s for _, late in scheduler.late(5.0)] == [1.0, 2.0]
    assert scheduler.waiting == 1


def test_clients_that_came_once_are_forgotten() -> None:
    scheduler = RequestScheduler(QueryOptions(connections_limit=10))
    for number in range(1_000):
        scheduler.add(connection(f"{number}"), ask())
        served(scheduler, 1)
    assert len(scheduler._clients) <= 11  # noqa: SLF001
