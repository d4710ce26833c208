"""Faults are read from text, refused with a cure, and due when they should be."""

from __future__ import annotations

import math

import pytest

from mt4pump.simulator.options import DEFAULT_AMOUNTS, FaultSchedule, SimulatedFault, parse_fault


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("drop@10", SimulatedFault("drop", 10)),
        ("skip@5+20:3", SimulatedFault("skip", 5, 20, 3)),
        ("burst@2", SimulatedFault("burst", 2)),
        ("drop@0.5:2.5", SimulatedFault("drop", 0.5, None, 2.5)),
        (" MUTE@1 ", SimulatedFault("mute", 1)),
    ],
)
def test_a_fault_is_read_from_its_text(text: str, fault: SimulatedFault) -> None:
    assert parse_fault(text) == fault


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("dorp@10", "did you mean 'drop'"),
        ("drop", "KIND@SECONDS"),
        ("drop@", "KIND@SECONDS"),
        ("drop@1.2.3", "could not convert"),
        ("mute@1:5", "takes no amount"),
        ("skip@1:0", "whole number from 1"),
        ("null@1:1.5", "whole number from 1"),
        ("burst@1:1000000", "whole number from 1"),
        ("drop@1+0", "repeats every"),
        ("explode@1", "kinds: drop, silent, mute, null, skip, burst"),
    ],
)
def test_a_wrong_text_is_refused_with_what_to_write(text: str, cure: str) -> None:
    with pytest.raises(ValueError, match=cure):
        parse_fault(text)


@pytest.mark.parametrize("values", [("drop", -1.0), ("drop", math.inf), ("drop", 1.0, math.nan), ("drop", 1, None, -1)])
def test_values_that_make_no_sense_are_refused(values: tuple[str, float]) -> None:
    with pytest.raises(ValueError, match="drop"):
        SimulatedFault(*values)


@pytest.mark.parametrize("kind", DEFAULT_AMOUNTS)
def test_without_an_amount_the_kinds_default_counts(kind: str) -> None:
    assert SimulatedFault(kind, 0).size == (DEFAULT_AMOUNTS[kind] or 0)


def test_the_schedule_gives_faults_in_order_of_time() -> None:
    schedule = FaultSchedule([SimulatedFault("burst", 5), SimulatedFault("drop", 1), SimulatedFault("skip", 5)])
    assert schedule.next_s == 1
    assert schedule.pop_due(0.9) == []
    assert [fault.kind for fault in schedule.pop_due(5)] == ["drop", "burst", "skip"]
    assert schedule.next_s == math.inf


def test_a_repeated_fault_comes_again_and_never_twice_at_once() -> None:
    schedule = FaultSchedule([SimulatedFault("skip", 1, 2)])
    assert len(schedule.pop_due(1)) == 1
    assert schedule.next_s == 3
    assert len(schedule.pop_due(9.5)) == 1
    assert schedule.next_s == 11
    rounded = FaultSchedule([SimulatedFault("skip", 3.1, 1.4)])  # the time of the 13th is not 3.1 plus 12 times 1.4
    assert len(rounded.pop_due(3.1 + 1.4 * 12)) == 1
