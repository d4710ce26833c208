"""Cohorts: who reads a topic as clients come and go."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from mt4pump_consumers.gateway import subscriber_groups as module
from mt4pump_consumers.gateway.payload import Payload
from mt4pump_consumers.gateway.subscriber_groups import Reading, SubscriberGroup, SubscriberGroups

READING = Reading(frozenset({"EURUSD", "E*"}), frozenset({"trade.1", "trade.*"}), ("*",), 0, 0.0)
OTHER = READING._replace(bits=15)


class Member:
    """Stands in for a client that takes all at once."""

    way: Callable[[bytes], object] | None = None

    def write(self, data: bytes, payloads: list[Payload]) -> None:
        """Take it."""


def book() -> SubscriberGroups:
    return SubscriberGroups(lambda _cohort: None)


def test_after_the_last_one_left_nobody_reads_and_nothing_is_kept() -> None:
    cohorts, member = book(), Member()
    cohort = cohorts.join(member, READING)
    assert cohorts.channel("quote.EURUSD").narrow == cohorts.channel("trade.1").full == (cohort,)
    cohorts.leave(member, cohort)
    assert cohorts.channel("quote.EURUSD").narrow == cohorts.channel("trade.1").full == ()
    assert not len(cohorts)
    assert not any(each._exact or each._wild or each._matchers for each in (cohorts._narrow, cohorts._full))


def test_names_that_one_cohort_gave_up_still_belong_to_the_other() -> None:
    cohorts, leaver = book(), Member()
    left, stays = cohorts.join(leaver, READING), cohorts.join(Member(), OTHER)
    cohorts.leave(leaver, left)
    assert cohorts.channel("quote.EURUSD").narrow == cohorts.channel("trade.1").full == (stays,)
    assert cohorts.channel("quote.EURJPY").narrow == cohorts.channel("trade.2").full == (stays,)


def test_a_cohort_goes_on_when_one_of_its_members_leaves() -> None:
    cohorts, leaver, stays = book(), Member(), Member()
    cohort = cohorts.join(leaver, READING)
    assert cohorts.join(stays, READING) is cohort
    cohorts.leave(leaver, cohort)
    assert list(cohorts) == [cohort]
    assert list(cohort.members) == [stays]
    assert cohorts.channel("quote.EURUSD").narrow == cohorts.channel("trade.1").full == (cohort,)


def test_who_joins_later_reads_topics_whose_readers_were_looked_up_before() -> None:
    cohorts = book()
    first = cohorts.join(Member(), READING)
    assert cohorts.channel("quote.EURUSD").narrow == cohorts.channel("trade.1").full == (first,)
    second = cohorts.join(Member(), OTHER)
    assert cohorts.channel("quote.EURUSD").narrow == cohorts.channel("trade.1").full == (first, second)


def test_readers_of_a_topic_are_right_after_any_number_of_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FRESH_LIMIT", 8)
    cohorts, inside, random = book(), list[tuple[Member, SubscriberGroup]](), Random(7)  # noqa: S311
    names = ["EURUSD", "E*", "*USD", "?URUSD", "GBPUSD", "*", "[EG]*"]
    for step in range(2_000):
        if inside and random.random() < 0.5:
            cohorts.leave(*inside.pop(random.randrange(len(inside))))
        else:
            symbols, topics = (frozenset(random.sample(names, random.randint(0, 3))) for _ in range(2))
            wishes = frozenset(f"quote.{name}" for name in topics)
            reading = Reading(symbols, wishes, random.choice([("*",), ("quote.EUR*",)]), 0, 0.0, floor=step)
            member = Member()
            inside.append((member, cohorts.join(member, reading)))
        topic = random.choice(["quote.EURUSD", "quote.GBPUSD", "quote.EURJPY", "trade.1"])
        channel = cohorts.channel(topic)
        wanted = {cohort for _, cohort in inside}
        assert set(channel.narrow) == {cohort for cohort in wanted if cohort.reads(topic)[0]}
        assert set(channel.full) == {cohort for cohort in wanted if cohort.reads(topic)[1]}
        assert len(channel.full) == len(set(channel.full))
        assert len(cohorts._fresh) <= 8


def test_a_new_pattern_is_compared_with_a_topic_once_and_old_ones_not_again() -> None:
    cohorts = book()
    for number in range(100):
        cohorts.join(Member(), READING._replace(symbols=frozenset({f"E?{number}*"})))
    cohorts.channel("quote.EURUSD")
    tried: list[str] = []
    for pattern in list(cohorts._narrow._matchers):
        cohorts._narrow._matchers[pattern] = tried.append
    cohorts.join(Member(), OTHER)
    assert cohorts.channel("quote.EURUSD").narrow
    assert not tried
