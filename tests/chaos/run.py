"""One whole run: processes, faults, truth, verdict."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.plan import TINY_HWMS, planned
from tests.chaos.processes import READERS, Processes
from tests.chaos.record import blocks
from tests.chaos.verdict import ReaderCheck, Tally, quotes_seen, tallies_of

EVENTS_PER_QUOTE = 1.05
FIRST_HWM = TINY_HWMS[2]


@dataclass(slots=True)
class Outcome:
    """What a run found. It ``passed`` when nothing is unexplained, nobody late, and the daemon's state is right."""

    seed: int
    seconds: float
    durable: int
    passing: int
    runs: int
    unclean_stops: int
    faults: dict[str, int]
    tallies: list[Tally]
    differences: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    holes: int = 0

    @property
    def passed(self) -> bool:
        """Return whether everything is explained."""
        return not (self.differences or self.late or self.holes or any(tally.unexplained for tally in self.tallies))

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            **{
                name: getattr(self, name)
                for name in ("seed", "seconds", "durable", "passing", "runs", "unclean_stops", "faults")
            },
            "readers": [tally.as_dict() for tally in self.tallies],
            "differences": self.differences,
            "late": self.late,
            "holes": self.holes,
            "events": self.durable + self.passing,
            "fault_count": sum(self.faults.values()),
            "unexplained": sum(tally.unexplained for tally in self.tallies),
            "passed": self.passed,
        }


def run(
    folder: Path, *, seed: int, events: int, faults: int, rate: float, say: Callable[[str], None] = lambda _text: None
) -> Outcome:
    """Run in ``folder``, which is empty; raises RunError when the run itself goes wrong."""
    began_s = time.monotonic()
    length_s = events / (rate * EVENTS_PER_QUOTE)
    processes = Processes(folder, rate=rate, seed=seed, say=say)
    try:
        processes.start_daemon(FIRST_HWM)
        for number in range(len(READERS)):
            processes.start_reader(number)
        processes.await_joins()
        processes.run(planned(seed, faults, length_s, [reader.name for reader in READERS]), events, length_s)
        say("the market is stopped")
        differences = processes.calm()
        truth = processes.truth()
        late = processes.await_readers()
    finally:
        processes.close()
    say("comparing")
    checks = []
    for number, reader in enumerate(READERS):
        check = ReaderCheck(reader.name, reader.topics, truth, from_start=reader.from_start)
        for block in blocks(processes.file_of(number)):
            check.handle(block)
        checks.append(check)
    tallies = tallies_of(checks)
    return Outcome(
        seed=seed,
        seconds=time.monotonic() - began_s,
        durable=len(truth.journal),
        passing=quotes_seen(checks),
        runs=processes.runs,
        unclean_stops=processes.unclean_stops,
        faults=dict(processes.count),
        tallies=tallies,
        differences=differences,
        late=late,
        holes=truth.offset - len(truth.journal),
    )
