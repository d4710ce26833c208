"""The bounded form of ``python -m tests.fuzz gateway``."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz.gateway import fuzz, options_of


def test_mutated_messages_get_answers_or_a_close_and_nothing_breaks(tmp_path: Path) -> None:
    words = ["--messages", "3000", "--rate", "400", "--rounds", "2", "--quiet-s", "0.5", "--nice", "0"]
    words += ["--warm-up-events", "20"]
    tally, faults = fuzz(tmp_path, options_of(words))
    assert not faults, "\n".join([*faults, str(tally.replies), str(tally.closes)])
    assert tally.counted >= 3000
    assert {"bad_json", "bad_request", "unknown_action", "other"} <= set(tally.replies)
    assert len(tally.ages.alone) == len(tally.ages.beside) == 2
    assert len(tally.memory.mb) == 10
