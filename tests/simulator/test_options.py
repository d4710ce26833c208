"""Options refuse what cannot be simulated."""

from __future__ import annotations

import math
from typing import Any

import pytest

from mt4pump.simulator.options import SimulatorOptions


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("speed", 0),
        ("speed", math.nan),
        ("rate", -1),
        ("rate", math.nan),
        ("accounts", 0),
        ("accounts", 10**9),
        ("server_utc_offset_s", 100),
        ("server_utc_offset_s", 900 * 100),
        ("start_s", 2**31),
        ("start_s", math.inf),
        ("quote_buffer", 10),
        ("ping_interval_s", 0),
        ("encoding", "cp99999"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_name(option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=option):
        SimulatorOptions(**{option: value})


def test_idle_and_flat_out_are_rates() -> None:
    assert SimulatorOptions(rate=0).rate == 0
    assert SimulatorOptions(rate=math.inf, speed=math.inf).rate == math.inf
