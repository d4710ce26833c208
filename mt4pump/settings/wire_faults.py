"""Faults of the wire as settings write them: ``drop=1%``, ``restart=30s``, ``mute=60s:5s``, ``slow=200ms``; pure.

`mt4pump.publisher.faults` has the socket that makes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from mt4pump.errors import did_you_mean

EXAMPLES = {
    "drop": ("drop=1%", "this share of the messages is not sent"),
    "duplicate": ("duplicate=1%", "this share of the messages is sent twice"),
    "restart": ("restart=30s", "at this interval the daemon restarts: connections end, epoch and seq start again"),
    "mute": (
        "mute=60s:5s",
        "at this interval nothing is sent, not even heartbeats, for 5 s, or for the time after a colon",
    ),
    "slow": ("slow=200ms", "every message is sent so much later"),
}
"""Per kind: how it is written, and what it means."""
MUTE_S = 5.0
RANGES_S = {"restart": (1.0, 86_400.0), "mute": (1.0, 86_400.0), "slow": (0.001, 60.0)}
FORM = re.compile(r"([a-z]+)\s*=\s*([0-9.]+)\s*(%|ms|s|m|)(?::([0-9.]+)\s*(ms|s|m|))?")
UNITS_S = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0}


@dataclass(frozen=True, slots=True)
class WireFaults:
    """All faults together; 0 is no fault. ``drop`` and ``duplicate`` are shares from 0 to 1.

    The daemon restarts every ``restart_s``; every ``mute_s`` nothing is sent for ``mute_length_s``; every message is
    delayed by ``slow_s``.
    """

    drop: float = 0.0
    duplicate: float = 0.0
    restart_s: float = 0.0
    mute_s: float = 0.0
    mute_length_s: float = 0.0
    slow_s: float = 0.0

    @property
    def touch_messages(self) -> bool:
        """Return whether any fault but a restart is among them."""
        return any((self.drop, self.duplicate, self.mute_s, self.slow_s))

    def is_mute(self, elapsed_s: float) -> bool:
        """Return whether nothing is sent so long after the start."""
        return 0 < self.mute_s <= elapsed_s and elapsed_s % self.mute_s < self.mute_length_s


def wire_faults_of(texts: Iterable[str]) -> WireFaults:
    """Return all faults together; raises ValueError for one that cannot be read, or is named twice."""
    found: dict[str, float] = {}
    for text in texts:
        fault = parse_wire_fault(text)
        if fault.keys() & found.keys():
            raise ValueError(f"wire fault {text.partition('=')[0].strip()} is named twice; name it once")
        found |= fault
    return WireFaults(**found)


def parse_wire_fault(text: str) -> dict[str, float]:
    """Return the fields of `WireFaults` that ``text`` sets; raises ValueError that says what to write instead."""
    match = FORM.fullmatch(text.strip().lower())
    kind = match[1] if match else text.partition("=")[0].strip().lower()
    if kind not in EXAMPLES:
        hint, examples = did_you_mean(kind, EXAMPLES), ", ".join(text for text, _ in EXAMPLES.values())
        raise ValueError(f"there is no wire fault {kind!r}; {hint and f'{hint} '}write {examples}")
    cure = "write {}: {}".format(*EXAMPLES[kind])
    if match is None or (match[4] and kind != "mute"):
        raise ValueError(f"wire fault {text!r} cannot be read; {cure}")
    try:
        length_s = float(match[4]) * UNITS_S[match[5]] if match[4] else None
        return _fields(kind, float(match[2]), match[3], length_s)
    except ValueError as error:
        raise ValueError(f"wire fault {text!r}: {error}; {cure}") from None


def _fields(kind: str, number: float, unit: str, length_s: float | None) -> dict[str, float]:
    if kind in {"drop", "duplicate"}:
        if unit != "%" or not 0 < number <= 100:
            raise ValueError("is no share of more than 0% and at most 100%")
        return {kind: number / 100}
    if unit == "%":
        raise ValueError("is a share, not a time")
    interval_s = number * UNITS_S[unit]
    low_s, high_s = RANGES_S[kind]
    if not low_s <= interval_s <= high_s:
        raise ValueError(f"is not from {low_s:g} to {high_s:g} seconds")
    if kind != "mute":
        return {f"{kind}_s": interval_s}
    length_s = min(MUTE_S, interval_s / 2) if length_s is None else length_s
    if not 0 < length_s < interval_s:
        raise ValueError(f"a silence of {length_s:g} s does not fit between two that begin {interval_s:g} s apart")
    return {"mute_s": interval_s, "mute_length_s": length_s}
