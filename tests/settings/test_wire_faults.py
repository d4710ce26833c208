"""Faults of the wire: read from text, refused with a cure."""

from __future__ import annotations

import pytest

from mt4pump.settings.wire_faults import EXAMPLES, WireFaults, parse_wire_fault, wire_faults_of


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("drop=1%", {"drop": 0.01}),
        (" DUPLICATE = 0.5% ", {"duplicate": 0.005}),
        ("restart=30s", {"restart_s": 30}),
        ("restart=2m", {"restart_s": 120}),
        ("mute=60s", {"mute_s": 60, "mute_length_s": 5}),
        ("mute=4", {"mute_s": 4, "mute_length_s": 2}),
        ("mute=60s:1500ms", {"mute_s": 60, "mute_length_s": 1.5}),
        ("slow=200ms", {"slow_s": 0.2}),
    ],
)
def test_a_fault_is_read_from_its_text(text: str, fault: dict[str, float]) -> None:
    assert parse_wire_fault(text) == fault


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("dorp=1%", "did you mean drop"),
        ("explode=1", "drop=1%, duplicate=1%, restart=30s"),
        ("drop", "cannot be read; write drop=1%: this share"),
        ("drop=1", "is no share"),
        ("drop=0%", "is no share"),
        ("drop=101%", "is no share"),
        ("drop=1.2.3%", "could not convert"),
        ("drop=1%:5s", "cannot be read"),
        ("restart=5%", "is a share, not a time"),
        ("restart=10ms", "not from 1 to 86400 seconds"),
        ("slow=61s", "not from 0.001 to 60 seconds"),
        ("mute=5s:5s", "does not fit"),
        ("mute=5s:0s", "does not fit"),
        ("", "there is no wire fault ''"),
    ],
)
def test_a_wrong_text_is_refused_with_what_to_write(text: str, cure: str) -> None:
    with pytest.raises(ValueError, match=cure):
        parse_wire_fault(text)


def test_every_example_can_be_read() -> None:
    assert all(parse_wire_fault(text) for text, _ in EXAMPLES.values())


def test_all_together_and_none() -> None:
    found = wire_faults_of(text for text, _ in EXAMPLES.values())
    assert found == WireFaults(0.01, 0.01, 30, 60, 5, 0.2)
    assert found.touch_messages
    assert not wire_faults_of(["restart=30s"]).touch_messages
    assert wire_faults_of([]) == WireFaults()


def test_a_fault_is_named_once() -> None:
    with pytest.raises(ValueError, match="wire fault drop is named twice"):
        wire_faults_of(["drop=1%", "drop=2%"])


def test_a_mute_wire_is_silent_at_its_times_and_no_other() -> None:
    faults = wire_faults_of(["mute=10s:2s"])
    silent = [elapsed_s for elapsed_s in range(35) if faults.is_mute(elapsed_s)]
    assert silent == [10, 11, 20, 21, 30, 31]
    assert not any(WireFaults().is_mute(elapsed_s) for elapsed_s in range(5))
