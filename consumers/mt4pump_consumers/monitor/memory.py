"""What the rules remember from event to event, and from one run of the monitor to the next."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

Key = tuple[str, str]
"""A rule's name and its subject: an account, or the feed."""
QUIET_LIMIT = 10_000
"""Accounts that were alerted about and are remembered, before the stale ones are looked for and dropped."""


class Condition(NamedTuple):
    """Something that lasts. ``since``: ns since 1970; ``told``: an alert was made, so its end is worth one, too."""

    since: int
    told: bool


@dataclass(slots=True)
class RuleMemory:
    """``conditions`` that hold now and ``quiet``, the moments (ns) of last alerts; the store keeps what ``touched``."""

    conditions: dict[Key, Condition] = field(default_factory=dict)
    quiet: dict[Key, int] = field(default_factory=dict)
    touched_conditions: set[Key] = field(default_factory=set)
    touched_quiet: set[Key] = field(default_factory=set)

    def begin(self, key: Key, condition: Condition) -> None:
        """Note that a condition holds from now on."""
        self.conditions[key] = condition
        self.touched_conditions.add(key)

    def end(self, key: Key) -> Condition | None:
        """Note that a condition is over; return it if it did hold."""
        self.touched_conditions.add(key)
        return self.conditions.pop(key, None)

    def hush(self, key: Key, ts: int) -> None:
        """Note the moment of an alert."""
        self.quiet[key] = ts
        self.touched_quiet.add(key)

    def forget_quiet(self, before: dict[str, int]) -> None:
        """Drop moments that are older than their rule's (by name) limit, once there are many."""
        if len(self.quiet) < QUIET_LIMIT:
            return
        stale = [key for key, ts in self.quiet.items() if ts < before.get(key[0], ts + 1)]
        for key in stale:
            del self.quiet[key]
        self.touched_quiet.update(stale)

    @property
    def is_touched(self) -> bool:
        """Return whether there is something to keep."""
        return bool(self.touched_conditions or self.touched_quiet)
