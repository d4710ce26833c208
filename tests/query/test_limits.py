"""Long work in slices: when it rests, yields to the pump, and stops."""

from __future__ import annotations

from itertools import count

import pytest

from mt4pump.query.limits import DUE_S, NAP_S, NAPS, Stopped, WorkBudget, YieldToPump


class Clock:
    """A clock that only `sleep` and the test move."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.slept_s: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds


class FakePump:
    """A pump that is busy at the next ``busy_checks`` checks."""

    def __init__(self, busy_checks: int = 0) -> None:
        self.busy_checks = busy_checks
        self.received = 0
        self.clock = Clock()
        self.yield_to_pump = YieldToPump(
            self._is_busy,
            lambda: self.received,
            sleep=self.clock.sleep,
            now_s=lambda: self.clock.now_s,
        )

    def _is_busy(self) -> bool:
        self.busy_checks -= 1
        return self.busy_checks >= 0


def test_it_yields_until_the_pump_is_idle() -> None:
    pump = FakePump(2)
    pump.yield_to_pump()
    assert pump.clock.slept_s == [NAP_S] * 2
    pump.yield_to_pump()
    assert len(pump.clock.slept_s) == 2


def test_beside_a_pump_that_is_always_busy_some_work_is_done_after_each_wait() -> None:
    pump = FakePump(1000)
    pump.clock.now_s = 1.0
    pump.yield_to_pump()
    pump.yield_to_pump()
    assert len(pump.clock.slept_s) == NAPS
    pump.clock.now_s += DUE_S
    pump.yield_to_pump()
    assert len(pump.clock.slept_s) == 2 * NAPS


def test_it_rests_beside_a_rapid_stream_and_not_beside_a_slow_one() -> None:
    pump = FakePump()
    budget = WorkBudget(1, 0.5, pump.yield_to_pump, now_s=lambda: pump.clock.now_s, sleep=pump.clock.sleep)
    for pump.clock.now_s, pump.received in ((10.0, 100), (12.0, 2_000), (14.0, 10_000)):
        budget.tick()
    assert pump.clock.slept_s == [0.5]


def beside_a_rapid_stream(clock: Clock) -> WorkBudget:
    """Return a budget of 3 s of work and 1 s of rest."""
    rapid = YieldToPump(lambda: False, count(10_000, 10_000).__next__, now_s=lambda: clock.now_s)
    return WorkBudget(3, 1, rapid, now_s=lambda: clock.now_s, sleep=clock.sleep)


def test_it_rests_after_its_slice_of_work_and_not_before() -> None:
    clock = Clock()
    budget = beside_a_rapid_stream(clock)
    for clock.now_s in (1.0, 2.0, 3.0):
        budget.tick()
    budget.tick()
    assert clock.slept_s == [1]
    clock.now_s = 6.9
    budget.tick()
    assert clock.slept_s == [1]
    clock.now_s = 7.0
    budget.tick()
    assert clock.slept_s == [1, 1]
    assert budget.spent_s() == 8


def test_a_request_starts_with_a_fresh_clock() -> None:
    clock = Clock()
    budget = beside_a_rapid_stream(clock)
    clock.now_s = 5.0
    budget.begin()
    budget.tick()
    assert (clock.slept_s, budget.spent_s()) == ([], 0)


def test_a_stop_ends_the_work() -> None:
    with pytest.raises(Stopped):
        WorkBudget(0, 0, FakePump().yield_to_pump, lambda: True).tick()
