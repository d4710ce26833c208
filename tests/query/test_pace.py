"""Rests: when they come, and that a stop is noticed there."""

from __future__ import annotations

import pytest

from mt4pump.query.limits import DUE_S, NAP_S, NAPS, Stopped, WorkBudget, YieldToPump


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
    pace = WorkBudget(3, 1, now_s=lambda: clock.now_s, sleep=clock.sleep)
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
    pace = WorkBudget(3, 1, now_s=lambda: clock.now_s, sleep=clock.sleep)
    clock.now_s = 5.0
    pace.begin()
    pace.tick()
    assert (clock.slept_s, pace.spent_s()) == ([], 0)


def test_a_stop_ends_the_work() -> None:
    with pytest.raises(Stopped):
        WorkBudget(0, 0, lambda: True).tick()


class Live:
    """A live stream that is busy as often as it is told."""

    def __init__(self, busy_looks: int = 0) -> None:
        self.busy_looks = busy_looks
        self.received = 0
        self.clock = Clock()
        self.way = YieldToPump(
            self._look,
            lambda: self.received,
            sleep=self.clock.sleep,
            now_s=lambda: self.clock.now_s,
        )

    def _look(self) -> bool:
        self.busy_looks -= 1
        return self.busy_looks >= 0


def test_way_is_made_until_the_live_stream_is_done() -> None:
    live = Live(2)
    live.way()
    assert live.clock.slept_s == [NAP_S] * 2
    live.way()
    assert len(live.clock.slept_s) == 2


def test_beside_a_live_stream_that_never_ends_a_stretch_of_work_comes_after_each_wait() -> None:
    live = Live(1000)
    live.clock.now_s = 1.0
    live.way()
    live.way()
    assert len(live.clock.slept_s) == NAPS
    live.clock.now_s += DUE_S
    live.way()
    assert len(live.clock.slept_s) == 2 * NAPS


def test_it_rests_beside_a_rapid_live_stream_and_not_beside_a_slow_one() -> None:
    live = Live()
    pace = WorkBudget(1, 0.5, way=live.way, now_s=lambda: live.clock.now_s, sleep=live.clock.sleep)
    for live.clock.now_s, live.received in ((10.0, 100), (12.0, 2_000), (14.0, 10_000)):
        pace.tick()
    assert live.clock.slept_s == [0.5]
