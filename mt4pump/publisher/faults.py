"""Faults of the wire on demand, for people who write subscribers: which, how often, for how long; pure.

Text form: ``drop=1%``, ``duplicate=0.5%``, ``restart=30s``, ``mute=60s:5s``, ``slow=200ms``. A reader that is right
notices every one of them: lost and repeated messages by ``seq``, a restart by ``epoch``, a mute wire by its silence.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

DROP, DUPLICATE, RESTART, MUTE, SLOW = "drop", "duplicate", "restart", "mute", "slow"
MEANINGS = {
    DROP: "this share of the messages is not sent",
    DUPLICATE: "this share of the messages is sent twice",
    RESTART: "as often the daemon begins a new life: connections end, epoch and seq begin anew",
    MUTE: "as often nothing is sent, not even heartbeats, for 5 s, or for what stands behind a colon",
    SLOW: "every message goes out so much later",
}
EXAMPLES = {DROP: "drop=1%", DUPLICATE: "duplicate=1%", RESTART: "restart=30s", MUTE: "mute=60s:5s", SLOW: "slow=200ms"}
MUTE_S = 5.0
RESTART_MIN_S = 1.0
TIME_MAX_S = 86_400.0
SLOW_MAX_S = 60.0

FORM = re.compile(r"([a-z]+)\s*=\s*([0-9.]+)\s*(%|ms|s|m|)(?::([0-9.]+)\s*(ms|s|m|))?")
UNITS_S = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0}


@dataclass(frozen=True, slots=True)
class WireFault:
    """One fault. ``amount`` is a share from 0 to 1, or seconds; ``length_s`` is how long a mute lasts."""

    kind: str
    amount: float
    length_s: float = 0.0


@dataclass(frozen=True, slots=True)
class WireFaults:
    """All faults together; 0 is a fault that there is not.

    Attributes:
        drop: Share of messages that are lost, 0 to 1.
        duplicate: Share of messages that are sent twice, 0 to 1.
        restart_s: Seconds of each life of the daemon.
        mute_s: Seconds from the beginning of one silence to the next.
        mute_length_s: Seconds that a silence lasts.
        slow_s: Seconds that every message is held back.
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
        """Return whether nothing is to be sent so long after the start."""
        return 0 < self.mute_s <= elapsed_s and elapsed_s % self.mute_s < self.mute_length_s


def parse_wire_fault(text: str) -> WireFault:
    """Return the fault that ``text`` writes; raises ValueError that says what to write instead."""
    match = FORM.fullmatch(text.strip().lower())
    kind = match[1] if match else text.partition("=")[0].strip().lower()
    if kind not in MEANINGS:
        near = difflib.get_close_matches(kind, MEANINGS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ValueError(f"there is no wire fault {kind!r}; {hint}write {', '.join(EXAMPLES.values())}")
    teach = f"write {EXAMPLES[kind]}: {MEANINGS[kind]}"
    if match is None or (match[4] and kind != MUTE):
        raise ValueError(f"wire fault {text!r} cannot be read; {teach}")
    try:
        return _checked(kind, float(match[2]), match[3], None if match[4] is None else float(match[4]), match[5] or "")
    except ValueError as error:
        raise ValueError(f"wire fault {text!r}: {error}; {teach}") from None


def _checked(kind: str, number: float, unit: str, length: float | None, length_unit: str) -> WireFault:
    if kind in {DROP, DUPLICATE}:
        if unit != "%" or not 0 < number <= 100:
            raise ValueError("is no share of more than 0% and at most 100%")
        return WireFault(kind, number / 100)
    if unit == "%":
        raise ValueError("is a share, not a time")
    amount = number * UNITS_S[unit]
    low, high = {RESTART: (RESTART_MIN_S, TIME_MAX_S), MUTE: (RESTART_MIN_S, TIME_MAX_S), SLOW: (0.001, SLOW_MAX_S)}[
        kind
    ]
    if not low <= amount <= high:
        raise ValueError(f"is not from {low:g} to {high:g} seconds")
    if kind != MUTE:
        return WireFault(kind, amount)
    length_s = min(MUTE_S, amount / 2) if length is None else length * UNITS_S[length_unit]
    if not 0 < length_s < amount:
        raise ValueError(f"a silence of {length_s:g} s does not fit between two that begin {amount:g} s apart")
    return WireFault(kind, amount, length_s)


def wire_faults_of(texts: Iterable[str]) -> WireFaults:
    """Return all faults together; raises ValueError for one that cannot be read, or is named twice."""
    found: dict[str, WireFault] = {}
    for text in texts:
        fault = parse_wire_fault(text)
        if fault.kind in found:
            raise ValueError(f"wire fault {fault.kind} is named twice; name it once")
        found[fault.kind] = fault
    nothing = WireFault("", 0.0)
    mute = found.get(MUTE, nothing)
    return WireFaults(
        drop=found.get(DROP, nothing).amount,
        duplicate=found.get(DUPLICATE, nothing).amount,
        restart_s=found.get(RESTART, nothing).amount,
        mute_s=mute.amount,
        mute_length_s=mute.length_s,
        slow_s=found.get(SLOW, nothing).amount,
    )
