"""Faults are all counted and seldom logged."""

from __future__ import annotations

import logging

import pytest

from mt4pump.log import QUIET_S, FaultCounters


class Clock:
    """Seconds that the test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(name="clock")
def _clock() -> Clock:
    return Clock()


@pytest.fixture(name="fault_counters")
def _fault_counters(clock: Clock) -> FaultCounters:
    return FaultCounters(logging.getLogger("test.fault_counters"), clock)


def test_the_first_of_a_kind_is_logged_at_once(fault_counters: FaultCounters, caplog: pytest.LogCaptureFixture) -> None:
    fault_counters.record("read_error", "TradesGet failed")
    assert caplog.messages == ["read_error: TradesGet failed"]
    assert caplog.records[0].levelno == logging.WARNING


def test_a_storm_is_counted_in_full_and_logged_once(
    fault_counters: FaultCounters, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(1000):
        fault_counters.record("read_error", "again")
    assert fault_counters.counts == {"read_error": 1000}
    assert len(caplog.messages) == 1


def test_the_next_line_has_how_many_were_not_logged(
    fault_counters: FaultCounters, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        fault_counters.record("read_error", "a")
    clock.now_s += QUIET_S
    fault_counters.record("read_error", "b")
    clock.now_s += QUIET_S
    fault_counters.record("read_error", "c")
    assert caplog.messages == ["read_error: a", "read_error: b (4 more since the last such line)", "read_error: c"]


def test_one_kind_does_not_silence_another(fault_counters: FaultCounters, caplog: pytest.LogCaptureFixture) -> None:
    fault_counters.record("read_error", "x")
    fault_counters.record("bad_record", "y")
    assert caplog.messages == ["read_error: x", "bad_record: y"]
    assert fault_counters.counts == {"read_error": 1, "bad_record": 1}


def test_a_text_with_percent_signs_is_logged_as_it_is(
    fault_counters: FaultCounters, caplog: pytest.LogCaptureFixture
) -> None:
    fault_counters.record("read_error", ValueError("100%s of %d"))
    assert caplog.messages == ["read_error: 100%s of %d"]
