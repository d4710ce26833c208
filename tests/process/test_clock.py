"""A coarse wall clock carried forward by a fine counter."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from mt4pump.process.clock import TOLERATED_DRIFT_NS, CarriedClock, wall_clock

STEP_NS = 15_625_000
"""One step of Windows' clock."""


class Machine:
    """True time, as a coarse wall clock and a fine counter show it."""

    def __init__(self) -> None:
        self.true_ns = 1_700_000_000_000_000_000
        self.wall_error_ns = 0
        self.counter_error_ns = 0

    def wall(self) -> int:
        return (self.true_ns + self.wall_error_ns) // STEP_NS * STEP_NS

    def fine(self) -> int:
        return self.true_ns - 1_600_000_000_000_000_000 + self.counter_error_ns


@pytest.fixture(name="machine")
def _machine() -> Machine:
    return Machine()


def test_it_has_the_counters_resolution_where_the_wall_clock_stands_still(machine: Machine) -> None:
    clock = CarriedClock(machine.wall, machine.fine)
    stamps = []
    for _ in range(100):
        machine.true_ns += 1_000
        stamps.append(clock.now_ns())
    assert [after - before for before, after in pairwise(stamps)] == [1_000] * 99


def test_it_stays_within_a_step_of_the_wall_clock(machine: Machine) -> None:
    clock = CarriedClock(machine.wall, machine.fine)
    for _ in range(1_000):
        machine.true_ns += 7_777_777
        clock.anchor()
        assert abs(clock.now_ns() - machine.true_ns) <= STEP_NS


def test_anchoring_does_not_jump_for_the_coarse_clocks_own_error(machine: Machine) -> None:
    clock = CarriedClock(machine.wall, machine.fine)
    before_ns = clock.now_ns() - machine.true_ns
    for _ in range(200):
        machine.true_ns += 3_333_333
        clock.anchor()
    assert clock.now_ns() - machine.true_ns == before_ns


@pytest.mark.parametrize("set_by_ns", [10**9, -(10**9), 3600 * 10**9])
def test_it_follows_a_wall_clock_that_was_set(machine: Machine, set_by_ns: int) -> None:
    clock = CarriedClock(machine.wall, machine.fine)
    machine.wall_error_ns = set_by_ns
    clock.anchor()
    assert abs(clock.now_ns() - machine.true_ns - set_by_ns) <= STEP_NS


def test_it_follows_a_counter_that_drifts(machine: Machine) -> None:
    clock = CarriedClock(machine.wall, machine.fine)
    for _ in range(100):
        machine.true_ns += 1_000_000_000
        machine.counter_error_ns += 10_000_000  # one percent fast
        clock.anchor()
        assert abs(clock.now_ns() - machine.true_ns) <= TOLERATED_DRIFT_NS + STEP_NS


@pytest.mark.parametrize(
    ("platform", "version", "carried"),
    [("win32", (3, 11), True), ("win32", (3, 12), True), ("win32", (3, 13), False), ("linux", (3, 11), False)],
)
def test_only_windows_before_3_13_needs_the_carried_clock(
    platform: str, version: tuple[int, int], *, carried: bool
) -> None:
    now_ns, anchor = wall_clock(platform, version)
    assert (now_ns is not time.time_ns) is carried
    anchor()
    assert now_ns() > 10**18
