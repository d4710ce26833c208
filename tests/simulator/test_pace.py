"""Deadlines are absolute: no drift, and no race after a long pause."""

from __future__ import annotations

from mt4pump.simulator.context import Schedule


def test_the_first_position_is_due_at_once_and_the_next_ones_are_counted_from_it() -> None:
    pace = Schedule()
    assert pace.wait_s(3.0, 100.0) == 0
    assert pace.wait_s(3.5, 100.0) == 0.5
    assert pace.wait_s(3.5, 100.25) == 0.25
    assert pace.position_s(100.25) == 3.25


def test_a_small_delay_is_caught_up() -> None:
    pace = Schedule()
    pace.wait_s(0, 0)
    assert pace.wait_s(1.0, 1.5) == 0
    assert pace.wait_s(2.0, 1.5) == 0.5
    assert pace.slips == 0


def test_a_long_delay_is_given_up_and_counted() -> None:
    pace = Schedule(max_lag_s=1.0)
    pace.wait_s(0, 0)
    assert pace.wait_s(1.0, 11.0) == 0
    assert pace.wait_s(2.0, 11.0) == 1.0
    assert (pace.slips, pace.slipped_s) == (1, 10.0)


def test_after_a_pause_the_next_position_is_due_whenever_it_comes() -> None:
    pace = Schedule()
    pace.wait_s(0, 0)
    pace.pause()
    assert pace.position_s(5) is None
    assert pace.wait_s(7.0, 1000.0) == 0
    assert pace.wait_s(7.5, 1000.0) == 0.5
    assert pace.slips == 0
