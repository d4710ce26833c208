"""Cohorts: who reads a topic as clients come and go."""

from __future__ import annotations

from collections.abc import Callable

from mt4pump_consumers.gateway.cohorts import CohortBook, Reading
from mt4pump_consumers.gateway.payload import Payload

READING = Reading(frozenset({"EURUSD", "E*"}), frozenset({"trade.1", "trade.*"}), ("*",), 0, 0.0)
OTHER = READING._replace(bits=15)


class Member:
    """Stands in for a client that takes all at once."""

    way: Callable[[bytes], object] | None = None

    def write(self, data: bytes, payloads: list[Payload]) -> None:
        """Take it."""


def book() -> CohortBook:
    return CohortBook(lambda _cohort: None)


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
