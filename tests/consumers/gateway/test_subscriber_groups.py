"""Groups of subscribers: who reads a topic as clients come and go.

Private access: the indexes of topics and patterns, because that they are freed and asked once changes no result, only
memory and time.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import cast
from weakref import WeakSet

import pytest
from mt4pump_consumers.gateway import subscriber_groups as module
from mt4pump_consumers.gateway.client_writer import ClientWriter, Payload
from mt4pump_consumers.gateway.subscriber_groups import GroupKey, SubscriberGroup, SubscriberGroups

READING = GroupKey(frozenset({"EURUSD", "E*"}), frozenset({"trade.1", "trade.*"}), ("*",), 0, 0.0)
OTHER = READING._replace(bits=15)


class TakesAll:
    """Stands in for a client that takes all at once."""

    write_now: Callable[[bytes], object] | None = None

    def write(self, data: bytes, payloads: list[Payload]) -> None:
        """Take it."""


def member_made() -> ClientWriter:
    return cast(ClientWriter, TakesAll())


def book() -> SubscriberGroups:
    return SubscriberGroups(lambda _group: None)


def test_after_the_last_one_left_nobody_reads_and_nothing_is_kept() -> None:
    groups, member = book(), member_made()
    group = groups.join(member, READING)
    assert groups.readers_of("quote.EURUSD").narrow == groups.readers_of("trade.1").full == (group,)
    groups.leave(member, group)
    assert groups.readers_of("quote.EURUSD").narrow == groups.readers_of("trade.1").full == ()
    assert not len(groups)
    assert not any(each._exact or each._wild or each._matchers for each in (groups._narrow, groups._full))  # noqa: SLF001


def test_names_that_one_group_gave_up_still_belong_to_the_other() -> None:
    groups, leaver = book(), member_made()
    left, stays = groups.join(leaver, READING), groups.join(member_made(), OTHER)
    groups.leave(leaver, left)
    assert groups.readers_of("quote.EURUSD").narrow == groups.readers_of("trade.1").full == (stays,)
    assert groups.readers_of("quote.EURJPY").narrow == groups.readers_of("trade.2").full == (stays,)


def test_a_group_goes_on_when_one_of_its_members_leaves() -> None:
    groups, leaver, stays = book(), member_made(), member_made()
    group = groups.join(leaver, READING)
    assert groups.join(stays, READING) is group
    groups.leave(leaver, group)
    assert list(groups) == [group]
    assert list(group.members) == [stays]
    assert groups.readers_of("quote.EURUSD").narrow == groups.readers_of("trade.1").full == (group,)


def test_who_joins_later_reads_topics_whose_readers_were_looked_up_before() -> None:
    groups = book()
    first = groups.join(member_made(), READING)
    assert groups.readers_of("quote.EURUSD").narrow == groups.readers_of("trade.1").full == (first,)
    second = groups.join(member_made(), OTHER)
    assert groups.readers_of("quote.EURUSD").narrow == groups.readers_of("trade.1").full == (first, second)


def test_readers_of_a_topic_are_right_after_any_number_of_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FRESH_LIMIT", 8)
    groups, inside, random = book(), list[tuple[ClientWriter, SubscriberGroup]](), Random(7)  # noqa: S311
    names = ["EURUSD", "E*", "*USD", "?URUSD", "GBPUSD", "*", "[EG]*"]
    for step in range(2_000):
        if inside and random.random() < 0.5:
            groups.leave(*inside.pop(random.randrange(len(inside))))
        else:
            symbols, topics = (frozenset(random.sample(names, random.randint(0, 3))) for _ in range(2))
            wishes = frozenset(f"quote.{name}" for name in topics)
            group_key = GroupKey(symbols, wishes, random.choice([("*",), ("quote.EUR*",)]), 0, 0.0, replayed_to=step)
            member = member_made()
            inside.append((member, groups.join(member, group_key)))
        topic = random.choice(["quote.EURUSD", "quote.GBPUSD", "quote.EURJPY", "trade.1"])
        readers_of = groups.readers_of(topic)
        wanted = {group for _, group in inside}
        assert set(readers_of.narrow) == {group for group in wanted if group.reads(topic)[0]}
        assert set(readers_of.full) == {group for group in wanted if group.reads(topic)[1]}
        assert len(readers_of.full) == len(set(readers_of.full))
        assert len(groups._fresh) <= 8  # noqa: SLF001


class Name(str):
    """A name that a weak reference can be made to."""

    __slots__ = ("__weakref__",)


def test_who_left_costs_nothing_however_many_topics_had_their_last_event_before() -> None:
    groups, names, member = book(), WeakSet[Name](), member_made()
    topics, changes = 300, 5_000
    for number in range(changes):
        name = Name(f"trade.{number:0100}*")
        names.add(name)
        group = groups.join(member, READING._replace(topics=frozenset({name, "*"})))
        assert groups.readers_of(f"news.{number % topics}").full == (group,)
        groups.leave(member, group)
        del name
    assert not names
    held = {id(group) for readers_of in groups._topics.values() for group in (*readers_of.narrow, *readers_of.full)}  # noqa: SLF001
    assert len(groups._topics) == topics  # noqa: SLF001
    assert len(held) <= 2 * topics * 2 // module.SWEEP + 1


def test_a_new_pattern_is_compared_with_a_topic_once_and_old_ones_not_again() -> None:
    groups = book()
    for number in range(100):
        groups.join(member_made(), READING._replace(symbols=frozenset({f"E?{number}*"})))
    groups.readers_of("quote.EURUSD")
    tried: list[str] = []
    for pattern in list(groups._narrow._matchers):  # noqa: SLF001
        groups._narrow._matchers[pattern] = tried.append  # noqa: SLF001
    groups.join(member_made(), OTHER)
    assert groups.readers_of("quote.EURUSD").narrow
    assert not tried
