"""Rests: when they come, and that a stop is noticed there."""

from __future__ import annotations

import pytest

from mt4pump.query.pace import Pace, Stopped


class Clock:
    """A clock that only sleeping and `pass_s` move."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.slept_s: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds


def test_it_rests_after_its_stretch_of_work_and_not_before() -> None:
    clock = Clock()
    pace = Pace(3, 1, now_s=lambda: clock.now_s, sleep=clock.sleep)
    for clock.now_s in (1.0, 2.0, 3.0):
        pace.tick()
    pace.tick()
    assert clock.slept_s == [1]
    clock.now_s = 6.9
    pace.tick()
    assert clock.slept_s == [1]
    clock.now_s = 7.0
    pace.tick()
    assert clock.slept_s == [1, 1]
    assert pace.spent_s() == 8


def test_a_request_starts_with_a_fresh_clock() -> None:
    clock = Clock()
    pace = Pace(3, 1, now_s=lambda: clock.now_s, sleep=clock.sleep)
    clock.now_s = 5.0
    pace.begin()
    pace.tick()
    assert (clock.slept_s, pace.spent_s()) == ([], 0)


def test_a_stop_ends_the_work() -> None:
    with pytest.raises(Stopped):
        Pace(0, 0, lambda: True).tick()


def test_it_makes_way_for_a_live_stream_that_moves_and_not_for_one_that_stands_still() -> None:
    clock = Clock()
    events = [1, 1, 2, 2]
    pace = Pace(1, 0.5, live=lambda: events.pop(0), now_s=lambda: clock.now_s, sleep=clock.sleep)
    for clock.now_s in (1.0, 2.5, 4.0, 6.0):
        pace.tick()
    assert len(clock.slept_s) == 2
