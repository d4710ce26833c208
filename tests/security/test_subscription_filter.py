"""Subscriptions of a connection, and the allowed ones that it was given.

Private access: what a connection asked for, because what is not remembered changes no result.
"""

from __future__ import annotations

from mt4pump.security.permissions import NOTHING, Permissions, SubscriptionFilter, split_user_id, user_id

QUOTES = Permissions([b"quote.", b"trade.1|"])


def quotes() -> Permissions:
    return QUOTES


def test_a_prefix_is_narrowed_and_withdrawn_in_the_same_way() -> None:
    made = SubscriptionFilter()
    assert made.ask(7, b"", quotes) == (b"quote.", b"trade.1|")
    assert made.withdraw(7, b"") == (b"quote.", b"trade.1|")
    assert made.withdraw(7, b"") == ()


def test_what_two_prefixes_narrow_to_is_withdrawn_with_the_last_of_them() -> None:
    made = SubscriptionFilter()
    for prefix in (b"", b"q", b"quote.", b"quote."):
        made.ask(7, prefix, quotes)
    assert made.withdraw(7, b"") == (b"trade.1|",)
    assert made.withdraw(7, b"q") == ()
    assert made.withdraw(7, b"quote.") == (b"quote.",)


def test_connections_do_not_mix() -> None:
    made = SubscriptionFilter()
    made.ask(7, b"q", quotes)
    made.ask(8, b"q", quotes)
    assert made.withdraw(7, b"q") == (b"quote.",)
    assert made.withdraw(8, b"q") == (b"quote.",)


def test_a_connection_keeps_the_permissions_it_came_with() -> None:
    made = SubscriptionFilter()
    made.ask(7, b"q", quotes)
    assert made.ask(7, b"", lambda: NOTHING) == (b"quote.", b"trade.1|")
    made.remove(7)
    assert made.ask(7, b"", lambda: NOTHING) == ()


def test_what_was_never_asked_cannot_be_withdrawn() -> None:
    made = SubscriptionFilter()
    assert made.withdraw(7, b"x") == ()
    made.ask(7, b"q", quotes)
    assert made.withdraw(7, b"x") == ()


def test_a_user_id_has_client_and_generation_and_without_a_generation_no_client() -> None:
    assert split_user_id(user_id("alice#5f", 17)) == ("alice#5f", 17)
    for text in ("", "alice#5f", "/5", "alice#5f/", "alice#5f/x", "alice#5f/-1"):
        assert split_user_id(text) == ("", 0)


def test_what_narrows_to_nothing_is_not_remembered() -> None:
    made = SubscriptionFilter()
    for number in range(100):
        assert made.ask(7, b"user.%d" % number, quotes) == ()
    assert not made._connections[7].asked  # noqa: SLF001
    assert made.withdraw(7, b"trade.1") == ()


def test_a_connection_that_was_given_more_than_is_allowed_now_is_known() -> None:
    made = SubscriptionFilter()
    made.ask(7, b"quote.a", quotes)
    assert not made.exceeding(7, quotes())
    assert made.exceeding(7, NOTHING)
    assert not made.exceeding(8, NOTHING)
    made.remove(7)
    assert not made.exceeding(7, NOTHING)


def test_what_was_withdrawn_can_be_asked_and_withdrawn_again() -> None:
    made = SubscriptionFilter()
    for _ in range(2):
        assert made.ask(7, b"q", quotes) == (b"quote.",)
        assert made.withdraw(7, b"q") == (b"quote.",)
