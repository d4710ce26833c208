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


@pytest.fixture(name="complaints")
def _complaints(clock: Clock) -> FaultCounters:
    return FaultCounters(logging.getLogger("test.complaints"), clock)


def test_the_first_of_a_kind_is_logged_at_once(complaints: FaultCounters, caplog: pytest.LogCaptureFixture) -> None:
    complaints.add("read_error", "TradesGet failed")
    assert caplog.messages == ["read_error: TradesGet failed"]
    assert caplog.records[0].levelno == logging.WARNING


def test_a_storm_is_counted_in_full_and_logged_once(
    complaints: FaultCounters, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(1000):
        complaints.add("read_error", "again")
    assert complaints.counts == {"read_error": 1000}
    assert len(caplog.messages) == 1


def test_the_next_line_says_how_many_went_by_in_silence(
    complaints: FaultCounters, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        complaints.add("read_error", "a")
    clock.now_s += QUIET_S
    complaints.add("read_error", "b")
    clock.now_s += QUIET_S
    complaints.add("read_error", "c")
    assert caplog.messages == ["read_error: a", "read_error: b (4 more since the last such line)", "read_error: c"]


def test_one_kind_does_not_silence_another(complaints: FaultCounters, caplog: pytest.LogCaptureFixture) -> None:
    complaints.add("read_error", "x")
    complaints.add("bad_record", "y")
    assert caplog.messages == ["read_error: x", "bad_record: y"]
    assert complaints.counts == {"read_error": 1, "bad_record": 1}


def test_a_text_with_percent_signs_is_logged_as_it_is(
    complaints: FaultCounters, caplog: pytest.LogCaptureFixture
) -> None:
    complaints.add("read_error", ValueError("100%s of %d"))
    assert caplog.messages == ["read_error: 100%s of %d"]
