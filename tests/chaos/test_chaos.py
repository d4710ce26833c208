"""A small chaos run; ``python -m tests.chaos`` is the large one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from rich.console import Console

from tests.chaos.report import show
from tests.chaos.run import run

EVENTS, FAULTS, RATE = 40_000, 10, 2_500.0


@pytest.mark.timeout(300)
@pytest.mark.skipif(sys.platform == "win32", reason="SIGSTOP and SIGKILL are what this is about")
def test_under_random_faults_every_event_comes_once_or_is_reported_as_lost(tmp_path: Path) -> None:
    outcome = run(tmp_path, seed=5, events=EVENTS, faults=FAULTS, rate=RATE)
    assert outcome.durable + outcome.passing >= EVENTS
    assert sum(outcome.faults.values()) >= FAULTS
    if not outcome.passed:
        show(outcome, Console(file=sys.stdout, width=150))
    assert outcome.passed
    assert outcome.runs > 1
    assert any(tally.healed for tally in outcome.tallies)
